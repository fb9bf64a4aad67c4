"""Uncertainty over queries (UaQ) and over languages (UaL): Eqs. 6-11 of MATRICE."""

import numpy as np
from jaxtyping import Float

Scores3 = Float[np.ndarray, "language layer neuron"]


def query_uncertainty(
    mean: Float[np.ndarray, "*shape"], std: Float[np.ndarray, "*shape"], alpha1: float = 1.0, alpha2: float = 1.0
) -> Float[np.ndarray, "*shape"]:
    """One score per neuron from its scores over the queries of a language: s = alpha1 mean - alpha2 std (Eqs. 6-8).

    `std` has divisor T (not T - 1); with one query it is 0. Same unit as the scores.
    """
    return alpha1 * mean - alpha2 * std


def normalise(scores: Scores3, axis: str = "language", floor: str = "zero") -> Scores3:
    """Eq. 9: each score's place between minimum and maximum, in [0, 1]; 0/0 is 0.

    Args: scores, one fact (languages, layers, neurons); axis `language`: minimum and maximum over all neurons of a
    language (Algorithm 1); `neuron`: over the languages of a neuron, as printed, which forgets how large a neuron's
    scores are; floor `zero`: negative scores count as 0 first, so that a neutral neuron stays at 0; `min`: as they are.
    """
    scores = _floored(scores, floor)
    low, high = _range(scores, axis)
    return _place_between(scores, low, high)


def language_uncertainty(
    scores: Scores3, beta1: float = 1.0, beta2: float = 1.0, axis: str = "language", floor: str = "zero"
) -> Float[np.ndarray, "layer neuron"]:
    """Language-agnostic score S = beta1 mean - beta2 std of the normalised scores over languages (Eqs. 9-11).

    The standard deviation has divisor L, the number of languages. S is at most beta1.
    """
    return _combine(normalise(scores, axis, floor), beta1, beta2)


def neutral_level(
    scores: Scores3, beta1: float = 1.0, beta2: float = 1.0, axis: str = "language", floor: str = "zero"
) -> float:
    """S_0, the score S of a neuron that has attribution 0 in every language.

    With floor `min` Eq. 9 maps 0 to -min / (max - min) > 0. A threshold that is not above S_0 selects neurons that do
    nothing. On axis `neuron` such a neuron is the case 0/0, so that S_0 is 0.
    """
    if axis == "neuron":
        return 0.0
    low, high = _range(_floored(scores, floor), axis)
    return float(_combine(_place_between(np.zeros_like(low), low, high), beta1, beta2).squeeze())


def high_percentile(scores: np.ndarray, left_out: float = -np.inf) -> float:
    """The 99.9th percentile of a fact's scores: far below the maximum where one neuron dwarfs all others.

    NaN when scores that aren't known, of which `left_out` is an upper bound, may decide it.
    """
    is_certain = np.percentile(scores, 99.9, method="lower") > left_out
    return float(np.percentile(scores, 99.9)) if is_certain else np.nan


def _floored(scores: Scores3, floor: str) -> Scores3:
    return np.maximum(scores, 0.0) if floor == "zero" else scores


def _range(scores: Scores3, axis: str) -> tuple[np.ndarray, np.ndarray]:
    axes = (1, 2) if axis == "language" else (0,)
    return scores.min(axis=axes, keepdims=True), scores.max(axis=axes, keepdims=True)


def _place_between(scores: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    width = np.broadcast_to(high - low, scores.shape)
    return np.divide(scores - low, width, out=np.zeros_like(scores), where=width > 0)


def _combine(normalised: np.ndarray, beta1: float, beta2: float) -> np.ndarray:
    return beta1 * normalised.mean(axis=0) - beta2 * normalised.std(axis=0)
