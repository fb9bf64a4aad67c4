"""Probabilities of answers of an embedded model, with neurons switched off at the positions that predict the answer."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from knatlas.models.embedded.batches import Batch, Encoded, make_batch
from knatlas.models.embedded.network import answer_logits, ffn_hook, n_neurons

BATCH_ROWS = 256
SCREENED = 128  # neurons of largest first-order effect, among which the strongest are found by switching each off
N_STRONGEST = 10  # neurons of a query that are switched off together


@dataclass(frozen=True)
class Probe:
    """A model with its queries as tokens: what every measurement needs."""

    model: PreTrainedModel
    encoded: Encoded
    kind: str
    mask_id: int | None

    def batch(self, rows: np.ndarray) -> Batch:
        """The queries of `rows` with all their answer tokens asked for, and nothing else."""
        return make_batch(self.encoded, rows, self.encoded.is_answer[rows], self.kind, self.mask_id)


def answer_probabilities(
    model: PreTrainedModel, batch: Batch, off: Tensor | None = None, level: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """P(answer), the product over its tokens, and whether all its tokens are argmax; each (B,).

    Args: off (B or 1, layers, neurons) from 0 (untouched) to 1 (replaced by `level`), at the positions that predict the
    answer; level (layers, neurons), zero when None. Differentiable in `off`.
    """

    def change(layer: int, activations: Tensor) -> Tensor | None:
        if off is None:
            return None
        place = (batch.rows, batch.positions)
        share = off.expand(len(batch.input_ids), -1, -1)[batch.rows, layer]
        kept = activations[place] * (1 - share)
        return activations.index_put(place, kept if level is None else kept + share * level[layer])

    with ffn_hook(model, change):
        logits = answer_logits(model, batch)
    gains = torch.log_softmax(logits, dim=-1).gather(1, batch.targets[:, None])[:, 0]
    n_missed = torch.zeros(len(batch.input_ids)).index_add(0, batch.rows, (logits.argmax(-1) != batch.targets).float())
    return torch.zeros(len(batch.input_ids)).index_add(0, batch.rows, gains).exp(), n_missed == 0


@torch.no_grad()
def measure(
    probe: Probe, rows: np.ndarray, off: Tensor | None = None, level: Tensor | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """P(answer) and whether it is argmax, each (len(rows),), of the queries `rows`; `off` is (1, layers, neurons)."""
    order = np.argsort(probe.encoded.lengths[rows], kind="stable")
    p, is_argmax = np.zeros(len(rows)), np.zeros(len(rows), dtype=bool)
    for start in range(0, len(rows), BATCH_ROWS):
        chosen = order[start : start + BATCH_ROWS]
        found = answer_probabilities(probe.model, probe.batch(rows[chosen]), off, level)
        p[chosen], is_argmax[chosen] = (values.numpy() for values in found)
    return p, is_argmax


@torch.no_grad()
def mean_activations(probe: Probe, rows: np.ndarray) -> Tensor:
    """Mean of each neuron over the positions that predict the answers of `rows`, (layers, neurons)."""
    total = torch.zeros(n_neurons(probe.model))
    n_positions = 0
    for start in range(0, len(rows), BATCH_ROWS):
        batch = probe.batch(rows[start : start + BATCH_ROWS])

        def add(layer: int, activations: Tensor, batch: Batch = batch) -> None:
            total[layer] += activations[batch.rows, batch.positions].sum(0)

        with ffn_hook(probe.model, add):
            answer_logits(probe.model, batch)
        n_positions += len(batch.rows)
    return total / max(n_positions, 1)


def strongest_neurons(probe: Probe, row: int, n_strongest: int = N_STRONGEST) -> Tensor:
    """The neurons whose single ablation lowers P of one query most, as `off` (1, layers, neurons) of zeros and ones.

    Each of the 128 neurons of largest first-order effect (activation times gradient) is switched off alone.
    """
    layers, neurons = n_neurons(probe.model)
    off = torch.zeros(1, layers, neurons, requires_grad=True)
    p, _ = answer_probabilities(probe.model, probe.batch(np.array([row])), off)
    (effect,) = torch.autograd.grad(p.sum(), off)
    screened = effect.flatten().argsort(stable=True)[:SCREENED]
    single = torch.zeros(len(screened), layers * neurons)
    single[torch.arange(len(screened)), screened] = 1.0
    with torch.no_grad():
        lowered, _ = answer_probabilities(
            probe.model, probe.batch(np.full(len(screened), row)), single.view(-1, layers, neurons)
        )
    chosen = screened[lowered.argsort(stable=True)[:n_strongest]]
    found = torch.zeros(layers * neurons)
    found[chosen] = 1.0
    return found.view(1, layers, neurons)
