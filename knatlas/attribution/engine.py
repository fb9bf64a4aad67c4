"""The attribution of a query: its readouts, the factor, the norm, and the record of how exact it is."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from knatlas.attribution.integrals import Integral, integrals, replaced_positions
from knatlas.attribution.methods import AttributionMethod
from knatlas.attribution.normalisation import layer_sums, normalise
from knatlas.attribution.records import MethodRecord, QueryAttribution
from knatlas.errors import AtlasError
from knatlas.models.encoding import EncodedQuery, readouts
from knatlas.models.language_model import LanguageModel

# Layers that change P by less than this part per baseline: what remains of their sums is rounding of P itself.
NEGLIGIBLE = 1e-3


def attribute(
    lm: LanguageModel, query: EncodedQuery, methods: Sequence[AttributionMethod], batch_rows: int
) -> QueryAttribution:
    """The scores of all neurons for one query by each method.

    Masked models: one readout; the path moves the activations at all masks together, F is the product of the answer
    tokens' probabilities, and a neuron's score is the sum over the masks. Causal models: one readout per answer token,
    F the probability of that token after the right ones before it; a neuron's score is the mean over the readouts.
    Methods that differ in name, factor or norm only are computed together.

    Args: methods, of different names; batch_rows, the most rows in one forward pass: speed and memory, not results.
    Returns: scores (layers, neurons) and records per method.
    Raises: AtlasError for scores that are not finite, a query without tokens to replace, or a wrong argument.
    """
    check_methods(methods, batch_rows)
    kinds = list(dict.fromkeys(method.integral for method in methods))
    _check_replaceable(lm, query, kinds)
    parts = [integrals(lm, readout, kinds, batch_rows) for readout in readouts(query)]
    attribution = QueryAttribution(
        fact=query.fact,
        language=query.language,
        query=query.query,
        p=math.exp(sum(log_p for _, log_p in parts)),
        n_positions=len(query.positions),
        n_tokens=len(query.input_ids),
    )
    for method in methods:
        of_method = [results[method.integral] for results, _ in parts]
        raw = np.mean([part.delta if method.is_complete else part.full for part in of_method], axis=0)
        _check_finite(lm, query, method, raw)
        attribution.scores[method.name] = normalise(raw, method.norm)
        attribution.records[method.name] = _record(method, raw, of_method)
    return attribution


def check_methods(methods: Sequence[AttributionMethod], batch_rows: int) -> None:
    """Raise AtlasError unless there are methods, of different names, and at least one row per batch."""
    names = [method.name for method in methods]
    if not names or len(set(names)) < len(names):
        raise AtlasError(f"The attribution methods are named {names}; expected at least one, and each name once.")
    if batch_rows < 1:
        raise AtlasError(f"batch_rows is {batch_rows}; expected a whole number >= 1.")


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


def _record(method: AttributionMethod, raw: ndarray, parts: Sequence[Integral]) -> MethodRecord:
    """The record of one method from its scores before the norm (layers, neurons) and its readouts' integrals."""
    change = np.mean([part.change for part in parts], axis=0)
    floor = NEGLIGIBLE * np.mean([part.unit for part in parts])
    error = completeness_error(raw, change, floor) if method.is_complete else np.full(len(raw), np.nan)
    return MethodRecord(
        completeness=error,
        sums=layer_sums(raw),
        n_baselines=max(part.n_baselines for part in parts),
        n_points=sum(part.n_points for part in parts),
        n_zero_gradients=sum(part.n_zero_gradients for part in parts),
    )


def completeness_error(
    scores: Float[ndarray, "layer neuron"], change: Float[ndarray, " layer"], floor: float
) -> Float[ndarray, " layer"]:
    """|sum_j Attr(j) - change| / max(sum_j |Attr(j)|, |change|, floor) of each layer.

    The divisor is the sum of absolute values and not the change itself, which is near zero in many layers.
    Args: scores (layers, neurons) before any norm; change (layers,) = sum_i F(a) - F(b_i); floor > 0, the size of an
    effect below which a difference is rounding. Returns: (layers,), 0 to 2.
    """
    sums = layer_sums(scores)
    scale = np.maximum(np.maximum(sums.absolute, np.abs(change)), floor)
    return np.abs(sums.signed - change) / scale
