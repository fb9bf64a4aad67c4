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
from knatlas.figures.nulls import GREYS, LEAST_FACTS, NULL_LOOKS, beside, null_rows
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
from knatlas.statistics.relations import ALL, ALL_FACTS

EDGE = "#555555"
LABEL_WIDTH = 26  # letters in a line of a relation's name
MOST_RELATIONS = 20  # in a panel of the whole width
POINTS, NUMBER_SIZES = 800, (4.5, 7)  # width of such a panel, and of letters in place of bars, in points
# rows of the table that are no relation, in words
SUMMARIES = {ALL: "all relations, each as one", ALL_FACTS: "all facts"}
PRINTED = {"marker": "D", "s": 14, "color": "#CC0000", "zorder": 3, "label": "printed in the paper"}


class Bar(NamedTuple):
    """One kind of bar: a selection's neurons, and whose P(answer) is measured.

    With a negative control the neurons are those that the selection finds under it.
    """

    selection: str
    probe: str
    label: str
    control: str = "none"

    def under(self, control: str) -> "Bar":
        """The same bar under a negative control."""
        return self._replace(control=control, label=f"{self.label}, null: {NULL_LOOKS[control].words}")

    def rows(self, group: pd.DataFrame) -> pd.DataFrame:
        """The rows that the bar shows; a table without a column `control` has real rows alone."""
        is_shown = (group["selection"] == self.selection) & (group["probe"] == self.probe)
        return group[is_shown & (group.get("control", "none") == self.control)]

    @property
    def is_null(self) -> bool:
        """Whether the bar shows a negative control."""
        return self.control != "none"

    @property
    def look(self) -> dict:
        """Colours: filled for a fact's own prompts, hatched for an unrelated fact's and in grey for a null."""
        if self.is_null:
            hatch = NULL_LOOKS[self.control].hatch
            return {"label": self.label, "facecolor": "white", "edgecolor": GREYS[0], "hatch": hatch, "linewidth": 0.5}
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
    table: pd.DataFrame,
    path: str | Path,
    operation: str,
    empty_sets: str = "drop",
    bars: Sequence[Bar] = RELATED,
    controls: pd.DataFrame | None = None,
) -> list[Path]:
    """Draw the change of P(answer) by relation, a row per model and language: related facts beside unrelated ones.

    Beside them, in grey, what the neurons of the first bar's selection do that are found under negative controls, on
    the same real prompts; where a null has too few facts for an interval, its number of facts stands in place of a bar.
    More than 20 relations take several rows.

    Args: table of `summarise_relations`, with `paper` where numbers are printed; path without ending; operation,
    suppress (Figure 3) or enhance (Figure 4); empty_sets, whether facts without neurons are left out; the bars to
    show, those that the table lacks are left out; controls, such a table with a column `control`, None without any.
    Returns: the paths of pdf, png and csv. Raises: AtlasError when the table has none of the bars.
    """
    data = _of_bars(_differences(table, operation, empty_sets), bars, f"differences under {operation}")
    nulls = null_rows(controls, data["model"].unique(), [bars[0].selection])
    if nulls is not None:
        nulls = _of_bars(_differences(nulls, operation, empty_sets), bars[:1], f"differences under {operation}")
        bars = [*bars, *(bars[0].under(name) for name in nulls["control"].unique())]
    data = beside(data, nulls)
    titles = data["model"] + ", " + data["language"] + f", {operation}"
    data = data.assign(panel=titles + _row_of(data["relation"], titles))
    return _draw(data, path, bars, "mean change of P(answer)\n[percentage points]", n_columns=1)


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


def _differences(table: pd.DataFrame, operation: str, empty_sets: str) -> pd.DataFrame:
    """The rows that Figures 3 and 4 show."""
    is_shown = (table["operation"] == operation) & (table["empty_sets"] == empty_sets)
    return table[is_shown & (table["statistic"] == "difference")]


def _row_of(relations: pd.Series, titles: pd.Series) -> pd.Series:
    """Which of several rows shows a relation, as the end of its panel's title; nothing where one row is enough."""
    ends = pd.Series("", index=relations.index)
    for _, group in relations.groupby(titles, sort=False):
        names = sorted(group.unique(), key=_order)
        n_rows = -(-len(names) // MOST_RELATIONS)
        if n_rows > 1:
            ends[group.index] = group.map(
                {name: f" ({i * n_rows // len(names) + 1} of {n_rows})" for i, name in enumerate(names)}
            )
    return ends


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
    drawn = [bar for bar in bars if len(bar.rows(group))]
    width, is_below = 0.85 / len(drawn), group["value"].mean() < 0
    for i, bar in enumerate(drawn):
        rows = bar.rows(group).set_index("relation").reindex(relations)
        places = np.arange(len(relations)) + width * (i - (len(drawn) - 1) / 2)
        is_too_few = _has_no_interval(rows) if bar.is_null else np.zeros(len(rows), dtype=bool)
        draw_bars(axes, places, rows[~is_too_few].reindex(relations), width, bar.look)
        _write_numbers(axes, places[is_too_few], rows.loc[is_too_few, "n"], is_below, width / len(relations))
        if "paper" in rows and rows["paper"].notna().any():
            axes.scatter(places, rows["paper"].to_numpy(float), **PRINTED)
    axes.axhline(0, color="#222222", linewidth=0.8)
    axes.set_xticks(np.arange(len(relations)), [_label(name, group, drawn) for name in relations], rotation=90)
    axes.set_xlim(-0.6, len(relations) - 0.4)
    axes.set_title(group["panel"].iat[0])


def _has_no_interval(rows: pd.DataFrame) -> np.ndarray:
    """Whether there are too few facts for an interval: where they are drawn within relations, one of each relation."""
    n_relations = rows["n_relations"].mask(rows.index == ALL_FACTS, 1)
    return ~(rows["n"] - n_relations >= LEAST_FACTS - 1).to_numpy()


def _write_numbers(axes: Axes, places: np.ndarray, n: pd.Series, is_below: bool, share: float) -> None:
    """How many facts a null has that are too few for an interval, in place of its bar, of that share of the panel."""
    look = {"rotation": 90, "ha": "center", "va": "top" if is_below else "bottom", "color": GREYS[0]}
    look["fontsize"] = float(np.clip(POINTS * share, *NUMBER_SIZES))
    for place, number in zip(places, n.fillna(0).astype(int), strict=True):
        away = (0, -2 if is_below else 2)
        axes.annotate(f"n = {number}, no interval", (place, 0), away, textcoords="offset points", **look)


def _order(relation: str) -> tuple:
    """Relations by number, P36 before P106, and after them what is no relation."""
    return relation in SUMMARIES, len(relation), relation


def _label(relation: str, group: pd.DataFrame, bars: Sequence[Bar]) -> str:
    """A relation's id and name from the catalog, and how many facts each of its bars is a mean over, real and null."""
    name = read_catalog("relations").get(relation, {}).get("name")
    words = SUMMARIES.get(relation) or (f"{relation} {name}" if name else relation)
    rows = group[group["relation"] == relation]
    real = pd.concat([bar.rows(rows)["n"] for bar in bars if not bar.is_null])
    # a null without a row has no fact of the relation
    null = pd.Series([bar.rows(rows)["n"].max() for bar in bars if bar.is_null], dtype=float).fillna(0)
    label = f"{fill(words, LABEL_WIDTH)}\n{facts_label(real)}"
    return f"{label}\nnull: {facts_label(null)}" if len(null) else label
