"""Percentile bootstrap intervals over facts.

A fact is the unit that is drawn again: its queries, languages and draws are averaged before, since they are not
independent of each other. The same resamples serve every table with the same number of facts and the same seed.
"""

from functools import lru_cache, reduce
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from knatlas.errors import AtlasError

DEFAULT_RESAMPLES = 2000
LEVEL = 0.95
SMALL = 2**18  # weights of resamples: at most 2 MB
ByFact = Float[np.ndarray, " fact"]


class Interval(NamedTuple):
    """A value with its 95% bootstrap interval, and the number of facts; NaN and n = 0 where there are no data."""

    value: float
    lo: float
    hi: float
    n: int


NO_DATA = Interval(np.nan, np.nan, np.nan, 0)


def mean_over_facts(values: ByFact) -> float:
    """Mean of the values that are not NaN; NaN when there are none. Equal values give exactly that value."""
    (values,) = _complete(values)
    return float(values[0] + (values - values[0]).mean()) if len(values) else np.nan


def median_over_facts(values: ByFact) -> float:
    """Median of the values that are not NaN; NaN when there are none."""
    (values,) = _complete(values)
    return float(np.median(values)) if len(values) else np.nan


def ratio_of_means(numerator: ByFact, denominator: ByFact) -> float:
    """Mean of one over mean of the other, over facts that have both; x/0 is infinite, 0/0 and no data are NaN."""
    numerator, denominator = _complete(numerator, denominator)
    return float(_divide(mean_over_facts(numerator), mean_over_facts(denominator)))


def bootstrap_mean(values: ByFact, seed: int = 0, resamples: int = DEFAULT_RESAMPLES) -> Interval:
    """Mean over facts with its interval, in the unit of the values; facts with NaN are left out."""
    (values,) = _complete(values)
    if not len(values):
        return NO_DATA
    return percentile_interval(mean_over_facts(values), _resampled_means(values, seed, resamples), len(values))


def bootstrap_median(values: ByFact, seed: int = 0, resamples: int = DEFAULT_RESAMPLES) -> Interval:
    """Median over facts with its interval; facts with NaN are left out."""
    (values,) = _complete(values)
    if not len(values):
        return NO_DATA
    medians = np.sort(values)[_median_ranks(len(values), resamples, seed)].mean(axis=0)
    return percentile_interval(median_over_facts(values), medians, len(values))


def bootstrap_ratio(
    numerator: ByFact,
    denominator: ByFact,
    seed: int = 0,
    resamples: int = DEFAULT_RESAMPLES,
    is_absolute: bool = False,
) -> Interval:
    """Ratio of two means over the same facts with its interval, the facts drawn in pairs.

    Facts with NaN in either are left out. With `is_absolute` the ratio of the absolute values of the two means.
    A mean of 0 below makes the ratio infinite (0/0: NaN); resamples that are 0/0 don't count.
    """
    numerator, denominator = _complete(numerator, denominator)
    if not len(numerator):
        return NO_DATA
    above, below = (_resampled_means(part, seed, resamples) for part in (numerator, denominator))
    value, ratios = ratio_of_means(numerator, denominator), _divide(above, below)
    if is_absolute:
        value, ratios = abs(value), np.abs(ratios)
    return percentile_interval(value, ratios, len(numerator))


def resample_weights(n: int, resamples: int, seed: int) -> Float[np.ndarray, "resample fact"]:
    """How often each resample (n facts of n, with replacement) draws each fact, divided by n.

    The mean over a resample is a product with these. They are kept for the next call, and can't be written.
    """
    return (_small_weights if n * resamples <= SMALL else _large_weights)(n, resamples, seed)


def _weights(n: int, resamples: int, seed: int) -> Float[np.ndarray, "resample fact"]:
    drawn = np.random.default_rng(seed).integers(0, n, size=(resamples, n))
    cells = drawn + n * np.arange(resamples)[:, None]
    weights = np.bincount(cells.ravel(), minlength=n * resamples).reshape(resamples, n) / n
    weights.flags.writeable = False
    return weights


# tables of few facts have groups of many sizes; those of many facts would fill the memory
_small_weights, _large_weights = lru_cache(maxsize=32)(_weights), lru_cache(maxsize=2)(_weights)


@lru_cache(maxsize=32)
def _median_ranks(n: int, resamples: int, seed: int) -> Int[np.ndarray, "2 resample"]:
    """Ranks, in the sorted sample, of the middle value (for even n the two middle values) of each resample.

    A resample takes the values at ranks floor(n U) with U uniform, and this keeps the order of the U. So the middle
    values lie at the ranks of the middle order statistics of n uniform numbers, which follow beta distributions.
    """
    random, k = np.random.default_rng(seed), (n + 1) // 2
    lower = random.beta(k, n + 1 - k, size=resamples)
    upper = lower + (1 - lower) * random.beta(1, n - k, size=resamples) if n % 2 == 0 else lower
    return np.minimum(np.floor(n * np.stack([lower, upper])).astype(np.int64), n - 1)


def _complete(*columns: np.ndarray) -> list[np.ndarray]:
    columns = [np.asarray(column, dtype=np.float64) for column in columns]
    if len({len(column) for column in columns}) > 1:
        raise AtlasError(f"columns of {' and '.join(str(len(column)) for column in columns)} facts can't be paired")
    is_missing = reduce(np.logical_or, map(np.isnan, columns))
    return [column[~is_missing] for column in columns] if is_missing.any() else columns


def _divide(above: np.ndarray | float, below: np.ndarray | float) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.divide(above, below)


def _resampled_means(values: np.ndarray, seed: int, resamples: int) -> Float[np.ndarray, " resample"]:
    # relative to the smallest value, so that equal values give exactly that value, and zeros alone exactly zero
    base = values[np.argmin(np.abs(values))]
    return base + resample_weights(len(values), resamples, seed) @ (values - base)


def percentile_interval(value: float, resampled: np.ndarray, n: int) -> Interval:
    """A value over n facts with the percentile interval of its resampled values; those that are NaN don't count."""
    resampled = resampled[~np.isnan(resampled)]
    if not len(resampled):
        return Interval(value, np.nan, np.nan, n)
    ranks = _tail_ranks(len(resampled))
    lo, hi = np.partition(resampled, ranks)[list(ranks)]
    return Interval(value, float(lo), float(hi), n)


@lru_cache(maxsize=256)
def _tail_ranks(n: int) -> tuple[int, int]:
    """Ranks of the interval's ends among n values, the nearest: no interpolation between a number and infinity."""
    return tuple(round((n - 1) * 0.5 * (1 + side * LEVEL)) for side in (-1, 1))
