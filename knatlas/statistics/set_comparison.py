"""Two neuron sets of one model side by side: how much they share, beyond chance, and in which layers they lie.

The facts that both searched are compared, each with the set of the same fact; a set for all facts or for all languages
(the name "all") stands for each of them. Of random controls draw 0 is taken.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from knatlas.errors import AtlasError
from knatlas.selection.controls import random_stream
from knatlas.selection.neuron_set import ALL, NeuronSets
from knatlas.statistics.bootstrap import (
    DEFAULT_RESAMPLES,
    Interval,
    bootstrap_mean,
    bootstrap_ratio,
    percentile_interval,
    resample_weights,
)

COMPARISON_COLUMNS = ["model", "selection", "other", "language", "statistic", "value", "lo", "hi", "n"]
LAYER_COLUMNS = ["model", "selection", "other", "language", "layer", "value", "lo", "hi", "n", "n_neurons"]
N_RANDOM = 50  # random sets per fact: their mean is subtracted, its error is far below the spread over facts
MIN_RANKED = 3  # two neurons always correlate by 1 or -1
Counts = Int[np.ndarray, "fact layer"]
ByFact = Float[np.ndarray, " fact"]
Pair = tuple[NeuronSets, NeuronSets]
Neurons = dict[tuple[int, int], float]  # (layer, index) -> score


class Compared(NamedTuple):
    """The facts of one language that both selections searched.

    first, second: neurons per fact and layer, (facts, layers); shared: neurons in both sets, (facts,);
    rank_correlation: Spearman's over the shared neurons that have scores in both, (facts,), NaN with fewer than three
    or where all scores of a set are equal; n_first: facts that the first searched.
    """

    first: Counts
    second: Counts
    shared: ByFact
    rank_correlation: ByFact
    n_first: int


def compare_pairs(pairs: Iterable[Pair], seed: int = 0, resamples: int = DEFAULT_RESAMPLES) -> pd.DataFrame:
    """How alike the sets of each pair are: a row per pair, language and statistic, with intervals over facts.

    jaccard: shared neurons over those in either set; jaccard_chance: the same after the neurons of the second set are
    drawn again, uniformly within their layers; jaccard_above_chance: the difference; share_of_selection,
    share_of_other: shared neurons over those of the first and of the second set; rank_correlation: of the scores of
    shared neurons; size_of_selection, size_of_other: neurons per fact; layer_distance: total variation between the
    layer profiles, 0 (the same) to 1 (no layer in common); coverage: share of the first's facts that both searched.
    Facts without the statistic (both sets empty; fewer than three shared scores) are not in its n.

    Raises: AtlasError for sets of different models, or without a language in common.
    """
    rows = []
    for first, second in pairs:
        for language in shared_languages(first, second):
            compared = compare_facts(first, second, language)
            stream = random_stream(seed, "compare", first.model, first.selection, second.selection, language)
            key = (first.model, first.selection, second.selection, language)
            rows += [(*key, *row) for row in _statistics(compared, first.n_neurons, stream, seed, resamples)]
    return pd.DataFrame(rows, columns=COMPARISON_COLUMNS)


def layer_profiles(pairs: Iterable[Pair], seed: int = 0, resamples: int = DEFAULT_RESAMPLES) -> pd.DataFrame:
    """Share of neuron occurrences in each layer, over the facts that both of a pair searched.

    Two rows per pair, language and layer: the profile of `selection` beside `other`, and the other way round.
    value, a share of 1; n, facts; n_neurons, occurrences in the layer. NaN where every set is empty.
    """
    rows = []
    for first, second in pairs:
        for language in shared_languages(first, second):
            compared = compare_facts(first, second, language)
            for own, other, counts in ((first, second, compared.first), (second, first, compared.second)):
                key = (own.model, own.selection, other.selection, language)
                rows += [(*key, *row) for row in _profile(counts, seed, resamples)]
    return pd.DataFrame(rows, columns=LAYER_COLUMNS)


def shared_languages(first: NeuronSets, second: NeuronSets) -> list[str]:
    """The languages in which two selections are compared: those of both, where "all" stands for each.

    Raises: AtlasError for sets of different models or shapes, or without a language in common.
    """
    names = f"{first.selection} and {second.selection}"
    if (first.model, first.shape) != (second.model, second.shape):
        raise AtlasError(
            f"{names} are sets of {first.model} {first.shape} and {second.model} {second.shape}; only sets of the same "
            "model, with the same numbers of layers and neurons, can be compared"
        )
    if ALL in (*first.languages, *second.languages):
        return second.languages if first.languages == [ALL] else first.languages
    shared = [name for name in first.languages if name in second.languages]
    if not shared:
        raise AtlasError(
            f"{names} have no language in common ({' '.join(first.languages)}; {' '.join(second.languages)})"
        )
    return shared


def compare_facts(first: NeuronSets, second: NeuronSets, language: str) -> Compared:
    """The counts of every fact that both searched in the language."""
    facts = first.facts if first.facts != [ALL] else second.facts
    own = [fact for fact in facts if _is_searched(first, fact, language)]
    both = [fact for fact in own if _is_searched(second, fact, language)]
    found = [_neurons(sets, both, language) for sets in (first, second)]
    shared = [sorted(a.keys() & b.keys()) for a, b in zip(*found, strict=True)]
    correlations = [
        _rank_correlation([[part[place] for place in places] for part in parts])
        for *parts, places in zip(*found, shared, strict=True)
    ]
    counts = [_count(part, first.n_layers) for part in found]
    n_shared = np.array([len(places) for places in shared], dtype=float)
    return Compared(*counts, n_shared, np.array(correlations, dtype=float), len(own))


def _place(sets: NeuronSets, fact: str) -> str:
    return ALL if sets.facts == [ALL] else fact


def _is_searched(sets: NeuronSets, fact: str, language: str) -> bool:
    return sets.is_searched(_place(sets, fact), language)


def _neurons(sets: NeuronSets, facts: list[str], language: str) -> list[Neurons]:
    """The neurons of each of the facts, with their scores."""
    language = ALL if sets.languages == [ALL] else language
    rows = sets.table[(sets.table["language"] == language) & (sets.table["draw"] == 0)]
    found: dict[str, Neurons] = {}
    for fact, layer, index, score in zip(*(rows[name] for name in ("fact", "layer", "index", "score")), strict=True):
        found.setdefault(fact, {})[layer, index] = score
    return [found.get(_place(sets, fact), {}) for fact in facts]


def _count(found: list[Neurons], n_layers: int) -> Counts:
    counts = np.zeros((len(found), n_layers), dtype=np.int64)
    for i, neurons in enumerate(found):
        np.add.at(counts[i], [layer for layer, _ in neurons], 1)
    return counts


def _rank_correlation(scores: list[list[float]]) -> float:
    """Spearman's of two rows of scores; NaN with fewer than three neurons that have both, or with a constant row."""
    both = np.array(scores, dtype=float)
    both = both[:, ~np.isnan(both).any(axis=0)]
    if both.shape[1] < MIN_RANKED or (both == both[:, :1]).all(axis=1).any():
        return np.nan
    return float(np.corrcoef([pd.Series(row).rank() for row in both])[0, 1])


def _statistics(
    compared: Compared, n_neurons: int, stream: np.random.Generator, seed: int, resamples: int
) -> Iterator[tuple[str, float, float, float, int]]:
    first, second = (counts.sum(axis=1).astype(float) for counts in (compared.first, compared.second))
    jaccard = _jaccard(compared.shared, first, second)
    chance = _chance(compared, n_neurons, stream)
    by_fact = {
        "jaccard": jaccard,
        "jaccard_chance": chance,
        "jaccard_above_chance": jaccard - chance,
        "share_of_selection": _share(compared.shared, first),
        "share_of_other": _share(compared.shared, second),
        "rank_correlation": compared.rank_correlation,
        "size_of_selection": first,
        "size_of_other": second,
    }
    for name, values in by_fact.items():
        yield name, *bootstrap_mean(values, seed, resamples)
    yield "layer_distance", *_layer_distance(compared, seed, resamples)
    is_compared = (np.arange(compared.n_first) < len(first)).astype(float)
    yield "coverage", *bootstrap_mean(is_compared, seed, resamples)


def _chance(compared: Compared, n_neurons: int, stream: np.random.Generator) -> ByFact:
    """Mean Jaccard index of the first sets with random ones that have the second's number of neurons in every layer.

    What a random set shares with the first in a layer is hypergeometric, so that the sets themselves aren't drawn.
    """
    first, second = compared.first, compared.second
    sizes = [counts.sum(axis=1).astype(float) for counts in (first, second)]
    draws = [
        _jaccard(stream.hypergeometric(first, n_neurons - first, second).sum(axis=1), *sizes) for _ in range(N_RANDOM)
    ]
    return np.mean(draws, axis=0)


def _jaccard(shared: np.ndarray, first: ByFact, second: ByFact) -> ByFact:
    return _share(shared, first + second - shared)


def _share(part: np.ndarray, whole: ByFact) -> ByFact:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def _layer_distance(compared: Compared, seed: int, resamples: int) -> Interval:
    """Half the sum over layers of the differences between the two profiles, facts drawn together."""
    n = len(compared.first)
    if not compared.first.any() or not compared.second.any():
        return Interval(np.nan, np.nan, np.nan, n)
    drawn = _distance(*(resample_weights(n, resamples, seed) @ part for part in (compared.first, compared.second)))
    value = _distance(*(part.sum(axis=0, keepdims=True) for part in (compared.first, compared.second)))
    return percentile_interval(float(value[0]), drawn, n)


def _distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Total variation between rows of counts; NaN where a row is empty."""
    with np.errstate(invalid="ignore"):
        profiles = [counts / counts.sum(axis=1, keepdims=True) for counts in (first, second)]
    return np.abs(profiles[0] - profiles[1]).sum(axis=1) / 2


def _profile(counts: Counts, seed: int, resamples: int) -> Iterator[tuple]:
    total = counts.sum(axis=1)
    for layer, column in enumerate(counts.T):
        yield layer, *bootstrap_ratio(column, total, seed, resamples), int(column.sum())
