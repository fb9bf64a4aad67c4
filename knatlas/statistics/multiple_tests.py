"""Holm's correction: the chance of one false finding in a family of tests stays below the level."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float


def holm(p: Float[np.ndarray, " test"]) -> Float[np.ndarray, " test"]:
    """Adjusted p of each test of a family: the running maximum of (tests left) x p, from the smallest p on, at most 1.

    NaN (no test was possible) stays NaN and isn't counted.
    """
    p = np.asarray(p, dtype=np.float64)
    adjusted = np.full(len(p), np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    steps = np.arange(len(order), 0, -1) * p[order]
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def with_holm(table: pd.DataFrame, family: Sequence[str]) -> pd.DataFrame:
    """The table with `p_holm` and `n_tests`, the number of tests, of each family: equal in the columns `family`."""
    groups = table.groupby(list(family), sort=False)["p"]
    p_holm = groups.transform(lambda p: holm(p.to_numpy()))
    return table.assign(p_holm=p_holm.astype(float), n_tests=groups.transform("count").astype(int))
