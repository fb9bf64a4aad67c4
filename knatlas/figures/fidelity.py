"""Suppression curves by attribution method, and how well scores rank neurons by their causal effects."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from knatlas.errors import AtlasError
from knatlas.figures.style import COLOURS, facts_label, house_style, in_percent, panels, save, write_legend

ALL = "all"
OWN, MATCHED = "own", "random_layer_matched"
ORDER = ("oracle", "bkn", "amig", "saig", "atp", "random")
# saig are the scores of MATRICE
LOOKS = {
    "oracle": ("#000000", "--"),
    "bkn": (COLOURS["bkn"], "-"),
    "amig": (COLOURS["amig"], "-"),
    "saig": (COLOURS["matrice"], "-"),
    "atp": ("#CC79A7", "-"),
    "random": ("#888888", ":"),
}
LABELS = {"oracle": "order of the true single effects", "random": "random order"}
MARKERS = {"zero": "o", "mean": "s", "resample": "^"}
MATCHED_LABEL = "same layers, random neurons"
BAND = 0.15  # opacity of an interval
STEP = 0.22  # between kinds of ablation, in rows


def plot_fidelity(table: pd.DataFrame, curves: pd.DataFrame, path: str | Path) -> list[Path]:
    """Draw two panels per model: suppression curves of the first kind of ablation, and rank correlations of all kinds.

    Bands and whiskers are 95% bootstrap intervals over facts, all languages together; dotted in a method's colour, and
    hollow, is its layer-matched control. Args: tables of `fidelity_tables`; path without ending. Returns: the paths of
    pdf, png and csv (the rows that are drawn). Raises: AtlasError when the tables have no rows of language "all".
    """
    lines = curves[curves["language"] == ALL]
    dots = table[(table["language"] == ALL) & (table["statistic"] == "spearman")]
    dots = dots[dots["ranking"].isin([OWN, MATCHED])]
    if lines.empty or dots.empty:
        raise AtlasError("figure: the tables of fidelity have no rows of language 'all'; ablate neurons of a model")
    lines = lines[lines["ablation"] == lines["ablation"].iat[0]].assign(statistic="share_lost")
    models = list(lines["model"].unique())
    with house_style():
        figure, axes = panels(2 * len(models), 2)
        for i, model in enumerate(models):
            _draw_curves(axes[2 * i], lines[lines["model"] == model])
            _draw_dots(axes[2 * i + 1], dots[dots["model"] == model])
        write_legend(figure, axes, 5)
        return save(figure, path, pd.concat([lines, dots], ignore_index=True))


def _draw_curves(axes: Axes, rows: pd.DataFrame) -> None:
    """Share of P lost over the size of the set, a line per method and one for each layer-matched control."""
    for method in [name for name in ORDER if name in set(rows["method"])]:
        colour, style = LOOKS[method]
        of_method = rows[rows["method"] == method]
        own = of_method[of_method["ranking"] == OWN].sort_values("size")
        label = LABELS.get(method, method)
        axes.plot(own["size"], own["value"], style, color=colour, marker="o", markersize=3, linewidth=1.4, label=label)
        axes.fill_between(own["size"], own["lo"], own["hi"], color=colour, alpha=BAND, linewidth=0)
        matched = of_method[of_method["ranking"] == MATCHED].sort_values("size")
        axes.plot(matched["size"], matched["value"], ":", color=colour, linewidth=1.2)
    axes.axhline(0, color="#222222", linewidth=0.8)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter(in_percent)
    axes.set_title(f"{rows['model'].iat[0]}, {rows['ablation'].iat[0]} ablation ({facts_label(rows['n'])})")
    axes.set_xlabel("neurons ablated together")
    axes.set_ylabel("P(answer) lost\n[% of P before]")


def _draw_dots(axes: Axes, rows: pd.DataFrame) -> None:
    """Rank correlation of scores and single effects, a row per method, a marker per kind of ablation."""
    methods = [name for name in ORDER if name in set(rows["method"])]
    kinds = list(rows["ablation"].unique())
    for row in rows.itertuples(index=False):
        place = methods.index(row.method) + STEP * (kinds.index(row.ablation) - (len(kinds) - 1) / 2)
        colour = LOOKS[row.method][0]
        is_own = row.ranking == OWN
        axes.plot([row.lo, row.hi], [place, place], color=colour, linewidth=1.2)
        look = {"color": colour, "markersize": 5, "markerfacecolor": colour if is_own else "white"}
        axes.plot(row.value, place, MARKERS.get(row.ablation, "D"), **look)
    _name_dots(axes, kinds)
    axes.axvline(0, color="#222222", linewidth=0.8)
    axes.set_yticks(range(len(methods)), methods)
    axes.set_ylim(len(methods) - 0.5, -0.5)
    axes.grid(True, axis="x")
    axes.set_title(f"{rows['model'].iat[0]} ({_coverage(rows)})")
    axes.set_xlabel("Spearman's correlation of scores and single effects")


def _name_dots(axes: Axes, kinds: Sequence[str]) -> None:
    """Entries of the legend: a marker per kind of ablation, and the hollow one of the controls."""
    for kind in kinds:
        axes.plot([], [], MARKERS.get(kind, "D"), color="#444444", markersize=5, label=f"{kind} ablation")
    hollow = {"color": "#444444", "markerfacecolor": "white", "markersize": 5}
    axes.plot([], [], "o", linestyle=":", label=MATCHED_LABEL, **hollow)


def _coverage(rows: pd.DataFrame) -> str:
    """How many neurons were ablated alone: "1,536 of 1,536 neurons", with the range where kinds of ablation differ."""
    counts, n_neurons = rows["n_ablated"].round().astype(int), int(rows["n_neurons"].iat[0])
    smallest, largest = counts.min(), counts.max()
    shown = f"{largest:,}" if smallest == largest else f"{smallest:,} to {largest:,}"
    return f"{shown} of {n_neurons:,} neurons"
