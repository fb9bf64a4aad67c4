"""The general path: hooks on the unmodified model, one row per point of a path, rows in batches.

It serves every architecture of the catalog: all that it knows of a model is where its layers and their neurons are.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import logsigmoid

from knatlas.attribution.sites import tapped
from knatlas.models.encoding import Readout
from knatlas.models.language_model import LanguageModel


def chunks(n_rows: int, batch_rows: int) -> Iterator[slice]:
    """Slices of at most `batch_rows` rows, of nearly equal size, in order."""
    n_chunks = -(-n_rows // batch_rows)
    bounds = [n_rows * number // n_chunks for number in range(n_chunks + 1)]
    return (slice(start, stop) for start, stop in pairwise(bounds))


def work_dtype(lm: LanguageModel) -> torch.dtype:
    """The dtype of paths, probabilities and sums: float64 for float64 models, float32 for all others."""
    return torch.float64 if lm.dtype == torch.float64 else torch.float32


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
            self.prefix = self.lm.body(**inputs, use_cache=True).past_key_values
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
        for part in chunks(len(rows), batch_rows):
            inputs = {"input_ids": rows[part], "attention_mask": torch.ones_like(rows[part])}
            log_p.append(_log_p(lm, inputs, positions, readout.targets))
    neurons = torch.stack([torch.cat(parts) for parts in seen], dim=1)  # (rows, layers, positions, neurons)
    return Capture(clean=neurons[0], baselines=neurons[1:], log_p=log_p[0][0].item())
