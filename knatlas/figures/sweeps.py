"""What MATRICE selects, and what it does to P(answer), when one of its settings is varied."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from matplotlib.axes import Axes

from knatlas.errors import AtlasError
from knatlas.figures.style import facts_label, house_style, in_percent, panels, save, write_legend

ALL = "all"
BAND = 0.15  # opacity of an interval
SMALLEST_TOP = 0.05  # shares of zero still need an axis


class Measure(NamedTuple):
    """What a panel shows: a statistic of an operation, and its axis label."""

    operation: str
    statistic: str
    label: str
    is_share: bool = True


MEASURES = (
    Measure("suppress", "mean_relative_change", "suppressed: mean change\nof P(answer) [% of P before]"),
    Measure("enhance", "mean_relative_change", "enhanced: mean change\nof P(answer) [% of P before]"),
    Measure(ALL, "n_neurons", "neurons per fact", is_share=False),
    Measure(ALL, "share_empty", "facts without\nneurons [%]"),
)
# of Okabe and Ito's palette, those that stand out as lines; more models take another line style
LINE_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
LINE_STYLES = ("-", "--", ":", "-.")
STUDY_LABEL = "the study's value"


def plot_sweeps(table: pd.DataFrame, path: str | Path) -> list[Path]:
    """Draw a row of panels per setting: changes, sizes and empty sets by its value, a line with a band per model.

    Bands are 95% bootstrap intervals over facts, all languages together; a dotted line marks the study's own value.
    Args: table of `summarise_sweeps`; path without ending. Returns: the paths of pdf, png and csv.
    Raises: AtlasError when the table has no row of all languages.
    """
    data = table[table["language"] == ALL].reset_index(drop=True)
    if data.empty:
        raise AtlasError("figure: the table of sweeps has no rows of language 'all'; give experiments.sweeps a value")
    settings, models = list(data["setting"].unique()), list(data["model"].unique())
    with house_style():
        figure, axes = panels(len(settings) * len(MEASURES), len(MEASURES))
        for i, part in enumerate(axes):
            setting, measure = settings[i // len(MEASURES)], MEASURES[i % len(MEASURES)]
            _draw_panel(part, data[data["setting"] == setting], setting, measure, models)
        write_legend(figure, axes, 6)
        return save(figure, path, data)


def _draw_panel(axes: Axes, rows: pd.DataFrame, setting: str, measure: Measure, models: Sequence[str]) -> None:
    shown = rows[(rows["operation"] == measure.operation) & (rows["statistic"] == measure.statistic)]
    for i, model in enumerate(models):
        line = shown[shown["model"] == model].sort_values("setting_value")
        colour = LINE_COLOURS[i % len(LINE_COLOURS)]
        style = LINE_STYLES[i // len(LINE_COLOURS) % len(LINE_STYLES)]
        look = {"color": colour, "linestyle": style, "linewidth": 1.4, "marker": "o", "markersize": 3}
        axes.plot(line["setting_value"], line["value"], label=model, **look)
        axes.fill_between(line["setting_value"], line["lo"], line["hi"], color=colour, alpha=BAND, linewidth=0)
    for i, value in enumerate(sorted(rows.loc[rows["is_study"], "setting_value"].unique())):
        look = {"color": "#222222", "linestyle": ":", "linewidth": 1}
        axes.axvline(value, label=STUDY_LABEL if i == 0 else "_", **look)
    axes.set_title(facts_label(shown["n"]) if len(shown) else "no measurement")
    axes.set_xlabel(setting)
    axes.set_ylabel(measure.label)
    _set_scale(axes, measure)


def _set_scale(axes: Axes, measure: Measure) -> None:
    if measure.is_share:
        axes.yaxis.set_major_formatter(in_percent)
    if measure.statistic == "share_empty":
        axes.set_ylim(0, max(SMALLEST_TOP, axes.get_ylim()[1]))
    elif not measure.is_share:
        axes.set_yscale("symlog", linthresh=1)  # from no neuron to thousands
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_ylim(bottom=0)
