"""Summaries of the manipulation measurements over facts, with bootstrap intervals (Figure 5 of MATRICE)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from knatlas.statistics.bootstrap import (
    DEFAULT_RESAMPLES,
    Interval,
    bootstrap_mean,
    bootstrap_median,
    bootstrap_ratio,
    mean_over_facts,
    median_over_facts,
    ratio_of_means,
)

GROUP = ["model", "selection", "language", "operation", "probe"]
SUMMARY_COLUMNS = [
    *GROUP,
    "subset",
    "min_p_before",
    "statistic",
    "value",
    "lo",
    "hi",
    "n",
    "n_empty",
    "n_neurons",
    "n_excluded",
    "draw_min",
    "draw_max",
]
MEASURES = ["relative_change", "log_ratio", "difference", "p_kept", "is_flipped", "is_lost", "is_gained"]
SMALLEST = float(np.finfo(np.float32).tiny)  # stands in for a probability that underflowed, under a logarithm
SENSITIVITY = 1e-6
SENSITIVE = ["mean_relative_change"]  # the statistic that a few tiny P before can carry
BY_RELATION = ["mean_relative_change", "argmax_flips"]


@dataclass(frozen=True)
class Statistic:
    """A number over facts: which measures it takes, its value and its interval from columns with a value per fact."""

    measures: tuple[str, ...]
    value: Callable[..., float]
    interval: Callable[..., Interval]


STATISTICS = {
    "mean_relative_change": Statistic(("relative_change",), mean_over_facts, bootstrap_mean),
    "median_relative_change": Statistic(("relative_change",), median_over_facts, bootstrap_median),
    "mean_log_ratio": Statistic(("log_ratio",), mean_over_facts, bootstrap_mean),
    "ratio_of_means": Statistic(("difference", "p_kept"), ratio_of_means, bootstrap_ratio),
    "argmax_flips": Statistic(("is_flipped",), mean_over_facts, bootstrap_mean),
    "argmax_lost": Statistic(("is_lost",), mean_over_facts, bootstrap_mean),
    "argmax_gained": Statistic(("is_gained",), mean_over_facts, bootstrap_mean),
}


def relative_change(p_before: np.ndarray, p_after: np.ndarray) -> np.ndarray:
    """(p_after - p_before) / p_before (Eq. 14): -1 when the answer's probability vanishes, 1 when it doubles."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return (p_after - p_before) / p_before


def summarise_manipulation(
    rows: pd.DataFrame,
    seed: int = 0,
    resamples: int = DEFAULT_RESAMPLES,
    min_p_before: Sequence[float] = (0.0, SENSITIVITY),
) -> pd.DataFrame:
    """Statistics of the change of P(answer), from the rows that `manipulate` measured.

    Queries are averaged within fact, language and draw; draws within fact and language; for language "all" the
    languages of a fact; the statistic is then taken over facts, and its 95% interval by drawing facts again.

    statistic: mean_relative_change and median_relative_change (Eq. 14; -1 = vanished, 0 = unchanged), mean_log_ratio
    (nats), ratio_of_means (mean difference / mean P before), argmax_flips, argmax_lost, argmax_gained (shares of the
    queries whose rightness changed; was lost; was gained).
    subset: `all` facts, or (for probe `own`) those with a `non_empty` set. Queries with P before = 0 or < min_p_before
    are left out and counted in n_excluded (over queries and draws). All statistics are given for the first value of
    `min_p_before`, the mean relative change also for the others, to show how it depends on tiny probabilities.
    n, facts; n_empty, facts whose set is empty; n_neurons, mean size of the set; draw_min and draw_max, the range of
    the statistic over random draws.
    """
    main, *others = dict.fromkeys(min_p_before)
    lines = _summarise(per_fact(rows, main), list(STATISTICS), seed, resamples, main)
    for smallest in others:
        lines += _summarise(per_fact(rows, smallest), SENSITIVE, seed, resamples, smallest)
    return pd.DataFrame(lines, columns=SUMMARY_COLUMNS)


def summarise_by_relation(
    rows: pd.DataFrame, seed: int = 0, resamples: int = DEFAULT_RESAMPLES, min_p_before: float = 0.0
) -> pd.DataFrame:
    """The statistics BY_RELATION of each relation's facts: columns `relation`, then those of `summarise_manipulation`.

    All facts of the relation count, those without neurons too.
    """
    parts = []
    for relation, of_relation in rows.groupby("relation", sort=True):
        lines = _summarise(per_fact(of_relation, min_p_before), BY_RELATION, seed, resamples, min_p_before)
        parts.append(pd.DataFrame(lines, columns=SUMMARY_COLUMNS).assign(relation=relation))
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["relation", *SUMMARY_COLUMNS])
    return table[["relation", *SUMMARY_COLUMNS]]


def per_fact(rows: pd.DataFrame, min_p_before: float = 0.0) -> pd.DataFrame:
    """Measures averaged over queries: one row per fact, language (and "all"), draw, selection, probe and operation."""
    measured = _with_measures(rows, min_p_before)
    keys = [*GROUP, "fact", "draw"]
    by_language = measured.groupby(keys, sort=False).agg(
        **{name: (name, "mean") for name in [*MEASURES, "n_neurons"]}, n_excluded=("is_excluded", "sum")
    )
    by_language = by_language.reset_index()
    pooled_keys = [key for key in keys if key != "language"]
    pooled = by_language.groupby(pooled_keys, sort=False).agg(
        **{name: (name, "mean") for name in [*MEASURES, "n_neurons"]}, n_excluded=("n_excluded", "sum")
    )
    return pd.concat([by_language, pooled.reset_index().assign(language="all")], ignore_index=True)


def _with_measures(rows: pd.DataFrame, min_p_before: float) -> pd.DataFrame:
    before, after = rows["p_before"].to_numpy(), rows["p_after"].to_numpy()
    was_right, is_right = rows["is_right_before"].to_numpy(bool), rows["is_right_after"].to_numpy(bool)
    measures = {
        "relative_change": relative_change(before, after),
        "log_ratio": np.log(np.maximum(after, SMALLEST)) - np.log(np.maximum(before, SMALLEST)),
        "difference": after - before,
        "p_kept": before,
        "is_flipped": was_right != is_right,
        "is_lost": was_right & ~is_right,
        "is_gained": ~was_right & is_right,
    }
    is_excluded = (before <= 0) | (before < min_p_before)
    kept = {name: np.where(is_excluded, np.nan, values.astype(np.float64)) for name, values in measures.items()}
    return rows[[*GROUP, "fact", "draw", "n_neurons"]].assign(**kept, is_excluded=is_excluded)


def _summarise(changes: pd.DataFrame, names: list[str], seed: int, resamples: int, min_p_before: float) -> list[dict]:
    values = changes[[*MEASURES, "n_neurons", "n_excluded"]].to_numpy(float)
    # numbers in the order of the names, since to sort names group by group takes long
    facts, draws = pd.factorize(changes["fact"].to_numpy(str), sort=True)[0], changes["draw"].to_numpy()
    positions = changes.groupby(GROUP, sort=False).indices
    lines = []
    for key in sorted(positions, key=lambda key: positions[key][0]):  # in the order of the rows
        of_key = positions[key]
        group = _Group.of(facts[of_key], draws[of_key], values[of_key])
        whole = group.lines(names, seed, resamples)
        for subset, part in group.subsets(names, key[GROUP.index("probe")]).items():
            fixed = dict(zip(GROUP, key, strict=True)) | {"subset": subset, "min_p_before": min_p_before}
            lines += [{**fixed, **line} for line in (whole if part is group else part.lines(names, seed, resamples))]
    return lines


@dataclass(frozen=True)
class _Group:
    """Measures of one group of measurements as one array, NaN where a fact has none in a draw."""

    measures: Float[np.ndarray, "fact draw measure"]
    n_neurons: Float[np.ndarray, "fact draw"]
    n_excluded: Float[np.ndarray, "fact draw"]

    @classmethod
    def of(cls, facts: np.ndarray, draws: np.ndarray, values: np.ndarray) -> "_Group":
        (facts, fact), (draws, draw) = np.unique(facts, return_inverse=True), np.unique(draws, return_inverse=True)
        table = np.full((len(facts), len(draws), values.shape[1]), np.nan)
        table[fact, draw] = values
        return cls(table[..., :-2], table[..., -2], table[..., -1])

    def subsets(self, names: list[str], probe: str) -> dict[str, "_Group"]:
        if names in (SENSITIVE, BY_RELATION) or probe != "own":
            return {"all": self}
        is_filled = np.nanmax(self.n_neurons, axis=1) > 0
        if is_filled.all():
            return {"all": self, "non_empty": self}
        parts = (self.measures[is_filled], self.n_neurons[is_filled], self.n_excluded[is_filled])
        return {"all": self, "non_empty": _Group(*parts)}

    def sizes(self) -> dict:
        n_empty = int((np.nanmax(self.n_neurons, axis=1, initial=0) == 0).sum())
        n_neurons = mean_over_facts(mean_over_draws(self.n_neurons))
        return {"n_empty": n_empty, "n_neurons": n_neurons, "n_excluded": int(np.nansum(self.n_excluded))}

    def lines(self, names: list[str], seed: int, resamples: int) -> list[dict]:
        """The statistics, each with the sizes of the group."""
        sizes = self.sizes()
        return [{**sizes, **line} for line in self.statistics(names, seed, resamples)]

    def statistics(self, names: list[str], seed: int, resamples: int) -> Iterator[dict]:
        for name in names:
            statistic = STATISTICS[name]
            columns = [self.measures[..., MEASURES.index(measure)] for measure in statistic.measures]
            interval = statistic.interval(*[mean_over_draws(column) for column in columns], seed, resamples)
            draws = range(columns[0].shape[1])
            several = [statistic.value(*[column[:, draw] for column in columns]) for draw in draws if len(draws) > 1]
            by_draw = several or [interval.value]
            yield {"statistic": name, **interval._asdict(), "draw_min": min(by_draw), "draw_max": max(by_draw)}


def mean_over_draws(values: Float[np.ndarray, "fact draw"]) -> Float[np.ndarray, " fact"]:
    """Mean of each fact over the draws it has; NaN where it has none."""
    if values.shape[1] == 1:
        return values[:, 0]
    n_known = (~np.isnan(values)).sum(axis=1)
    return np.divide(np.nansum(values, axis=1), n_known, out=np.full(len(values), np.nan), where=n_known > 0)
