"""Sums of gradients along paths over all nodes of a rule."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from knatlas.attribution.evaluation import Evaluated, Nodes, Readouts, grid
from knatlas.attribution.methods import AttributionMethod
from knatlas.attribution.quadrature import quadrature


@dataclass(frozen=True)
class PathBundle:
    """The paths of one integral: those from `first` on in the readouts' own numbering.

    starts, differences: per layer (readouts, paths, positions, neurons), the baselines and clean - baselines.
    is_path (readouts, paths): which are paths of the readout; the others stand for nothing.
    """

    readouts: Readouts
    method: AttributionMethod
    first: int
    starts: Sequence[Float[Tensor, "readout path position neuron"]]
    is_path: Bool[Tensor, "readout path"]

    def differences(self, layer: int) -> Float[Tensor, "readout path position neuron"]:
        """clean - baselines of a layer."""
        return self.readouts.clean[layer][:, None] - self.starts[layer]

    def factor(self, layer: int) -> Float[Tensor, "readout path position neuron"]:
        """What the gradients of a layer are multiplied by: a - b, or a."""
        if self.method.multiplier == "delta":
            return self.differences(layer)
        return self.readouts.clean[layer][:, None].expand_as(self.starts[layer])

    def is_moving(self, layer: int) -> Bool[Tensor, "readout path"]:
        """Paths of some length: along the others the gradient is that of their end."""
        return self.is_path & (self.starts[layer] != self.readouts.clean[layer][:, None]).flatten(2).any(2)

    @property
    def n_layers(self) -> int:
        """Layers of the model."""
        return len(self.starts)

    def objective_scale(self, log_p: Tensor) -> Tensor:
        """dF / d log P: P, or 1 where F is log P."""
        return log_p.exp() if self.method.objective == "prob" else torch.ones_like(log_p)

    def end(self, layer: int) -> Float[Tensor, "readout position size"]:
        """dF at the shared end of a layer's paths."""
        return self.objective_scale(self.readouts.log_p())[:, None, None] * self.readouts.end(layer)


@dataclass(frozen=True)
class _Round:
    """What a sum asks for at once: nodes per layer, their path, node and whether they are real (readouts, points)."""

    alphas: Float[Tensor, " node"]
    grids: Sequence[tuple[Tensor, Tensor, Tensor]]

    def asked(self, first: int) -> list[Nodes]:
        """The nodes, with paths in the readouts' numbering."""
        return [Nodes(path + first, self.alphas[node]) for path, node, _ in self.grids]


class PathSum:
    """The sums of one integral's paths, in rounds: ask, take what was evaluated, close, until nothing is asked.

    totals: per layer sum_k w_k dF(alpha_k) of each path (readouts, paths, positions, size). errors (readouts, layers):
    estimated L2 error of each layer's scores. n_points, n_zero, n_fallbacks (readouts,): counts as in `MethodRecord`.
    """

    def __init__(self, bundle: PathBundle) -> None:
        """Args: the paths."""
        self.bundle, n_readouts = bundle, len(bundle.is_path)
        device = bundle.is_path.device
        self.totals: list[Tensor | None] = [None] * bundle.n_layers
        self.squares = torch.zeros(n_readouts, bundle.n_layers, dtype=torch.float64, device=device)
        self.n_points, self.n_zero, self.n_fallbacks = (
            torch.zeros(n_readouts, dtype=torch.long, device=device) for _ in range(3)
        )
        self._round: _Round | None = None
        nodes, weights = (
            torch.as_tensor(part).to(bundle.starts[0]) for part in quadrature(bundle.method.rule, bundle.method.steps)
        )
        is_end = nodes == 1
        self._nodes, self._weights, self._end_weight = nodes[~is_end], weights[~is_end], weights[is_end].sum()

    @property
    def n_full_points(self) -> Tensor:
        """Points of the rule's full sum of each readout, the shared end once per layer."""
        return self.bundle.is_path.sum(1) * len(self._nodes) * self.bundle.n_layers + self.bundle.n_layers

    def ask(self) -> list[Nodes] | None:
        """The points of the first round, per layer."""
        moving = [self.bundle.is_moving(layer) for layer in range(self.bundle.n_layers)]
        if self.bundle.method.quadrature == "checked":
            self.n_fallbacks += sum(of_layer.sum(1) for of_layer in moving)
        return self._ask(moving, self._nodes)

    def _ask(self, active: Sequence[Tensor], alphas: Tensor) -> list[Nodes]:
        """Ask for nodes of the active paths of each layer."""
        self._round = _Round(alphas, [grid(of_layer, len(alphas)) for of_layer in active])
        return self._round.asked(self.bundle.first)

    def take(self, found: Evaluated) -> None:
        """Add what was found at some of the points asked for."""
        path, node, is_real = (part[:, found.columns] for part in self._round.grids[found.layer])
        scale = self.bundle.objective_scale(found.log_p) * is_real
        is_zero = ((found.values == 0).flatten(2).all(2) | (scale == 0)) & is_real
        self.n_points += is_real.sum(1)
        self.n_zero += is_zero.sum(1)
        self._add(found, path, node, scale)

    def _add(self, found: Evaluated, path: Tensor, node: Tensor, scale: Tensor) -> None:
        """totals[path] += weight * dF, in place."""
        total = self._total(found.layer, found.values.shape[2:])
        # a matrix product and not index_add_, whose order of adding, hence last digit, changes from run to run on a GPU
        chosen = torch.arange(total.shape[1], device=path.device)[:, None] == path[:, None]
        weights = chosen * (self._weights[node] * scale)[:, None]
        total += (weights @ found.values.flatten(2)).view_as(total)

    def _total(self, layer: int, shape: torch.Size) -> Tensor:
        """The sums of a layer, zero at first."""
        if self.totals[layer] is None:
            start = self.bundle.starts[layer]
            self.totals[layer] = start.new_zeros(*start.shape[:2], *shape)
        return self.totals[layer]

    def close(self) -> list[Nodes] | None:
        """End the round: add the shared end, and the paths of no length. Nothing more is asked."""
        for layer in range(self.bundle.n_layers):
            self._finish(layer, self.bundle.is_moving(layer))
        return None

    def _finish(self, layer: int, took_all: Bool[Tensor, "readout path"]) -> None:
        """Complete the sums of a layer; took_all, the paths whose other nodes were all added."""
        end = self.bundle.end(layer)[:, None]
        self.n_zero += (end == 0).flatten(1).all(1)
        total = self._total(layer, end.shape[2:])
        total += self._end_weight * end * took_all[..., None, None]
        still = self.bundle.is_path & ~self.bundle.is_moving(layer)
        total[still] = end.expand_as(total)[still]
