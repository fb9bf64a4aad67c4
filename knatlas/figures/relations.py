"""Change of P(answer) by relation: Figures 3 and 4 of the localization paper, and Figure 5 of MATRICE by relation."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from textwrap import fill
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from knatlas.catalog import read_catalog
from knatlas.errors import AtlasError
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

EDGE = "#555555"
LABEL_WIDTH = 26  # letters in a line of a relation's name
# rows of the table that are no relation, in words
SUMMARIES = {"all": "all relations, each as one", "all_facts": "all facts"}
PRINTED = {"marker": "D", "s": 14, "color": "#CC0000", "zorder": 3, "label": "printed in the paper"}


class Bar(NamedTuple):
    """One kind of bar: a selection's neurons, and whose P(answer) is measured."""

    selection: str
    probe: str
    label: str

    @property
    def look(self) -> dict:
        """Colours: filled for a fact's own prompts, hatched for an unrelated fact's."""
        colour = COLOURS.get(self.selection, OTHER_COLOUR)
        if self.probe != "unrelated":
            return {"label": self.label, "color": colour}
        return {"label": self.label, "facecolor": "white", "edgecolor": EDGE, "hatch": "////", "linewidth": 0.6}


RELATED = (
    Bar("refined", "related", "refined neurons, related facts"),
    Bar("refined", "unrelated", "refined neurons, unrelated facts"),
    Bar("random", "related", "random neurons, related facts"),
    Bar("random_layer_matched", "related", "random neurons of the same layers, related facts"),
)
OWN = (Bar("matrice", "own", "matrice"), Bar("likn", "own", "likn"), Bar("random", "own", "random"))


def plot_differences(
    table: pd.DataFrame, path: str | Path, operation: str, empty_sets: str = "drop", bars: Sequence[Bar] = RELATED
) -> list[Path]:
    """Draw the change of P(answer) by relation, a row per model and language: related facts beside unrelated ones.

    Args: table of `summarise_relations`, with `paper` where numbers are printed; path without ending; operation,
    suppress (Figure 3) or enhance (Figure 4); empty_sets, whether facts without neurons are left out; the bars to
    show, those that the table lacks are left out. Returns: the paths of pdf, png and csv.
    Raises: AtlasError when the table has none of the bars.
    """
    is_shown = (table["operation"] == operation) & (table["empty_sets"] == empty_sets)
    data = _of_bars(table[is_shown & (table["statistic"] == "difference")], bars, f"differences under {operation}")
    titles = data["model"] + ", " + data["language"] + f", {operation}"
    return _draw(data.assign(panel=titles), path, bars, "mean change of P(answer)\n[percentage points]", n_columns=1)


def plot_changes(
    table: pd.DataFrame,
    path: str | Path,
    language: str = "all",
    min_p_before: float = 0.0,
    bars: Sequence[Bar] = OWN,
) -> list[Path]:
    """Draw the mean relative change of P(answer) by relation, a panel per model and operation.

    Args: table of `summarise_by_relation`; path without ending; language, of the facts' queries (`all`: the mean over
    languages); the smallest P before of the reading to show; the bars to show, those that the table lacks are left
    out. Returns: the paths of pdf, png and csv. Raises: AtlasError when the table has none of the bars.
    """
    is_shown = (table["language"] == language) & (table["min_p_before"] == min_p_before) & (table["subset"] == "all")
    is_shown &= table["statistic"] == "mean_relative_change"
    data = _of_bars(table[is_shown], bars, f"relative changes in language {language}")
    data = data.assign(panel=data["model"] + ", " + data["operation"])
    n_columns = data["operation"].nunique()
    return _draw(data, path, bars, "mean change of P(answer)\n[% of P before]", n_columns, in_percent)


# what a rule can draw, by the figure's name
FIGURES: dict[str, Callable[[pd.DataFrame, str | Path], list[Path]]] = {
    "localization_figure3": partial(plot_differences, operation="suppress"),
    "localization_figure4": partial(plot_differences, operation="enhance"),
    "matrice_figure5_relations": plot_changes,
}


def _of_bars(rows: pd.DataFrame, bars: Sequence[Bar], what: str) -> pd.DataFrame:
    shown = {(bar.selection, bar.probe) for bar in bars}
    is_bar = [pair in shown for pair in zip(rows["selection"], rows["probe"], strict=True)]
    data = rows[np.array(is_bar, dtype=bool)].reset_index(drop=True)
    if data.empty:
        names = ", ".join(dict.fromkeys(bar.selection for bar in bars))
        raise AtlasError(f"figure: the table has no {what} for {names}; add such a selection to selection.selections")
    return data


def _draw(
    data: pd.DataFrame,
    path: str | Path,
    bars: Sequence[Bar],
    axis_label: str,
    n_columns: int,
    formatter: Callable[[float, object], str] | None = None,
) -> list[Path]:
    """Panels by the column `panel`, which the csv does not keep."""
    with house_style():
        groups = [group for _, group in data.groupby("panel", sort=False)]
        figure, axes = panels(len(groups), n_columns)
        figure.set_figheight(figure.get_figheight() + 1.4 * -(-len(groups) // n_columns))  # room for upright labels
        for part, group in zip(axes, groups, strict=True):
            _draw_panel(part, group, bars)
            if formatter is not None:
                part.yaxis.set_major_formatter(formatter)
        for part in axes[::n_columns]:
            part.set_ylabel(axis_label)
        write_legend(figure, axes, 3)
        return save(figure, path, data.drop(columns="panel"))


def _draw_panel(axes: Axes, group: pd.DataFrame, bars: Sequence[Bar]) -> None:
    relations = sorted(group["relation"].unique(), key=_order)
    drawn = [bar for bar in bars if ((group["selection"] == bar.selection) & (group["probe"] == bar.probe)).any()]
    width = 0.85 / len(drawn)
    for i, bar in enumerate(drawn):
        rows = group[(group["selection"] == bar.selection) & (group["probe"] == bar.probe)]
        rows = rows.set_index("relation").reindex(relations)
        places = np.arange(len(relations)) + width * (i - (len(drawn) - 1) / 2)
        draw_bars(axes, places, rows, width, bar.look)
        if "paper" in rows and rows["paper"].notna().any():
            axes.scatter(places, rows["paper"].to_numpy(float), **PRINTED)
    axes.axhline(0, color="#222222", linewidth=0.8)
    labels = [_label(relation, group.loc[group["relation"] == relation, "n"]) for relation in relations]
    axes.set_xticks(np.arange(len(relations)), labels, rotation=90)
    axes.set_xlim(-0.6, len(relations) - 0.4)
    axes.set_title(group["panel"].iat[0])


def _order(relation: str) -> tuple:
    """Relations by number, P36 before P106, and after them what is no relation."""
    return relation in SUMMARIES, len(relation), relation


def _label(relation: str, n: pd.Series) -> str:
    """A relation's id and name from the catalog, and how many facts each of its bars is a mean over."""
    name = read_catalog("relations").get(relation, {}).get("name")
    words = SUMMARIES.get(relation) or (f"{relation} {name}" if name else relation)
    return f"{fill(words, LABEL_WIDTH)}\n{facts_label(n)}"
