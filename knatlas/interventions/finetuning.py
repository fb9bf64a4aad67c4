"""Fine-tuning of the parameters of chosen neurons alone, or of all parameters (Table V of MATRICE).

Chosen neurons: the weights stay frozen, the trained entries have copies in float32 (or the weights' dtype, if wider)
that are written into the weights after every step. So gradients and moments exist for these entries only: 16 bytes per
trained entry beside the weights, whatever the model's size; see `finetuning_memory`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from knatlas.errors import AtlasError
from knatlas.interventions.finetuning_settings import FineTuning
from knatlas.interventions.original import Original, restored
from knatlas.interventions.trainable import Slice, TrainableParts, tapped_gradients, trainable_parts
from knatlas.models.answers import answer_probabilities, padded
from knatlas.models.encoding import EncodedQuery
from knatlas.models.language_model import LanguageModel
from knatlas.progress import Report, silent

__all__ = ["Curve", "FineTuning", "answer_loss", "finetune", "restored", "trainable_parts"]

DEFAULTS = FineTuning()
CURVE_COLUMNS = ["step", "epoch", "loss", "accuracy"]


@dataclass(frozen=True)
class Curve:
    """The course of a fine-tuning; no steps where there was nothing to train.

    losses: of each step, nats per answer token, before the step; epochs: of each step, from 0; accuracies: share of
    right answers (0 to 1) among the trained queries after each epoch, where it was asked for.
    """

    n_parameters: int
    losses: list[float] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)

    @property
    def is_trained(self) -> bool:
        """Whether there was a step."""
        return len(self.losses) > 0

    def table(self) -> pd.DataFrame:
        """A row per step: step and epoch (both from 0), loss, accuracy (at an epoch's last step, else NaN)."""
        epochs = np.array(self.epochs, dtype=np.int64)
        accuracy = np.full(len(epochs), np.nan)
        for epoch, value in enumerate(self.accuracies):
            accuracy[np.flatnonzero(epochs == epoch)[-1]] = value
        columns = (np.arange(len(epochs)), epochs, np.array(self.losses, dtype=float), accuracy)
        return pd.DataFrame(dict(zip(CURVE_COLUMNS, columns, strict=True)))


def finetune(
    lm: LanguageModel,
    queries: Sequence[EncodedQuery],
    parts: TrainableParts | None,
    settings: FineTuning = DEFAULTS,
    seed: int = 0,
    progress: Report = silent,
    original: Original | None = None,
) -> Curve:
    """Train the model in place to give the answers of the queries; `restored` puts it back.

    AdamW without weight decay on the mean cross-entropy of the answers' tokens: at the masks (masked), or where the
    tokens are predicted, right tokens before them (causal). No dropout. Queries are shuffled in every epoch.

    Args: parts, what is trained (None: all parameters); seed, of the order of queries; original, a copy of the weights
    as they are now, else one is made. Returns: the curve; without queries or parts nothing is done.
    Raises: AtlasError for float16 weights, and when a frozen entry is not bit for bit what it was.
    """
    if not queries or (parts is not None and not parts.slices):
        return Curve(0)
    if lm.dtype == torch.float16:
        raise AtlasError(f"{lm.name}: gradients underflow in float16; set dtype to bfloat16 or float32 to fine-tune")
    original = Original.of(lm) if original is None and parts is not None else original
    with _trained(lm, parts) as entries, _checkpointed(lm, settings.checkpointing), torch.enable_grad():
        curve = _run(lm, queries, _Optimiser(entries, settings.clip), settings, parts is None, seed, progress)
    if parts is not None:
        original.check_frozen(lm, parts)
    return curve


def answer_loss(lm: LanguageModel, queries: Sequence[EncodedQuery]) -> Tensor:
    """Mean cross-entropy (nats) of the answers' tokens at the positions that predict them, in float32 or wider."""
    ids, attention = padded([query.input_ids for query in queries], lm.device)
    if lm.kind == "causal":
        # no token sees the padding on its right, and a window of masked padding alone would have no softmax
        attention = torch.ones_like(attention)
    hidden = lm.hidden_states(ids, attention)  # (rows, tokens, hidden)
    row = [r for r, query in enumerate(queries) for _ in query.positions]
    position = [p for query in queries for p in query.positions]
    targets = torch.tensor([t for query in queries for t in query.targets], device=lm.device)
    logits = lm.head(hidden[row, position])  # (answer tokens, words)
    precise = torch.float64 if logits.dtype == torch.float64 else torch.float32
    return torch.nn.functional.cross_entropy(logits.to(precise), targets)


def _run(
    lm: LanguageModel,
    queries: Sequence[EncodedQuery],
    optimiser: "_Optimiser",
    settings: FineTuning,
    is_all: bool,
    seed: int,
    progress: Report,
) -> Curve:
    n_steps, curve = settings.n_steps(len(queries)), Curve(optimiser.n_parameters)
    for epoch in range(settings.epochs):
        for batch in _batches(queries, settings.batch, seed, epoch):
            loss = answer_loss(lm, batch)
            loss.backward()
            optimiser.step(settings.rate_at(len(curve.losses), n_steps, is_all))
            curve.losses.append(loss.item())
            curve.epochs.append(epoch)
            progress(len(curve.losses), n_steps, f"epoch {epoch + 1}")
        if settings.has_accuracy:
            is_right = answer_probabilities(lm, queries, settings.batch)["is_argmax"]
            curve.accuracies.append(float(is_right.mean()))
    return curve


def _batches(queries: Sequence[EncodedQuery], size: int, seed: int, epoch: int) -> Iterator[list[EncodedQuery]]:
    order = np.random.default_rng([seed, epoch]).permutation(len(queries))
    for start in range(0, len(order), size):
        yield [queries[number] for number in order[start : start + size]]


@dataclass(frozen=True, eq=False)
class _Entry:
    """Numbers that are trained: where backward leaves their gradient, their values, and the way into the weights."""

    leaf: Tensor
    master: Tensor
    write: Callable[[], None]

    @classmethod
    def of_slice(cls, part: Slice) -> "_Entry":
        values = part.read()
        master = values.to(_at_least_float32(values.dtype)).contiguous().requires_grad_(True)
        return cls(master, master, lambda: part.write(master.detach()))

    @classmethod
    def of_parameter(cls, parameter: Tensor) -> "_Entry":
        if parameter.dtype == _at_least_float32(parameter.dtype):
            return cls(parameter, parameter, lambda: None)
        master = parameter.detach().float()
        return cls(parameter, master, lambda: parameter.data.copy_(master))


def _at_least_float32(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


class _Optimiser:
    """AdamW of each entry on its own, so that a step never holds more than one entry's gradient in float32."""

    def __init__(self, entries: Sequence[_Entry], clip: float):
        self.entries, self.clip = entries, clip
        # decay would shrink what the gradient leaves alone
        self.optimisers = [torch.optim.AdamW([entry.master], lr=0.0, weight_decay=0.0) for entry in entries]

    @property
    def n_parameters(self) -> int:
        """How many numbers are trained."""
        return sum(entry.master.numel() for entry in self.entries)

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Clip the gradient's norm, change the masters, write them into the weights, drop the gradients."""
        gradients = [entry.leaf.grad for entry in self.entries if entry.leaf.grad is not None]
        scale = (self.clip / (torch.nn.utils.get_total_norm(gradients) + 1e-6)).clamp(max=1.0)
        for entry, optimiser in zip(self.entries, self.optimisers, strict=True):
            if entry.leaf.grad is not None:
                entry.master.grad = entry.leaf.grad.to(entry.master.dtype) * scale.to(entry.master.dtype)
                optimiser.param_groups[0]["lr"] = rate
                optimiser.step()
                entry.leaf.grad = entry.master.grad = None
                entry.write()


@contextmanager
def _trained(lm: LanguageModel, parts: TrainableParts | None) -> Iterator[list[_Entry]]:
    """The entries that a backward pass gives gradients to; afterwards the model is frozen again."""
    if parts is not None:
        entries = [_Entry.of_slice(part) for part in parts.slices]
        with tapped_gradients(parts.slices, [entry.leaf for entry in entries]):
            yield entries
        return
    lm.model.requires_grad_(True)
    try:
        yield [_Entry.of_parameter(parameter) for parameter in lm.model.parameters()]
    finally:
        lm.model.requires_grad_(False)
        lm.model.zero_grad(set_to_none=True)


@contextmanager
def _checkpointed(lm: LanguageModel, is_on: bool) -> Iterator[None]:
    """While open, layers keep their inputs alone and compute the rest again in the backward pass."""
    layers = lm.layers() if is_on else []
    try:
        for layer in layers:
            # there is no dropout, so no random state to keep
            layer.forward = partial(checkpoint, layer.forward, use_reentrant=False, preserve_rng_state=False)
        yield
    finally:
        for layer in layers:
            layer.__dict__.pop("forward", None)
