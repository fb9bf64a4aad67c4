"""Trace which hidden states a model recalls facts with: one row per fact, kind of state, position and layer."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from knatlas.errors import AtlasError
from knatlas.experiments.token_classes import token_classes
from knatlas.facts.sampling import in_turn
from knatlas.interventions.restoring import KINDS
from knatlas.interventions.tracing import AUTO, S3, Noise, Trace, TraceSettings, noise_sigma, trace, window_of
from knatlas.models.answers import BATCH_ROWS, answer_details
from knatlas.models.encoding import encode_prompt
from knatlas.models.language_model import LanguageModel
from knatlas.models.subjects import read_position, subject_positions
from knatlas.progress import Report, silent

PLACE = ["model", "fact", "relation", "language", "query"]
COLUMNS = [
    *PLACE,
    *("kind", "window", "noise", "position", "n_tokens", "token", "token_class", "layer"),
    *("p_clean", "p_corrupted", "p_restored", "effect", "is_right", "is_read"),
]
# Of a fact that isn't traced.
UNTRACED = {
    **{"kind": "", "window": 0, "position": -1, "token": "", "token_class": "", "layer": -1},
    **dict.fromkeys(["p_clean", "p_corrupted", "p_restored", "effect"], np.nan),
    **{"is_right": False, "is_read": False},
}


@dataclass(frozen=True)
class CausalTracing:
    """Which facts are traced, and how.

    facts, at most so many, evenly over relations, of those that the model answers rightly (None: all of them); kinds,
    window, target as in `TraceSettings`; noise, its standard deviation, or "s3": 3 standard deviations of the
    embeddings of all subjects' tokens; n_samples of it; min_drop, facts whose P falls by no more under noise are traced
    but left out of averages and examples.

    Raises: AtlasError for a number of facts below 1, and for what `TraceSettings` and `Noise` refuse.
    """

    facts: int | None = None
    kinds: Sequence[str] = KINDS
    n_samples: int = 10
    noise: float | str = S3
    window: int | str = AUTO
    target: str = "prediction"
    min_drop: float = 0.01

    def __post_init__(self) -> None:
        if self.facts is not None and self.facts < 1:
            raise AtlasError(f"causal_tracing: facts is {self.facts}; expected at least 1, or null for all of them")
        self.how(1.0 if self.noise == S3 else self.noise, 0, BATCH_ROWS)

    def how(self, sigma: float, seed: int, batch_rows: int) -> TraceSettings:
        """The settings of one query's trace with noise of standard deviation `sigma`."""
        return TraceSettings(Noise(sigma, self.n_samples, seed), self.kinds, self.window, self.target, batch_rows)


def trace_causes(
    lm: LanguageModel,
    prompts: pd.DataFrame,
    facts: pd.DataFrame | None,
    settings: CausalTracing,
    seed: int = 0,
    progress: Report = silent,
    batch_rows: int = BATCH_ROWS,
    only: Collection[str] | None = None,
) -> pd.DataFrame:
    """Trace the first query of facts that the model answers rightly, in each language.

    Args: prompts, of which those of the model's kind count; facts, the table of facts, which names the subjects (None:
    the prompts have a column `subject`); batch_rows, for speed and memory only; only, under a negative control: the
    facts to trace, rightly answered or not, of others nothing is returned. Progress is in facts.
    Returns: COLUMNS. noise, the standard deviation that was used; effect, p_restored - p_corrupted, all means over
    samples; window, layers restored at once; token_class as in `token_classes`; is_right, the most probable token is
    the answer's first; is_read, the position predicts that. A fact that is answered wrongly has one row of kind "" and
    layer -1; one that can't be run (subject not in the prompt, prompt too long for the model) too, with n_tokens 0.
    Raises: AtlasError when no fact can be run.
    """
    table = _first_queries(lm, prompts, facts)
    asked, is_right = _ask(lm, table, batch_rows)
    sigma = noise_sigma(lm, _pairs(asked), settings.noise)
    unusable = table.drop(asked.index)
    if only is not None:
        unusable, asked = (part[part["fact"].isin(list(only))] for part in (unusable, asked))
        is_right = np.ones(len(asked), dtype=bool)
    chosen = _choose(asked[is_right], settings.facts, seed)
    how = settings.how(sigma, seed, batch_rows)
    untraced = [_untraced(lm, row, sigma, 0) for row in unusable.itertuples(index=False)]
    wrong = asked[~is_right].itertuples(index=False)
    untraced += [_untraced(lm, row, sigma, len(encode_prompt(lm, row).input_ids)) for row in wrong]
    parts = [pd.DataFrame(untraced, columns=COLUMNS)] if untraced else []
    for done, row in enumerate(chosen.itertuples(index=False)):
        parts.append(_rows(lm, row, trace(lm, row, row.subject, how), how))
        progress(done + 1, len(chosen), "traced")
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS)


def _first_queries(lm: LanguageModel, prompts: pd.DataFrame, facts: pd.DataFrame | None) -> pd.DataFrame:
    """The first prompt of the model's kind of each fact and language, with its subject as it is written there."""
    of_kind = prompts[prompts["kind"] == lm.kind].sort_values(["language", "fact", "query"], kind="stable")
    first = of_kind.drop_duplicates(["language", "fact"]).reset_index(drop=True)
    if facts is None:
        return first
    labels = facts.drop_duplicates(["fact", "language"]).set_index(["fact", "language"])["subject_label"]
    keys = pd.MultiIndex.from_frame(first[["fact", "language"]])
    return first.assign(subject=labels.reindex(keys).fillna("").to_numpy())


def _ask(lm: LanguageModel, table: pd.DataFrame, batch_rows: int) -> tuple[pd.DataFrame, np.ndarray]:
    """The rows that can be run, and whether the model finds the answer's first token most probable in each."""
    errors: dict[int, AtlasError] = {}
    for number, row in zip(table.index, table.itertuples(index=False), strict=True):
        try:
            subject_positions(lm, row, row.subject)
        except AtlasError as error:
            errors[number] = error
    if errors and len(errors) == len(table):
        raise next(iter(errors.values()))
    asked = table.drop(list(errors))
    queries = [encode_prompt(lm, row) for row in asked.itertuples(index=False)]
    return asked, answer_details(lm, queries, batch_rows)["is_first_argmax"].to_numpy(bool)


def _choose(right: pd.DataFrame, at_most: int | None, seed: int) -> pd.DataFrame:
    """At most so many facts of each language, one of each relation in turn, in an order that the seed decides."""
    parts = [in_turn(part, seed).head(at_most or len(part)) for _, part in right.groupby("language", sort=True)]
    return right.loc[sorted(number for part in parts for number in part.index)]


def _pairs(asked: pd.DataFrame) -> Iterator[tuple[object, str]]:
    return ((row, row.subject) for row in asked.itertuples(index=False))


def _untraced(lm: LanguageModel, row: object, sigma: float, n_tokens: int) -> dict:
    place = {"model": lm.name, **{name: getattr(row, name) for name in PLACE[1:]}}
    return {**place, **UNTRACED, "noise": sigma, "n_tokens": n_tokens}


def _rows(lm: LanguageModel, row: object, traced: Trace, how: TraceSettings) -> pd.DataFrame:
    """A trace as rows, positions within kinds and layers within positions."""
    parts = []
    read, n_tokens = read_position(traced.query), len(traced.query.input_ids)
    classes = token_classes(n_tokens, traced.query.replaceable, traced.subject, read)
    tokens = _token_texts(lm, traced.query.input_ids)
    for kind, p in traced.p_restored.items():
        n_positions, n_layers = p.shape
        position = np.repeat(np.arange(n_positions), n_layers)
        columns = {
            "position": position,
            "token": np.array(tokens, dtype=object)[position],
            "token_class": np.array(classes, dtype=object)[position],
            "layer": np.tile(np.arange(n_layers), n_positions),
            "p_restored": p.ravel(),
            "effect": traced.effect(kind).ravel(),
            "is_read": position == read,
        }
        window = 1 if kind == "block" else window_of(how.window, n_layers)
        parts.append(pd.DataFrame(columns).assign(kind=kind, window=window))
    place = {"model": lm.name, **{name: getattr(row, name) for name in PLACE[1:]}}
    fixed = {"noise": how.noise.sigma, "n_tokens": n_tokens, "is_right": traced.is_right}
    fixed |= {"p_clean": traced.p_clean, "p_corrupted": traced.p_corrupted}
    return pd.concat(parts, ignore_index=True).assign(**place, **fixed)[COLUMNS]


def _token_texts(lm: LanguageModel, ids: Sequence[int]) -> list[str]:
    """Tokens as a reader knows them; one without letters by its name in the vocabulary."""
    texts = [lm.tokenizer.decode([token]) for token in ids]
    names = lm.tokenizer.convert_ids_to_tokens(list(ids))
    return [text if text.strip() else str(name) for text, name in zip(texts, names, strict=True)]
