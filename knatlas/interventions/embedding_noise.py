"""Gaussian noise on word embeddings and on the output matrix (word-embedding perturbation of the localization paper).

The weights are never written. Noise N on an embedding matrix E is added where E is read: N[token] to the output of the
input embedding, and hidden @ N.T to the logits where E is the output matrix. This is what a model with E + N computes,
without a second matrix per noise level, and nothing has to be restored.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from knatlas.errors import AtlasError, unknown
from knatlas.models.language_model import LanguageModel

# of a module, its inputs and its output: what the model goes on with
Hook = Callable[[nn.Module, tuple, Tensor], Tensor]
READINGS = ("input_only", "tied_matrix", "head_only")


def check_reading(reading: str) -> None:
    """AtlasError unless the reading is one of `READINGS`."""
    if reading not in READINGS:
        raise AtlasError(unknown("perturbation.readings", reading, "a reading of the perturbation", READINGS))


def hits_input(reading: str) -> bool:
    """Whether a reading adds noise to word embeddings of the input."""
    check_reading(reading)
    return reading != "head_only"


def hits_head(lm: LanguageModel, reading: str) -> bool:
    """Whether a reading adds noise to the matrix that makes logits: `tied_matrix` only where the two are one."""
    check_reading(reading)
    return reading == "head_only" or (reading == "tied_matrix" and is_tied(lm))


def is_tied(lm: LanguageModel) -> bool:
    """Whether the input embedding and the output matrix are the same weights, so that noise on one is on both."""
    return input_matrix(lm).data_ptr() == output_matrix(lm).data_ptr()


def input_matrix(lm: LanguageModel) -> Float[Tensor, "word hidden"]:
    """The matrix E of word embeddings."""
    return lm.model.get_input_embeddings().weight


def output_matrix(lm: LanguageModel) -> Float[Tensor, "word hidden"]:
    """The matrix that makes logits of hidden states, without its bias."""
    return lm.model.get_output_embeddings().weight


def mean_size(lm: LanguageModel, reading: str) -> float:
    """mean|E| over all entries of the matrix that a reading adds noise to; in `head_only` the output matrix."""
    matrix = input_matrix(lm) if hits_input(reading) else output_matrix(lm)
    return matrix.abs().mean(dtype=torch.float64).item()


def printed_sigma(size: float) -> float:
    """A third of mean|E|, cut off to two decimals: the standard deviation that the paper's noise has.

    0.03 in GPT-2 (mean|E| 0.1132), 0.01 in BERT (0.0408); 0 where mean|E| is below 0.03: such a model has no noise.
    """
    return math.floor(100 * size / 3) / 100


@contextmanager
def noisy_inputs(lm: LanguageModel, noise: Sequence[Float[Tensor, "token hidden"]]) -> Iterator[None]:
    """Inside the block, `noise[r]` is added to the word embeddings of row r of a forward pass, from its first token on.

    Only the word embedding is hit, before positions, token types and a norm are put to it; tokens after those of
    `noise[r]`, which are padding, stay as they are. The hook is removed at the end, also after an exception.
    Noise is on the scale of the matrix: where a model multiplies its embeddings by a constant, so is the noise.
    Raises: AtlasError when a forward pass has other rows, or fewer tokens, than the noise.
    """

    def add(module: nn.Module, _inputs: tuple, output: Tensor) -> Tensor:
        _check_rows(lm, output, noise)
        n_padded = [output.shape[1] - len(part) for part in noise]
        padded = [nn.functional.pad(part, (0, 0, 0, n)) for part, n in zip(noise, n_padded, strict=True)]
        return output + _scale(module) * torch.stack(padded).to(output)

    with _on_output(lm.model.get_input_embeddings(), add):
        yield


@contextmanager
def noisy_head(
    lm: LanguageModel, noise: Float[Tensor, "word hidden"] | None, sigmas: Float[Tensor, " row"]
) -> Iterator[None]:
    """Inside the block, the output matrix has `sigmas[r] * noise` added to it where the head is given its row r.

    The head is to be called on hidden states (rows, hidden), as `token_probabilities` does with a row per position
    that is read. Rows with sigma 0 keep their logits, and so do all where the noise is None. The hook is removed at the
    end, also after an exception. Raises: AtlasError when the head is given another number of rows.
    """
    if noise is None:
        yield
        return

    def add(_module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
        if len(output) != len(sigmas):
            raise AtlasError(f"{lm.name}: {len(sigmas)} noise levels, but the head is given {len(output)} rows")
        return output + sigmas.to(output)[:, None] * (inputs[0] @ noise.to(inputs[0]).T)

    with _on_output(lm.model.get_output_embeddings(), add):
        yield


@contextmanager
def _on_output(module: nn.Module, change: Hook) -> Iterator[None]:
    handle = module.register_forward_hook(change)
    try:
        yield
    finally:
        handle.remove()


def _scale(module: nn.Module) -> Tensor | float:
    """The constant by which a module multiplies the rows of its matrix."""
    scale = getattr(module, "embed_scale", 1.0)
    # the module itself rounds it to the format of its weights
    return scale.to(module.weight.dtype) if isinstance(scale, Tensor) else scale


def _check_rows(lm: LanguageModel, output: Tensor, noise: Sequence[Tensor]) -> None:
    longest = max(len(part) for part in noise)
    if len(output) != len(noise) or output.shape[1] < longest:
        raise AtlasError(
            f"{lm.name}: noise for {len(noise)} rows of at most {longest} tokens, but the forward pass has "
            f"{len(output)} rows of {output.shape[1]}; give one array of noise per row"
        )
