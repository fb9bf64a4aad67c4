"""The localization paper's average: a mean over relations of means over their facts, with 95% intervals.

Facts are drawn again within their relation, so that every resample has every relation.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from knatlas.selection.controls import random_stream
from knatlas.statistics.bootstrap import DEFAULT_RESAMPLES, ByFact, Interval, percentile_interval, resample_weights


class RelationMeans(NamedTuple):
    """Weights of facts in the mean over relations, each relation counting as one, and in every resample of it.

    Rows sum to 1. With the facts of a single relation these are plain means over facts.
    """

    weights: Float[np.ndarray, " fact"]
    resampled: Float[np.ndarray, "resample fact"]

    @classmethod
    def of(cls, relations: np.ndarray, seed: int = 0, resamples: int = DEFAULT_RESAMPLES) -> "RelationMeans":
        """The weights of facts, given the relation of each."""
        names, number = np.unique(np.asarray(relations, dtype=str), return_inverse=True)
        weights, resampled = np.zeros(len(number)), np.zeros((resamples, len(number)))
        for i, name in enumerate(names):
            facts = np.flatnonzero(number == i)
            # its own resamples for each relation: shared ones would tie relations of the same size together
            of_relation = int(random_stream(seed, "relation", name).integers(2**32))
            weights[facts] = 1 / (len(names) * len(facts))
            resampled[:, facts] = resample_weights(len(facts), resamples, of_relation) / len(names)
        return cls(weights, resampled)

    def value(self, values: ByFact) -> float:
        """The mean over relations of values without NaN; equal values give exactly that value."""
        return float(_weighted(values, self.weights)) if len(values) else np.nan

    def mean(self, values: ByFact) -> Interval:
        """The same with its interval, in the unit of the values; no facts give NaN and n = 0."""
        return percentile_interval(self.value(values), self._means(values), len(values))

    def ratio_value(self, above: ByFact, below: ByFact) -> float:
        """One mean over the other; 0/0 is NaN."""
        return float(_divided(self.value(above), self.value(below)))

    def ratio(self, above: ByFact, below: ByFact) -> Interval:
        """The same with its interval; resamples that are 0/0 don't count."""
        resampled = _divided(self._means(above), self._means(below))
        return percentile_interval(self.ratio_value(above, below), resampled, len(above))

    def _means(self, values: ByFact) -> Float[np.ndarray, " resample"]:
        return _weighted(values, self.resampled) if len(values) else np.full(len(self.resampled), np.nan)


def _weighted(values: ByFact, weights: np.ndarray) -> np.ndarray:
    # relative to the smallest value, so that equal values give exactly that value, and zeros alone exactly zero
    base = values[np.argmin(np.abs(values))]
    return base + weights @ (values - base)


def _divided(above: np.ndarray | float, below: np.ndarray | float) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.divide(above, below)
