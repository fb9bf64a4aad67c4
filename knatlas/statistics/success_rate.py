"""AMIG's success rate SR of edits (Eq. 11, Tables 1 and 2), in several readings of its text and its code.

SR_x = mean change of P(answer) of the relevant facts / mean change of the irrelevant ones, for x = suppress, enhance,
both by the relevant fact's neurons; SR = SR_suppress + SR_enhance. It's a ratio of two small means, so the means,
medians, shares and intervals stand beside it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from knatlas.errors import AtlasError, unknown
from knatlas.statistics.bootstrap import (
    DEFAULT_RESAMPLES,
    bootstrap_median,
    mean_over_facts,
    percentile_interval,
    resample_weights,
)
from knatlas.statistics.edit_changes import CELLS, CHANGES, EditChanges
from knatlas.statistics.paired_tests import Paired, columns_of

RESULT_COLUMNS = ["reading", "statistic", "value", "lo", "hi", "n", "n_empty", "n_excluded"]
ALLOWED = {
    "change": ["relative", "absolute"],
    "irrelevant": ["other_relation", "any"],
    "exclusion": ["per_fact", "per_cell"],
    "empty_sets": ["keep", "drop"],
    "zero": ["infinite", "zero"],
}
# the cells that each statistic takes
STATISTICS = {
    "sr": CELLS,
    "sr_suppress": CELLS[:2],
    "sr_enhance": CELLS[2:],
    **{f"{name}_{cell}": [cell] for name in ("mean", "median") for cell in CELLS},
    "sr_of_differences": CELLS,
    "share_excluded": CELLS,
}
RATES = ["sr", "sr_suppress", "sr_enhance", "sr_of_differences"]
SIZES = [f"size_{cell}" for cell in CELLS]
ByFact = Float[np.ndarray, " fact"]


@dataclass(frozen=True)
class Reading:
    """How the success rate is computed.

    change: of P, `relative` to P before, or `absolute` (the difference). irrelevant: a fact of an `other_relation`, or
    `any` other fact. exclusion: a fact with an extreme change leaves all four cells (`per_fact`) or that cell alone
    (`per_cell`). suppress_cut, enhance_cut: extreme are relative changes (1 = doubled) above the first under
    suppression, and from the second on under enhancement. is_absolute: |SR_x| are added, else SR_x. empty_sets: facts
    without neurons, whose P does not change, are kept or dropped. zero: SR_x where the irrelevant mean is 0.

    Raises: AtlasError for a word that is not allowed.
    """

    change: str = "relative"
    irrelevant: str = "other_relation"
    exclusion: str = "per_fact"
    suppress_cut: float = 20.0
    enhance_cut: float = 250.0
    is_absolute: bool = True
    empty_sets: str = "keep"
    zero: str = "infinite"

    def __post_init__(self) -> None:
        for name, allowed in ALLOWED.items():
            if getattr(self, name) not in allowed:
                raise AtlasError(unknown(f"success_rate: {name}", getattr(self, name), "one of its words", allowed))


READINGS = {
    "paper": Reading(change="absolute", is_absolute=False),
    "code": Reading(irrelevant="any", exclusion="per_cell", zero="zero"),
}


def reading_of(settings: Mapping) -> Reading:
    """The reading that a study's settings ask for; what they leave out is as in `Reading()`.

    Raises: AtlasError for a setting that a reading doesn't have, or a word that is not allowed.
    """
    names = [field.name for field in fields(Reading)]
    for name in settings:
        if name not in names:
            raise AtlasError(unknown("success_rate: a setting", name, "a field of a reading", names))
    return Reading(**settings)


def readings_with(settings: Mapping) -> dict[str, Reading]:
    """The three readings of every AMIG table: `default` by the study's settings, `paper` as printed, `code`."""
    return {"default": reading_of(settings), **READINGS}


def success_rates(
    rows: pd.DataFrame,
    group: Sequence[str],
    readings: Mapping[str, Reading],
    seed: int = 0,
    resamples: int = DEFAULT_RESAMPLES,
) -> pd.DataFrame:
    """Success rates of measured edits, one row per group, reading and statistic.

    A fact's changes are averaged over draws; of its own queries only the first counts. Changes where P before is 0, or
    that were not measured, are undefined: excluded like extreme ones.

    statistic: sr; sr_suppress and sr_enhance, with their signs; mean and median change of each cell, in the unit of the
    reading's change; sr_of_differences, SR of the means of |P after - P before|; share_excluded, of the facts, those
    with any cell excluded. Intervals: 95% bootstrap over facts, all cells of a fact together; resamples without a
    value don't count. n, facts in any of the statistic's cells (share_excluded: all facts); n_excluded, facts that
    lack any of these cells; n_empty, facts without neurons, also when dropped.

    Args: rows as `manipulate` returns them; group, their identifying columns, a language among them; readings by name;
    seed, of the resamples and of the irrelevant facts.
    Returns: the group's columns, then RESULT_COLUMNS. No data give NaN and n = 0.
    """
    positions, lines = rows.groupby(list(group), sort=False).indices, []
    for key in sorted(positions, key=lambda key: positions[key][0]):  # in the order of the rows
        changes = EditChanges.of(rows.iloc[positions[key]])
        fixed = dict(zip(group, key if isinstance(key, tuple) else (key,), strict=True))
        for name, reading in readings.items():
            fixed |= {"reading": name, "n_empty": int(changes.is_empty.sum())}
            lines += [{**fixed, **line} for line in _lines(changes, reading, seed, resamples)]
    return pd.DataFrame(lines, columns=[*group, *RESULT_COLUMNS])


def paired_rates(one: pd.DataFrame, other: pd.DataFrame, reading: Reading, name: str) -> Paired:
    """A statistic of `success_rates` under two edits of the same facts.

    Args: tables of `cells_by_fact` of either edit, of the same facts; name, of RATES.
    """
    cells = _cells_of(name)

    def statistic(means: Float[np.ndarray, "draw column"]) -> Float[np.ndarray, " draw"]:
        return _rate(dict(zip(cells, means.T, strict=True)), reading, name)

    return Paired(columns_of(one, cells), columns_of(other, cells), statistic)


def cells_by_fact(rows: pd.DataFrame, reading: Reading, seed: int) -> pd.DataFrame:
    """The change in each cell, and its size, of the facts that a reading counts, one group of rows; NaN where excluded.

    Args: seed, of the irrelevant facts. Returns: a row per fact, columns CELLS and SIZES.
    """
    changes = EditChanges.of(rows)
    columns = _columns(changes, reading, seed)
    is_counted = ~changes.is_empty if reading.empty_sets == "drop" else np.full(len(changes.facts), True)
    names = [*CELLS, *SIZES]
    return pd.DataFrame(np.stack([columns[name] for name in names], axis=1), changes.facts[is_counted], names)


def _lines(changes: EditChanges, reading: Reading, seed: int, resamples: int) -> Iterator[dict]:
    """The statistics of one group in one reading."""
    columns = _columns(changes, reading, seed)
    values = _statistics({name: mean_over_facts(column) for name, column in columns.items()}, reading)
    resampled = _statistics(_resampled_means(columns, seed, resamples), reading)
    for name, cells in STATISTICS.items():
        is_kept = ~np.isnan([columns[cell] for cell in cells])
        n = is_kept.shape[1] if name == "share_excluded" else int(is_kept.any(axis=0).sum())
        line = {"statistic": name, "n": n, "n_excluded": int((~is_kept).any(axis=0).sum())}
        if name.startswith("median_"):
            yield line | bootstrap_median(columns[cells[0]], seed, resamples)._asdict()
        else:
            yield line | percentile_interval(float(values[name]), resampled[name], n)._asdict()


def _columns(changes: EditChanges, reading: Reading, seed: int) -> dict[str, ByFact]:
    """The change of each fact in each cell, its size, NaN where excluded, and whether any cell is."""
    cells = changes.cells(reading.irrelevant == "any", seed)
    if reading.empty_sets == "drop":
        cells = cells[~changes.is_empty]
    is_kept = _is_kept(cells[..., CHANGES.index("relative")], reading)
    cells = np.where(is_kept[..., None], cells, np.nan)
    columns = dict(zip(CELLS, cells[..., CHANGES.index(reading.change)].T, strict=True))
    columns |= dict(zip(SIZES, cells[..., CHANGES.index("size")].T, strict=True))
    return columns | {"is_excluded": (~is_kept).any(axis=1).astype(float)}


def _is_kept(relative: Float[np.ndarray, "fact cell"], reading: Reading) -> Bool[np.ndarray, "fact cell"]:
    """Whether a change is no extreme one (AMIG, footnote 2) and is defined."""
    # NaN is neither below nor above: not kept
    is_kept = np.hstack([relative[:, :2] <= reading.suppress_cut, relative[:, 2:] < reading.enhance_cut])
    return is_kept if reading.exclusion == "per_cell" else is_kept & is_kept.all(axis=1, keepdims=True)


def _statistics(means: Mapping, reading: Reading) -> dict:
    """All statistics but the medians from the means of the columns (numbers, or arrays over resamples)."""
    rates = {name: _rate(means, reading, name) for name in RATES}
    return rates | {f"mean_{cell}": means[cell] for cell in CELLS} | {"share_excluded": means["is_excluded"]}


def _cells_of(rate: str) -> list[str]:
    """The cells, or their sizes, of which a statistic of RATES takes the means."""
    return SIZES if rate == "sr_of_differences" else CELLS


def _rate(means: Mapping, reading: Reading, name: str) -> float | np.ndarray:
    """A statistic of RATES from the means of its cells."""
    cells = _cells_of(name)
    suppress, enhance = (_ratio(*(means[cell] for cell in part), reading.zero) for part in (cells[:2], cells[2:]))
    if name in ("sr_suppress", "sr_enhance"):
        return suppress if name == "sr_suppress" else enhance
    with np.errstate(invalid="ignore"):  # SR_x infinite with both signs: their sum is NaN
        return np.abs(suppress) + np.abs(enhance) if reading.is_absolute else suppress + enhance


def _ratio(relevant: float | np.ndarray, irrelevant: float | np.ndarray, zero: str) -> float | np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.divide(relevant, irrelevant)
    return np.where((irrelevant == 0) & ~np.isnan(relevant), 0.0, ratio) if zero == "zero" else ratio


def _resampled_means(columns: Mapping[str, ByFact], seed: int, resamples: int) -> dict[str, np.ndarray]:
    """Means of the columns over each resample of the facts, without NaN; NaN where a resample has no value."""
    table = np.stack(list(columns.values()), axis=1)
    if not len(table):
        return dict.fromkeys(columns, np.full(1, np.nan))
    is_known = ~np.isnan(table)
    smallest = np.where(is_known, np.abs(table), np.inf).argmin(axis=0)
    base = table[smallest, np.arange(table.shape[1])]
    # relative to the smallest value, so that equal values give exactly that value, and zeros alone exactly zero
    values = np.where(is_known, table - base, 0.0)
    weights = resample_weights(len(table), resamples, seed)
    with np.errstate(invalid="ignore"):
        means = base + (weights @ values) / (weights @ is_known.astype(float))
    return dict(zip(columns, means.T, strict=True))
