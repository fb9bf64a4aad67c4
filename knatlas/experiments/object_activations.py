"""What neurons do where the object is written: their values at the object's own tokens of the completed sentence."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from knatlas.errors import AtlasError
from knatlas.models.answers import padded
from knatlas.models.encoding import EncodedQuery
from knatlas.models.language_model import LanguageModel
from knatlas.models.neuron_hooks import tapped_layer

# layers and indices of some neurons, two arrays of equal length
Neurons = tuple[Int[np.ndarray, " neuron"], Int[np.ndarray, " neuron"]]


def completed(lm: LanguageModel, query: EncodedQuery) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The sentence with the answer written into it, as token ids, and the positions of the answer's own tokens.

    Masked models: the answer's tokens stand in place of the masks. Causal models: the prompt and all answer tokens,
    each one position behind the one that predicts it. Raises: AtlasError for a sentence too long for the model.
    """
    if query.kind == "masked":
        targets = dict(zip(query.positions, query.targets, strict=True))
        return tuple(targets.get(i, token) for i, token in enumerate(query.input_ids)), query.positions
    ids = (*query.input_ids, query.targets[-1])
    if lm.n_positions is not None and len(ids) > lm.n_positions:
        raise AtlasError(
            f"{lm.name}: fact {query.fact}, language {query.language}: the sentence with its answer has {len(ids)} "
            f"tokens; the model reads at most {lm.n_positions}. Leave the fact out"
        )
    return ids, tuple(position + 1 for position in query.positions)


@torch.no_grad()
def object_activations(
    lm: LanguageModel, queries: Sequence[EncodedQuery], neurons: Sequence[Neurons], batch_rows: int
) -> list[Float[np.ndarray, " neuron"]]:
    """Values of each query's neurons (inputs of the down projection) with its answer written into the sentence.

    A value is the mean over the positions of the answer's own tokens. Args: neurons, of each query; batch_rows, rows
    of a forward pass (speed and memory only). Returns: one array per query, float32 (float64 in a float64 model), in
    the order of its neurons.
    """
    sentences, found = [completed(lm, query) for query in queries], [np.zeros(0)] * len(queries)
    order = sorted(range(len(queries)), key=lambda number: len(sentences[number][0]))
    for start in range(0, len(order), batch_rows):
        batch = order[start : start + batch_rows]
        values = _batch(lm, [sentences[number] for number in batch], [neurons[number] for number in batch])
        for number, of_query in zip(batch, values, strict=True):
            found[number] = of_query
    return found


def _batch(lm: LanguageModel, sentences: Sequence[tuple], neurons: Sequence[Neurons]) -> list[np.ndarray]:
    """The values of one padded forward pass."""
    ids, attention = padded([ids for ids, _ in sentences], lm.device)
    if lm.kind == "causal":
        # no token sees the padding on its right, and a window of masked padding alone would have no softmax
        attention = torch.ones_like(attention)
    means, precise = {}, np.float64 if lm.dtype == torch.float64 else np.float32
    with ExitStack() as hooks:
        for layer in sorted({int(layer) for layers, _ in neurons for layer in layers}):
            tap = _mean_into(means, layer, [positions for _, positions in sentences])
            hooks.enter_context(tapped_layer(lm, layer, "down_input", tap))
        lm.hidden_states(ids, attention)
    return [
        np.array([means[layer][row, index] for layer, index in zip(*of_row, strict=True)], dtype=precise)
        for row, of_row in enumerate(neurons)
    ]


def _mean_into(means: dict[int, np.ndarray], layer: int, places: Sequence[Sequence[int]]) -> Callable[[Tensor], Tensor]:
    """A tap that keeps a layer's mean over each row's places, (rows, neurons), and changes nothing."""

    def tap(values: Tensor) -> Tensor:
        precise = torch.float64 if values.dtype == torch.float64 else torch.float32
        rows = [values[row, list(of_row)].to(precise).mean(0) for row, of_row in enumerate(places)]
        means[layer] = torch.stack(rows).cpu().numpy()
        return values

    return tap
