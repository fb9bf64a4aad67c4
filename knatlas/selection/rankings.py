"""Neurons ranked by the scores of every attribution method, and rankings by chance to compare them with."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from knatlas.errors import AtlasError
from knatlas.selection.controls import random_stream
from knatlas.selection.scores import Scores

METHODS = ("bkn", "amig", "saig", "atp")
# of the query that is ablated where it is kept, else the mean over the fact's queries
STATISTICS = ("first", "mean")
RANDOM = "random"
OWN, MATCHED = "own", "random_layer_matched"


class Ranking(NamedTuple):
    """Scores (layers, neurons) that rank the neurons of a fact in a language.

    ranking: `own`, the method's scores; `random_layer_matched`, the same scores dealt out anew within every layer, so
    that a set of any size has as many neurons in each layer as the method's. Method `random`: random scores.
    """

    method: str
    ranking: str
    draw: int
    scores: Float[np.ndarray, "layer neuron"]


def ranked_by(scores: Scores) -> dict[str, str]:
    """The statistic of each attribution method whose scores were kept; AtlasError when there is none."""
    kept = {
        method: next(name for name in STATISTICS if f"{method}.{name}" in scores.arrays)
        for method in METHODS
        if any(f"{method}.{name}" in scores.arrays for name in STATISTICS)
    }
    if not kept:
        raise AtlasError(f"scores: hold none of the methods {' '.join(METHODS)}; rerun the attribution")
    return kept


def rankings(scores: Scores, i: int, language: str, draws: int, seed: int) -> list[Ranking]:
    """All rankings of fact number i in a language: each method's, `draws` controls of each, and as many random ones.

    A fact without attribution in the language has none.
    """
    place = scores.languages.index(language)
    own = {method: scores.of(method, name, i)[place] for method, name in ranked_by(scores).items()}
    if any(np.isnan(part).any() for part in own.values()):
        return []
    return list(_with_controls(own, scores.facts[i], language, draws, seed))


def _with_controls(own: dict[str, np.ndarray], fact: str, language: str, draws: int, seed: int) -> Iterator[Ranking]:
    """The methods' rankings, each with its controls, then random ones; every draw has a seed of its own."""
    for method, part in own.items():
        yield Ranking(method, OWN, 0, part)
        for draw in range(draws):
            stream = random_stream(seed, "rankings", method, fact, language, draw)
            yield Ranking(method, MATCHED, draw, stream.permuted(part, axis=1))
    shape = next(iter(own.values())).shape
    for draw in range(draws):
        yield Ranking(RANDOM, OWN, draw, random_stream(seed, "rankings", RANDOM, fact, language, draw).random(shape))


def descending(scores: Float[np.ndarray, "..."]) -> Int[np.ndarray, " neuron"]:
    """Numbers of the neurons in a row of all layers, the largest score first, ties in the order of layer and index."""
    return np.argsort(-scores.ravel(), kind="stable")
