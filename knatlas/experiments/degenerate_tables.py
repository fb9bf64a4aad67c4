"""The tables of the search for degenerate neurons: tested pairs, degenerate clusters, searched facts."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from knatlas.experiments.measurement import Request
from knatlas.selection.degenerate import Combination, Found

TEXTS = dict.fromkeys(["model", "sets", "fact", "relation", "language"], "str")
NUMBERS = {"n_neurons": "int64", "n_top": "int64", "n_candidates": "int64", "n_pairs": "int64"}
NUMBERS |= {"n_degenerate_pairs": "int64", "n_super_additive": "int64", "n_clusters": "int64", "n_raised": "int64"}
PLACES = ["first_layer", "first_index", "second_layer", "second_index"]
PROBABILITIES = ["p_before", "p_first", "p_second", "p_both"]
PAIR_TYPES = {
    **TEXTS,
    **dict.fromkeys(PLACES, "int32"),
    **dict.fromkeys([*PROBABILITIES, "drop_1", "drop_2", "drop_12", "excess"], "float64"),
    "is_degenerate": "bool",
}
CLUSTER_TYPES = {
    **TEXTS,
    **dict.fromkeys(["cluster", "size", "layer", "index"], "int32"),
    **dict.fromkeys(["score", "p_before", "p_after", "drop", "sum_of_drops", "excess"], "float64"),
}
FACT_TYPES = {**TEXTS, "p_before": "float64", **NUMBERS}


class Search(NamedTuple):
    """One fact in one language with the neurons to search: layers, indices, scores (NaN for random neurons).

    sets says whose they are, "found" or "random"; n_neurons is the size of the set whose top they are; query is the
    fact's first.
    """

    model: str
    sets: str
    fact: str
    relation: str
    language: str
    query: int
    n_neurons: int
    layers: np.ndarray
    indices: np.ndarray
    scores: np.ndarray

    @property
    def identity(self) -> tuple[str, ...]:
        """The columns that name it in every table."""
        return self.model, self.sets, self.fact, self.relation, self.language

    def request(self, neurons: Combination, factor: float) -> Request:
        """The question for P(answer) with some of the neurons multiplied by a factor."""
        chosen = list(neurons)
        return Request(self.fact, self.language, self.query, self.layers[chosen], self.indices[chosen], factor)


def tabulate(searches: Sequence[Search], found: Sequence[Found]) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Tables of pairs, of members of degenerate clusters, and of facts, in the order of the searches.

    Drops and excess are in the unit of the thresholds. A cluster is numbered within its search, smaller ones first.
    """
    both = list(zip(searches, found, strict=True))
    pairs = [row for search, result in both for row in _pair_rows(search, result)]
    members = [row for search, result in both for row in _member_rows(search, result)]
    facts = [_fact_row(search, result) for search, result in both]
    return _typed(pairs, PAIR_TYPES), _typed(members, CLUSTER_TYPES), _typed(facts, FACT_TYPES)


def _typed(rows: list[tuple], types: dict[str, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(types)).astype(types)


def _pair_rows(search: Search, found: Found) -> Iterator[tuple]:
    for pair in found.pairs:
        first, second = (found.singles[neuron] for neuron in pair.neurons)
        places = [place for i in pair.neurons for place in (search.layers[i], search.indices[i])]
        p = (found.p_before, first.p, second.p, pair.p)
        drops = (first.drop, second.drop, pair.drop, found.excess(pair))
        yield *search.identity, *places, *p, *drops, found.is_degenerate(pair)


def _member_rows(search: Search, found: Found) -> Iterator[tuple]:
    for number, part in enumerate(found.clusters):
        measured = (found.p_before, part.p, part.drop, found.sum_of_drops(part), found.excess(part))
        for i in part.neurons:
            neuron = (search.layers[i], search.indices[i], search.scores[i])
            yield *search.identity, number, len(part.neurons), *neuron, *measured


def _fact_row(search: Search, found: Found) -> tuple:
    pairs = [pair for pair in found.pairs if found.is_degenerate(pair)]
    n_super_additive = sum(found.excess(pair) > 0 for pair in pairs)
    sizes = (search.n_neurons, len(search.layers), len(found.candidates), len(found.pairs))
    counts = (len(pairs), n_super_additive, len(found.clusters), found.n_raised)
    return *search.identity, found.p_before, *sizes, *counts
