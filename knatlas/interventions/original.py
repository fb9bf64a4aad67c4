"""A copy of a model's weights in the host's memory: what changed since, and the way back, bit for bit."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from knatlas.errors import AtlasError
from knatlas.interventions.trainable import TrainableParts
from knatlas.models.language_model import LanguageModel

# integers of the size of a number: equal as these is equal bit for bit, NaN and the sign of 0 included
BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True, eq=False)
class Original:
    """Copies of all parameters and buffers of a model by name, on the processor; tied parameters are copied once."""

    values: dict[str, Tensor]

    @classmethod
    def of(cls, lm: LanguageModel) -> "Original":
        """A copy of the model as it is now."""
        return cls({name: value.detach().cpu().clone() for name, value in _tensors(lm)})

    @torch.no_grad()
    def put_back(self, lm: LanguageModel) -> None:
        """Give the model all its values back, and freeze it as it was loaded."""
        for name, value in _tensors(lm):
            value.copy_(self.values[name])
            value.requires_grad_(False)
            value.grad = None

    @torch.no_grad()
    def changed(self, lm: LanguageModel) -> Iterator[tuple[str, Tensor]]:
        """Each parameter and buffer with a bool tensor of its shape: which entries differ from the copy in any bit."""
        for name, value in _tensors(lm):
            yield name, _bits(value) != _bits(self.values[name].to(value.device))

    def check_frozen(self, lm: LanguageModel, parts: TrainableParts) -> None:
        """AtlasError unless every entry outside `parts` is that of the copy, bit for bit."""
        for name, is_changed in self.changed(lm):
            n_moved = int((is_changed & ~parts.mask(name, is_changed)).sum())
            if n_moved:
                raise AtlasError(
                    f"{lm.name}: {n_moved} frozen entries of {name} changed while other parameters were trained; "
                    "nothing measured with these weights can be used"
                )


@contextmanager
def restored(lm: LanguageModel, original: Original | None = None) -> Iterator[Original]:
    """After the block the whole model is as before, bit for bit, also after an exception.

    Args: original, an earlier copy of the same weights, so that none is made. Yields: the copy.
    """
    original = original or Original.of(lm)
    try:
        yield original
    finally:
        original.put_back(lm)


def _tensors(lm: LanguageModel) -> Iterator[tuple[str, Tensor]]:
    yield from lm.model.named_parameters()
    yield from lm.model.named_buffers()


def _bits(value: Tensor) -> Tensor:
    return value.detach().contiguous().view(BITS[value.element_size()])
