"""Change of P(answer) against the noise on word embeddings (word-embedding perturbation of the localization paper)."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from knatlas.errors import AtlasError
from knatlas.figures.style import facts_label, house_style, panels, save, write_legend

ALL, PRINTED = "all", "printed"
COLUMNS = 4  # panels beside each other, at most


class Look(NamedTuple):
    """How the line of a reading looks, and its name in the legend."""

    label: str
    colour: str
    marker: str


LOOKS = {
    "input_only": Look("input only, each token its own noise", "#0072B2", "o"),
    "tied_matrix": Look("embedding matrix, as released", "#D55E00", "s"),
    "head_only": Look("output matrix only", "#009E73", "^"),
}
PRINTED_LABEL = "the paper's noise level"
AXIS_LABELS = {
    "difference": "mean change of P(answer)\n[percentage points]",
    "difference_first": "mean change of P(first token)\n[percentage points]",
    "relative_change": "mean change of P(answer)\n[% of mean P without noise]",
    "answers_lost": "right answers lost [%]",
}


def plot_perturbation(
    table: pd.DataFrame, path: str | Path, statistic: str = "difference", readings: Sequence[str] = tuple(LOOKS)
) -> list[Path]:
    """Draw a panel per model and language: the change by noise level, a line with intervals per reading.

    Intervals are 95% bootstrap intervals over facts; larger hollow marks are the paper's noise level where the model
    has it. Args: table of `summarise_perturbation`; path without ending; statistic, a key of AXIS_LABELS; the readings
    to show, those that the table lacks are left out. Returns: the paths of pdf, png and csv.
    Raises: AtlasError when the table has nothing to draw.
    """
    is_shown = (table["statistic"] == statistic) & (table["relation"] == ALL) & ~table["is_left_out"].astype(bool)
    data = table[is_shown & table["reading"].isin(list(readings))].reset_index(drop=True)
    if data.empty:
        raise AtlasError(f"figure: the table has no {statistic} of {', '.join(readings)}; see perturbation.readings")
    groups = list(data.groupby(["model", "language"], sort=False))
    n_columns = max(min(len(groups), COLUMNS), 2)
    with house_style():
        figure, axes = panels(len(groups), n_columns)
        for part, ((model, _), group) in zip(axes, groups, strict=True):
            _draw_panel(part, group, readings)
            part.set_title(f"{model}{_kind_of_head(group)}\n{facts_label(group['n'])}")
        for part in axes[::n_columns]:
            part.set_ylabel(AXIS_LABELS[statistic])
        _share_scale(axes)
        write_legend(figure, axes, 4)
        return save(figure, path, data)


def _share_scale(axes: Sequence[Axes]) -> None:
    """The same vertical axis in all panels: models are to be compared."""
    lowest, highest = (pick(part.get_ylim()[i] for part in axes) for i, pick in enumerate((min, max)))
    for part in axes:
        part.set_ylim(lowest, highest)


def _kind_of_head(group: pd.DataFrame) -> str:
    return "" if group["is_tied"].astype(bool).all() else ", input and output matrix untied"


def _draw_panel(axes: Axes, group: pd.DataFrame, readings: Sequence[str]) -> None:
    axes.axhline(0, color="#222222", linewidth=0.8)
    for reading in readings:
        rows = group[group["reading"] == reading].sort_values("relative_sigma")
        if len(rows):
            _draw_line(axes, rows[rows["level"] != PRINTED], LOOKS[reading])
            _mark_printed(axes, rows[rows["level"] == PRINTED], LOOKS[reading])
    axes.set_xlabel("noise, relative to mean |E|")
    axes.set_xlim(left=0)


def _draw_line(axes: Axes, rows: pd.DataFrame, look: Look) -> None:
    line = {"linestyle": "-", "linewidth": 1.3, "marker": look.marker, "markersize": 3.5}
    _draw(axes, rows, {"color": look.colour, "label": look.label, **line})


def _mark_printed(axes: Axes, rows: pd.DataFrame, look: Look) -> None:
    hollow = {"linestyle": "none", "marker": "D", "markersize": 6, "markerfacecolor": "none"}
    _draw(axes, rows, {"color": look.colour, "label": "_", **hollow})
    # one entry for all readings
    if len(rows):
        axes.plot([], [], color="#222222", label=PRINTED_LABEL, **hollow)


def _draw(axes: Axes, rows: pd.DataFrame, look: dict) -> None:
    value = rows["value"].to_numpy(float)
    reach = np.abs(np.stack([value - rows["lo"].to_numpy(float), rows["hi"].to_numpy(float) - value]))
    axes.errorbar(rows["relative_sigma"], value, yerr=reach, elinewidth=0.8, capsize=1.5, capthick=0.8, **look)
