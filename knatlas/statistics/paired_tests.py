"""Whether two treatments of the same facts differ in a statistic that is no mean over facts, such as a ratio of means.

Under the null hypothesis it is nothing to a fact which of the two it was given: all that was measured of it under one
may be exchanged for what was measured under the other. Of a mean over facts this is the test of `sign_flip`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from knatlas.statistics.bootstrap import DEFAULT_RESAMPLES, percentile_interval, resample_weights
from knatlas.statistics.permutation import DEFAULT_PERMUTATIONS, ROUNDING, Assignments, method_name

TIE = 1e-6  # of the two statistics: P are numbers of 32 bits, what lies nearer is as far from 0
ByFact = Float[np.ndarray, "fact column"]
Means = Float[np.ndarray, "draw column"]
ByDraw = Float[np.ndarray, " draw"]


class Paired(NamedTuple):
    """What was measured of the same facts under two treatments, and the statistic in which they are compared.

    one, other: numbers of each fact, NaN where it has none (without any, it does not count); statistic: of the means of
    these columns over the facts that have one, for many draws of facts at once.
    """

    one: ByFact
    other: ByFact
    statistic: Callable[[Means], ByDraw]


class Contrast(NamedTuple):
    """Two rows of a table that are tested against each other: the names of the test, and what was measured."""

    names: dict[str, str]
    paired: Paired


class PairedTest(NamedTuple):
    """value, the statistic under one treatment less that under the other, with its 95% bootstrap interval; n, facts;
    n_nonzero, those that differ in any column; p, two-sided, and method, as of `sign_flip`. NaN where the statistic is.
    """

    value: float
    lo: float
    hi: float
    n: int
    n_nonzero: int
    p: float
    method: str


def paired_test(
    paired: Paired,
    seed: int = 0,
    resamples: int = DEFAULT_RESAMPLES,
    permutations: int = DEFAULT_PERMUTATIONS,
) -> PairedTest:
    """Test whether the statistic is the same under both treatments, by exchanging them within facts.

    The facts that differ are exchanged or not, all 2^k ways or `permutations` drawn ones, as `sign_flip` flips signs.
    An assignment of which the statistic is not defined counts as far. Interval: facts drawn again, each with both.
    """
    one, other, statistic = paired = _without_gaps(paired)
    n = len(one)
    if not n:
        return PairedTest(np.nan, np.nan, np.nan, 0, 0, np.nan, method_name(0, True))
    weights = np.vstack([np.full((1, n), 1 / n), resample_weights(n, resamples, seed)])
    value, *resampled = _differences(*(statistic(weights @ part) for part in (one, other)))
    interval = percentile_interval(float(value), np.array(resampled), n)
    differs = (one != other).any(axis=1)
    tried = Assignments.of(int(differs.sum()), seed, permutations)
    p = np.nan if np.isnan(value) else tried.share_as_far(_n_far(paired, differs, tried))
    return PairedTest(*interval, tried.n, p, method_name(tried.n_signs, tried.is_exact))


def common_facts(one: pd.DataFrame, other: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two tables with a row per fact, of the facts that both have, in one order."""
    if one.index.equals(other.index):
        return one, other
    facts = one.index.intersection(other.index)
    return one.loc[facts], other.loc[facts]


def columns_of(table: pd.DataFrame, names: Sequence[str]) -> ByFact:
    """Some columns of a table whose columns are all of one type."""
    return table.to_numpy()[:, table.columns.get_indexer(names)]


def _without_gaps(paired: Paired) -> Paired:
    """The facts with any number; where some are NaN, with 0 for these, and a column more for each: 1 for a number."""
    one, other, statistic = paired
    is_known = [~np.isnan(part) for part in (one, other)]
    has_any = np.logical_or(*is_known).any(axis=1)
    one, other, *is_known = (part[has_any] for part in (one, other, *is_known))
    if np.all(is_known):
        return Paired(one, other, statistic)

    def of_known(means: Means) -> ByDraw:
        values, known = np.split(means, 2, axis=1)
        return statistic(values / np.where(known > ROUNDING, known, np.nan))

    parts = zip((one, other), is_known, strict=True)
    return Paired(*(np.hstack([np.where(known, part, 0.0), known]) for part, known in parts), of_known)


def _n_far(paired: Paired, differs: Bool[np.ndarray, " fact"], tried: Assignments) -> int:
    """How many assignments have a difference at least as far from 0 as the observed one."""
    one, other, statistic = paired
    middle, step = (one + other).mean(axis=0) / 2, (one - other)[differs] / (2 * len(one))
    observed = np.array([statistic((middle + side * step.sum(axis=0))[None])[0] for side in (1, -1)])
    least = np.abs(np.subtract(*observed))
    if np.isfinite(observed).all():
        least -= TIE * np.abs(observed).sum()
    n_far = 0
    for signs in tried.blocks():
        shift = signs @ step
        differences = _differences(statistic(middle + shift), statistic(middle - shift))
        n_far += int((~(np.abs(differences) < least)).sum())  # NaN isn't below
    return n_far


def _differences(one: ByDraw, other: ByDraw) -> ByDraw:
    """One less the other; 0 where they differ by rounding alone, NaN where both are infinite."""
    with np.errstate(invalid="ignore"):
        difference = one - other
    return np.where(np.abs(difference) < ROUNDING * (np.abs(one) + np.abs(other)), 0.0, difference)
