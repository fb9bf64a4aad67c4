"""The growing sweep: one batch goes up the layers, and at every layer that layer's points join it.

A point is a value of y = W_down a + bias at the read positions of a layer: everything below it, and its layer's own
attention and neurons, are those of the query and cost nothing. One forward and one backward pass serve all layers.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from knatlas.attribution.capture import LayerCapture, attend_all, rotation_at, see, take
from knatlas.attribution.head import AnswerHead
from knatlas.models.blocks import Network
from knatlas.models.blocks.block import Block

Points = Sequence[Float[Tensor, "readout point position hidden"]]


@dataclass(frozen=True)
class Swept:
    """What a sweep finds of its points, those of the first layer first.

    log_p: one (readouts, points) per layer, log P(answer) in nats. gradients: d log P / dy of each point, one
    (readouts, points, positions, hidden) per layer, or None. shared (readouts, layers, positions, hidden): the gradient
    of the first layer's first point with respect to y at every layer, where it was asked for.
    """

    log_p: list[Float[Tensor, "readout point"]]
    gradients: list[Float[Tensor, "readout point position hidden"]] | None
    shared: Float[Tensor, "readout layer position hidden"] | None


class Sweep(ABC):
    """The sweep of one group of readouts through a network."""

    def __init__(
        self,
        network: Network,
        layers: Sequence[LayerCapture],
        positions: Int[Tensor, "readout position"],
        targets: Int[Tensor, "readout position"],
    ) -> None:
        """Args: the network, its capture, and where each readout reads which tokens."""
        self.network, self.layers = network, layers
        self.positions, self.targets = positions, targets
        self.head, self.rotations = AnswerHead(network), rotation_at(network, positions)

    @abstractmethod
    def rise(self, points: Points, tap: "_Tap") -> Float[Tensor, "readout point position hidden"]:
        """The last layer's output at the read positions, of the points of all layers."""

    def run(self, points: Points, with_gradient: bool, is_shared: bool) -> Swept:
        """Send points up, one tensor (readouts, points, positions, hidden) per layer, some of them empty.

        is_shared: the first point of the first layer is the query itself, whose gradient is wanted at every layer.
        """
        tap = _Tap(self, is_shared and with_gradient)
        leaves = [part.detach().requires_grad_(with_gradient) for part in points]
        with torch.set_grad_enabled(with_gradient):
            z = self.network.final(self.rise(leaves, tap))
        log_p, gradient = self._read(z.detach(), with_gradient)
        sizes = [part.shape[1] for part in points]
        log_p = list(log_p.split(sizes, dim=1))
        if not with_gradient:
            return Swept(log_p, None, None)
        # rows of unit size on the way down: near p = 1 gradients lie below the smallest numbers of float16
        size = gradient.abs().amax((2, 3), keepdim=True).clamp_min(torch.finfo(gradient.dtype).tiny)
        gradients = list(torch.autograd.grad(z, leaves, gradient / size, allow_unused=True))
        gradients = [torch.zeros_like(x) if g is None else g for x, g in zip(leaves, gradients, strict=True)]
        shared = tap.gradients(gradients)
        gradients = [g * of_layer for g, of_layer in zip(gradients, size.split(sizes, dim=1), strict=True)]
        return Swept(log_p, gradients, None if shared is None else shared * size[:, :1])

    def _read(self, z: Tensor, with_gradient: bool) -> tuple[Tensor, Tensor | None]:
        """log P(answer) of every row, the sum over the read positions, and its gradient with respect to z."""
        targets = self.targets[:, None].expand(z.shape[:-1]).reshape(-1)
        log_p, gradient = self.head(z.flatten(0, -2), targets, with_gradient)
        return log_p.view(z.shape[:-1]).sum(-1), None if gradient is None else gradient.view_as(z)


class _Tap:
    """Catches the gradient of the first row with respect to y of every layer above the first."""

    def __init__(self, sweep: Sweep, is_on: bool) -> None:
        """Args: is_on, whether there is such a row."""
        self.sweep, self.is_on, self.caught = sweep, is_on, {}

    def at(self, layer: int, y: Tensor) -> None:
        """y of the rows from below, (readouts, rows, ..., hidden), at a layer."""
        if self.is_on:
            y.register_hook(lambda gradient: self.caught.__setitem__(layer, self._first(gradient)))

    def _first(self, gradient: Tensor) -> Tensor:
        """The first row at the read positions."""
        first = gradient[:, 0]
        if first.dim() == 3 and first.shape[1] != self.sweep.positions.shape[1]:
            return take(first, self.sweep.positions)
        return first.reshape(len(first), -1, first.shape[-1]).clone()

    def gradients(self, of_points: Sequence[Tensor]) -> Tensor | None:
        """The gradients at all layers, the first from the points themselves."""
        if not self.is_on:
            return None
        return torch.stack([of_points[0][:, 0], *(self.caught[layer] for layer in sorted(self.caught))], dim=1)


class CausalSweep(Sweep):
    """Only the read position differs from the query: a row is one token, over the query's own keys and values."""

    def __init__(self, *arguments: object) -> None:
        """Args: as for `Sweep`."""
        super().__init__(*arguments)
        n_tokens = self.layers[0].keys.shape[1]
        self._seen = {
            block.attention.window: see(n_tokens, block.attention.window, self.positions.device)[self.positions[:, 0]]
            for block in self.network.blocks
        }
        place = torch.arange(n_tokens, device=self.positions.device)
        self._is_before = place < self.positions  # (readouts, tokens): the row's own key is its new one
        self._distance = (place - self.positions)[:, None, None, None]

    def rise(self, points: Points, tap: _Tap) -> Float[Tensor, "readout point position hidden"]:
        """As in `Sweep`."""
        x = None
        for number, (block, layer, new) in enumerate(zip(self.network.blocks, self.layers, points, strict=True)):
            joined = block.leave(layer.residual, new[:, :, 0])
            x = joined if x is None or not x.shape[1] else torch.cat((self._pass(number, block, x, tap), joined), dim=1)
        return x[:, :, None]

    def _pass(self, number: int, block: Block, x: Tensor, tap: _Tap) -> Tensor:
        """Rows (readouts, rows, hidden) through one layer."""
        residual = block.residual(x, self._attend(number, block, *block.project(x, self.rotations[number])))
        y = block.feed_forward(x, residual)
        tap.at(number, y)
        return block.leave(residual, y)

    def _attend(self, number: int, block: Block, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """What each row's heads attend to: the query's tokens before it, and the row itself."""
        layer, n_groups = self.layers[number], block.attention.n_kv_heads
        n_readouts, n_rows = query.shape[:2]
        # (readouts, kv heads, rows, heads of the group, dim)
        query = query.unflatten(2, (n_groups, -1)).transpose(1, 2) * block.attention.scale
        keys, values = layer.keys.permute(0, 2, 3, 1), layer.values.transpose(1, 2)
        scores = (query.flatten(2, 3) @ keys).unflatten(2, (n_rows, -1))
        own = (query * key.transpose(1, 2)[:, :, :, None]).sum(-1, keepdim=True)
        scores, own = block.attention.capped(scores), block.attention.capped(own)
        if block.attention.slopes is not None:  # the row's own key is at distance 0
            scores = scores + block.attention.slopes.view(n_groups, 1, -1, 1) * self._distance
        is_seen = self._seen[block.attention.window] & self._is_before
        scores = scores.masked_fill(~is_seen[:, None, None, None], -torch.inf)
        weights = torch.cat((scores, own), -1).softmax(-1)
        found = (weights[..., :-1].flatten(2, 3) @ values).unflatten(2, (n_rows, -1))
        found = found + weights[..., -1:] * value.transpose(1, 2)[:, :, :, None]
        return found.transpose(1, 2).reshape(n_readouts, n_rows, -1, found.shape[-1])


class MaskedSweep(Sweep):
    """All tokens change above a point; in the layer right above it only the read positions' own projections do."""

    def rise(self, points: Points, tap: _Tap) -> Float[Tensor, "readout point position hidden"]:
        """As in `Sweep`."""
        full, fresh = None, None  # rows of all tokens, and rows that joined at the layer below
        last = len(points) - 1
        for number, (block, layer, new) in enumerate(zip(self.network.blocks, self.layers, points, strict=True)):
            if fresh is not None:
                full = self._pass(block, layer, full, fresh, (number, number == last), tap)
            fresh = block.leave(layer.residual[:, None], new)
        return fresh if full is None else torch.cat((full, fresh), dim=1)

    def _pass(
        self, block: Block, layer: LayerCapture, full: Tensor | None, fresh: Tensor, place: tuple, tap: _Tap
    ) -> Tensor:
        """Rows through one layer, those of the layer below with the query's own projections of the other tokens."""
        number, is_last = place
        x, parts = self._put(layer.inputs, fresh), block.project(fresh, None)
        cached = (layer.queries, layer.keys, layer.values)
        parts = [self._put(old, new) for old, new in zip(cached, parts, strict=True)]
        if full is not None:
            parts = [torch.cat(pair, dim=1) for pair in zip(block.project(full, None), parts, strict=True)]
            x = torch.cat((full, x), dim=1)
        query, key, value = parts
        if is_last:
            x, query = self._take(x), self._take(query)
        residual = block.residual(x, attend_all(block, query, key, value))
        y = block.feed_forward(x, residual)
        tap.at(number, y)
        return block.leave(residual, y)

    def _index(self, like: Tensor) -> Tensor:
        """The read positions, shaped to index (readouts, rows, tokens, ...)."""
        index = self.positions.view(len(self.positions), 1, -1, *[1] * (like.dim() - 3))
        return index.expand(-1, like.shape[1], -1, *like.shape[3:])

    def _put(self, old: Tensor, new: Tensor) -> Tensor:
        """The query's tokens (readouts, tokens, ...) in every row, the read positions replaced by the row's own."""
        wide = old[:, None].expand(-1, new.shape[1], *old.shape[1:])
        return wide.scatter(2, self._index(new), new)

    def _take(self, x: Tensor) -> Tensor:
        """The read positions of rows (readouts, rows, tokens, ...)."""
        return x.gather(2, self._index(x))
