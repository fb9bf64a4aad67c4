"""Scores of MATRICE on a grid of its weights, of which the largest among neurons that are not kept is recorded.

The weights may be chosen long after the attribution. s = alpha1 (mean - ratio std) with ratio = alpha2 / alpha1, and
S = beta1 (mean over languages - spread std over languages) with spread = beta2 / beta1, so that two ratios say which
neurons are large. The formulas are those of `knatlas.selection.uncertainty`, which a later stage applies.
"""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

RATIOS = (0.0, 0.5, 1.0, 2.0)  # alpha2 / alpha1
SPREADS = (0.0, 0.5, 1.0, 2.0)  # beta2 / beta1
FLOORS = ("zero", "min")


def over_queries(
    mean: Float[ndarray, "language neuron"], std: Float[ndarray, "language neuron"]
) -> Float[ndarray, "ratio language neuron"]:
    """mean - ratio std for each of `RATIOS` (Eq. 8 over alpha1), float64."""
    mean, std = mean.astype(np.float64), std.astype(np.float64)
    return np.stack([mean - ratio * std for ratio in RATIOS])


def over_languages(scores: Float[ndarray, "language neuron"], floor: str) -> Float[ndarray, "spread neuron"]:
    """mean - spread std over languages of the scores normalised in each (Eqs. 9-11 over beta1), for `SPREADS`."""
    scores = np.maximum(scores, 0.0) if floor == "zero" else scores
    low, high = scores.min(axis=1, keepdims=True), scores.max(axis=1, keepdims=True)
    placed = scores - low
    np.divide(placed, high - low, out=placed, where=high > low)  # where they are equal all differences are 0
    mean, std = placed.mean(axis=0), placed.std(axis=0)
    return np.stack([mean - spread * std for spread in SPREADS])
