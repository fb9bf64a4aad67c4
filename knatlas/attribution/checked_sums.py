"""Sums of gradients along paths from few nodes of a rule, with an estimate of the difference to all of them."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float64
from numpy import ndarray
from torch import Tensor

from knatlas.attribution.evaluation import Evaluated, Nodes
from knatlas.attribution.levels import Level, levels_of
from knatlas.attribution.log_odds import allowed_error, estimated_error, is_hopeless, path_weights
from knatlas.attribution.sums import PathBundle, PathSum

# Points that a sweep takes at little more than the cost of reading the weights.
FEW = 64


class CheckedSum(PathSum):
    """The same numbers from few points: level by level, a path is left as soon as its estimated error is allowed.

    A path that no level settles, or promises to settle, takes all points of the rule.
    """

    def __init__(self, bundle: PathBundle) -> None:
        """Args: the paths, of a method with `quadrature` "checked", in a model without kinks."""
        super().__init__(bundle)
        self._levels = list(levels_of(bundle.method.rule, bundle.method.steps))
        self._last_paid = self._levels[-1].paid if self._levels else 0
        self._asked: list[Level] = []  # levels of this round; none where all points are taken
        self._slots = np.ones(1)  # alphas of the gradients that are kept, the shared end first
        self._open = [bundle.is_moving(layer) for layer in range(bundle.n_layers)]
        self._hopeless = [torch.zeros_like(is_open) for is_open in self._open]
        self._settled: list[Tensor | float] = [0.0] * bundle.n_layers  # scores of settled paths (readouts, neurons)
        self._seen: list[tuple[Tensor, Tensor] | None] = [None] * bundle.n_layers

    def ask(self) -> list[Nodes]:
        """The new points of the next level of all paths that are open, and of levels above it where they are few."""
        self._asked = self._next_levels()
        if not self._asked:
            self._open = [a | b for a, b in zip(self._open, self._hopeless, strict=True)]
            self.n_fallbacks += sum(is_open.sum(1) for is_open in self._open)
            return self._ask(self._open, self._nodes)
        new = _new_nodes(self._asked, self._slots)
        self._slots = np.append(self._slots, new)
        return self._ask(self._open, torch.as_tensor(new).to(self._nodes))

    def _next_levels(self) -> list[Level]:
        """The next level, and those above it as long as their points are few: every sweep costs its weights.

        Levels are settled in order all the same, so that no sum depends on how many paths are open beside it.
        """
        n_open, asked = sum(int(is_open.sum()) for is_open in self._open), self._levels[:1]
        for level in self._levels[1:]:
            if n_open * len(_new_nodes([*asked, level], self._slots)) > FEW:
                break
            asked = [*asked, level]
        self._levels = self._levels[len(asked) :]
        return asked

    def _add(self, found: Evaluated, path: Tensor, node: Tensor, scale: Tensor) -> None:
        """Keep dF and log P of every node; where all points are taken, their sum."""
        if not self._asked:
            super()._add(found, path, node, scale)
            return
        gradients, log_p = self._store(found)
        readout, column = torch.nonzero(self._round.grids[found.layer][2][:, found.columns], as_tuple=True)
        slot = len(self._slots) - len(self._round.alphas) + node[readout, column]
        place = (readout, path[readout, column], slot)
        gradients[place] = scale[readout, column, None, None] * found.values[readout, column]
        log_p[place] = found.log_p[readout, column]

    def _store(self, found: Evaluated) -> tuple[Tensor, Tensor]:
        """dF (readouts, paths, slots, positions, size) and log P (readouts, paths, slots) of a layer, with room."""
        kept = self._seen[found.layer]
        if kept is None:
            shape = (*self.bundle.is_path.shape, 1)
            end = self.bundle.end(found.layer)[:, None, None]
            kept = (end.expand(*shape, *end.shape[3:]), self.bundle.readouts.log_p()[:, None, None].expand(shape))
        n_more = len(self._slots) - kept[0].shape[2]
        if n_more:
            room = [part.new_zeros(*part.shape[:2], n_more, *part.shape[3:]) for part in kept]
            kept = tuple(torch.cat(pair, dim=2) for pair in zip(kept, room, strict=True))
        self._seen[found.layer] = kept
        return kept

    def close(self) -> list[Nodes] | None:
        """Settle the paths whose error is allowed, and ask for the points of the others' next level."""
        for level in self._asked:
            for layer, is_open in enumerate(self._open):
                if bool(is_open.any()):
                    self._settle(layer, level)
        if self._asked:
            if not any(bool(is_open.any()) for is_open in self._open):
                self._levels = []
            if self._levels or any(bool((a | b).any()) for a, b in zip(self._open, self._hopeless, strict=True)):
                return self.ask()
        for layer, is_open in enumerate(self._open):
            self._finish(layer, is_open)
        return None

    def _settle(self, layer: int, level: Level) -> None:
        """Leave the open paths of a layer whose estimated error is allowed, and give up those without hope."""
        readout, path = torch.nonzero(self._open[layer], as_tuple=True)
        slots = [int(np.flatnonzero(self._slots == node)[-1]) for node in level.nodes]
        gradients, log_p = (part[readout, path][:, slots] for part in self._seen[layer])
        n_readouts = len(self.bundle.is_path)
        scores, slopes = self._at_nodes(layer, readout, path, gradients)
        weights = path_weights(level, _numpy(log_p), _numpy(slopes), self.bundle.method.objective)
        total = torch.as_tensor(weights.total).to(scores)[:, None]
        sizes = _numpy((torch.as_tensor(weights.checks).to(scores) @ scores).double().norm(dim=2))
        found = (total @ scores)[:, 0]  # (open paths, neurons)
        of_readout = (torch.arange(n_readouts, device=readout.device)[:, None] == readout).to(found.dtype)
        size = (self._settled[layer] + of_readout @ found).double().norm(dim=1)
        n_paths = self.bundle.is_path.sum(1)
        allowed = allowed_error(_numpy(size[readout]), _numpy(n_paths[readout]), self.bundle.method.rtol)
        error = estimated_error(sizes, level.paid)
        is_ok = torch.as_tensor(error <= allowed).to(readout.device)
        is_lost = is_hopeless(error, sizes, level.paid, self._last_paid, allowed)
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


def _new_nodes(levels: Sequence[Level], slots: ndarray) -> Float64[ndarray, " node"]:
    """The nodes of levels, in their order, that are not among the slots."""
    return np.array(
        [node for node in dict.fromkeys(np.concatenate([level.nodes for level in levels])) if node not in slots]
    )
