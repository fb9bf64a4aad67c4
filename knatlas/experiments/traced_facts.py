"""Which traced facts count: those that a model answers rightly, and whose P falls under noise."""

import pandas as pd

MIN_DROP = 0.01


def usable(rows: pd.DataFrame, min_drop: float | None = MIN_DROP) -> pd.Series:
    """Whether a row counts: its fact was traced, the prediction is the answer, and P falls by more than min_drop.

    min_drop None: every traced fact counts, as under a negative control, whose facts are chosen beforehand.
    """
    is_traced = rows["kind"] != ""
    if min_drop is None:
        return is_traced
    return is_traced & rows["is_right"].astype(bool) & (rows["p_clean"] - rows["p_corrupted"] > min_drop)


def usable_facts(rows: pd.DataFrame, min_drop: float | None = MIN_DROP) -> list[str]:
    """The facts with rows that count, sorted."""
    return sorted(rows.loc[usable(rows, min_drop), "fact"].unique())
