"""Accuracy on queries of low-resource languages that were answered wrongly, after enhancement (Figure 6 of MATRICE)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from knatlas.figures.style import COLOURS, OTHER_COLOUR, draw_bars, house_style, panels, save, write_legend

ALL = "all"
SELECTIONS = ("matrice", "matrice_leave_language_out", "likn", "random", "random_layer_matched")
STATISTIC = "accuracy_on_wrong"
AXIS_LABELS = {
    "accuracy_on_wrong": "of the queries answered wrongly\nbefore, right after [%]",
    "lost_on_right": "of the queries answered rightly\nbefore, wrong after [%]",
}
# what each statistic counts, and what an empty panel says
COUNTED = {"accuracy_on_wrong": "wrong", "lost_on_right": "right"}
EMPTY = {
    "accuracy_on_wrong": "no query was answered wrongly",
    "lost_on_right": "no query was answered rightly",
}
SMALLEST_TOP = 5.0  # percent: bars of zero still need an axis


def plot_enhancement(
    table: pd.DataFrame, path: str | Path, statistic: str = STATISTIC, selections: Sequence[str] = SELECTIONS
) -> list[Path]:
    """Draw a row of panels per model, one per language, bars by relation and selection with 95% intervals.

    A panel without such queries says so, and so does a figure without any. Bars that the table lacks are left out.
    Args: table of `summarise_enhancement`; path without ending; statistic, a key of AXIS_LABELS; the selections to
    show. Returns: the paths of pdf, png and csv.
    """
    is_shown = (table["statistic"] == statistic) & table["selection"].isin(list(selections))
    data = table[is_shown & (table["language"] != ALL)].reset_index(drop=True)
    models, languages = list(data["model"].unique()), list(data["language"].unique())
    with house_style():
        figure, axes = panels(max(len(models) * len(languages), 1), max(len(languages), 1))
        places = [(model, language) for model in models for language in languages]
        for part, (model, language) in zip(axes, places, strict=False):
            of_panel = (data["model"] == model) & (data["language"] == language)
            _draw_panel(part, data[of_panel], f"{model}, {language}", statistic, selections)
        if not places:
            _say(axes[0], "no query in a low-resource language")
        for part in axes[:: max(len(languages), 1)]:
            part.set_ylabel(AXIS_LABELS[statistic])
        write_legend(figure, axes, 5)
        return save(figure, path, data)


def _draw_panel(axes: Axes, group: pd.DataFrame, title: str, statistic: str, selections: Sequence[str]) -> None:
    whole = group[group["relation"] == ALL]
    n_queries, n_facts = (int(whole[name].max()) if len(whole) else 0 for name in ("n_queries", "n"))
    axes.set_title(f"{title}\n{n_queries} {COUNTED[statistic]} queries, {n_facts} facts")
    if group["value"].isna().all():
        _say(axes, EMPTY[statistic])
        return
    relations = sorted(group["relation"].unique(), key=lambda relation: relation == ALL)  # stable: the table's order
    drawn = [selection for selection in selections if (group["selection"] == selection).any()]
    width = 0.85 / len(drawn)
    for i, selection in enumerate(drawn):
        rows = group[group["selection"] == selection].set_index("relation").reindex(relations)
        places = np.arange(len(relations)) + width * (i - (len(drawn) - 1) / 2)
        look = {"label": selection.replace("_", " "), "color": COLOURS.get(selection, OTHER_COLOUR)}
        draw_bars(axes, places, rows, width, look)
    axes.set_xticks(np.arange(len(relations)), relations, rotation=90 if len(relations) > 4 else 0)
    axes.set_xlim(-0.6, len(relations) - 0.4)
    highest = np.nanmax(group[["value", "hi"]].to_numpy(float))
    axes.set_ylim(0, max(1.05 * highest, SMALLEST_TOP))


def _say(axes: Axes, sentence: str) -> None:
    """An empty panel with a sentence in it."""
    axes.text(0.5, 0.5, sentence, transform=axes.transAxes, ha="center", va="center", fontsize=8)
    axes.set_xticks([])
    axes.set_yticks([])
