"""Layer histograms of neuron sets (AMIG Figure 3, MATRICE Figure 4, localization Figure 5)."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from knatlas.errors import AtlasError
from knatlas.figures.nulls import GREYS, HALO, NULL_LOOKS, beside, null_rows
from knatlas.figures.style import (
    COLOURS,
    MAX_WIDTH,
    OTHER_COLOUR,
    draw_bars,
    facts_label,
    house_style,
    in_percent,
    panels,
    save,
    write_legend,
)

MANY_BARS = 40  # a panel with more takes the whole width


def plot_layers(
    table: pd.DataFrame, path: str | Path, selections: Sequence[str], controls: pd.DataFrame | None = None
) -> list[Path]:
    """Draw a panel per model: the share of neurons in each layer, bars by selection and language, 95% intervals.

    Over them a grey line per negative control and selection: the share under the control, of all languages together.

    Args: table of `layer_shares`; path without ending; the selections to show; controls, `pooled_layers` of each
    control with a column `control`, None without any. Returns the paths of pdf, png and csv.
    Raises: AtlasError when the table has none of the selections.
    """
    data = table[table["selection"].isin(list(selections))].reset_index(drop=True)
    if data.empty:
        raise AtlasError(
            f"figure: the table has no selection of {' '.join(selections)}; add one to selection.selections"
        )
    series = list(data[["selection", "language"]].drop_duplicates().itertuples(index=False, name=None))
    nulls = null_rows(controls, data["model"].unique(), selections)
    with house_style():
        models = list(data["model"].unique())
        is_wide = len(series) * data["layer"].nunique() > MANY_BARS
        n_columns = 1 if is_wide or len(models) == 1 else 2
        figure, axes = panels(len(models), n_columns, MAX_WIDTH if is_wide or n_columns > 1 else MAX_WIDTH / 2)
        for part, model in zip(axes, models, strict=True):
            _draw_panel(part, data[data["model"] == model], series)
            if nulls is not None:
                _draw_nulls(part, nulls[nulls["model"] == model], selections)
        # the names of nulls are long
        most = 3 if figure.get_figwidth() < MAX_WIDTH else 8 if nulls is None else 5
        write_legend(figure, axes, min(len(series), most))
        return save(figure, path, beside(data, nulls))


def _draw_panel(axes: Axes, group: pd.DataFrame, series: list[tuple[str, str]]) -> None:
    layers = np.sort(group["layer"].unique())
    width = 0.85 / len(series)
    for i, (selection, language) in enumerate(series):
        rows = group[(group["selection"] == selection) & (group["language"] == language)].set_index("layer")
        look = {"facecolor": _colour(selection, language, series), "label": _label(selection, language)}
        look |= {"hatch": _hatch(selection, series), "edgecolor": "white", "linewidth": 0}
        draw_bars(axes, layers + width * (i - (len(series) - 1) / 2), rows.reindex(layers), width, look)
    axes.set_title(f"{group['model'].iat[0]} ({facts_label(group['n'])}, {_empty_label(group)})")
    axes.set_xlabel("layer (0 = first)")
    axes.set_ylabel("neurons in the layer [%]")
    axes.set_xlim(layers[0] - 0.6, layers[-1] + 0.6)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=16, integer=True))
    axes.yaxis.set_major_formatter(in_percent)


def _draw_nulls(axes: Axes, group: pd.DataFrame, selections: Sequence[str]) -> None:
    """A thin grey line over the layers for each control and selection."""
    for (control, selection), rows in group.groupby(["control", "selection"], sort=False):
        look = NULL_LOOKS[control]
        colour = GREYS[min(list(selections).index(selection), 1)]
        empty = f", {rows['n_empty'].max()} empty" if rows["n_empty"].any() else ""
        label = f"{_label(selection, 'all')}, null: {look.words} (n = {rows['n'].max()}{empty})"
        line = {"color": colour, "linestyle": look.dash, "linewidth": 1.1, "path_effects": [HALO]}
        axes.plot(rows["layer"], rows["value"], label=label, **line)


def _empty_label(group: pd.DataFrame) -> str:
    empty = group["n_empty"]
    shown = f"{empty.min()}" if empty.min() == empty.max() else f"{empty.min()} to {empty.max()}"
    return f"{shown} with an empty set"


def _label(selection: str, language: str) -> str:
    name = selection.replace("_", " ")
    return name if language == "all" else f"{name}, {language}"


def _colour(selection: str, language: str, series: list[tuple[str, str]]) -> object:
    """The selection's colour, or a shade per language where a selection has several."""
    languages = [name for other, name in series if other == selection]
    if len(languages) == 1:
        return COLOURS.get(selection, OTHER_COLOUR)
    place = languages.index(language) / (len(languages) - 1)
    return matplotlib.colormaps["cividis"](0.15 + 0.8 * place)


def _hatch(selection: str, series: list[tuple[str, str]]) -> str | None:
    """A pattern for the second selection with several languages, whose shades are those of the first."""
    names = [name for name, _ in series]
    several = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    return "////" if selection in several[1:] else None
