"""The general path: hooks on the unmodified model, one row per point of a path, rows in batches.

It serves every architecture, also those whose blocks the fast path does not know: all that it knows of a model is where
its layers and their neurons are.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import logsigmoid
from transformers import DynamicCache

from knatlas.attribution.evaluation import Evaluated, Nodes, pieces
from knatlas.attribution.paths import choose
from knatlas.attribution.sites import tapped
from knatlas.models.blocks.network import work_dtype
from knatlas.models.encoding import Readout
from knatlas.models.language_model import LanguageModel


def log_probability(logits: Float[Tensor, "row position word"], targets: Sequence[int]) -> Float[Tensor, " row"]:
    """log P = sum_t log softmax(logits_t)[y_t] of each row, in nats.

    Written as log sigmoid(z_y - log sum_{v != y} exp z_v): its gradient holds 1 - p_y as a sum over the other words,
    where a softmax loses digits to cancellation when p_y is near 1.
    """
    index = torch.tensor(targets, device=logits.device).expand(len(logits), -1)[..., None]
    others = logits.scatter(-1, index, -torch.inf).logsumexp(-1)
    return logsigmoid(logits.gather(-1, index)[..., 0] - others).sum(-1)


def _log_p(lm: LanguageModel, inputs: dict, positions: list[int], targets: Sequence[int]) -> Float[Tensor, " row"]:
    """log P(targets) of each row of a forward pass; the head runs at the read positions only."""
    hidden = lm.body(**inputs).last_hidden_state
    return log_probability(lm.head(hidden[:, positions]).to(work_dtype(lm)), targets)


class ReadoutModel:
    """P(answer) of one readout as a function of the neurons of one layer at the read positions, for rows of points.

    Causal models read at the last token, which no earlier token sees: the keys and values of all tokens before it are
    computed once, and a row is that one token. Masked models run all tokens in every row.
    """

    def __init__(self, lm: LanguageModel, readout: Readout, site: str) -> None:
        """Args: the model, the readout, and the neuron site at which points are put."""
        self.lm, self.site, self.targets = lm, site, readout.targets
        self.n_tokens = len(readout.input_ids)
        self.positions, self.prefix = list(readout.positions), None
        self.input_ids = torch.tensor([readout.input_ids], device=lm.device)
        if readout.kind == "causal":
            self._cache_prefix()

    @torch.no_grad()
    def _cache_prefix(self) -> None:
        """Keep the keys and values of all tokens but the last, and only the last token as input."""
        before, self.input_ids = self.input_ids[:, :-1], self.input_ids[:, -1:]
        if before.shape[1]:
            inputs = {"input_ids": before, "attention_mask": torch.ones_like(before)}
            # a cache that keeps all tokens: which of them a layer sees is the mask's affair
            self.prefix = self.lm.body(**inputs, past_key_values=DynamicCache(), use_cache=True).past_key_values
        self.positions = [0]

    def _inputs(self, n_rows: int) -> dict[str, object]:
        """The keyword arguments of a forward pass of `n_rows` equal rows."""
        attention_mask = torch.ones(n_rows, self.n_tokens, dtype=torch.long, device=self.lm.device)
        inputs = {"input_ids": self.input_ids.expand(n_rows, -1), "attention_mask": attention_mask}
        if self.prefix is not None:
            cache = copy.deepcopy(self.prefix)  # a forward pass appends to the cache it is given
            cache.batch_repeat_interleave(n_rows)
            position_ids = torch.full_like(inputs["input_ids"], self.n_tokens - 1)
            inputs |= {"past_key_values": cache, "position_ids": position_ids, "use_cache": True}
        return inputs

    def log_p(self, points: Float[Tensor, "row position neuron"], layers: Int[Tensor, " row"]) -> Float[Tensor, " row"]:
        """log P(answer) of each row in nats, layer `layers[row]` having `points[row]` at the read positions.

        Args: points (rows, positions, neurons); layers (rows,), ascending. Returns: (rows,).
        """
        bounds = torch.searchsorted(layers, torch.arange(self.lm.n_layers + 1, device=layers.device)).tolist()

        def patch(layer: int, value: Tensor) -> Tensor:
            start, stop = bounds[layer], bounds[layer + 1]
            if start == stop:
                return value
            value = value.clone()
            value[start:stop, self.positions] = points[start:stop].to(value.dtype)
            return value

        with tapped(self.lm, self.site, patch):
            return _log_p(self.lm, self._inputs(len(points)), self.positions, self.targets)

    def gradients(
        self, points: Float[Tensor, "row position neuron"], layers: Int[Tensor, " row"]
    ) -> tuple[Float[Tensor, " row"], Float[Tensor, "row position neuron"]]:
        """log P(answer) of each row and its gradient with respect to the row's point; arguments as for `log_p`."""
        leaf = points.detach().requires_grad_()
        with torch.enable_grad():
            log_p = self.log_p(leaf, layers)
            (gradient,) = torch.autograd.grad(log_p.sum(), leaf)
        return log_p.detach(), gradient


@dataclass(frozen=True)
class Capture:
    """What the passes without any path leave: neurons at the read positions, and log P(answer) of the readout.

    clean (layers, positions, neurons); baselines (replaced tokens, layers, positions, neurons); log_p in nats.
    """

    clean: Float[Tensor, "layer position neuron"]
    baselines: Float[Tensor, "token layer position neuron"]
    log_p: float


def _sentences(lm: LanguageModel, readout: Readout, replaced: Sequence[int]) -> Int[Tensor, "row token"]:
    """The readout's tokens, and below them one row per replaced position."""
    rows = torch.tensor([readout.input_ids], device=lm.device).repeat(1 + len(replaced), 1)
    if replaced:
        rows[range(1, 1 + len(replaced)), list(replaced)] = lm.replacement_id
    return rows


@torch.no_grad()
def capture(lm: LanguageModel, readout: Readout, site: str, replaced: Sequence[int], batch_rows: int) -> Capture:
    """Run the readout as it is and, for each position of `replaced`, with the mask or end-of-text token there."""
    positions, log_p = list(readout.positions), []
    seen: list[list[Tensor]] = [[] for _ in range(lm.n_layers)]

    def keep(layer: int, value: Tensor) -> Tensor:
        seen[layer].append(value[:, positions].to(work_dtype(lm)))
        return value

    rows = _sentences(lm, readout, replaced)
    with tapped(lm, site, keep):
        for (part,) in pieces([len(rows)], batch_rows):
            inputs = {"input_ids": rows[part], "attention_mask": torch.ones_like(rows[part])}
            log_p.append(_log_p(lm, inputs, positions, readout.targets))
    neurons = torch.stack([torch.cat(parts) for parts in seen], dim=1)  # (rows, layers, positions, neurons)
    return Capture(clean=neurons[0], baselines=neurons[1:], log_p=log_p[0][0].item())


class GeneralReadouts:
    """`Readouts` of one readout on the unmodified model."""

    def __init__(
        self, lm: LanguageModel, readout: Readout, site: str, replaced: Sequence[int], batch_rows: int
    ) -> None:
        """Args: the model, the readout, the neuron site, the positions to replace, the most rows of a forward pass."""
        self._model, self._batch_rows = ReadoutModel(lm, readout, site), batch_rows
        seen = capture(lm, readout, site, replaced, batch_rows)
        self.clean = [layer[None] for layer in seen.clean]
        self.baselines = [layer[None] for layer in seen.baselines.unbind(1)]
        self._log_p = torch.tensor([seen.log_p], dtype=seen.clean.dtype, device=lm.device)
        self._starts: Sequence[Tensor] = []
        self._ends: Tensor | None = None

    def set_paths(self, starts: Sequence[Float[Tensor, "1 path position neuron"]]) -> None:
        """As in `Readouts`."""
        self._starts = starts

    def evaluate(self, asked: Sequence[Nodes], with_gradient: bool) -> Iterator[Evaluated]:
        """As in `Readouts`."""
        for part in pieces([nodes.size for nodes in asked], self._batch_rows):
            nodes = [of_layer.columns(columns) for of_layer, columns in zip(asked, part, strict=True)]
            log_p, values = self._run([self._points(layer, own) for layer, own in enumerate(nodes)], with_gradient)
            for layer, (columns, own_log_p, own) in enumerate(zip(part, log_p, values, strict=True)):
                if columns.start < columns.stop:
                    yield Evaluated(layer, columns, own_log_p[None], own[None] if with_gradient else None)

    def _points(self, layer: int, nodes: Nodes) -> Float[Tensor, "point position neuron"]:
        """The neurons at points of paths of a layer."""
        start = choose(self._starts[layer], nodes.path)
        return (start + nodes.alpha[..., None, None] * (self.clean[layer][:, None] - start))[0]

    def _run(self, points: Sequence[Tensor], with_gradient: bool) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """log P and gradients of points of each layer."""
        sizes = [len(part) for part in points]
        rows, layers = torch.cat(list(points)), torch.arange(len(points), device=points[0].device)
        layers = layers.repeat_interleave(torch.tensor(sizes, device=layers.device))
        if not len(rows):
            return [rows[:0, 0, 0]] * len(sizes), [rows] * len(sizes)
        if with_gradient:
            log_p, values = self._model.gradients(rows, layers)
        else:
            with torch.no_grad():
                log_p, values = self._model.log_p(rows, layers), rows
        return log_p.split(sizes), values.split(sizes)

    def end(self, layer: int) -> Float[Tensor, "1 position neuron"]:
        """As in `Readouts`."""
        if self._ends is None:
            parts = pieces([len(self.clean)], self._batch_rows)
            layers = [list(range(part.start, part.stop)) for (part,) in parts]
            self._ends = torch.cat([self._gradients_at_end(part) for part in layers])
        return self._ends[layer][None]

    def _gradients_at_end(self, layers: Sequence[int]) -> Float[Tensor, "layer position neuron"]:
        """d log P of some layers with the clean neurons put in each."""
        rows = torch.cat([self.clean[layer] for layer in layers])
        return self._model.gradients(rows, torch.tensor(layers, device=rows.device))[1]

    def log_p(self) -> Float[Tensor, " 1"]:
        """As in `Readouts`."""
        return self._log_p

    def lift(self, layer: int, sums: Tensor) -> Tensor:
        """As in `Readouts`: the sums themselves."""
        return sums
