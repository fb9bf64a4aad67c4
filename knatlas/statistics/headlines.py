"""The headline numbers of a study, each with the sentence that says it, from the tables alone."""

from collections.abc import Iterator

import pandas as pd

HEADLINE_COLUMNS = ["model", "headline", "value", "lo", "hi", "n", "sentence"]


def headlines(separation: pd.DataFrame, sizes: pd.DataFrame, models: list[str]) -> pd.DataFrame:
    """Three headlines per model; one whose numbers were not measured is left out.

    suppression: mean relative change of P(answer) by the found neurons against layer-matched random ones.
    other_facts: the change that the same neurons cause in facts of other relations.
    empty_intersections: share of facts without a neuron that AMIG finds in every language.
    """
    of_suppression = separation.query("operation == 'suppress' and language == 'all'")
    rows = []
    for model in models:
        part = of_suppression[of_suppression["model"] == model].set_index("control")
        rows += [(model, *row) for row in _about_suppression(model, part)]
        rows += [(model, *row) for row in _about_intersections(model, sizes[sizes["model"] == model])]
    return pd.DataFrame(rows, columns=HEADLINE_COLUMNS)


def _about_suppression(model: str, controls: pd.DataFrame) -> Iterator[tuple]:
    if "random_layer_matched" in controls.index:
        row = controls.loc["random_layer_matched"]
        yield "suppression", row["value"], row["lo"], row["hi"], int(row["n"]), f"{model}: {_against_random(row)}"
    if "other_relation" in controls.index:
        row = controls.loc["other_relation"]
        numbers = [row[f"control_{name}"] for name in ("value", "lo", "hi")]
        yield "other_facts", *numbers, int(row["control_n"]), f"{model}: {_against_other_facts(row)}"


def _against_random(row: pd.Series) -> str:
    verdict = "far above the control" if row["is_separated"] else "NOT ten times the control with separate intervals"
    return (
        f"suppressing the neurons that {row['selection']} found changes P(answer) by {_percent(row)} "
        f"(n = {row['n']} facts), as many random neurons of the same layers by {_percent(row, 'control_')}: {verdict}"
    )


def _against_other_facts(row: pd.Series) -> str:
    # by absolute changes: those of both signs cancel in the mean
    share = 1 / row["size_ratio"] if row["size_ratio"] else float("nan")
    verdict = "the neurons belong to the fact" if share < 0.5 else "the neurons do NOT belong to the fact alone"
    return (
        f"the same neurons change P(answer) of a fact of another relation by {_percent(row, 'control_')} "
        f"(n = {row['control_n']} facts), in absolute size {share:.0%} of their own fact's: {verdict}"
    )


def _about_intersections(model: str, sizes: pd.DataFrame) -> Iterator[tuple]:
    for _, row in sizes[sizes["selection"] == "likn"].iterrows():
        found = f"{int(row['n_empty'])} of {int(row['n'])} facts have no neuron that AMIG finds in every language"
        sentence = f"{model}: {found}; the others have a median of {row['median_of_found']:g}"
        yield "empty_intersections", row["empty_share"], row["empty_lo"], row["empty_hi"], int(row["n"]), sentence


def _percent(row: pd.Series, prefix: str = "") -> str:
    value, lo, hi = (row[f"{prefix}{name}"] for name in ("value", "lo", "hi"))
    return f"{value:+.1%} (95% interval {lo:+.1%} to {hi:+.1%})"
