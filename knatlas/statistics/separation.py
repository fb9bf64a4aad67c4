"""How far the neurons found lie above their controls: random neurons, and other facts."""

import numpy as np
import pandas as pd

from knatlas.statistics.bootstrap import DEFAULT_RESAMPLES, Interval, bootstrap_mean, bootstrap_ratio
from knatlas.statistics.summaries import per_fact

SEPARATION_COLUMNS = [
    "model",
    "selection",
    "language",
    "operation",
    "control",
    "value",
    "lo",
    "hi",
    "n",
    "control_value",
    "control_lo",
    "control_hi",
    "control_n",
    "ratio",
    "ratio_lo",
    "ratio_hi",
    "size_ratio",
    "size_ratio_lo",
    "size_ratio_hi",
    "flips",
    "flips_lo",
    "flips_hi",
    "control_flips",
    "control_flips_lo",
    "control_flips_hi",
    "is_separated",
]
# control: (selection, probe); None stands for the found selection itself, measured on another fact
CONTROLS: dict[str, tuple[str | None, str]] = {
    "random_layer_matched": ("random_layer_matched", "own"),
    "random": ("random", "own"),
    "same_relation": (None, "same_relation"),
    "other_relation": (None, "other_relation"),
}
SMALLEST_RATIO = 10.0
MEASURES = ["relative_change", "size", "is_flipped"]


def separate_controls(
    rows: pd.DataFrame,
    selection: str = "matrice",
    seed: int = 0,
    resamples: int = DEFAULT_RESAMPLES,
    min_p_before: float = 0.0,
) -> pd.DataFrame:
    """The mean relative change that the found neurons cause, beside that of each control.

    One row per model, language (and "all"), operation and control: `random_layer_matched` and `random` neurons on the
    fact's own queries, the found neurons on a fact of the `same_relation` and of an `other_relation`. ratio is
    |mean change| / |mean change of the control| over the facts that have both, with its interval. Random changes of
    both signs cancel in a mean, so size_ratio is the same with the absolute change of each fact and draw in place of
    the change. is_separated when both ratios are at least 10 and the intervals of the changes don't overlap. A control
    that was not measured is left out. flips and control_flips, with their intervals: the share of queries whose
    rightness changed (`argmax_flips` of `summarise_manipulation`), of the same n and control_n facts.
    """
    changes = per_fact(rows, min_p_before)
    changes = changes.assign(size=changes["relative_change"].abs())
    changes = changes.groupby(["model", "language", "operation", "selection", "probe", "fact"], sort=False)
    changes = changes[MEASURES].mean().reset_index()
    lines = []
    for key, group in changes.groupby(["model", "language", "operation"], sort=False):
        lines += [{**_names(key, selection), **line} for line in _compare(group, selection, seed, resamples)]
    return pd.DataFrame(lines, columns=SEPARATION_COLUMNS)


def _names(key: tuple, selection: str) -> dict:
    return dict(zip(["model", "language", "operation"], key, strict=True)) | {"selection": selection}


def _compare(group: pd.DataFrame, selection: str, seed: int, resamples: int) -> list[dict]:
    tables = {
        measure: group.pivot(index="fact", columns=["selection", "probe"], values=measure).sort_index()
        for measure in MEASURES
    }
    lines = []
    for control, (name, probe) in CONTROLS.items():
        columns = [(selection, "own"), (name or selection, probe)]
        if all(column in tables[MEASURES[0]].columns for column in columns):
            changes, sizes, flips = ([table[column].to_numpy() for column in columns] for table in tables.values())
            line = _line(*changes, *sizes, seed, resamples) | _flips(*flips, seed, resamples)
            lines.append({"control": control} | line)
    return lines


def _flips(found: np.ndarray, control: np.ndarray, seed: int, resamples: int) -> dict[str, float]:
    """Shares of queries whose rightness changed, with their intervals."""
    fields = {}
    for name, part in (("flips", found), ("control_flips", control)):
        value, lo, hi, _ = bootstrap_mean(part, seed, resamples)
        fields |= {name: value, f"{name}_lo": lo, f"{name}_hi": hi}
    return fields


def _line(
    found: np.ndarray, control: np.ndarray, size: np.ndarray, control_size: np.ndarray, seed: int, resamples: int
) -> dict:
    of_found, of_control = (bootstrap_mean(part, seed, resamples) for part in (found, control))
    ratio = bootstrap_ratio(found, control, seed, resamples, is_absolute=True)
    size_ratio = bootstrap_ratio(size, control_size, seed, resamples)
    is_large = min(ratio.value, size_ratio.value) >= SMALLEST_RATIO
    fields = {f"control_{name}": value for name, value in of_control._asdict().items()}
    ratios = {"ratio": ratio.value, "ratio_lo": ratio.lo, "ratio_hi": ratio.hi}
    ratios |= {"size_ratio": size_ratio.value, "size_ratio_lo": size_ratio.lo, "size_ratio_hi": size_ratio.hi}
    is_separated = is_large and not _is_overlapping(of_found, of_control)
    return {**of_found._asdict(), **fields, **ratios, "is_separated": bool(is_separated)}


def _is_overlapping(one: Interval, other: Interval) -> bool:
    return one.lo <= other.hi and other.lo <= one.hi
