"""Neurons to measure where there are too many for all: the best ranked, and a stratified sample of the others.

Strata are layers times bands of rank, where a neuron's rank is the best that any of the methods gives it. The chance of
each neuron to be drawn is known, so that estimates weighted with its inverse are those of all neurons.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from knatlas.selection.rankings import descending

# a band ends at so many times the rank at which it begins
WIDENING = 4
# a stratum needs two neurons for its spread to show
FEWEST = 2


class NeuronSample(NamedTuple):
    """Neurons by their number in a row of all layers, ascending, and for how many neurons each of them stands."""

    numbers: Int[np.ndarray, " neuron"]
    weights: Float[np.ndarray, " neuron"]


def every_neuron(shape: tuple[int, int]) -> NeuronSample:
    """All neurons of a model with so many layers and neurons per layer."""
    n = shape[0] * shape[1]
    return NeuronSample(np.arange(n), np.ones(n))


def best_ranks(scores: Sequence[Float[np.ndarray, "layer neuron"]]) -> Int[np.ndarray, "layer neuron"]:
    """The smallest rank, from 0, that any of the methods' scores gives each neuron."""
    ranks = np.empty((len(scores), scores[0].size), dtype=np.int64)
    for rank, part in zip(ranks, scores, strict=True):
        rank[descending(part)] = np.arange(part.size)
    return ranks.min(axis=0).reshape(scores[0].shape)


def stratified_sample(
    scores: Sequence[Float[np.ndarray, "layer neuron"]], top: int, size: int, random: np.random.Generator
) -> NeuronSample:
    """All neurons among the `top` best of any method, and at least `size` of the others, as far as there are so many.

    The bands of rank top to 4 top, 4 top to 16 top, ... share `size` equally, as far as they have neurons; within a
    band the layers in proportion to their neurons, at least two of each. A weight is the number of neurons of a stratum
    per drawn one.
    """
    best = best_ranks(scores)
    band = np.zeros(best.shape, dtype=np.int64)
    is_other = best >= top
    band[is_other] = 1 + np.floor(np.log(best[is_other] / top) / np.log(WIDENING)).astype(np.int64)
    weights = np.where(is_other, 0.0, 1.0)
    sizes = np.bincount(band.ravel())[1:]
    left, order = size, np.argsort(sizes, kind="stable")
    for place, number in enumerate(order):  # what a small band can't give is left for the larger ones
        quota = min(left // (len(order) - place), int(sizes[number]))
        left -= quota
        _draw_band(weights, band == number + 1, quota, random)
    numbers = np.flatnonzero(weights)
    return NeuronSample(numbers, weights.ravel()[numbers])


def _draw_band(weights: np.ndarray, members: np.ndarray, quota: int, random: np.random.Generator) -> None:
    """Set the weights of the neurons that are drawn from each layer of a band."""
    share = quota / max(1, members.sum())
    for layer, is_member in enumerate(members):
        places = np.flatnonzero(is_member)
        n_drawn = int(np.clip(np.ceil(share * len(places)), min(FEWEST, len(places)), len(places)))
        drawn = random.choice(places, size=n_drawn, replace=False)
        weights[layer, drawn] = len(places) / max(1, n_drawn)
