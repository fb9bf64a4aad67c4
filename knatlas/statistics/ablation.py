"""What each uncertainty of MATRICE is worth: variants without one, relative to the full method (Table II)."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from knatlas.statistics.bootstrap import DEFAULT_RESAMPLES, percentile_interval, resample_weights
from knatlas.statistics.summaries import per_fact

FULL = "matrice"
VARIANTS = [
    "matrice_without_query_uncertainty",
    "matrice_without_language_uncertainty",
    "matrice_without_query_uncertainty_matched",
    "matrice_without_language_uncertainty_matched",
]
OPERATIONS = ["enhance", "suppress"]
AVERAGE, ALL = "average", "all"
PAIR = ["fact", "operation", "language"]
KEYS = ["model", "selection", "operation", "language"]
TABLE_COLUMNS = [*KEYS, "statistic", "value", "lo", "hi", "n", "n_empty", "n_neurons", "n_neurons_full", "n_excluded"]


def summarise_ablation(rows: pd.DataFrame, seed: int = 0, resamples: int = DEFAULT_RESAMPLES) -> pd.DataFrame:
    """Table II: the mean relative change of P(answer) of each variant, over that of the full method.

    Queries are averaged within a fact and language; only facts that both the variant and the full method have a change
    of in a language count there, in pairs. Language "all": mean over the languages that have a ratio. Operation
    "average": mean of suppress and enhance. Intervals: 95% bootstrap over facts, each with all its languages and both
    operations, of variant and full method together. A full method that changes nothing makes the ratio infinite (0/0:
    NaN, and the language does not count).

    statistic: ratio (1 = as the full method); variant_change and full_change, its numerator and denominator (-1 =
    vanished, 0 = unchanged), and variant_flips and full_flips, the shares of queries whose rightness changed in the
    same facts, language "all" their mean over languages; for language "all" also counts of languages:
    n_sign_changes, where numerator and denominator have different signs, n_near_zero, where the interval of the
    denominator holds 0, n_undefined, without a ratio (for "average": in either operation).
    n, facts; n_empty, facts in which the variant has no neurons; n_neurons and n_neurons_full, means over facts;
    n_excluded, queries with P before = 0.

    Args: rows of `manipulate`; own queries are taken, and the selections FULL and VARIANTS that are there.
    Returns: TABLE_COLUMNS; no rows for a variant that is not there, or without the full method.
    """
    kept = rows[(rows["probe"] == "own") & rows["selection"].isin([FULL, *VARIANTS])]
    if kept.empty:
        return pd.DataFrame(columns=TABLE_COLUMNS)
    changes = per_fact(kept)
    changes = changes[changes["language"] != ALL]
    lines = []
    for model, group in changes.groupby("model", sort=False):
        full = group[group["selection"] == FULL]
        for name in VARIANTS:
            pairs = group[group["selection"] == name].merge(full, on=PAIR, suffixes=("", "_full"))
            if len(pairs):
                lines += [{"model": model, "selection": name, **line} for line in _lines(pairs, seed, resamples)]
    return pd.DataFrame(lines, columns=TABLE_COLUMNS)


@dataclass(frozen=True)
class _Pairs:
    """A variant and the full method, side by side; changes and flips are NaN where one of the two has none."""

    variant: Float[np.ndarray, "fact operation language"]
    full: Float[np.ndarray, "fact operation language"]
    variant_flips: Float[np.ndarray, "fact operation language"]
    full_flips: Float[np.ndarray, "fact operation language"]
    n_neurons: Float[np.ndarray, "fact operation language"]
    n_neurons_full: Float[np.ndarray, "fact operation language"]
    n_excluded: Float[np.ndarray, "fact operation language"]

    @classmethod
    def of(cls, pairs: pd.DataFrame, operations: list[str], languages: list[str]) -> "_Pairs":
        facts = sorted(pairs["fact"].unique())
        index = pd.MultiIndex.from_product([facts, operations, languages])
        changes = ["relative_change", "relative_change_full", "is_flipped", "is_flipped_full"]
        names = [*changes, "n_neurons", "n_neurons_full", "n_excluded_full"]
        found = pairs.set_index(PAIR)[names].reindex(index)
        found.loc[found.isna().any(axis=1), changes] = np.nan
        return cls(*(found[name].to_numpy(float).reshape(len(facts), len(operations), -1) for name in names))

    def sizes(self, place: tuple) -> dict:
        """How many facts stand behind some cells, how large their sets are, and how many queries were left out."""
        is_counted = (~np.isnan(self.variant[place])).any(axis=(1, 2))
        sizes = [
            part[place][is_counted].reshape(is_counted.sum(), -1) for part in (self.n_neurons, self.n_neurons_full)
        ]
        found, full = (_mean(part) for part in sizes)
        n_excluded = self.n_excluded[place].max(axis=1, initial=0, where=~np.isnan(self.n_excluded[place]))
        return {
            "n": int(is_counted.sum()),
            "n_empty": int((found == 0).sum()),
            "n_neurons": float(_mean(found)),
            "n_neurons_full": float(_mean(full)),
            "n_excluded": int(n_excluded.sum()),  # a query once, though both operations ask it
        }


@dataclass(frozen=True)
class _Means:
    """Mean changes and flips over the facts, first as measured, then of each resample."""

    variant: Float[np.ndarray, "draw operation language"]
    full: Float[np.ndarray, "draw operation language"]
    variant_flips: Float[np.ndarray, "draw operation language"]
    full_flips: Float[np.ndarray, "draw operation language"]

    @classmethod
    def of(cls, pairs: _Pairs, seed: int, resamples: int) -> "_Means":
        n_facts = len(pairs.variant)
        weights = np.vstack([np.full((1, n_facts), 1 / n_facts), resample_weights(n_facts, resamples, seed)])
        drawn = np.tensordot(weights, ~np.isnan(pairs.variant), axes=1)
        parts = (pairs.variant, pairs.full, pairs.variant_flips, pairs.full_flips)
        sums = [np.tensordot(weights, np.nan_to_num(part), axes=1) for part in parts]
        return cls(*(_divide(part, drawn) for part in sums))

    @property
    def ratio(self) -> Float[np.ndarray, "draw operation language"]:
        return _divide(self.variant, self.full)

    def counts(self) -> dict[str, Bool[np.ndarray, "operation language"]]:
        """What is wrong with the ratio of an operation in a language."""
        lowest, highest = (np.apply_along_axis(_bound, 0, self.full, side) for side in ("lo", "hi"))
        return {
            "n_sign_changes": self.variant[0] * self.full[0] < 0,
            "n_near_zero": (lowest <= 0) & (highest >= 0),
            "n_undefined": np.isnan(self.ratio[0]),
        }


def _lines(pairs: pd.DataFrame, seed: int, resamples: int) -> Iterator[dict]:
    operations = [name for name in OPERATIONS if (pairs["operation"] == name).any()]
    languages = list(pairs["language"].unique())
    table = _Pairs.of(pairs, operations, languages)
    means, several = _Means.of(table, seed, resamples), {AVERAGE: slice(None)} if len(operations) > 1 else {}
    rows = {name: slice(i, i + 1) for i, name in enumerate(operations)} | several
    columns = {name: slice(k, k + 1) for k, name in enumerate(languages)} | {ALL: slice(None)}
    for operation, row in rows.items():
        for language, column in columns.items():
            place = (slice(None), row, column)
            sizes = table.sizes(place)
            fixed = {"operation": operation, "language": language, **sizes}
            values = _values(means, place, operation)
            yield from ({**fixed, "statistic": name, **_interval(part, sizes["n"])} for name, part in values.items())
            counts = means.counts() if language == ALL else {}
            yield from ({**fixed, "statistic": name, "value": _count(part[row])} for name, part in counts.items())


def _values(means: _Means, place: tuple, operation: str) -> dict[str, Float[np.ndarray, " draw"]]:
    """Mean over the languages of the ratio and, for a single operation, of what it is made of."""
    parts = {"ratio": means.ratio}
    if operation != AVERAGE:  # a mean of what suppressing takes and enhancing gives says nothing
        parts |= {"variant_change": means.variant, "full_change": means.full}
        parts |= {"variant_flips": means.variant_flips, "full_flips": means.full_flips}
    return {name: _mean(part[place]).mean(axis=1) for name, part in parts.items()}


def _count(is_so: Bool[np.ndarray, "operation language"]) -> float:
    return float(is_so.any(axis=0).sum())


def _interval(draws: Float[np.ndarray, " draw"], n: int) -> dict[str, float]:
    return percentile_interval(float(draws[0]), draws[1:], n)._asdict()


def _bound(draws: Float[np.ndarray, " draw"], side: str) -> float:
    return _interval(draws, 0)[side]


def _divide(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.divide(above, below)


def _mean(values: Float[np.ndarray, "*shape last"]) -> Float[np.ndarray, "*shape"]:
    """Mean over the last axis of the values that are not NaN; NaN where there are none."""
    is_known = ~np.isnan(values)
    return _divide(np.where(is_known, values, 0.0).sum(axis=-1), is_known.sum(axis=-1))
