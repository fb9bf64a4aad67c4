"""What is found in real facts and models against what is found under each negative control, measure by measure."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from knatlas.errors import AtlasError
from knatlas.figures.nulls import GREYS, NULL_LOOKS
from knatlas.figures.style import COLOURS, MAX_WIDTH, OTHER_COLOUR, facts_label, house_style, save, write_legend

# measure: title of its panel, factor of its values
PANELS = {
    "neurons": ("neurons\nper fact", 1),
    "empty": ("facts with an\nempty set [%]", 100),
    "overlap": ("overlap with\nreal sets\n(Jaccard)", 1),
    "depth": ("mean depth\n(0 = first layer)", 1),
    "layer_distance": ("distance from\nreal layer profile", 1),
    "change_of_p": ("suppression:\nchange of P [%]", 100),
    "log_change": ("suppression:\nlog change\nof P [nats]", 1),
}
LONGEST_NAME = 24  # letters of a line
ROW_HEIGHT, LEAST_HEIGHT = 0.36, 2.6  # inches per selection, and of a model
SPREAD = 0.6  # of a row, over which its points are spread


def plot_controls(table: pd.DataFrame, path: str | Path) -> list[Path]:
    """Draw a row of panels per model, one for each measure: every selection's real value and those of the nulls.

    Points with 95% intervals; the real value in the selection's colour, over the facts of the control with the most of
    them; nulls in grey, filled where the difference from the real value has Holm's p below 0.05.

    Args: table of `controls_table`; path without ending. Returns the paths of pdf, png and csv.
    Raises: AtlasError for a table without rows.
    """
    if table.empty:
        raise AtlasError("figure: the table of controls is empty; name some in controls.kinds, with facts to search")
    models = list(table["model"].unique())
    with house_style():
        heights = [_height(table[table["model"] == model]) for model in models]
        figure = Figure(figsize=(MAX_WIDTH, sum(heights) + 0.5), layout="constrained")
        grid = figure.add_gridspec(len(models), len(PANELS), height_ratios=heights)
        for i, model in enumerate(models):
            _draw_model(figure, [grid[i, j] for j in range(len(PANELS))], table[table["model"] == model])
        write_legend(figure, figure.axes, 1 + len(NULL_LOOKS))
        return save(figure, path, table)


def _height(group: pd.DataFrame) -> float:
    """Inches of the panels of a model, with room for their titles."""
    return max(LEAST_HEIGHT, ROW_HEIGHT * group["selection"].nunique() + 0.9)


def _draw_model(figure: Figure, places: Sequence[object], group: pd.DataFrame) -> None:
    selections = list(group["selection"].unique())
    for j, (measure, (title, factor)) in enumerate(PANELS.items()):
        axes = figure.add_subplot(places[j])
        _draw_panel(axes, group[group["measure"] == measure], selections, factor)
        axes.set_title(title, fontsize=8)
        names = [fill(name.replace("_", " "), LONGEST_NAME) for name in selections]
        axes.set_yticks(range(len(selections)), names if j == 0 else [""] * len(names))
        if j == 0:
            n = group.loc[group["measure"] == "neurons", "n"]
            axes.set_ylabel(f"{group['model'].iat[0]}\n({facts_label(n)})")


def _draw_panel(axes: Axes, cells: pd.DataFrame, selections: Sequence[str], factor: float) -> None:
    """One measure: a line per selection, the real value above its nulls."""
    for i, selection in enumerate(selections):
        rows = cells[cells["selection"] == selection]
        if len(rows):
            real = rows.loc[rows["n"].idxmax()]
            colour = COLOURS.get(selection, OTHER_COLOUR)
            _draw_point(axes, _place(i, 0), real, "real", factor, {"color": colour, "marker": "o"})
        for row in rows.itertuples(index=False):
            look, is_found = NULL_LOOKS[row.control], row.p_holm < 0.05
            style = {"color": GREYS[0], "marker": look.marker, "markerfacecolor": GREYS[0] if is_found else "white"}
            _draw_point(axes, _place(i, 1 + list(NULL_LOOKS).index(row.control)), row, "null", factor, style)
    for name, look in {"real facts and model": ("o", "#000000"), **_legend()}.items():
        axes.plot([], [], look[0], color=look[1], label=name, markersize=4)
    axes.set_ylim(len(selections) - 0.5, -0.5)
    axes.grid(True, axis="both")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
    axes.tick_params(labelsize=7)


def _legend() -> dict[str, tuple[str, str]]:
    return {f"null: {look.words}": (look.marker, GREYS[0]) for look in NULL_LOOKS.values()}


def _place(i: int, slot: int) -> float:
    """Where on the vertical axis a point of selection i lies: slot 0 is the real value's."""
    return i + SPREAD * (slot / len(NULL_LOOKS) - 0.5)


def _draw_point(axes: Axes, place: float, row: object, side: str, factor: float, style: dict) -> None:
    value, lo, hi = (factor * getattr(row, f"{side}{end}") for end in ("", "_lo", "_hi"))
    axes.plot([lo, hi], [place, place], color=style["color"], linewidth=0.9)
    axes.plot([value], [place], linestyle="none", markersize=3.5, **style)
