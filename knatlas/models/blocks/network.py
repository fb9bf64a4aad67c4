"""A whole model as arithmetic: embedding, blocks, final transform, vocabulary."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from knatlas.models.blocks.block import Block
from knatlas.models.blocks.parts import ACTIVATIONS, Norm, Rotation
from knatlas.models.language_model import LanguageModel


@dataclass(frozen=True)
class Network:
    """A model whose every step the engine knows. `work` is the dtype of the residual stream.

    embed: token ids and positions (..., ) to token vectors (..., hidden). rotations: positions (...,) to one rotation
    per layer (None where there is none). final: the last layer's output to the vector that the vocabulary matrix reads.
    vocabulary (words, hidden), its bias (words,) or None; logit_cap: c in c * tanh(logit / c), or None.
    """

    blocks: Sequence[Block]
    embed: Callable[[Int[Tensor, "..."], Int[Tensor, "..."]], Float[Tensor, "... hidden"]]
    final: Norm
    vocabulary: Float[Tensor, "word hidden"]
    bias: Float[Tensor, " word"] | None
    work: torch.dtype
    is_causal: bool
    rotations: Callable[[Int[Tensor, "..."]], Sequence[Rotation | None]]
    logit_cap: float | None = None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.vocabulary.device


class NoFastPath(Exception):
    """A model has a part that the blocks do not know; its text says which."""


Build = Callable[[LanguageModel], Network]


def work_dtype(lm: LanguageModel) -> torch.dtype:
    """The dtype of residual streams, probabilities and sums: float64 for float64 models, float32 for all others."""
    return torch.float64 if lm.dtype == torch.float64 else torch.float32


def activation_of(config: object, setting: str) -> Callable[[Tensor], Tensor]:
    """The non-linearity that a setting of the configuration names. Raises: NoFastPath where its name is not known."""
    name = getattr(config, setting)
    if name not in ACTIVATIONS:
        raise NoFastPath(f"{setting} is '{name}'")
    return ACTIVATIONS[name]
