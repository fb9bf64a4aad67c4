"""From the scores of a fact's queries in one language to its mean, spread, first query and share, in one pass."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from knatlas.errors import AtlasError

STATISTICS = ("mean", "std", "first", "share")


class QueryStatistics:
    """Running statistics over the queries of a fact in a language: no query's scores are kept but the first's.

    mean = 1/T sum_t s_t; std = sqrt(1/T sum_t (s_t - mean)^2), the population's (Eqs. 6-7 of MATRICE), by Welford's
    update in float64; first = s_1; share = share of the queries with s_t > refine_threshold * max over all neurons of
    s_t (strictly; a query whose maximum is not positive counts for no neuron), as B-KN refines its neurons.
    """

    def __init__(self, refine_threshold: float) -> None:
        """Args: refine_threshold, part of a query's maximum, in [0, 1). Raises: AtlasError."""
        if not 0 <= refine_threshold < 1:
            raise AtlasError(f"refine_threshold is {refine_threshold}; expected a number >= 0 and < 1.")
        self.refine_threshold = refine_threshold
        self.n_queries = 0

    def add(self, scores: Float[ndarray, "layer neuron"]) -> None:
        """Take in one query: scores (layers, neurons), all finite. Raises: AtlasError."""
        # float64 throughout: a threshold rounded to the scores' own type would move ties
        scores = np.asarray(scores, dtype=np.float64)
        if not np.isfinite(scores).all():
            raise AtlasError(f"Query {self.n_queries} of a fact has scores that are not finite; none can be combined.")
        if self.n_queries == 0:
            self._start(scores)
        self.n_queries += 1
        deviation = scores - self._mean
        self._mean += deviation / self.n_queries
        self._squares += deviation * (scores - self._mean)
        highest = scores.max()
        if highest > 0:
            self._hits += scores > self.refine_threshold * highest

    def _start(self, scores: Float[ndarray, "layer neuron"]) -> None:
        """Zero sums in the shape of the first query, which is kept."""
        self._first = scores.copy()
        self._mean = np.zeros(scores.shape)
        self._squares = np.zeros(scores.shape)
        self._hits = np.zeros(scores.shape)

    def result(self) -> dict[str, Float[ndarray, "layer neuron"]]:
        """The statistics named in `STATISTICS`, each (layers, neurons) float32. Raises: AtlasError without queries."""
        if self.n_queries == 0:
            raise AtlasError("A fact without queries has no mean: leave it out before its scores are combined.")
        values = {
            "mean": self._mean,
            "std": np.sqrt(self._squares / self.n_queries),
            "first": self._first,
            "share": self._hits / self.n_queries,
        }
        return {name: value.astype(np.float32) for name, value in values.items()}


@dataclass(frozen=True)
class Dense:
    """Keep every statistic of every neuron, in one language: arrays (layers, neurons) by "{method}.{statistic}"."""

    language: str

    @property
    def languages(self) -> tuple[str, ...]:
        """The one language."""
        return (self.language,)

    def layout(self, methods: Sequence[str], n_layers: int, n_neurons: int) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Type and shape of every array of a fact."""
        names = [f"{method}.{statistic}" for method in methods for statistic in STATISTICS]
        return dict.fromkeys(names, ("float32", (n_layers, n_neurons)))

    def of_fact(self, statistics: Mapping[str, Mapping[str, ndarray]]) -> dict[str, ndarray]:
        """The arrays of one fact."""
        return dict(statistics[self.language])

    def metadata(self, n_layers: int, n_neurons: int) -> dict:
        """What a reader of the arrays must know."""
        return {"language": self.language}
