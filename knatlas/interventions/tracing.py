"""Causal tracing: how much of P(answer) one hidden state brings back when the subject's embeddings are noisy."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from zlib import crc32

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from knatlas.errors import AtlasError, unknown
from knatlas.interventions.restoring import (
    KINDS,
    NEURON,
    Runs,
    neuron_probabilities,
    restored_probabilities,
    run_with_noise,
)
from knatlas.models.answers import BATCH_ROWS
from knatlas.models.encoding import EncodedQuery, encode_prompt
from knatlas.models.language_model import LanguageModel
from knatlas.models.subjects import read_position, subject_positions

TARGETS = ("prediction", "first_token", "answer")
AUTO = "auto"
LARGEST_WINDOW = 10  # the paper's window
S3 = "s3"  # as noise: 3 standard deviations of the embeddings of subjects


@dataclass(frozen=True)
class Noise:
    """Gaussian noise of standard deviation `sigma`, drawn `n_samples` times for a query.

    What is drawn depends on the seed and the query's fact, language and number alone: all restorations of a query share
    it, and those of different facts are independent. Raises: AtlasError unless sigma and n_samples are above 0.
    """

    sigma: float
    n_samples: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.sigma > 0 and np.isfinite(self.sigma)) or self.n_samples < 1:
            raise AtlasError(
                f"causal_tracing: noise is {self.sigma} in {self.n_samples} samples; expected a number above 0 and at "
                "least 1 sample"
            )


@dataclass(frozen=True)
class TraceSettings:
    """How a query is traced.

    kinds, what is restored: `block`, a layer's output; `mlp` or `attention`, what these add to the residual stream, in
    `window` layers around one ("auto": a third of the layers, at least 1, at most 10). target: `prediction`, P of the
    token that is most probable without noise where the answer's first token is predicted; `first_token`, of that first
    token, which is the same one in a fact that is answered rightly; `answer`, P(answer), the product over its tokens.
    batch_rows, rows of a forward pass, for speed and memory only.

    Raises: AtlasError for another kind, target or window.
    """

    noise: Noise
    kinds: Sequence[str] = KINDS
    window: int | str = AUTO
    target: str = "prediction"
    batch_rows: int = BATCH_ROWS

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in KINDS:
                raise AtlasError(unknown("causal_tracing: kinds", kind, "a thing to restore", KINDS))
        if self.target not in TARGETS:
            raise AtlasError(unknown("causal_tracing: target", self.target, "what P is of", TARGETS))
        if self.window != AUTO and (not isinstance(self.window, int) or self.window < 1):
            raise AtlasError(f"causal_tracing: window is '{self.window}'; expected {AUTO} or at least 1 layer")


@dataclass(frozen=True, eq=False)
class Trace:
    """What restorations bring back in one query.

    query: the input that was run, with the targets whose P was measured; subject, the positions with noise; is_right,
    the most probable token without noise is the answer's first. p_corrupted and p_restored are means over samples.
    p_restored: by kind, an array (position, layer); of a causal query the positions end where the answer is predicted.
    """

    query: EncodedQuery
    subject: tuple[int, ...]
    is_right: bool
    p_clean: float
    p_corrupted: float
    p_restored: Mapping[str, Float[np.ndarray, "position layer"]] = field(default_factory=dict)

    def effect(self, kind: str) -> Float[np.ndarray, "position layer"]:
        """The indirect effect: P restored minus P corrupted."""
        return self.p_restored[kind] - self.p_corrupted


def noise_sigma(lm: LanguageModel, pairs: Iterable[tuple[object, str]], level: float | str = S3) -> float:
    """The standard deviation of the noise: a number as it is, or "s3".

    "s3": 3 standard deviations of the numbers in the input embeddings (as the embedding module gives them) of all
    subject tokens. Args: pairs of a prompt and its subject. Raises: AtlasError for another word, or "s3" without pairs.
    """
    if isinstance(level, int | float):
        return float(level)
    if level != S3:
        raise AtlasError(unknown("causal_tracing: noise", level, "a number or", [S3]))
    tokens = [
        [encode_prompt(lm, prompt).input_ids[i] for i in subject_positions(lm, prompt, subject)]
        for prompt, subject in pairs
    ]
    if not tokens:
        raise AtlasError("causal_tracing: noise is 's3', but there are no subjects; give a number")
    with torch.no_grad():
        ids = torch.tensor([[token] for of_subject in tokens for token in of_subject], device=lm.device)
        return 3 * float(lm.model.get_input_embeddings()(ids).double().std())


def window_of(window: int | str, n_layers: int) -> int:
    """The number of layers in a window; "auto" is a third of the layers, at least 1 and at most 10."""
    return min(LARGEST_WINDOW, max(1, n_layers // 3)) if window == AUTO else int(window)


def window_layers(layer: int, window: int, n_layers: int) -> range:
    """The layers of a window around one, cut at the ends: layer - window // 2 and the `window` - 1 layers after it."""
    start = layer - window // 2
    return range(max(0, start), min(n_layers, start + window))


def trace(lm: LanguageModel, prompt: object, subject: str, settings: TraceSettings) -> Trace:
    """Restore every hidden state of a query, one at a time, while the subject's embeddings are noisy (Figures 6, 7).

    A state before the subject of a causal query is as without noise, and one of the last layer is only read where a
    target is predicted: other restorations change nothing, so that their P is P corrupted and they aren't run.

    Args: prompt, a row of the table of prompts; subject, as the prompt writes it.
    Raises: AtlasError as `subject_positions` and `encode_prompt` do.
    """
    query = encode_prompt(lm, prompt)
    runs = _runs(lm, _asked(query, settings), subject_positions(lm, prompt, subject), settings, settings.kinds)
    return Trace(
        query=runs.query,
        subject=runs.positions,
        is_right=runs.predicted[0] == query.targets[0],
        p_clean=runs.p_clean,
        p_corrupted=float(runs.p_corrupted.mean()),
        p_restored={kind: _restore(runs, kind, settings) for kind in settings.kinds},
    )


def neuron_effects(
    lm: LanguageModel, prompt: object, subject: str, settings: TraceSettings, layer: int, position: int
) -> Float[np.ndarray, " neuron"]:
    """The indirect effect of restoring one neuron, an input of the layer's down projection at a position, for each.

    P restored minus P corrupted, means over the samples of the noise, which are those of `trace`.
    Raises: AtlasError for a layer or a position that there isn't, and as `trace` does.
    """
    noisy = subject_positions(lm, prompt, subject)
    asked = _asked(encode_prompt(lm, prompt), settings)
    if not (0 <= layer < lm.n_layers and 0 <= position < len(asked.input_ids)):
        raise AtlasError(
            f"{lm.name}: there is no layer {layer} or no position {position}; the model has {lm.n_layers} layers, the "
            f"query {len(asked.input_ids)} tokens, both counted from 0"
        )
    if not _can_matter(lm, asked, noisy, position, layer):
        return np.zeros(lm.n_neurons)
    runs = _runs(lm, asked, noisy, settings, [NEURON])
    each = torch.arange(lm.n_neurons, device=lm.device)[:, None]
    p = neuron_probabilities(runs, layer, position, each, settings.batch_rows)
    return (p.mean(dim=1) - runs.p_corrupted.mean()).cpu().numpy()


def draw_noise(
    lm: LanguageModel, query: EncodedQuery, n_tokens: int, noise: Noise
) -> Float[Tensor, "sample token hidden"]:
    """The noise of a query for its subject's tokens, as `Noise` has it."""
    name = f"{query.fact}|{query.language}|{query.query}"
    generator = np.random.default_rng([noise.seed, crc32(name.encode())])
    size = (noise.n_samples, n_tokens, lm.model.get_input_embeddings().embedding_dim)
    values = noise.sigma * generator.standard_normal(size)
    return torch.as_tensor(values, dtype=lm.dtype, device=lm.device)


def _asked(query: EncodedQuery, settings: TraceSettings) -> EncodedQuery:
    """The query as it is run; but for the whole answer as far as its first token's place (causal), with one target."""
    if settings.target == "answer":
        return query
    read = read_position(query)
    ids = query.input_ids if query.kind == "masked" else query.input_ids[: read + 1]
    return replace(query, input_ids=ids, positions=(read,), targets=query.targets[:1])


def _runs(
    lm: LanguageModel, asked: EncodedQuery, noisy: tuple[int, ...], settings: TraceSettings, kinds: Sequence[str]
) -> Runs:
    noise = draw_noise(lm, asked, len(noisy), settings.noise)
    return run_with_noise(lm, asked, noisy, noise, kinds, settings.target == "prediction")


def _restore(runs: Runs, kind: str, settings: TraceSettings) -> Float[np.ndarray, "position layer"]:
    """P, mean over samples, with one position restored in the layers around one."""
    n_layers, n_tokens = runs.lm.n_layers, len(runs.query.input_ids)
    n_positions = read_position(runs.query) + 1 if runs.query.kind == "causal" else n_tokens
    p = np.full((n_positions, n_layers), float(runs.p_corrupted.mean()))
    window = 1 if kind == "block" else window_of(settings.window, n_layers)
    for layer in range(n_layers):
        layers = window_layers(layer, window, n_layers)
        positions = [i for i in range(n_positions) if _can_matter(runs.lm, runs.query, runs.positions, i, layers.start)]
        each = torch.eye(n_tokens, dtype=torch.bool, device=runs.lm.device)[positions]
        restored = restored_probabilities(runs, kind, layers, each, settings.batch_rows)
        p[positions, layer] = restored.mean(dim=1).cpu().numpy()
    return p


def _can_matter(lm: LanguageModel, query: EncodedQuery, noisy: Sequence[int], position: int, layer: int) -> bool:
    """Whether a state differs under noise and is read: else its restoration changes nothing and needn't be run."""
    is_reached = lm.kind == "masked" or position >= noisy[0]
    # no other position sees what the last layer gives at this one
    return is_reached and (layer < lm.n_layers - 1 or position in query.positions)
