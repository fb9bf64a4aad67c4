"""Causal traces: mean effects by class of token and layer, and single facts as maps (localization, Figures 6 and 7)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from knatlas.errors import AtlasError
from knatlas.experiments.token_classes import FIRST, LAST_OF_SUBJECT, MIDDLE
from knatlas.experiments.traced_facts import MIN_DROP, usable
from knatlas.figures.nulls import GREYS, HALO, NULL_LOOKS, beside, null_rows
from knatlas.figures.style import facts_label, house_style, panels, save, write_legend
from knatlas.figures.sweeps import BAND
from knatlas.statistics.causal_tracing import PEAK_CLASSES

# of Okabe and Ito's palette; classes without a colour are not drawn
CLASS_LOOKS = {
    "first_subject": ("#56B4E9", "v"),
    "middle_subject": ("#0072B2", "s"),
    "last_subject": ("#D55E00", "o"),
    "first_after": ("#E69F00", "^"),
    "further": ("#009E73", "D"),
    "last": ("#CC79A7", "X"),
    "before_subject": ("#999999", "."),
}
TITLES = {"block": "layer's output", "mlp": "MLP's output", "attention": "attention's output"}
PANEL_WIDTH, MAP_WIDTH, TOKEN_HEIGHT = 4.0, 3.4, 0.19  # inches
COLOUR_MAP = "cividis"  # reads the same with any colour blindness and in grey
SUBJECT_CLASSES = (FIRST, MIDDLE, LAST_OF_SUBJECT)
RULES = {"median": "P nearest to the median", "lowest": "lowest P"}


def plot_tracing(table: pd.DataFrame, path: str | Path, controls: pd.DataFrame | None = None) -> list[Path]:
    """Draw a panel per model and kind of state: mean effect over layers, a line with a band per class of token.

    Bands are 95% bootstrap intervals over facts. A grey line per negative control and class of PEAK_CLASSES: the effect
    on P of the control's answer. Args: table of `summarise_tracing`; path without ending; controls, such a table with a
    column `control`, None without any.
    Returns: the paths of pdf, png and csv. Raises: AtlasError when the table has no effect.
    """
    data = _effects(table, list(CLASS_LOOKS))
    if data.empty:
        raise AtlasError(
            "figure: the table of traces has no effects, since no traced fact is answered rightly and loses more than "
            "min_drop of its probability under noise; trace more facts, or lower experiments.causal_tracing.min_drop"
        )
    nulls = None if controls is None else null_rows(_effects(controls, PEAK_CLASSES), data["model"].unique())
    groups, null_groups = _by_panel(data), {} if nulls is None else _by_panel(nulls)
    n_columns = min(len(groups), data["kind"].nunique())
    with house_style():
        figure, axes = panels(len(groups), n_columns, PANEL_WIDTH * n_columns)
        for axis, (place, group) in zip(axes, groups.items(), strict=True):
            _draw_lines(axis, group)
            if place in null_groups:
                _draw_nulls(axis, null_groups[place])
        write_legend(figure, axes, 4 if n_columns > 1 else 2, 4.5 if null_groups else None)
        return save(figure, path, beside(data, nulls))


def _effects(table: pd.DataFrame, token_classes: Sequence[str]) -> pd.DataFrame:
    is_shown = (table["statistic"] == "effect") & table["token_class"].isin(list(token_classes))
    return table[is_shown].reset_index(drop=True)


def _by_panel(data: pd.DataFrame) -> dict[tuple[str, ...], pd.DataFrame]:
    return dict(iter(data.groupby(["model", "language", "kind"], sort=False)))


def _draw_nulls(axes: Axes, group: pd.DataFrame) -> None:
    """A thin grey line over the layers for each control and class of token, with the class's marker."""
    for (control, token_class), line in group.groupby(["control", "token_class"], sort=False):
        look = {
            "color": GREYS[PEAK_CLASSES.index(token_class)],
            "marker": CLASS_LOOKS[token_class][1],
            "markersize": 2.5,
        }
        look |= {"linestyle": NULL_LOOKS[control].dash, "linewidth": 1.1, "path_effects": [HALO]}
        label = f"{token_class.replace('_', ' ')}, null: {NULL_LOOKS[control].words} (n = {line['n'].max()})"
        axes.plot(line["layer"], line["value"], label=label, **look)


def _draw_lines(axes: Axes, group: pd.DataFrame) -> None:
    for token_class, (colour, marker) in CLASS_LOOKS.items():
        line = group[group["token_class"] == token_class].sort_values("layer")
        if len(line):
            look = {"color": colour, "marker": marker, "markersize": 3.5, "linewidth": 1.4}
            axes.plot(line["layer"], line["value"], label=token_class.replace("_", " "), **look)
            axes.fill_between(line["layer"], line["lo"], line["hi"], color=colour, alpha=BAND, linewidth=0)
    axes.axhline(0, color="#222222", linewidth=0.8)
    axes.set_title(f"{_of_kind(group)}\n{group['model'].iat[0]}, {facts_label(group['n'])}")
    axes.set_xlabel("layer (0 = first)")
    axes.set_ylabel("mean indirect effect\non P (1 = certain)")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=16, integer=True))


def _of_kind(rows: pd.DataFrame) -> str:
    """What is restored, and in how many layers at once."""
    kind, window = rows["kind"].iat[0], int(rows["window"].iat[0])
    where = "" if kind == "block" else ", 1 layer" if window == 1 else f", {window} layers around"
    return f"{TITLES.get(kind, kind)}{where}"


def choose_examples(rows: pd.DataFrame, min_drop: float = MIN_DROP) -> pd.DataFrame:
    """Two facts of each model, by rule: `median`, p_clean nearest to its median over facts; `lowest`, the lowest.

    Only facts that are answered rightly and whose P falls by more than min_drop count; of equals the first by name. A
    fact that both rules name is given once, as `median`. Returns: columns model, language, fact, rule.
    """
    chosen = []
    facts = rows[usable(rows, min_drop)].drop_duplicates(["model", "language", "fact"]).sort_values("fact")
    for (model, language), group in facts.groupby(["model", "language"], sort=False):
        distance = (group["p_clean"] - group["p_clean"].median()).abs()
        for rule, measure in (("median", distance), ("lowest", group["p_clean"])):
            chosen.append((model, language, group.loc[measure.idxmin(), "fact"], rule))
    examples = pd.DataFrame(chosen, columns=["model", "language", "fact", "rule"])
    return examples.drop_duplicates(["model", "language", "fact"]).reset_index(drop=True)


def plot_trace_examples(rows: pd.DataFrame, path: str | Path, min_drop: float = MIN_DROP) -> list[Path]:
    """Draw maps of P with one state restored, tokens by layers, one per kind; a row per chosen fact.

    The facts are those of `choose_examples`; P is that of the trace's target; an asterisk marks the subject's tokens.
    Args: rows that `trace_causes` measured; path without ending. Returns: the paths of pdf, png and csv.
    Raises: AtlasError when no fact can be shown.
    """
    examples = choose_examples(rows, min_drop)
    if examples.empty:
        raise AtlasError(
            "figure: no traced fact is answered rightly and loses more than min_drop of its probability under noise; "
            "trace more facts, or lower experiments.causal_tracing.min_drop"
        )
    data = examples.merge(rows[rows["kind"] != ""], on=["model", "language", "fact"], sort=False)
    kinds = list(data["kind"].unique())
    groups = [group for _, group in data.groupby(["model", "language", "fact"], sort=False)]
    heights = [TOKEN_HEIGHT * group["position"].nunique() + 0.9 for group in groups]
    with house_style():
        figure = Figure(figsize=(MAP_WIDTH * len(kinds) + 1, sum(heights)), layout="constrained")
        grid = figure.add_gridspec(len(groups), len(kinds), height_ratios=heights)
        for number, group in enumerate(groups):
            axes = [figure.add_subplot(grid[number, column]) for column in range(len(kinds))]
            _draw_maps(figure, axes, group, kinds)
        return save(figure, path, data)


def _draw_maps(figure: Figure, axes: Sequence[Axes], group: pd.DataFrame, kinds: Sequence[str]) -> None:
    """The maps of one fact, with one scale of colours for all of them."""
    limits = {"vmin": group["p_restored"].min(), "vmax": group["p_restored"].max()}
    for axis, kind in zip(axes, kinds, strict=True):
        rows = group[group["kind"] == kind]
        values = rows.pivot(index="position", columns="layer", values="p_restored").sort_index()
        image = axis.imshow(values.to_numpy(float), cmap=COLOUR_MAP, aspect="auto", interpolation="nearest", **limits)
        axis.grid(visible=False)
        axis.set_title(_of_kind(rows), loc="left")
        axis.set_xlabel("layer (0 = first)")
        axis.xaxis.set_major_locator(MaxNLocator(nbins=12, integer=True))
        labels = rows.drop_duplicates("position").sort_values("position")
        axis.set_yticks(np.arange(len(labels)), [_label(row) for row in labels.itertuples()] if axis is axes[0] else [])
    axes[0].set_title(f"{_heading(group)}\n{_of_kind(group)}", loc="left")
    figure.colorbar(image, ax=list(axes), label="P restored", pad=0.01)


def _label(row: object) -> str:
    """A token beside its row; an asterisk marks those of the subject."""
    return f"{row.token.strip() or row.token}{'*' if row.token_class in SUBJECT_CLASSES else ''}"


def _heading(group: pd.DataFrame) -> str:
    first = group.iloc[0]
    p = f"P = {first['p_clean']:.3g}, with noise {first['p_corrupted']:.3g}"
    return f"{first['model']}, {first['fact']} ({RULES[first['rule']]}): {p}"
