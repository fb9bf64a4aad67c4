"""The fast path: readouts of models whose blocks are known, by one capture and few sweeps."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from knatlas.attribution.capture import Group, LayerCapture, capture_causal, capture_masked
from knatlas.attribution.evaluation import Evaluated, Nodes, pieces
from knatlas.attribution.memory import Rows, is_out_of_memory
from knatlas.attribution.paths import NeuronPaths, Paths, PreActivationPaths
from knatlas.attribution.sweep import CausalSweep, MaskedSweep, Swept
from knatlas.models.blocks import Network


class FastReadouts:
    """`Readouts` on a known network. The gradient at the shared end comes with the first sweep."""

    def __init__(self, network: Network, group: Group, site: str, rows: Rows) -> None:
        """Args: the network, the group, the neuron site, and how many rows a sweep may have."""
        capture, sweep = (capture_causal, CausalSweep) if network.is_causal else (capture_masked, MaskedSweep)
        self._network, self._rows = network, rows
        self._layers: list[LayerCapture] = capture(network, group, site)
        self._sweep = sweep(network, self._layers, group.positions, group.targets)
        self._site, self._paths = site, []
        self._ends: list[Tensor] | None = None
        self._log_p: Tensor | None = None
        self.clean = [layer.clean for layer in self._layers]
        self.baselines = [layer.baselines for layer in self._layers]

    def set_paths(self, starts: Sequence[Float[Tensor, "readout path position neuron"]]) -> None:
        """As in `Readouts`."""
        blocks = zip(self._network.blocks, self._layers, starts, strict=True)
        if self._site == "down_input":
            self._paths: list[Paths] = [NeuronPaths(block.feed, layer.clean, start) for block, layer, start in blocks]
        else:
            self._paths = [
                PreActivationPaths(block.feed, layer.clean, start, layer.gate) for block, layer, start in blocks
            ]

    def evaluate(self, asked: Sequence[Nodes], with_gradient: bool) -> Iterator[Evaluated]:
        """As in `Readouts`."""
        n_readouts = len(self.clean[0])
        for part in pieces([nodes.size for nodes in asked], self._rows.most // n_readouts):
            yield from self._evaluate(asked, part, with_gradient)

    def _evaluate(self, asked: Sequence[Nodes], part: Sequence[slice], with_gradient: bool) -> Iterator[Evaluated]:
        """One sweep, or two halves of it where memory is short."""
        nodes = [of_layer.columns(columns) for of_layer, columns in zip(asked, part, strict=True)]
        n_columns, swept = sum(of_layer.size for of_layer in nodes), None
        if n_columns <= max(1, self._rows.most // len(self.clean[0])):
            try:
                swept = self._run(nodes, with_gradient)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or not self._rows.halve(n_columns, len(self.clean[0])):
                    raise
        if swept is None:  # outside of the handler: the traceback holds on to the memory of the sweep
            for half in _halves(part):
                yield from self._evaluate(asked, half, with_gradient)
            return
        yield from self._found(nodes, part, swept)

    def _run(self, nodes: Sequence[Nodes], with_gradient: bool) -> Swept:
        """Send the points up; the first sweep with gradients carries the shared end too."""
        points = [
            paths.points(of_layer.path, of_layer.alpha) for paths, of_layer in zip(self._paths, nodes, strict=True)
        ]
        is_shared = with_gradient and self._ends is None
        if is_shared:
            points[0] = torch.cat((self._network.blocks[0].feed.down(self._neurons(0))[:, None], points[0]), dim=1)
        swept = self._sweep.run(points, with_gradient, is_shared)
        if not is_shared:
            return swept
        self._log_p = swept.log_p[0][:, 0]
        self._ends = [paths.end_values(swept.shared[:, number]) for number, paths in enumerate(self._paths)]
        return Swept([swept.log_p[0][:, 1:], *swept.log_p[1:]], [swept.gradients[0][:, 1:], *swept.gradients[1:]], None)

    def _neurons(self, layer: int) -> Tensor:
        """The clean input of a layer's down projection."""
        if self._site == "down_input":
            return self.clean[layer]
        return self._network.blocks[layer].feed.activate(self.clean[layer], self._layers[layer].gate)

    def _found(self, nodes: Sequence[Nodes], part: Sequence[slice], swept: Swept) -> Iterator[Evaluated]:
        """The results of a sweep, layer by layer."""
        for layer, (paths, of_layer, columns) in enumerate(zip(self._paths, nodes, part, strict=True)):
            if not of_layer.size:
                continue
            values = None
            if swept.gradients is not None:
                values = paths.values(swept.gradients[layer], of_layer.path, of_layer.alpha)
            yield Evaluated(layer, columns, swept.log_p[layer], values)

    def end(self, layer: int) -> Float[Tensor, "readout position size"]:
        """As in `Readouts`."""
        return self._ends[layer]

    def log_p(self) -> Float[Tensor, " readout"]:
        """As in `Readouts`."""
        return self._log_p

    def lift(self, layer: int, sums: Tensor) -> Tensor:
        """As in `Readouts`."""
        return self._paths[layer].lift(sums)


def _halves(part: Sequence[slice]) -> Iterator[list[slice]]:
    """The columns of every layer in two pieces."""
    sizes = [columns.stop - columns.start for columns in part]
    for half in pieces(sizes, -(-sum(sizes) // 2)):
        yield [slice(c.start + own.start, c.start + own.stop) for c, own in zip(part, half, strict=True)]
