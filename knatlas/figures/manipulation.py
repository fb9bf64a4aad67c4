"""Change of P(answer) by language, selection and operation (Figure 5 of MATRICE), with its controls."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from knatlas.errors import AtlasError
from knatlas.figures.nulls import GREYS, NULL_LOOKS, beside, null_rows
from knatlas.figures.style import (
    COLOURS,
    OTHER_COLOUR,
    draw_bars,
    facts_label,
    house_style,
    in_percent,
    panels,
    save,
    write_legend,
)


class Series(NamedTuple):
    """One kind of bar: a selection's neurons, measured on the fact's own queries or on another fact.

    With a negative control the neurons are those that the selection finds under it.
    """

    selection: str
    probe: str = "own"
    control: str = "none"

    @property
    def label(self) -> str:
        """Name in the legend."""
        if self.control != "none":
            return f"{self.selection.replace('_', ' ')}, null: {NULL_LOOKS[self.control].words}"
        other = "" if self.probe == "own" else f", on a fact of {_IN_WORDS.get(self.probe, self.probe)}"
        return self.selection.replace("_", " ") + other


_IN_WORDS = {"same_relation": "the same relation", "other_relation": "another relation"}
HATCHES = {"own": None, "same_relation": "////", "other_relation": "...."}
SERIES = (
    Series("matrice"),
    Series("likn"),
    Series("random"),
    Series("random_layer_matched"),
    Series("matrice", "same_relation"),
    Series("matrice", "other_relation"),
)
AXIS_LABELS = {
    "mean_relative_change": "mean change of P(answer)\n[% of P before]",
    "median_relative_change": "median change of P(answer)\n[% of P before]",
    "ratio_of_means": "mean change of P(answer)\n[% of mean P before]",
    "mean_log_ratio": "mean log(P after / P before)\n[nats]",
    "argmax_flips": "queries that change between\nright and wrong [%]",
    "argmax_lost": "queries no longer\nanswered rightly [%]",
    "argmax_gained": "queries newly\nanswered rightly [%]",
}


def plot_manipulation(
    table: pd.DataFrame,
    path: str | Path,
    statistic: str = "mean_relative_change",
    series: Sequence[Series] = SERIES,
    subset: str = "all",
    min_p_before: float = 0.0,
    controls: pd.DataFrame | None = None,
) -> list[Path]:
    """Draw a panel per model and operation, with bars per language grouped by selection and 95% intervals.

    Beside them, in grey, what the neurons of the first selection do that are found under negative controls.

    Args: table of `summarise_manipulation`; path without ending; which statistic, bars, subset of facts and smallest
    P before to show; controls, such a table with a column `control`, None without any. Bars that the table lacks are
    left out. Returns the paths of pdf, png and csv.
    Raises: AtlasError when the table has none of the bars.
    """
    data = _rows_to_draw(table, statistic, series, subset, min_p_before)
    nulls = null_rows(controls, data["model"].unique(), [series[0].selection])
    if nulls is not None:
        nulls = _rows_to_draw(nulls, statistic, series[:1], subset, min_p_before)
        series = [*series, *(Series(series[0].selection, control=name) for name in nulls["control"].unique())]
    data = beside(data, nulls)
    operations = list(data["operation"].unique())
    with house_style():
        groups = [group for _, group in data.groupby(["model", "operation"], sort=False)]
        figure, axes = panels(len(groups), len(operations))
        for part, group in zip(axes, groups, strict=True):
            _draw_panel(part, group, statistic, series)
        for part in axes[:: len(operations)]:
            part.set_ylabel(AXIS_LABELS[statistic])
        write_legend(figure, axes, 3)
        return save(figure, path, data)


def _rows_to_draw(
    table: pd.DataFrame, statistic: str, series: Sequence[Series], subset: str, min_p_before: float
) -> pd.DataFrame:
    shown = {(bar.selection, bar.probe) for bar in series}
    is_bar = np.array([pair in shown for pair in zip(table["selection"], table["probe"], strict=True)], dtype=bool)
    is_reading = (table["subset"] == subset) & (table["min_p_before"] == min_p_before)
    data = table[is_reading & (table["statistic"] == statistic) & is_bar].reset_index(drop=True)
    if data.empty:
        raise AtlasError(
            f"figure: the table has no {statistic} (subset {subset}, min_p_before {min_p_before:g}) for "
            f"{', '.join(sorted({bar.selection for bar in series}))}; add such a selection to selection.selections"
        )
    return data


def _draw_panel(axes: Axes, group: pd.DataFrame, statistic: str, series: Sequence[Series]) -> None:
    languages = sorted(group["language"].unique(), key=lambda language: language == "all")  # stable: the table's order
    drawn = [bar for bar in series if _is_of(bar, group).any()]
    width = 0.85 / len(drawn)
    for i, bar in enumerate(drawn):
        rows = group[_is_of(bar, group)]
        places = np.arange(len(languages)) + width * (i - (len(drawn) - 1) / 2)
        draw_bars(axes, places, rows.set_index("language").reindex(languages), width, _look(bar))
    axes.axhline(0, color="#222222", linewidth=0.8)
    axes.set_xticks(np.arange(len(languages)), languages)
    real = group[group["control"] == "none"] if "control" in group else group
    axes.set_title(f"{group['model'].iat[0]}, {group['operation'].iat[0]} ({facts_label(real['n'])})")
    if statistic != "mean_log_ratio":
        axes.yaxis.set_major_formatter(in_percent)


def _is_of(bar: Series, group: pd.DataFrame) -> pd.Series:
    """Which rows a bar shows; a table without a column `control` has real rows alone."""
    control = group.get("control", "none")
    return (group["selection"] == bar.selection) & (group["probe"] == bar.probe) & (control == bar.control)


def _look(bar: Series) -> dict:
    if bar.control != "none":
        look = NULL_LOOKS[bar.control]
        return {"label": bar.label, "facecolor": "white", "edgecolor": GREYS[0], "hatch": look.hatch, "linewidth": 0.5}
    colour = COLOURS.get(bar.selection, OTHER_COLOUR)
    if bar.probe == "own":
        return {"label": bar.label, "color": colour}
    return {
        "label": bar.label,
        "facecolor": "white",
        "edgecolor": colour,
        "hatch": HATCHES[bar.probe],
        "linewidth": 0.6,
    }
