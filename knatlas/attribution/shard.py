"""Attribution of a shard: all queries of several facts, combined to what is kept of each fact."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy import ndarray

from knatlas.attribution.candidates import Candidates
from knatlas.attribution.combination import Dense, QueryStatistics
from knatlas.attribution.engine import attribute_queries
from knatlas.attribution.methods import AttributionMethod
from knatlas.attribution.partial import FactResult, PartialResults, Row
from knatlas.attribution.records import MethodRecord, QueryAttribution
from knatlas.attribution.screening import SCREENED, Screening, screening_columns
from knatlas.errors import AtlasError
from knatlas.models.encoding import EncodedQuery
from knatlas.models.language_model import LanguageModel

# Called with the number of queries done, of all queries, and a message.
Progress = Callable[[int, int, str], None]
# The queries of each fact, by language and number.
Facts = dict[str, list[EncodedQuery]]

QUERY_COLUMNS = [
    "fact",
    "language",
    "query",
    "method",
    "p",  # P(answer | query)
    "n_positions",  # positions at which answer tokens are predicted
    "n_tokens",  # tokens of the input
    "n_baselines",
    "n_points",  # points at which a gradient was taken
    "n_full_points",  # points of the rule without compression
    "n_fallbacks",  # paths of the checked quadrature that took all points of the rule
    "error_estimate",  # of the checked quadrature, relative, the worst layer's
    "completeness_error",  # the worst layer's; empty where it was not asked for or the factor is the full activation
    "max_score",  # the largest score of the query, after the norm
    "negative_layers",  # share of layers whose scores sum to less than zero, before the norm
    "skipped_layers",  # share of layers that the norm "layer_sum" sets, or would set, to zero
    "zero_gradients",  # share of the points of the paths whose gradient is zero for every neuron
]


@dataclass(frozen=True)
class Batching:
    """How the work is cut, which changes speed only: queries attributed together (whole facts), rows of a pass."""

    queries: int = 16
    rows: int = 0


@dataclass(frozen=True)
class ShardResult:
    """What a shard leaves.

    arrays: by name as in the shard's file, each with the facts of `facts` along the first axis. queries: one row per
    query and method, columns `QUERY_COLUMNS` and, with a screening, `screening_columns`, which are NaN but in the rows
    of `atp` of checked queries. n_resumed: queries that an earlier, unfinished run had computed.
    """

    arrays: dict[str, ndarray]
    facts: list[str]
    queries: pd.DataFrame
    n_resumed: int = 0


def attribute_shard(
    lm: LanguageModel,
    queries: Sequence[EncodedQuery],
    methods: Sequence[AttributionMethod],
    keep: Dense | Candidates,
    refine_threshold: float,
    batching: Batching | None = None,
    completeness: bool = True,
    partial: PartialResults | None = None,
    progress: Progress | None = None,
    screening: Screening | None = None,
) -> ShardResult:
    """Attribute all queries fact by fact and combine those of each; no scores of single queries are kept.

    Args: queries in any order (facts keep the order of their first query; a fact's queries are taken by number, so
    `first` is its lowest one in a language); methods and completeness as in `attribute_queries`; keep, all neurons in
    one language or candidates over several; refine_threshold of `share`; partial, where finished batches are kept until
    the shard is written, and found again; screening, how `atp` is checked, which changes no scores.
    Raises: AtlasError for queries in other languages than `keep` names, a screening without `atp`, and as
    `attribute_queries`.
    """
    columns = _columns(methods, screening)
    batching, facts = batching or Batching(), _group(queries, keep.languages)
    layout = keep.layout([method.name for method in methods], lm.n_layers, lm.n_neurons)
    arrays = {name: np.empty((len(facts), *shape), dtype=kind) for name, (kind, shape) in layout.items()}
    numbers, rows = {fact: i for i, fact in enumerate(facts)}, {}

    def place(results: Iterable[FactResult]) -> None:
        for result in results:
            rows[result.fact] = result.rows
            for name, values in result.arrays.items():
                arrays[name][numbers[result.fact]] = values
            if progress:
                done = sum(len(facts[fact]) for fact in rows)
                progress(done, len(queries), result.fact)

    if partial:
        place(partial.read(facts))
    n_resumed = sum(len(facts[fact]) for fact in rows)
    for batch in fact_batches({fact: of for fact, of in facts.items() if fact not in rows}, batching.queries):
        found = attribute_queries(
            lm, [query for of in batch.values() for query in of], methods, batching.rows, completeness
        )
        checks = _checks(lm, batch, found, screening, refine_threshold, batching.rows)
        results = list(_combine(batch, found, checks, keep, refine_threshold))
        if partial:
            partial.write(results, batch)
        place(results)
    table = pd.DataFrame([row for fact in facts for row in rows[fact]], columns=columns)
    return ShardResult(arrays, list(facts), table, n_resumed)


def fact_batches(facts: Facts, n_queries: int) -> Iterator[Facts]:
    """Whole facts, in order, as many as have `n_queries` queries together; a fact with more is a batch of its own."""
    batch: Facts = {}
    for fact, queries in facts.items():
        if batch and sum(map(len, batch.values())) + len(queries) > n_queries:
            yield batch
            batch = {}
        batch[fact] = queries
    if batch:
        yield batch


def _group(queries: Sequence[EncodedQuery], languages: Sequence[str]) -> Facts:
    """The queries of each fact by language and number. Raises: AtlasError for another language, a repeated query."""
    groups: dict[str, dict[tuple[int, int], EncodedQuery]] = {}
    others = sorted({query.language for query in queries} - set(languages))
    if others:
        raise AtlasError(
            f"A shard holds queries in {' '.join(others)}; expected queries in {' '.join(languages)} only."
        )
    order = {language: i for i, language in enumerate(languages)}
    for query in queries:
        group, key = groups.setdefault(query.fact, {}), (order[query.language], query.query)
        if key in group:
            where = f"Query {query.query} of fact {query.fact} in {query.language}"
            raise AtlasError(f"{where} is twice in a shard; expected each query once.")
        group[key] = query
    return {fact: [group[key] for key in sorted(group)] for fact, group in groups.items()}


def _columns(methods: Sequence[AttributionMethod], screening: Screening | None) -> list[str]:
    """Columns of the table of queries. Raises: AtlasError for a screening without the method that it checks."""
    if screening is None:
        return QUERY_COLUMNS
    if SCREENED not in (names := [method.name for method in methods]):
        raise AtlasError(f"A screening checks '{SCREENED}', but the methods are {' '.join(names)}; add it to them.")
    return QUERY_COLUMNS + screening_columns(screening.kept)


def _checks(
    lm: LanguageModel,
    batch: Facts,
    found: Sequence[QueryAttribution],
    screening: Screening | None,
    refine_threshold: float,
    batch_rows: int,
) -> list[Row]:
    """The check of every query of a batch, in order; empty where it is not drawn."""
    queries = [query for of in batch.values() for query in of]
    checks: list[Row] = [{} for _ in queries]
    if screening is None:
        return checks
    drawn = [i for i, query in enumerate(queries) if screening.is_drawn(query.fact, query.language, query.query)]
    name, full = screening.reference.name, [found[i] for i in drawn]
    if drawn and name not in full[0].scores:
        # apart from the methods that are kept, so that the check changes none of their digits
        full = attribute_queries(lm, [queries[i] for i in drawn], [screening.reference], batch_rows, completeness=False)
    for i, reference in zip(drawn, full, strict=True):
        checks[i] = screening.check(found[i].scores[SCREENED], reference.scores[name], refine_threshold)
    return checks


def _combine(
    batch: Facts,
    found: Sequence[QueryAttribution],
    checks: Sequence[Row],
    keep: Dense | Candidates,
    refine_threshold: float,
) -> Iterator[FactResult]:
    """What is kept of every fact of a batch; attributions and checks of its queries are in the batch's order."""
    waiting = zip(found, checks, strict=True)
    for fact, queries in batch.items():
        running: dict[str, dict[str, QueryStatistics]] = {}
        rows: list[Row] = []
        for query in queries:
            attribution, check = next(waiting)
            of_language = running.setdefault(query.language, {})
            for method, scores in attribution.scores.items():
                of_language.setdefault(method, QueryStatistics(refine_threshold)).add(scores)
            rows.extend(query_rows(attribution, check))
        yield FactResult(fact, keep.of_fact({lang: _named(of) for lang, of in running.items()}), rows)


def _named(statistics: Mapping[str, QueryStatistics]) -> dict[str, ndarray]:
    """Statistics of all methods by "{method}.{statistic}"."""
    results = {method: of_method.result() for method, of_method in statistics.items()}
    return {f"{method}.{name}": value for method, of_method in results.items() for name, value in of_method.items()}


def query_rows(attribution: QueryAttribution, check: Row) -> Iterator[Row]:
    """One row per method of a query by the names of `QUERY_COLUMNS`, in plain numbers; that of `atp` with its check."""
    of_query = {
        "fact": attribution.fact,
        "language": attribution.language,
        "query": attribution.query,
        "p": float(attribution.p),
        "n_positions": attribution.n_positions,
        "n_tokens": attribution.n_tokens,
    }
    for name, record in attribution.records.items():
        max_score = float(attribution.scores[name].max())
        of_method = _diagnostics(record) | (check if name == SCREENED else {})
        yield {**of_query, "method": name, "max_score": max_score, **of_method}


def _diagnostics(record: MethodRecord) -> Row:
    """How a query's scores by one method came about."""
    return {
        "n_baselines": int(record.n_baselines),
        "n_points": int(record.n_points),
        "n_full_points": int(record.n_full_points),
        "n_fallbacks": int(record.n_fallbacks),
        "error_estimate": worst(record.error_estimate),
        "completeness_error": worst(record.completeness),
        "negative_layers": float(record.sums.is_negative.mean()),
        "skipped_layers": float(record.sums.is_skipped.mean()),
        "zero_gradients": record.n_zero_gradients / record.n_points if record.n_points else 0.0,
    }


def worst(by_layer: ndarray) -> float:
    """The largest of the layers' errors that are numbers; NaN when none is."""
    known = by_layer[~np.isnan(by_layer)]
    return float(known.max()) if len(known) else float("nan")
