"""The parameters of chosen neurons: where they are, and their gradients without those of whole matrices."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from knatlas.errors import AtlasError
from knatlas.models.language_model import LanguageModel


@dataclass(frozen=True, eq=False)
class Slice:
    """Entries of one parameter: those at `places` along `axis`, whole rows or columns of a matrix.

    name: of the parameter in the model; part: "incoming" (weights), "bias" (of the incoming weights) or "outgoing"
    (value vectors); module: whose parameter it is.
    """

    name: str
    part: str
    module: nn.Module
    parameter: nn.Parameter
    axis: int
    places: Tensor

    @property
    def n_entries(self) -> int:
        """How many numbers these are."""
        return len(self.places) * (self.parameter.numel() // self.parameter.shape[self.axis])

    def read(self) -> Tensor:
        """A copy of the entries: (places, others), of a bias (places,)."""
        return self.parameter.detach().index_select(self.axis, self.places).movedim(self.axis, 0)

    @torch.no_grad()
    def write(self, values: Tensor) -> None:
        """Put values of the shape that `read` gives into the parameter, rounded to its dtype."""
        self.parameter.index_copy_(self.axis, self.places, values.movedim(0, self.axis).to(self.parameter.dtype))


@dataclass(frozen=True, eq=False)
class TrainableParts:
    """The parameters of a set of neurons; each neuron is counted once."""

    slices: tuple[Slice, ...]
    n_neurons: int

    @property
    def n_parameters(self) -> int:
        """How many numbers are trained."""
        return sum(part.n_entries for part in self.slices)

    def mask(self, name: str, like: Tensor) -> Tensor:
        """Which entries of the parameter `name` are trained: a bool tensor of the shape of `like`."""
        mask = torch.zeros_like(like, dtype=torch.bool)
        for part in self.slices:
            if part.name == name:
                mask.index_fill_(part.axis, part.places.to(mask.device), True)
        return mask


def trainable_parts(lm: LanguageModel, layers: Sequence[int], indices: Sequence[int]) -> TrainableParts:
    """The parameters of neurons (layer, index), both 0-based: the masks of a masked training.

    Of each neuron the incoming weights (gated: of gate and up), their biases where there are any, and the outgoing
    value vector. The bias behind the down projection belongs to no neuron. A neuron named twice counts once.
    Raises: AtlasError for a neuron that the model does not have.
    """
    neurons = np.unique(np.stack([np.asarray(layers, int), np.asarray(indices, int)], axis=1), axis=0)
    _check(lm, neurons)
    names = {id(parameter): name for name, parameter in lm.model.named_parameters()}
    slices = []
    for layer in np.unique(neurons[:, 0]):
        for part, module, attribute, axis, places in _places(lm, int(layer), neurons[neurons[:, 0] == layer, 1]):
            parameter = getattr(module, attribute, None)
            if parameter is not None:
                where = torch.as_tensor(places, device=lm.device)
                slices.append(Slice(names[id(parameter)], part, module, parameter, axis, where))
    return TrainableParts(tuple(slices), len(neurons))


def _places(
    lm: LanguageModel, layer: int, indices: np.ndarray
) -> Iterator[tuple[str, nn.Module, str, int, np.ndarray]]:
    """Part, module, name of its parameter, axis and places of each slice of one layer."""
    record = lm.architecture
    incoming = np.concatenate([indices + part * lm.n_neurons for part in range(record.fused_parts)])
    for module in lm.up_projections(layer):
        yield "incoming", module, "weight", 1 - record.neuron_axis, incoming
        yield "bias", module, "bias", 0, incoming
    yield "outgoing", lm.down_projections()[layer], "weight", record.neuron_axis, indices


def _check(lm: LanguageModel, neurons: np.ndarray) -> None:
    is_outside = ((neurons < 0) | (neurons >= [lm.n_layers, lm.n_neurons])).any(axis=1)
    if is_outside.any():
        layer, index = neurons[is_outside][0]
        raise AtlasError(
            f"{lm.name}: there is no neuron (layer {layer}, index {index}); the model has {lm.n_layers} layers of "
            f"{lm.n_neurons} neurons. Were these neurons found in another model?"
        )


@contextmanager
def tapped_gradients(parts: Sequence[Slice], leaves: Sequence[Tensor]) -> Iterator[None]:
    """Inside the block, a backward pass leaves the gradient of slice i in `leaves[i].grad`, and no other.

    The frozen matrices take no gradient and the forward pass is that of the model, bit for bit: a slice's gradient is
    computed from what goes into its module and the gradient of what comes out. The hooks are always removed.
    """
    with ExitStack() as hooks:
        for part, leaf in zip(parts, leaves, strict=True):
            handle = part.module.register_forward_hook(_hook(part, leaf))
            hooks.callback(handle.remove)
        yield


def _hook(part: Slice, leaf: Tensor) -> Callable[[nn.Module, tuple, Tensor], Tensor]:
    def tap(_module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
        return _SliceGradient.apply(output, inputs[0], leaf, part.part, part.places)

    return tap


class _SliceGradient(torch.autograd.Function):
    """Hands a module's output on unchanged; backward, it also computes the gradient of one slice of its parameter."""

    @staticmethod
    def forward(ctx: object, output: Tensor, inputs: Tensor, leaf: Tensor, part: str, places: Tensor) -> Tensor:
        ctx.save_for_backward(inputs[..., places] if part == "outgoing" else inputs, places)
        ctx.part, ctx.dtype = part, leaf.dtype
        return output.view_as(output)

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> tuple[Tensor | None, ...]:
        kept, places = ctx.saved_tensors
        rows = gradient.flatten(0, -2)  # (rows * tokens, outputs)
        left = kept if ctx.part == "outgoing" else rows[:, places]
        right = rows if ctx.part == "outgoing" else kept
        left = left.to(ctx.dtype).flatten(0, -2)  # (rows * tokens, places)
        of_slice = left.sum(dim=0) if ctx.part == "bias" else left.T @ right.to(ctx.dtype).flatten(0, -2)
        return gradient, None, of_slice, None, None
