"""Neurons as a file of other people lists them: under that file's own names of facts, with nothing left out."""

from typing import NamedTuple

import numpy as np

from knatlas.errors import AtlasError
from knatlas.selection.neuron_set import ALL, NeuronSets

LARGEST = 2**31 - 1  # layers and indices are kept as 32 bits


class ListedSet(NamedTuple):
    """The neurons that a file lists under a key in a language, each once; scores are NaN where the file has none."""

    key: str
    language: str
    layers: np.ndarray
    indices: np.ndarray
    scores: np.ndarray


def listed_set(key: str, language: str, neurons: object, where: str) -> ListedSet:
    """A set without scores, by layer and index; a neuron that is listed twice counts once.

    Args: neurons, what should be a list of pairs [layer, index], both 0-based; where, for the sentence.
    Raises: AtlasError for a flat list and for anything else that isn't pairs of whole numbers from 0.
    """
    _check_pairs(neurons, where)
    pairs = np.array(sorted({tuple(pair) for pair in neurons}), dtype=np.int64).reshape(-1, 2)
    return ListedSet(key, language, pairs[:, 0], pairs[:, 1], np.full(len(pairs), np.nan))


def sets_as_listed(sets: NeuronSets, where: str) -> list[ListedSet]:
    """The sets of a file in the atlas's own format, with their scores; the facts are the keys.

    Raises: AtlasError for a random control, which has several sets for each fact.
    """
    if sets.n_draws > 1:
        raise AtlasError(f"{where} holds {sets.n_draws} draws of each set; expected a selection with one set per fact")
    parts = dict(iter(sets.table.groupby(["fact", "language"], sort=False)))
    searched = [(fact, name) for fact in sets.facts for name in sets.languages if sets.is_searched(fact, name)]
    listed = []
    for key in searched:
        part = parts.get(key, sets.table[:0])
        listed.append(ListedSet(*key, *(part[name].to_numpy() for name in ("layer", "index", "score"))))
    return listed


def is_for_all_facts(listed: list[ListedSet]) -> bool:
    """Whether the file lists one set per language that belongs to no fact, but to all."""
    return bool(listed) and all(part.key == ALL for part in listed)


def _check_pairs(neurons: object, where: str) -> None:
    expected = "expected a list of pairs [[layer, index], ...], both counted from 0"
    if not isinstance(neurons, list):
        raise AtlasError(f"{where} is {_short(neurons)}; {expected}")
    if neurons and all(_is_place(part) for part in neurons):
        raise AtlasError(f"{where} is a flat list of numbers ({_short(neurons)}); {expected}")
    for i, pair in enumerate(neurons):
        if not (isinstance(pair, list) and len(pair) == 2 and all(_is_place(part) for part in pair)):
            raise AtlasError(f"{where}: entry {i} is {_short(pair)}; {expected}")


def _is_place(value: object) -> bool:
    # True and 3.0 are numbers to Python, but no layer
    return type(value) is int and 0 <= value <= LARGEST


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
