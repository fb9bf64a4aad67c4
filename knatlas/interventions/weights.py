"""Erasing and updating facts in the weights (Eq. 15 of MATRICE): value vectors are edited, and always restored."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from knatlas.errors import AtlasError, unknown
from knatlas.models.encoding import encode_prompt
from knatlas.models.language_model import LanguageModel

EMBEDDINGS = ("output", "input")
SCALINGS = ("norm", "raw")
BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
CARRIER = "is"  # a label is tokenised after this word, since words have other tokens inside a sentence than alone

Neurons = tuple[np.ndarray, np.ndarray]  # layers and indices, both 0-based and of equal length
Vectors = Float[Tensor, "neuron hidden"]
# From the vectors as earlier edits left them, and as they are in the model, to the new ones.
Change = Callable[[Vectors, Vectors], Vectors]


@dataclass(frozen=True, eq=False)
class ValueEdit:
    """Neurons as two arrays of equal length, and what their value vectors become.

    change: new vectors (neurons, hidden), or an operation on the vectors; see `edited_values` for its precision.
    A neuron is edited once, however often it is named (of new vectors the first counts).
    """

    layers: Int[np.ndarray, " neuron"]
    indices: Int[np.ndarray, " neuron"]
    change: Vectors | Change


def erase(neurons: Neurons) -> ValueEdit:
    """The value vectors become zero (Eq. 15, erasure); the bias of the matrix is left as it is."""
    return ValueEdit(*neurons, lambda current, original: torch.zeros_like(current))


def update(
    neurons: Neurons,
    old_embedding: Float[Tensor, " hidden"],
    new_embedding: Float[Tensor, " hidden"],
    lambda1: float = 1.0,
    lambda2: float = 8.0,
    scaling: str = "norm",
) -> ValueEdit:
    """W := W - lambda1 E(o) + lambda2 E(o') for each value vector W (Eq. 15, update).

    Args: embeddings of the old and of the new object; scaling "norm", each embedding is rescaled to the norm of the W
    that it is added to (as it is in the model, before any edit), or "raw", as it is.
    Raises: AtlasError for another scaling, or embeddings of another length than the value vectors (when it is applied).
    """
    if scaling not in SCALINGS:
        raise AtlasError(unknown("weight_edits: scaling", scaling, "a scaling of embeddings", SCALINGS))

    def change(current: Vectors, original: Vectors) -> Vectors:
        old, new = (_on(embedding, original, scaling) for embedding in (old_embedding, new_embedding))
        return current - lambda1 * old + lambda2 * new

    return ValueEdit(*neurons, change)


def _on(embedding: Tensor, original: Vectors, scaling: str) -> Tensor:
    """An embedding as it is added to value vectors."""
    if embedding.shape != original.shape[1:]:
        raise AtlasError(
            f"the embedding of an object has {embedding.numel()} numbers, a value vector {original.shape[1]}; this "
            "model has its words in another space than its neurons, so it can't be updated by Eq. 15"
        )
    embedding = embedding.to(original)
    if scaling == "raw":
        return embedding
    norm = embedding.norm()
    # an embedding of zero has no direction
    direction = embedding / norm if norm > 0 else torch.zeros_like(embedding)
    return original.norm(dim=1, keepdim=True) * direction


def object_embedding(
    lm: LanguageModel, label: str, which: str = "output", separator: str = " "
) -> Float[Tensor, " hidden"]:
    """E(o): mean of the embeddings of a label's tokens, as they stand after a word of a sentence; float32 or float64.

    Args: label in the language of the edit; which, rows of the "output" matrix (without its bias) or of the "input"
    embedding, the same where the two are tied; separator, what that language has between two words.
    Raises: AtlasError for another matrix, or a label that the tokenizer doesn't know.
    """
    sentence = {"before": CARRIER, "separator": separator, "answer": label, "after": ""}
    place = {"fact": f"with object '{label}'", "language": "of the edit", "query": 0}
    return token_embedding(lm, encode_prompt(lm, SimpleNamespace(**sentence, **place)).targets, which)


def token_embedding(lm: LanguageModel, tokens: Sequence[int], which: str = "output") -> Float[Tensor, " hidden"]:
    """The mean embedding of token ids, as in `object_embedding`."""
    if which not in EMBEDDINGS:
        raise AtlasError(unknown("weight_edits: embedding", which, "an embedding matrix", EMBEDDINGS))
    matrix = lm.model.get_output_embeddings() if which == "output" else lm.model.get_input_embeddings()
    return _precise(matrix.weight[torch.tensor(list(tokens), device=matrix.weight.device)]).mean(dim=0)


@contextmanager
def edited_values(lm: LanguageModel, edits: Sequence[ValueEdit]) -> Iterator[None]:
    """Inside the block the value vectors are edited; after it, also by an exception, each has its old bits again.

    Several edits are made one after the other on vectors in float32 (float64 in a float64 model), which are cast to the
    model's format once. Only the vectors that an edit names are copied and written.

    Raises: AtlasError for a neuron that the model doesn't have, or for vectors that don't come back bit for bit.
    """
    edits = [_checked(lm, edit) for edit in edits]
    with ExitStack() as layers:
        for layer in sorted({int(layer) for edit in edits for layer in edit.layers}):
            layers.enter_context(_edited_layer(lm, layer, edits))
        yield


def _checked(lm: LanguageModel, edit: ValueEdit) -> ValueEdit:
    """The edit with every neuron once; AtlasError for one that the model lacks."""
    pairs = np.stack([np.asarray(edit.layers, dtype=np.int64), np.asarray(edit.indices, dtype=np.int64)], axis=1)
    outside = np.flatnonzero(((pairs < 0) | (pairs >= [lm.n_layers, lm.n_neurons])).any(axis=1))
    if len(outside):
        layer, index = pairs[outside[0]]
        raise AtlasError(
            f"{lm.name}: there is no neuron (layer {layer}, index {index}); the model has {lm.n_layers} layers of "
            f"{lm.n_neurons} neurons. Were these neurons found in another model?"
        )
    _, first = np.unique(pairs, axis=0, return_index=True)
    first = np.sort(first)
    change = edit.change[torch.as_tensor(first)] if isinstance(edit.change, Tensor) else edit.change
    return ValueEdit(*pairs[first].T, change)


@contextmanager
def _edited_layer(lm: LanguageModel, layer: int, edits: Sequence[ValueEdit]) -> Iterator[None]:
    weight, axis = lm.down_projections()[layer].weight, lm.architecture.neuron_axis
    named = np.unique(np.concatenate([edit.indices[edit.layers == layer] for edit in edits]))
    places = torch.as_tensor(named, device=weight.device)
    kept = weight.index_select(axis, places)
    # (neurons, hidden), whichever axis the neurons lie along in the weight
    new = _edited(_precise(kept.movedim(axis, 0)), layer, named, edits).to(weight.dtype).movedim(0, axis)
    try:
        _write(weight, axis, places, new)
        yield
    finally:
        _write(weight, axis, places, kept)
        if not _is_same(weight.index_select(axis, places), kept):
            raise AtlasError(
                f"{lm.name}: the value vectors of layer {layer} were not restored bit for bit; load the model again"
            )


def _edited(original: Vectors, layer: int, named: np.ndarray, edits: Sequence[ValueEdit]) -> Vectors:
    """The new vectors of the neurons `named` of one layer, in ascending order."""
    current = original.clone()
    for edit in edits:
        is_here = edit.layers == layer
        if is_here.any():
            rows = torch.as_tensor(np.searchsorted(named, edit.indices[is_here]), device=original.device)
            if isinstance(edit.change, Tensor):
                current[rows] = edit.change[torch.as_tensor(is_here)].to(original)
            else:
                current[rows] = edit.change(current[rows], original[rows])
    return current


@torch.no_grad()
def _write(weight: Tensor, axis: int, places: Tensor, vectors: Tensor) -> None:
    weight.index_copy_(axis, places, vectors)


def _is_same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same bits: 0.0 and -0.0 are equal numbers, but no copies of each other."""
    kind = BITS[one.element_size()]
    return torch.equal(one.contiguous().view(kind), other.contiguous().view(kind))


def _precise(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
