"""Success and magnitude of edits on CounterFact (Table 3 of the localization paper).

The statistics, each averaged over a record's prompts and then over records, in percent or percentage points:
ES, PS: the new object is more probable than the true one, after the rewrite prompt and after the paraphrases.
EM, PM: how much more, P(o_new) - P(o_true). P is the geometric mean of the probabilities of an object's tokens.
NS, NM: after prompts about other subjects with the true object; there the true object shall be the more probable one.
S: the harmonic mean of ES, PS and NS, 0 where one of them is 0.
moved: records whose P(o_new) after the rewrite prompt changed by more than 5 % of itself.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from knatlas.statistics.bootstrap import (
    DEFAULT_RESAMPLES,
    NO_DATA,
    Interval,
    bootstrap_mean,
    mean_over_facts,
    percentile_interval,
    resample_weights,
)
from knatlas.statistics.paired_tests import Paired, columns_of

KINDS = {"rewrite": "E", "paraphrase": "P", "neighborhood": "N"}
SUCCESSES = ["ES", "PS", "NS"]
STATISTICS = ["S", "ES", "EM", "PS", "PM", "NS", "NM", "moved"]
MOVED = 0.05
TABLE_COLUMNS = [
    *("model", "editor", "statistic", "value", "lo", "hi", "sd", "n"),
    *("n_excluded", "n_empty", "n_neurons"),
]
ByRecord = Float[np.ndarray, " record"]


def prompt_measures(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with success (0 or 1), magnitude (-1 to 1) and change (of P(o_new), relative, without its sign).

    Success: nll_true > nll_new; magnitude: exp(-nll_new) - exp(-nll_true); for neighbours both are the other way round.
    NaN where nothing was measured.
    """
    true, new = rows["nll_true"].to_numpy(float), rows["nll_new"].to_numpy(float)
    is_neighbour = (rows["prompt_kind"] == "neighborhood").to_numpy()
    is_success = np.where(is_neighbour, true < new, true > new)
    magnitude = np.exp(-new) - np.exp(-true)
    with np.errstate(over="ignore", invalid="ignore"):
        change = np.abs(np.expm1(rows["nll_new_before"].to_numpy(float) - new))
    return rows.assign(
        success=np.where(np.isnan(true) | np.isnan(new), np.nan, is_success),
        magnitude=np.where(is_neighbour, -magnitude, magnitude),
        change=change,
    )


def harmonic_mean(parts: Float[np.ndarray, "part ..."]) -> Float[np.ndarray, "..."]:
    """The harmonic mean over the first axis: 0 where a part is 0, NaN where one is NaN."""
    parts = np.asarray(parts, dtype=float)
    with np.errstate(divide="ignore"):
        return len(parts) / np.sum(1 / parts, axis=0)


def summarise_counterfact(rows: pd.DataFrame, seed: int = 0, resamples: int = DEFAULT_RESAMPLES) -> pd.DataFrame:
    """The statistics of each model and editor, from the rows that `edit_records` measured.

    Intervals are 95% by drawing records again, all their prompts together; sd, the standard deviation over records
    (with n below the line). n, records that count: all that were asked, for NS and NM those with neighbours, for S too
    all that were asked (its NS over those with neighbours). n_excluded, records that could not be asked; n_empty, asked
    records whose edit had no neurons; n_neurons, the mean number of edited ones over asked records.
    Returns: TABLE_COLUMNS; models and editors in the order of the rows.
    """
    measured = prompt_measures(rows)
    lines = []
    for (model, editor), of_editor in measured.groupby(["model", "editor"], sort=False):
        records = _Records.of(of_editor)
        for line in records.lines(seed, resamples):
            lines.append({"model": model, "editor": editor, **line, **records.counts})
    return pd.DataFrame(lines, columns=TABLE_COLUMNS)


def measures_by_record(rows: pd.DataFrame) -> pd.DataFrame:
    """Successes and magnitudes in percent of the records that were asked after one editor, a row per case.

    Args: rows of `prompt_measures`. Returns: columns ES, EM, PS, PM, NS, NM; NaN where a record has no such prompt.
    """
    asked = rows[~rows["is_left_out"]]
    cases = pd.Index(asked["case"].unique())
    return pd.DataFrame(_by_record(asked, cases), cases)


def paired_records(one: pd.DataFrame, other: pd.DataFrame, name: str) -> Paired:
    """A statistic of `summarise_counterfact` after two editors.

    Args: tables of `measures_by_record` of either editor, of the same records; name, of STATISTICS but `moved`.
    """
    parts = SUCCESSES if name == "S" else [name]
    of_means = harmonic_mean if name == "S" else np.ravel
    return Paired(columns_of(one, parts), columns_of(other, parts), lambda means: of_means(means.T))


def _by_record(asked: pd.DataFrame, cases: pd.Index) -> dict[str, ByRecord]:
    """Successes and magnitudes of each record, in percent, by statistic."""
    measures = {}
    for kind, letter in KINDS.items():
        means = asked[asked["prompt_kind"] == kind].groupby("case")[["success", "magnitude"]].mean()
        means = 100 * means.reindex(cases)
        measures[f"{letter}S"], measures[f"{letter}M"] = means["success"].to_numpy(), means["magnitude"].to_numpy()
    return measures


class _Records(NamedTuple):
    """Measures of one editor's records by statistic, in percent, NaN where a record has no prompt of the kind."""

    measures: dict[str, ByRecord]
    counts: dict[str, float]

    @classmethod
    def of(cls, rows: pd.DataFrame) -> "_Records":
        asked = rows[~rows["is_left_out"]]
        cases = pd.Index(asked["case"].unique())
        measures = _by_record(asked, cases)
        rewrite = asked[asked["prompt_kind"] == "rewrite"].set_index("case").reindex(cases)
        measures["moved"] = 100.0 * (rewrite["change"] > MOVED).to_numpy()
        n_neurons = rewrite["n_neurons"].to_numpy(float)
        n_excluded = rows.loc[rows["is_left_out"], "case"].nunique()
        sizes = {"n_empty": int((n_neurons == 0).sum()), "n_neurons": mean_over_facts(n_neurons)}
        return cls(measures, {"n_excluded": n_excluded, **sizes})

    def lines(self, seed: int, resamples: int) -> Iterator[dict]:
        """One line per statistic."""
        for name in STATISTICS:
            if name == "S":
                interval, sd = bootstrap_score([self.measures[part] for part in SUCCESSES], seed, resamples), np.nan
            else:
                interval, sd = bootstrap_mean(self.measures[name], seed, resamples), _deviation(self.measures[name])
            yield {"statistic": name, **interval._asdict(), "sd": sd}


def bootstrap_score(parts: list[ByRecord], seed: int = 0, resamples: int = DEFAULT_RESAMPLES) -> Interval:
    """The harmonic mean of the means over records with its interval, a record drawn with all of its parts.

    A part's mean is over the records that have it; a resample in which no record has one doesn't count. NaN where a
    part has no record at all, and n = 0.
    """
    n = len(parts[0])
    value = float(harmonic_mean([mean_over_facts(part) for part in parts]))
    if np.isnan(value):
        return NO_DATA
    weights = resample_weights(n, resamples, seed)
    return percentile_interval(value, harmonic_mean([_means(part, weights) for part in parts]), n)


def _means(part: ByRecord, weights: Float[np.ndarray, "resample record"]) -> Float[np.ndarray, " resample"]:
    """The means of each resample over the records that have a value."""
    has_value = ~np.isnan(part)
    # relative to the smallest value, so that equal values give exactly that value
    base = part[has_value].min(initial=100.0)
    with np.errstate(invalid="ignore"):
        return base + weights @ np.where(has_value, part - base, 0.0) / (weights @ has_value)


def _deviation(values: ByRecord) -> float:
    """The standard deviation of the values that are not NaN."""
    values = values[~np.isnan(values)]
    return float(np.std(values)) if len(values) else np.nan
