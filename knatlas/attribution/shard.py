"""Attribution of a shard: all queries of several facts in one language, combined to statistics of each fact."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float32
from numpy import ndarray

from knatlas.attribution.combination import STATISTICS, QueryStatistics
from knatlas.attribution.engine import attribute, check_methods
from knatlas.attribution.methods import AttributionMethod
from knatlas.attribution.records import QueryAttribution
from knatlas.errors import AtlasError
from knatlas.models.encoding import EncodedQuery
from knatlas.models.language_model import LanguageModel

# Called with the number of queries done, of all queries, and a message.
Progress = Callable[[int, int, str], None]

QUERY_COLUMNS = [
    "fact",
    "language",
    "query",
    "method",
    "p",  # P(answer | query)
    "n_positions",  # positions at which answer tokens are predicted
    "n_tokens",  # tokens of the input
    "n_baselines",
    "completeness_error",  # the worst layer's; empty where the factor is the full activation
    "max_score",  # the largest score of the query, after the norm
    "negative_layers",  # share of layers whose scores sum to less than zero, before the norm
    "skipped_layers",  # share of layers that the norm "layer_sum" sets, or would set, to zero
    "zero_gradients",  # share of the points of the paths whose gradient is zero for every neuron
]


@dataclass(frozen=True)
class ShardResult:
    """What a shard leaves.

    arrays: method -> statistic ("mean", "std", "first", "share"; see `QueryStatistics`) -> (facts, layers, neurons)
    float32, facts as in `facts`. queries: one row per query and method, columns `QUERY_COLUMNS`.
    """

    arrays: dict[str, dict[str, Float32[ndarray, "fact layer neuron"]]]
    facts: list[str]
    queries: pd.DataFrame

    def named_arrays(self) -> dict[str, Float32[ndarray, "fact layer neuron"]]:
        """The arrays by "{method}.{statistic}", as they stand in files."""
        return {f"{method}.{name}": array for method, of in self.arrays.items() for name, array in of.items()}


def attribute_shard(
    lm: LanguageModel,
    queries: Sequence[EncodedQuery],
    methods: Sequence[AttributionMethod],
    batch_rows: int,
    refine_threshold: float,
    progress: Progress | None = None,
) -> ShardResult:
    """Attribute all queries and combine those of each fact; no scores of single queries are kept.

    Args: queries of one language, in any order (facts keep the order of their first query; a fact's queries are taken
    by number, so `first` is its lowest one); methods and batch_rows as in `attribute`; refine_threshold of `share`.
    Raises: AtlasError for queries of several languages, and as `attribute`.
    """
    check_methods(methods, batch_rows)
    by_fact = _group(queries)
    arrays = _empty(lm, methods, len(by_fact))
    rows, done = [], 0
    for number, (fact, of_fact) in enumerate(by_fact.items()):
        statistics = {method.name: QueryStatistics(refine_threshold) for method in methods}
        for query in of_fact:
            attribution = attribute(lm, query, methods, batch_rows)
            for name, scores in attribution.scores.items():
                statistics[name].add(scores)
            rows.extend(_rows(attribution))
            done += 1
            if progress:
                progress(done, len(queries), f"{query.language}: {fact}")
        _store(arrays, number, statistics)
    return ShardResult(arrays, list(by_fact), pd.DataFrame(rows, columns=QUERY_COLUMNS))


def _group(queries: Sequence[EncodedQuery]) -> dict[str, list[EncodedQuery]]:
    """The queries of each fact by number. Raises: AtlasError for several languages or a repeated query."""
    languages = sorted({query.language for query in queries})
    if len(languages) > 1:
        raise AtlasError(f"A shard holds queries of the languages {' '.join(languages)}; expected one language.")
    groups: dict[str, dict[int, EncodedQuery]] = {}
    for query in queries:
        group = groups.setdefault(query.fact, {})
        if query.query in group:
            raise AtlasError(f"Query {query.query} of fact {query.fact} is twice in a shard; expected each query once.")
        group[query.query] = query
    return {fact: [group[number] for number in sorted(group)] for fact, group in groups.items()}


def _empty(lm: LanguageModel, methods: Sequence[AttributionMethod], n_facts: int) -> dict[str, dict[str, ndarray]]:
    """Zeros for every method and statistic, each (facts, layers, neurons) float32."""
    shape = (n_facts, lm.n_layers, lm.n_neurons)
    return {method.name: {name: np.zeros(shape, dtype=np.float32) for name in STATISTICS} for method in methods}


def _store(arrays: dict[str, dict[str, ndarray]], fact: int, statistics: dict[str, QueryStatistics]) -> None:
    """Write the statistics of one fact into its row of the arrays."""
    for method, of_method in statistics.items():
        for name, value in of_method.result().items():
            arrays[method][name][fact] = value


def _rows(attribution: QueryAttribution) -> Iterator[dict[str, object]]:
    """One row per method of a query's record, by the names of `QUERY_COLUMNS`."""
    for name, record in attribution.records.items():
        yield {
            "fact": attribution.fact,
            "language": attribution.language,
            "query": attribution.query,
            "method": name,
            "p": attribution.p,
            "n_positions": attribution.n_positions,
            "n_tokens": attribution.n_tokens,
            "n_baselines": record.n_baselines,
            "completeness_error": record.completeness.max(),
            "max_score": float(attribution.scores[name].max()),
            "negative_layers": record.sums.is_negative.mean(),
            "skipped_layers": record.sums.is_skipped.mean(),
            "zero_gradients": record.n_zero_gradients / record.n_points,
        }
