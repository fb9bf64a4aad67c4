"""The attribution of queries: their readouts, the factor, the norm, and the record of how exact it is."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from knatlas.attribution.groups import batches, replaced_positions
from knatlas.attribution.integrals import Integral
from knatlas.attribution.memory import is_out_of_memory
from knatlas.attribution.methods import AttributionMethod
from knatlas.attribution.normalisation import layer_sums, normalise
from knatlas.attribution.records import MethodRecord, QueryAttribution
from knatlas.attribution.routes import GENERAL_ROWS, Integrals, Route, choose_route
from knatlas.errors import AtlasError
from knatlas.models.encoding import EncodedQuery
from knatlas.models.language_model import LanguageModel

# Layers that change P by less than this part per baseline: what remains of their sums is rounding of P itself.
NEGLIGIBLE = 1e-3
# Queries of a sweep: products of few rows leave a processor, and more so a GPU, waiting for the weights
CPU_QUERIES, GPU_QUERIES = 8, 16


def attribute(
    lm: LanguageModel, query: EncodedQuery, methods: Sequence[AttributionMethod], batch_rows: int = 0
) -> QueryAttribution:
    """The scores of all neurons for one query by each method; see `attribute_queries`."""
    return attribute_queries(lm, [query], methods, batch_rows)[0]


def attribute_queries(
    lm: LanguageModel,
    queries: Sequence[EncodedQuery],
    methods: Sequence[AttributionMethod],
    batch_rows: int = 0,
    completeness: bool = True,
    path: str = "auto",
    batch_queries: int = 0,
) -> list[QueryAttribution]:
    """The scores of all neurons for each query by each method.

    Masked models: one readout; the path moves the activations at all masks together, F is the product of the answer
    tokens' probabilities, and a neuron's score is the sum over the masks. Causal models: one readout per answer token,
    F the probability of that token after the right ones before it; a neuron's score is the mean over the readouts.
    Methods that differ in name, factor or norm only are computed together.

    Args: queries of any lengths; methods, of different names; batch_rows, the most rows of a sweep, 0 for as many as
    free memory allows; completeness, whether F at the baselines is evaluated for `MethodRecord.completeness`; path,
    "fast" (blocks of known architectures), "general" (hooks on the unmodified model) or "auto"; batch_queries, the most
    queries of a sweep, 0 for eight on a processor and sixteen on a GPU. Rows, queries of a batch and path: speed and
    memory, not results.
    Returns: scores (layers, neurons) and records per method, in the order of the queries.
    Raises: AtlasError for scores that are not finite, a query without tokens to replace, or a wrong argument.
    """
    check_methods(methods, batch_rows)
    kinds = list(dict.fromkeys(method.integral for method in methods))
    for query in queries:
        _check_replaceable(lm, query, kinds)
    route = choose_route(lm, path)
    results: dict[int, QueryAttribution] = {}
    for batch in batches(queries, batch_queries or (GPU_QUERIES if lm.device.type == "cuda" else CPU_QUERIES)):
        found = _within_memory(route, [queries[number] for number in batch], kinds, batch_rows, completeness)
        for number, (of_query, log_p) in zip(batch, found, strict=True):
            results[number] = _attribution(lm, queries[number], methods, of_query, log_p)
    return [results[number] for number in range(len(queries))]


def _within_memory(
    route: Route, queries: Sequence[EncodedQuery], kinds: Sequence[AttributionMethod], rows: int, completeness: bool
) -> list[tuple[Integrals, ndarray]]:
    """What a route finds; where memory runs out, with half of the queries, then of the rows. Raises: AtlasError."""
    try:
        return route(queries, kinds, rows, completeness)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        if len(queries) == 1 and (rows or GENERAL_ROWS) == 1:
            raise AtlasError(_no_memory(queries[0], str(error) or type(error).__name__)) from error
    # outside of the handler: the traceback holds on to the memory
    if len(queries) == 1:
        return _within_memory(route, queries, kinds, (rows or GENERAL_ROWS) // 2, completeness)
    halves = (queries[: len(queries) // 2], queries[len(queries) // 2 :])
    return [found for half in halves for found in _within_memory(route, half, kinds, rows, completeness)]


def _no_memory(query: EncodedQuery, message: str) -> str:
    """The sentence for a query that does not fit."""
    return (
        f"Memory ran out with one row of one query (fact {query.fact}, language {query.language}). Use a smaller dtype "
        f"(bfloat16), a larger GPU, or a CPU node with more memory. The message was: {message.splitlines()[0]}"
    )


def check_methods(methods: Sequence[AttributionMethod], batch_rows: int) -> None:
    """Raise AtlasError unless there are methods, of different names, and no negative number of rows."""
    names = [method.name for method in methods]
    if not names or len(set(names)) < len(names):
        raise AtlasError(f"The attribution methods are named {names}; expected at least one, and each name once.")
    if batch_rows < 0:
        raise AtlasError(
            f"batch_rows is {batch_rows}; expected a whole number >= 1, or 0 for as many as memory allows."
        )


def _check_replaceable(lm: LanguageModel, query: EncodedQuery, methods: Sequence[AttributionMethod]) -> None:
    """Raise AtlasError where a path needs baseline sentences and the query has no token to replace."""
    for method in methods:
        if method.path != "zero" and not replaced_positions(query, method):
            raise AtlasError(
                f"{_where(lm, query)}: path '{method.path}' replaces the query's tokens one at a time, but it has none "
                "of its own (special tokens, masks and answer tokens are left alone). Leave it out, or use path 'zero'."
            )


def _where(lm: LanguageModel, query: EncodedQuery) -> str:
    """Model, fact, language and query, for messages."""
    return f"Model {lm.name}, fact {query.fact}, language {query.language}, query {query.query}"


def _check_finite(lm: LanguageModel, query: EncodedQuery, method: AttributionMethod, scores: ndarray) -> None:
    """Raise AtlasError naming the layers whose scores are infinite or not a number."""
    broken = np.flatnonzero(~np.isfinite(scores).all(axis=1)).tolist()
    if broken:
        raise AtlasError(
            f"{_where(lm, query)}: method '{method.name}' gives scores that are not finite in layers {broken}. Half "
            "precision overflows in this way: set dtype to float32; if it is, look for weights that are not finite."
        )


def _attribution(
    lm: LanguageModel, query: EncodedQuery, methods: Sequence[AttributionMethod], found: Integrals, log_p: ndarray
) -> QueryAttribution:
    """The scores and records of a query from the integrals and log P of its readouts."""
    attribution = QueryAttribution(
        fact=query.fact,
        language=query.language,
        query=query.query,
        p=math.exp(log_p.sum()),
        n_positions=len(query.positions),
        n_tokens=len(query.input_ids),
    )
    for method in methods:
        parts = found[method.integral]
        raw = np.mean([part.delta if method.is_complete else part.full for part in parts], axis=0)
        _check_finite(lm, query, method, raw)
        attribution.scores[method.name] = normalise(raw, method.norm)
        attribution.records[method.name] = _record(method, raw, parts)
    return attribution


def _record(method: AttributionMethod, raw: ndarray, parts: Sequence[Integral]) -> MethodRecord:
    """The record of one method from its scores before the norm (layers, neurons) and its readouts' integrals."""
    change = np.mean([part.change for part in parts], axis=0)
    floor = NEGLIGIBLE * np.mean([part.unit for part in parts])
    error = completeness_error(raw, change, floor) if method.is_complete else np.full(len(raw), np.nan)
    # the mean over readouts has at most the mean of their errors
    size, estimate = np.linalg.norm(raw, axis=1), np.mean([part.error for part in parts], axis=0)
    return MethodRecord(
        completeness=error,
        sums=layer_sums(raw),
        n_baselines=max(part.n_baselines for part in parts),
        n_points=sum(part.n_points for part in parts),
        n_zero_gradients=sum(part.n_zero_gradients for part in parts),
        error_estimate=np.divide(estimate, size, out=np.zeros_like(estimate), where=size > 0),
        n_full_points=sum(part.n_full_points for part in parts),
        n_fallbacks=sum(part.n_fallbacks for part in parts),
    )


def completeness_error(
    scores: Float[ndarray, "layer neuron"], change: Float[ndarray, " layer"], floor: float
) -> Float[ndarray, " layer"]:
    """|sum_j Attr(j) - change| / max(sum_j |Attr(j)|, |change|, floor) of each layer.

    The divisor is the sum of absolute values and not the change itself, which is near zero in many layers.
    Args: scores (layers, neurons) before any norm; change (layers,) = sum_i F(a) - F(b_i); floor > 0, the size of an
    effect below which a difference is rounding. Returns: (layers,), 0 to 2; NaN where the change is.
    """
    sums = layer_sums(scores)
    scale = np.maximum(np.maximum(sums.absolute, np.abs(change)), floor)
    return np.abs(sums.signed - change) / scale
