"""Who finds which kind of planted neuron: average precision by selection and kind, and sets where there is nothing."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from knatlas.errors import AtlasError
from knatlas.figures.style import MAX_WIDTH, house_style, save

ALL, DEFAULT = "all", "default"
KINDS = {
    "agnostic": "agnostic",
    "specific": "specific",
    "paraphrase": "one paraphrase",
    "degenerate_same_layer": "pair, same layer",
    "degenerate_across_layers": "pair, two layers",
    "additive": "additive pair",
    "distractor": "distractor",
    "relation": "relation",
    "language": "language",
}
STRENGTHS = ("low", "medium", "high")
ROW_HEIGHT = 0.24  # inches
# from white to dark blue: brightness alone says the value, in grey print too
COLOUR_MAP, DARK = "Blues", 0.6
SELECTION_ORDER = ("bkn", "refined", "atp", "amig", "likn", "dkn", "matrice", "random", "ablation")
REFERENCE = "reference"  # of networks, the one from which levels depart; of readings, what is no selection of a study


def plot_planted(table: pd.DataFrame, path: str | Path, family: str = ALL) -> list[Path]:
    """Draw average precision as a grid per strength, and the size of sets of facts without any agnostic neuron.

    Rows are selections in their readings, and below a line the reference, columns kinds; a blank cell was not measured.
    All of them in the reference network.
    Args: table of `summarise_planted`; path without ending; family, one of the table's. Returns: pdf, png and csv.
    Raises: AtlasError when the table has no average precision of the family.
    """
    own = table[(table["family"] == family) & (table["network"] == REFERENCE)]
    data = own[own["measure"].isin(["average_precision", "false_positives"])]
    data = data.reset_index(drop=True)
    shown = data[data["measure"] == "average_precision"]
    if shown.empty:
        raise AtlasError(f"figure: the table of planted neurons has no average precision of family '{family}'")
    rows = _rows(shown)
    strengths = [name for name in STRENGTHS if name in set(shown["strength"])]
    with house_style():
        figure = Figure(figsize=(MAX_WIDTH, ROW_HEIGHT * len(rows) + 2.0), layout="constrained")
        grid = figure.add_gridspec(1, len(strengths) + 1)
        axes = [figure.add_subplot(grid[0, i]) for i in range(len(strengths) + 1)]
        for i, (part, strength) in enumerate(zip(axes, strengths, strict=False)):
            _draw_grid(part, shown[shown["strength"] == strength], rows, strength, with_names=i == 0)
        _draw_sizes(axes[-1], data[(data["measure"] == "false_positives") & (data["strength"] == ALL)], rows)
        figure.suptitle("Average precision of each kind of planted neuron; n facts of each kind")
        return save(figure, path, data)


def _rows(shown: pd.DataFrame) -> list[tuple[str, str]]:
    """Selections and readings from top to bottom: in the order of the methods, the default reading first."""
    found = shown[["selection", "reading"]].drop_duplicates().itertuples(index=False, name=None)

    def place(row: tuple[str, str]) -> tuple:
        start = [i for i, name in enumerate(SELECTION_ORDER) if row[0].startswith(name)]
        return (start[0] if start else len(SELECTION_ORDER), row[0], row[1] != DEFAULT, row[1])

    return sorted(found, key=place)


def _name(row: tuple[str, str]) -> str:
    if row[1].startswith(REFERENCE):
        return f"{row[1].replace('_', ', ', 1).replace('_', ' ')}: {row[0]}"
    return row[0] if row[1] == DEFAULT else f"{row[0]}: {row[1]}"


def _draw_grid(
    axes: Axes, cells: pd.DataFrame, rows: Sequence[tuple[str, str]], strength: str, with_names: bool
) -> None:
    """Average precision of every selection (rows) for every kind (columns), with the number in each cell."""
    values = np.full((len(rows), len(KINDS)), np.nan)
    for cell in cells[cells["kind"].isin(KINDS)].itertuples(index=False):
        values[rows.index((cell.selection, cell.reading)), list(KINDS).index(cell.kind)] = cell.value
    axes.imshow(values, cmap=COLOUR_MAP, vmin=0, vmax=1, aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        if np.isfinite(value):
            colour = "white" if value > DARK else "black"
            axes.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=6.5, color=colour)
    axes.set_xticks(range(len(KINDS)), KINDS.values(), rotation=60, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), map(_name, rows) if with_names else [""] * len(rows))
    axes.tick_params(length=0)
    axes.grid(False)
    n_selections = sum(not row[1].startswith(REFERENCE) for row in rows)
    if n_selections < len(rows):
        axes.axhline(n_selections - 0.5, color="black", linewidth=0.9)
    counts = cells.loc[cells["kind"] == "agnostic", "n"]
    number = f" (n = {int(counts.max())})" if len(counts) else ""
    axes.set_title(f"{strength} strength{number}")


def _draw_sizes(axes: Axes, sizes: pd.DataFrame, rows: Sequence[tuple[str, str]]) -> None:
    """Neurons per set where no neuron serves all languages: 0 would be right for a selection of agnostic ones."""
    for row in sizes.itertuples(index=False):
        if (row.selection, row.reading) not in rows:
            continue
        place = rows.index((row.selection, row.reading))
        axes.plot([row.lo, row.hi], [place, place], color="#222222", linewidth=0.9)
        axes.plot(row.value, place, "o", color="#D55E00", markersize=4)
    axes.set_xscale("symlog", linthresh=1)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlim(left=0)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), [""] * len(rows))
    axes.grid(True, axis="both")
    axes.set_title("facts without an\nagnostic neuron")
    axes.set_xlabel("neurons per set")
