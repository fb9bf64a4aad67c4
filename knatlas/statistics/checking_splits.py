"""Training and test part of a relation's facts, and the degenerate neurons that the former offers (AMIG Table 3)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from knatlas.errors import AtlasError, unknown
from knatlas.selection.controls import random_stream

PLACE = ["model", "language", "relation"]
ONE_FACT, NO_OBJECT, NO_NEURONS = "one fact", "no wrong object", "no degenerate neurons"


@dataclass(frozen=True)
class CheckSettings:
    """How facts are split and neurons are kept.

    splits: divisions into training and test part. train_share: of a relation's facts. count_share: neurons in more
    clusters than this share of the largest count are kept. code_threshold: lambda of the readings `paper` and `code`.
    """

    splits: int = 5
    train_share: float = 0.8
    count_share: float = 0.7
    code_threshold: float = 1e-6

    @classmethod
    def of(cls, settings: Mapping) -> "CheckSettings":
        """From a study's settings, of which `wrong_objects` concerns the scores alone. Raises: AtlasError."""
        known = [field.name for field in fields(cls)]
        own = {name: value for name, value in settings.items() if name != "wrong_objects"}
        for name in own:
            if name not in known:
                raise AtlasError(unknown("fact_checking: a setting", name, "a setting of fact-checking", known))
        return cls(**own)


class Split(NamedTuple):
    """One division of a relation's facts.

    facts: positions of those that are asked. is_test: of these. is_kept (neurons,): neurons that the training part
    keeps. drawn: number of the wrong object that each fact is asked with.
    """

    facts: Int[np.ndarray, " fact"]
    is_test: Bool[np.ndarray, " fact"]
    is_kept: Bool[np.ndarray, " neuron"]
    drawn: Int[np.ndarray, " fact"]


@dataclass(frozen=True)
class RelationFacts:
    """A relation's facts in one language of a model, and how many degenerate clusters of each fact a neuron is in.

    facts: sorted ids. n_wrong (facts,): wrong objects of each. neurons (neurons, 2): layer and index, sorted.
    counts (facts, neurons).
    """

    place: tuple[str, str, str]
    facts: np.ndarray
    n_wrong: Int[np.ndarray, " fact"]
    neurons: Int[np.ndarray, "neuron 2"]
    counts: Int[np.ndarray, "fact neuron"]

    @property
    def obstacle(self) -> str:
        """Why its facts can't be split at all, or an empty string: one fact, or fewer than two with a wrong object."""
        if len(self.facts) == 1:
            return ONE_FACT
        return NO_OBJECT if (self.n_wrong > 0).sum() < 2 else ""

    def split(self, number: int, settings: CheckSettings, seed: int) -> Split | None:
        """A division of the facts that have a wrong object; None where it can't be split or has no neuron to keep."""
        if self.obstacle:
            return None
        asked = np.flatnonzero(self.n_wrong > 0)
        is_test = draw_test_facts(self.facts[asked], number, settings.train_share, seed)
        is_kept = kept_neurons(self.counts[asked[~is_test]].sum(axis=0), settings.count_share)
        if not is_kept.any():
            return None
        lots = _lots(self.facts[asked], "wrong object", number, seed)
        return Split(asked, is_test, is_kept, 1 + np.floor(lots * self.n_wrong[asked]).astype(int))


def draw_test_facts(facts: np.ndarray, number: int, train_share: float, seed: int) -> Bool[np.ndarray, " fact"]:
    """Which of two or more facts are tested in a split: the rest of train_share, at least one, and never all.

    Each fact's lot depends on the seed, the number of the split and the fact alone.
    """
    n_test = min(max(1, round((1 - train_share) * len(facts))), len(facts) - 1)
    is_test = np.zeros(len(facts), dtype=bool)
    is_test[np.argsort(_lots(facts, "split", number, seed), kind="stable")[:n_test]] = True
    return is_test


def _lots(facts: np.ndarray, purpose: str, number: int, seed: int) -> np.ndarray:
    return np.array([random_stream(seed, purpose, number, fact).random() for fact in facts])


def kept_neurons(counts: Int[np.ndarray, " neuron"], count_share: float) -> Bool[np.ndarray, " neuron"]:
    """Neurons in more clusters than floor(count_share * largest count), and in at least one."""
    # by decimals: 0.7 * 90 is less than 63 in binary
    floor = math.floor(Fraction(str(count_share)) * int(counts.max(initial=0)))
    return counts > max(floor, 0)


def relation_facts(candidates: pd.DataFrame, clusters: pd.DataFrame) -> list[RelationFacts]:
    """Every model, language and relation with its facts, sorted; clusters of random sets don't count.

    Raises: AtlasError for clusters of facts without candidates.
    """
    found = clusters[clusters["sets"] == "found"]
    groups = dict(iter(found.groupby(PLACE)))
    nothing = found.iloc[:0]
    return [_relation_facts(place, group, groups.get(place, nothing)) for place, group in candidates.groupby(PLACE)]


def _relation_facts(place: tuple[str, str, str], candidates: pd.DataFrame, clusters: pd.DataFrame) -> RelationFacts:
    n_wrong = candidates.groupby("fact")["candidate"].max().sort_index()
    row = n_wrong.index.get_indexer(clusters["fact"])
    if (row < 0).any():
        fact = clusters["fact"].iloc[int(np.argmax(row < 0))]
        raise AtlasError(
            f"{' '.join(place)}: fact {fact} has degenerate neurons and no candidates; rerun score_candidates"
        )
    pairs = clusters[["layer", "index"]].to_numpy(np.int64).reshape(-1, 2)
    neurons, column = np.unique(pairs, axis=0, return_inverse=True)
    counts = np.zeros((len(n_wrong), len(neurons)), dtype=np.int64)
    np.add.at(counts, (row, column.ravel()), 1)
    return RelationFacts(place, n_wrong.index.to_numpy(str), n_wrong.to_numpy(), neurons, counts)
