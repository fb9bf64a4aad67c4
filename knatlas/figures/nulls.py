"""How negative controls look in every figure: grey, each with a dash, a hatch and a marker of its own."""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd
from matplotlib.patheffects import withStroke

GREYS = ("#555555", "#9a9a9a")  # of the first selection of a figure, and of others
# around thin lines, so that they are seen before bars and bands of any colour
HALO = withStroke(linewidth=2.6, foreground="white")
LEAST_FACTS = 2  # below, an interval over facts says nothing


class NullLook(NamedTuple):
    """Name in words, dash of a line, hatch of a bar, marker of a point."""

    words: str
    dash: tuple[int, tuple[int, ...]]
    hatch: str
    marker: str


NULL_LOOKS = {
    "shuffled_objects": NullLook("shuffled objects", (0, (5, 2)), "xxxx", "s"),
    "nonsense_subjects": NullLook("nonsense subjects", (0, (1, 1.5)), "oooo", "^"),
    "untrained": NullLook("untrained model", (0, (5, 1.5, 1, 1.5)), "----", "D"),
}


def null_rows(
    controls: pd.DataFrame | None, models: Sequence[str], selections: Sequence[str] | None = None
) -> pd.DataFrame | None:
    """The rows of a table of controls that a figure of these models and selections shows; None where there are none.

    selections: None of a figure without any.
    """
    if controls is None:
        return None
    shown = controls[controls["model"].isin(list(models))]
    shown = shown if selections is None else shown[shown["selection"].isin(list(selections))]
    return None if shown.empty else shown.reset_index(drop=True)


def beside(data: pd.DataFrame, nulls: pd.DataFrame | None) -> pd.DataFrame:
    """The rows that are drawn: with those of controls told from the real ones by the column `control`, if any.

    Columns that the nulls lack, as a printed number, are empty there.
    """
    if nulls is None:
        return data
    shared = nulls[[name for name in (*data.columns, "control") if name in nulls]]
    return pd.concat([data.assign(control="none"), shared], ignore_index=True)
