"""Indirect effects of causal tracing by kind of state, class of token and layer (localization paper, Figure 6)."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from knatlas.experiments.token_classes import BEFORE, LAST_OF_SUBJECT, TOKEN_CLASSES
from knatlas.experiments.traced_facts import MIN_DROP, usable
from knatlas.statistics.bootstrap import (
    DEFAULT_RESAMPLES,
    NO_DATA,
    Interval,
    bootstrap_mean,
    percentile_interval,
    resample_weights,
)

TABLE_COLUMNS = [
    *("model", "language", "kind", "window", "token_class", "layer", "statistic", "value", "lo", "hi"),
    *("sd", "se196", "n", "n_wrong", "n_small", "n_unusable"),
]
# Classes of which the layer of the largest mean effect is told.
PEAK_CLASSES = (LAST_OF_SUBJECT, "last")
NO_LAYER = -1


def summarise_tracing(
    rows: pd.DataFrame, min_drop: float | None = MIN_DROP, seed: int = 0, resamples: int = DEFAULT_RESAMPLES
) -> pd.DataFrame:
    """Means over facts from the rows that `trace_causes` measured, with 95% bootstrap intervals over facts.

    Effects are averaged over the positions of a class in a fact, then over the facts that have such a token. statistic:
    `effect`, by class and layer (P restored - P corrupted, in probability); `p_clean` and `p_corrupted`, once per kind,
    token_class "" and layer -1; `peak_layer`, the layer of the largest mean effect of a class (of equal ones the first;
    layer -1). sd, standard deviation over facts (divisor n - 1), NaN for one fact; se196, 1.96 sd / sqrt(n), the
    paper's error bar; n, facts of the mean. Left out, and counted per model and language: n_wrong, facts whose answer
    isn't the prediction; n_small, facts with p_clean - p_corrupted <= min_drop; n_unusable, facts that can't be run.
    A model of which no fact is left has one row, of kind "" and statistic `p_clean`, with n = 0. With min_drop None,
    for the rows of a negative control, every traced fact is in the mean, whatever the model predicts, and there is no
    peak: the largest of effects that are perhaps rounding alone is nowhere.
    """
    lines = []
    for (model, language), group in rows.groupby(["model", "language"], sort=False):
        counts, used = _counted(group, min_drop)
        fixed = {"model": model, "language": language, **counts}
        if used.empty:
            lines.append({**fixed, **_line("", 0, "", NO_LAYER, "p_clean", NO_DATA, np.nan)})
        for (kind, window), of_kind in used.groupby(["kind", "window"], sort=False):
            found = _lines_of(kind, window, of_kind, seed, resamples)
            lines += [{**fixed, **line} for line in found if min_drop is not None or line["statistic"] != "peak_layer"]
    return pd.DataFrame(lines, columns=TABLE_COLUMNS)


def _counted(group: pd.DataFrame, min_drop: float | None) -> tuple[dict, pd.DataFrame]:
    """How many facts are left out for which reason, and the rows of the others."""
    facts = group.drop_duplicates("fact")
    is_run, is_right = facts["n_tokens"] > 0, facts["is_right"].astype(bool)
    is_left_out = is_run & ~usable(facts, min_drop)
    counts = {"n_wrong": is_left_out & ~is_right, "n_small": is_left_out & is_right, "n_unusable": ~is_run}
    return {name: int(marks.sum()) for name, marks in counts.items()}, group[usable(group, min_drop)]


def _lines_of(kind: str, window: int, rows: pd.DataFrame, seed: int, resamples: int) -> Iterator[dict]:
    """The rows of the table that are about one kind of state."""
    once = rows.drop_duplicates("fact").sort_values("fact")
    for name in ("p_clean", "p_corrupted"):
        values = once[name].to_numpy(float)
        yield _line(kind, window, "", NO_LAYER, name, bootstrap_mean(values, seed, resamples), _sd(values))
    for token_class in (*TOKEN_CLASSES, BEFORE):
        of_class = rows[rows["token_class"] == token_class]
        if of_class.empty:
            continue
        # sorted by fact and layer, so that the order of rows doesn't matter
        effects = of_class.pivot_table(index="fact", columns="layer", values="effect", aggfunc="mean")
        for layer in effects.columns:
            values = effects[layer].to_numpy(float)
            interval = bootstrap_mean(values, seed, resamples)
            yield _line(kind, window, token_class, int(layer), "effect", interval, _sd(values))
        if token_class in PEAK_CLASSES:
            yield _line(kind, window, token_class, NO_LAYER, "peak_layer", _peak(effects, seed, resamples), np.nan)


def _peak(effects: pd.DataFrame, seed: int, resamples: int) -> Interval:
    """The layer of the largest mean effect, with the interval of that of drawn facts."""
    layers, values = effects.columns.to_numpy(float), effects.to_numpy(float)
    resampled = layers[(resample_weights(len(values), resamples, seed) @ values).argmax(axis=1)]
    return percentile_interval(float(layers[values.mean(axis=0).argmax()]), resampled, len(values))


def _sd(values: np.ndarray) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else np.nan


def _line(kind: str, window: int, token_class: str, layer: int, statistic: str, interval: Interval, sd: float) -> dict:
    place = {"kind": kind, "window": window, "token_class": token_class, "layer": layer, "statistic": statistic}
    se196 = 1.96 * sd / np.sqrt(interval.n) if interval.n else np.nan
    return {**place, **interval._asdict(), "sd": sd, "se196": se196}
