"""Do scores rank neurons as their effects do? Rank correlation, precision at k, area under a curve over set size.

Effects may be known of a sample only: each neuron in it then stands for as many as its weight says, while scores, and
so ranks by score, are known of all neurons.
"""

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata

ByNeuron = Float[np.ndarray, " neuron"]


def weighted_ranks(values: ByNeuron, weights: ByNeuron) -> ByNeuron:
    """The rank of each value among all that the sample stands for, the smallest first, ties at their middle.

    The weight of smaller values plus half of one and the weight of equal ones; with unit weights the usual mid-ranks.
    """
    distinct, group = np.unique(values, return_inverse=True)
    of_group = np.bincount(group, weights=weights, minlength=len(distinct))
    below = np.cumsum(of_group) - of_group
    return (below + (of_group + 1) / 2)[group]


def weighted_correlation(x: ByNeuron, y: ByNeuron, weights: ByNeuron) -> float:
    """Pearson's correlation with weights; NaN where either does not vary."""
    share = weights / weights.sum()
    x, y = x - share @ x, y - share @ y
    spread = np.sqrt((share @ x**2) * (share @ y**2))
    return float(share @ (x * y) / spread) if spread > 0 else np.nan


def rank_correlation(scores: ByNeuron, measured: np.ndarray, effects: ByNeuron, weights: ByNeuron) -> float:
    """Spearman's correlation of scores and effects over all neurons, estimated from those that were measured.

    Args: scores of all neurons; numbers of the measured ones among them, with their effects and weights. Ranks by
    score are exact, ranks by effect and the correlation are weighted. With every neuron measured it is Spearman's rho.
    """
    return weighted_correlation(rankdata(scores)[measured], weighted_ranks(effects, weights), weights)


def membership(values: ByNeuron, weights: ByNeuron, k: float) -> ByNeuron:
    """The part of each neuron that belongs to the k largest values: 1, 0, or at the edge what is left for the ties.

    It is the chance to be among them when ties are broken at random, or when the edge runs through what a neuron of a
    sample stands for.
    """
    distinct, group = np.unique(-values, return_inverse=True)
    of_group = np.bincount(group, weights=weights, minlength=len(distinct))
    above = np.cumsum(of_group) - of_group
    return np.clip((k - above) / of_group, 0.0, 1.0)[group]


def precision_at(k: int, scores: ByNeuron, measured: np.ndarray, effects: ByNeuron, weights: ByNeuron) -> float:
    """The share of the k neurons with the largest scores that are among the k with the largest effects.

    Args: as for `rank_correlation`. By chance alone it is k / neurons.
    """
    found = membership(scores, np.ones(len(scores)), k)[measured]
    return float(weights @ (found * membership(effects, weights, k)) / k)


def area_over_log_size(sizes: ByNeuron, values: ByNeuron) -> float:
    """The mean height of a curve over the logarithm of the set size, from the smallest size to the largest.

    integral of value d(log size) / (log largest - log smallest), trapezoids between the sizes that were measured; of
    one size its value.
    """
    order = np.argsort(sizes)
    places, values = np.log(np.asarray(sizes, dtype=float)[order]), np.asarray(values, dtype=float)[order]
    return float(np.trapezoid(values, places) / (places[-1] - places[0])) if len(values) > 1 else float(values[0])
