"""P(answer) and its gradient at points of paths, for the readouts of a group: the interface of both engine paths."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Nodes:
    """Points of one layer: alpha on a path, of each readout, both (readouts, points)."""

    path: Int[Tensor, "readout point"]
    alpha: Float[Tensor, "readout point"]

    def columns(self, part: slice) -> "Nodes":
        """Some of the points."""
        return Nodes(self.path[:, part], self.alpha[:, part])

    @property
    def size(self) -> int:
        """Points of each readout."""
        return self.path.shape[1]


@dataclass(frozen=True)
class Evaluated:
    """What was found at some points of a layer.

    columns: which of the asked points. log_p (readouts, points) in nats. values (readouts, points, positions, size):
    d log P in the space of the layer's sums (see `paths`), or None where no gradient was asked for.
    """

    layer: int
    columns: slice
    log_p: Float[Tensor, "readout point"]
    values: Float[Tensor, "readout point position size"] | None


class Readouts(Protocol):
    """Readouts of equal form, the neurons of all their layers, and log P(answer) as a function of them.

    clean: per layer (readouts, positions, neurons). baselines: per layer (readouts, sentences, positions, neurons), the
    neurons under the baseline sentences. is_path (readouts, sentences): which of these are a readout's own.
    """

    clean: Sequence[Float[Tensor, "readout position neuron"]]
    baselines: Sequence[Float[Tensor, "readout sentence position neuron"]]

    def set_paths(self, starts: Sequence[Float[Tensor, "readout path position neuron"]]) -> None:
        """Lay the paths of each layer from these starts to the clean neurons."""

    def evaluate(self, asked: Sequence[Nodes], with_gradient: bool) -> Iterator[Evaluated]:
        """log P and its gradient at points of each layer, in pieces."""

    def end(self, layer: int) -> Float[Tensor, "readout position size"]:
        """d log P at the end that all paths of a layer share."""

    def log_p(self) -> Float[Tensor, " readout"]:
        """log P(answer) of the readouts in nats."""

    def lift(self, layer: int, sums: Float[Tensor, "... size"]) -> Float[Tensor, "... neuron"]:
        """Sums of values as gradients with respect to the neurons."""


def pieces(sizes: Sequence[int], most: int) -> Iterator[list[slice]]:
    """Cut the columns of all layers into pieces of at most `most`, each with its share of every layer.

    Args: sizes, columns of each layer; most, at least 1. Yields: a slice of each layer's columns; one piece of nothing
    where there are no columns.
    """
    layer = np.repeat(np.arange(len(sizes)), sizes)
    place = np.concatenate([(np.arange(size) + 0.5) / max(size, 1) for size in sizes])
    starts = np.zeros(len(sizes), dtype=int)
    for piece in np.array_split(np.argsort(place, kind="stable"), max(1, -(-len(place) // max(1, most)))):
        stops = starts + np.bincount(layer[piece], minlength=len(sizes))
        yield [slice(int(start), int(stop)) for start, stop in zip(starts, stops, strict=True)]
        starts = stops


def grid(active: Bool[Tensor, "readout path"], n_nodes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Path and node of every point: all nodes of all active paths of each readout, padded to the longest readout.

    Returns: path, node, is_real, each (readouts, points).
    """
    n_paths = active.sum(1)
    order = torch.argsort(active.int(), dim=1, descending=True, stable=True)[:, : int(n_paths.max())]
    is_real = torch.arange(order.shape[1], device=active.device) < n_paths[:, None]
    path = order.repeat_interleave(n_nodes, 1)
    node = torch.arange(n_nodes, device=active.device).repeat(order.shape[1]).expand_as(path)
    return path, node, is_real.repeat_interleave(n_nodes, 1)
