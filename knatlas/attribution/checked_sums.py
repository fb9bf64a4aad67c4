"""Sums of gradients along paths from few nodes of a rule, with an estimate of the difference to all of them."""

import torch
from numpy import ndarray
from torch import Tensor

from knatlas.attribution.evaluation import Evaluated, Nodes
from knatlas.attribution.levels import Level, levels_of
from knatlas.attribution.log_odds import allowed_error, estimated_error, is_hopeless, path_weights
from knatlas.attribution.sums import PathBundle, PathSum


class CheckedSum(PathSum):
    """The same numbers from few points: level by level, a path is left as soon as its estimated error is allowed.

    A path that no level settles, or promises to settle, takes all points of the rule.
    """

    def __init__(self, bundle: PathBundle) -> None:
        """Args: the paths, of a method with `quadrature` "checked", in a model without kinks."""
        super().__init__(bundle)
        self._levels = list(levels_of(bundle.method.rule, bundle.method.steps))
        self._last_paid = self._levels[-1].paid if self._levels else 0
        self._level: Level | None = None  # None where all points are taken
        self._open = [bundle.is_moving(layer) for layer in range(bundle.n_layers)]
        self._hopeless = [torch.zeros_like(is_open) for is_open in self._open]
        self._settled: list[Tensor | float] = [0.0] * bundle.n_layers  # scores of settled paths (readouts, neurons)
        self._seen: list[tuple[Tensor, Tensor] | None] = [None] * bundle.n_layers

    def ask(self) -> list[Nodes]:
        """The new points of the next level of all paths that are open."""
        self._level = self._levels.pop(0) if self._levels else None
        if self._level is None:
            self._open = [a | b for a, b in zip(self._open, self._hopeless, strict=True)]
            self.n_fallbacks += sum(is_open.sum(1) for is_open in self._open)
            return self._ask(self._open, self._nodes)
        self._seen = [self._wider(layer) for layer in range(self.bundle.n_layers)]
        return self._ask(self._open, torch.as_tensor(self._level.nodes[self._level.is_new]).to(self._nodes))

    def _wider(self, layer: int) -> tuple[Tensor, Tensor] | None:
        """What was seen at a layer's lower nodes, with room for the new ones; None before any was seen."""
        if self._seen[layer] is None:
            return None
        kept = torch.as_tensor(~self._level.is_new)
        return tuple(_spread(part, kept) for part in self._seen[layer])

    def _add(self, found: Evaluated, path: Tensor, node: Tensor, scale: Tensor) -> None:
        """Keep dF and log P of every node; where all points are taken, their sum."""
        if self._level is None:
            super()._add(found, path, node, scale)
            return
        gradients, log_p = self._store(found)
        readout, column = torch.nonzero(self._round.grids[found.layer][2][:, found.columns], as_tuple=True)
        column_node = torch.as_tensor(self._level.is_new).nonzero()[:, 0].to(node.device)[node[readout, column]]
        place = (readout, path[readout, column], column_node)
        gradients[place] = scale[readout, column, None, None] * found.values[readout, column]
        log_p[place] = found.log_p[readout, column]

    def _store(self, found: Evaluated) -> tuple[Tensor, Tensor]:
        """dF (readouts, paths, nodes, positions, size) and log P (readouts, paths, nodes) of a layer, the end known."""
        if self._seen[found.layer] is None:
            shape = (*self.bundle.is_path.shape, len(self._level.nodes))
            gradients = found.values.new_zeros(*shape, *found.values.shape[2:])
            gradients[:, :, -1] = self.bundle.end(found.layer)[:, None]
            log_p = self.bundle.readouts.log_p()[:, None, None].expand(shape).clone()
            self._seen[found.layer] = (gradients, log_p)
        return self._seen[found.layer]

    def close(self) -> list[Nodes] | None:
        """Settle the paths whose error is allowed, and ask for the points of the others' next level."""
        if self._level is not None:
            for layer, seen in enumerate(self._seen):
                if bool(self._open[layer].any()):
                    self._settle(layer, *seen)
            if not any(bool(is_open.any()) for is_open in self._open):
                self._levels = []
            if self._levels or any(bool((a | b).any()) for a, b in zip(self._open, self._hopeless, strict=True)):
                return self.ask()
        for layer, is_open in enumerate(self._open):
            self._finish(layer, is_open)
        return None

    def _settle(self, layer: int, gradients: Tensor, log_p: Tensor) -> None:
        """Leave the open paths of a layer whose estimated error is allowed, and give up those without hope."""
        readout, path = torch.nonzero(self._open[layer], as_tuple=True)
        gradients, n_readouts = gradients[readout, path], len(gradients)
        scores, slopes = self._at_nodes(layer, readout, path, gradients)
        weights = path_weights(self._level, _numpy(log_p[readout, path]), _numpy(slopes), self.bundle.method.objective)
        total = torch.as_tensor(weights.total).to(scores)[:, None]
        sizes = _numpy((torch.as_tensor(weights.checks).to(scores) @ scores).double().norm(dim=2))
        found = (total @ scores)[:, 0]  # (open paths, neurons)
        of_readout = (torch.arange(n_readouts, device=readout.device)[:, None] == readout).to(found.dtype)
        size = (self._settled[layer] + of_readout @ found).double().norm(dim=1)
        n_paths = self.bundle.is_path.sum(1)
        allowed = allowed_error(_numpy(size[readout]), _numpy(n_paths[readout]), self.bundle.method.rtol)
        error = estimated_error(sizes, self._level.paid)
        is_ok = torch.as_tensor(error <= allowed).to(readout.device)
        is_lost = is_hopeless(error, sizes, self._level.paid, self._last_paid, allowed)
        is_lost = ~is_ok & torch.as_tensor(is_lost).to(readout.device)
        self._total(layer, gradients.shape[2:])[readout[is_ok], path[is_ok]] = (total @ gradients.flatten(2))[
            is_ok, 0
        ].unflatten(1, gradients.shape[2:])
        self._settled[layer] = self._settled[layer] + (of_readout * is_ok) @ found
        self.squares[:, layer] += of_readout.double() @ (torch.as_tensor(error**2).to(readout.device) * is_ok)
        self._hopeless[layer][readout[is_lost], path[is_lost]] = True
        self._open[layer][readout[is_ok | is_lost], path[is_ok | is_lost]] = False

    def _at_nodes(self, layer: int, readout: Tensor, path: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (paths, nodes, neurons) that the gradients of single nodes would give, and slopes (paths, nodes)."""
        bundle, readouts = self.bundle, self.bundle.readouts
        end = readouts.lift(layer, bundle.end(layer))  # shared: lifted once for all paths
        lifted = torch.cat((readouts.lift(layer, gradients[:, :-1]), end[readout, None]), dim=1)
        # sums of products, not einsum, which makes a product of two vectors for every neuron
        slopes = (bundle.differences(layer)[readout, path][:, None] * lifted).sum((2, 3))
        return (bundle.factor(layer)[readout, path][:, None] * lifted).sum(2), slopes


def _numpy(x: Tensor) -> ndarray:
    """A tensor in float64 on the processor."""
    return x.double().cpu().numpy()


def _spread(x: Tensor, kept: Tensor) -> Tensor:
    """Nodes (readouts, paths, nodes, ...) put where `kept` is true, the last ones where it is true less often."""
    wide = x.new_zeros(*x.shape[:2], len(kept), *x.shape[3:])
    wide[:, :, kept.to(x.device)] = x[:, :, -int(kept.sum()) :]
    return wide
