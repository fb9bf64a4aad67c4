"""What layer-matched random neuron sets of given sizes have in common by chance."""

import numpy as np
from jaxtyping import Float, Int

N_DRAWS = 1000  # random pairs of sets that a chance level is the mean of, at least
Layers = Int[np.ndarray, "pair layer"]


def chance_jaccard(
    first: Layers, second: Layers, n_neurons: int, stream: np.random.Generator, n_draws: int = N_DRAWS
) -> Float[np.ndarray, " pair"]:
    """Mean Jaccard index of sets with a second set drawn again, uniformly within its layers; NaN where both are empty.

    What they share in a layer is hypergeometric, so that no set is drawn. All pairs together have at least `n_draws`
    draws: the mean over pairs is what this is for, that of one pair is rough.

    Args: neurons per layer of both sets of each pair; n_neurons, of a layer.
    """
    if not len(first):
        return np.zeros(0)
    either = (first + second).sum(axis=1)
    is_open = (first > 0) & (second > 0)  # an empty layer shares nothing, and asks for no draw
    n_each, one, other = -(-n_draws // len(first)), first[is_open], second[is_open]
    shared = np.zeros((n_each, *first.shape))
    shared[:, is_open] = stream.hypergeometric(one, n_neurons - one, other, (n_each, len(one)))
    shared = shared.sum(axis=2)
    rest = either - shared
    means = np.divide(shared, rest, out=np.zeros(shared.shape), where=rest > 0).mean(axis=0)
    return np.where(either > 0, means, np.nan)


def chance_of_frequent(layers: Int[np.ndarray, "fact layer"], n_neurons: int, least: int) -> float:
    """Share of the neurons of all sets that would be in the sets of at least that many facts, were the sets random.

    Exact, for sets of the same number of neurons in each layer: how many facts have a neuron is then Poisson-binomial.
    A share of all neurons of the sets, so large sets count for more; NaN without any.
    """
    frequent = sum(n_neurons * _mean_from(counts / n_neurons, least) for counts in layers.T)
    total = layers.sum()
    return float(frequent / total) if total else np.nan


def _mean_from(chances: Float[np.ndarray, " fact"], least: int) -> float:
    """E[k; k >= least] of the number k of independent events with these chances."""
    rest, total = np.zeros(least), chances.sum()  # chances of k = 0 .. least - 1, which suffice
    rest[0] = 1.0
    for chance in chances[chances > 0]:
        rest[1:] = rest[1:] * (1 - chance) + rest[:-1] * chance
        rest[0] *= 1 - chance
    return float(max(total - np.arange(least) @ rest, 0.0))
