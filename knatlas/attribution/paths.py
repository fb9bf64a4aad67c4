"""Straight paths from baselines to the neurons of a layer, in the space where the sweep can take their points.

The down projection is linear: the point b + alpha (a - b) enters the residual stream as
y(1) - (1 - alpha) W_down (a - b), one product per baseline and none per point; and the gradient with respect to the
neurons is W_down^T of the gradient with respect to y, which can be taken after the sum over the points.
"""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float, Int
from torch import Tensor

from knatlas.models.blocks.block import FeedForward


def choose(paths: Float[Tensor, "readout path ..."], index: Int[Tensor, "readout point"]) -> Tensor:
    """The path of each point, (readouts, points, ...)."""
    return paths[torch.arange(len(paths), device=paths.device)[:, None], index]


class Paths(ABC):
    """The paths of one layer. Points are (readouts, points, positions, hidden); values are gradients dF of points in
    the space in which they are summed, (readouts, points, positions, size)."""

    @abstractmethod
    def points(self, path: Int[Tensor, "readout point"], alpha: Float[Tensor, "readout point"]) -> Tensor:
        """y at alpha on a path of each readout."""

    @abstractmethod
    def values(self, gradient: Tensor, path: Tensor, alpha: Tensor) -> Tensor:
        """What is summed over the points, from dF/dy of points at alpha on paths."""

    @abstractmethod
    def end_values(self, gradient: Float[Tensor, "readout position hidden"]) -> Tensor:
        """The same of the end point that all paths share, (readouts, positions, size)."""

    @abstractmethod
    def lift(self, sums: Float[Tensor, "... size"]) -> Float[Tensor, "... neuron"]:
        """Sums of values as gradients with respect to the neurons."""


class NeuronPaths(Paths):
    """Paths of the input of the down projection."""

    def __init__(self, feed: FeedForward, clean: Tensor, starts: Float[Tensor, "readout path position neuron"]) -> None:
        """Args: the layer's matrices; clean (readouts, positions, neurons); starts, the baselines."""
        self._down = feed.down
        self._end = feed.down(clean)
        self._steps = feed.down.product(clean[:, None] - starts)

    def points(self, path: Tensor, alpha: Tensor) -> Tensor:
        """As in `Paths`."""
        return self._end[:, None] - (1 - alpha)[..., None, None] * choose(self._steps, path)

    def values(self, gradient: Tensor, path: Tensor, alpha: Tensor) -> Tensor:
        """As in `Paths`: the gradients themselves."""
        return gradient

    def end_values(self, gradient: Tensor) -> Tensor:
        """As in `Paths`."""
        return gradient

    def lift(self, sums: Tensor) -> Tensor:
        """As in `Paths`."""
        return self._down.transposed(sums)


class PreActivationPaths(Paths):
    """Paths of the value before the non-linearity: every point has its own two products."""

    def __init__(
        self, feed: FeedForward, clean: Tensor, starts: Float[Tensor, "readout path position neuron"], gate: Tensor
    ) -> None:
        """Args: as for `NeuronPaths`; gate, the factor of the clean neurons in a gated network, else None."""
        self._feed, self._clean, self._starts = feed, clean, starts
        self._gate = None if gate is None else gate[:, None]

    def _before(self, path: Tensor, alpha: Tensor) -> Tensor:
        """The values before the non-linearity."""
        start = choose(self._starts, path)
        return start + alpha[..., None, None] * (self._clean[:, None] - start)

    def points(self, path: Tensor, alpha: Tensor) -> Tensor:
        """As in `Paths`."""
        return self._feed.down(self._feed.activate(self._before(path, alpha), self._gate))

    def values(self, gradient: Tensor, path: Tensor, alpha: Tensor) -> Tensor:
        """As in `Paths`: gradients with respect to the values before the non-linearity."""
        return self._inward(self._before(path, alpha), gradient)

    def end_values(self, gradient: Tensor) -> Tensor:
        """As in `Paths`."""
        return self._inward(self._clean[:, None], gradient[:, None])[:, 0]

    def _inward(self, before: Tensor, gradient: Tensor) -> Tensor:
        """dF / d before, from dF/dy."""
        with torch.enable_grad():
            before = before.detach().requires_grad_()
            neurons = self._feed.activate(before, self._gate)
        return torch.autograd.grad(neurons, before, self._feed.down.transposed(gradient))[0]

    def lift(self, sums: Tensor) -> Tensor:
        """As in `Paths`: the sums themselves."""
        return sums
