"""How edits change P(answer) of each fact's first query and of an irrelevant fact (AMIG, Eq. 11), draws averaged."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from knatlas.selection.controls import random_stream
from knatlas.statistics.summaries import relative_change

OPERATIONS = ["suppress", "enhance"]
PROBES = ["own", "same_relation", "other_relation"]
OWN, SAME, OTHER = range(len(PROBES))
CHANGES = ["relative", "absolute", "size"]  # a share of P before, a difference, |difference|
CELLS = [f"{operation}_{role}" for operation in OPERATIONS for role in ("relevant", "irrelevant")]
ByCell = Float[np.ndarray, "fact cell change"]


@dataclass(frozen=True)
class EditChanges:
    """The changes that edits of facts make, one group of measurements.

    facts and relations, names in the order of the facts; is_empty, no draw of the fact has neurons; changes, means over
    draws of CHANGES by OPERATIONS and PROBES, NaN where P before is 0 or nothing was measured; is_measured, whether
    the probe is there, be P before 0 or not.
    """

    facts: np.ndarray
    relations: np.ndarray
    is_empty: Bool[np.ndarray, " fact"]
    changes: Float[np.ndarray, "fact operation probe change"]
    is_measured: Bool[np.ndarray, "fact probe"]

    @classmethod
    def of(cls, rows: pd.DataFrame) -> "EditChanges":
        """The changes of one group of the rows that `manipulate` returns; of own queries the lowest number counts."""
        facts, places, fact = np.unique(rows["fact"].to_numpy(str), return_index=True, return_inverse=True)
        n_neurons = np.zeros(len(facts))
        np.maximum.at(n_neurons, fact, rows["n_neurons"].to_numpy(float))
        changes, counts = _means(rows, fact, len(facts))
        relations = rows["relation"].to_numpy(str)[places]
        return cls(facts, relations, n_neurons == 0, changes, (counts > 0).any(axis=1))

    def cells(self, is_any_fact: bool, seed: int) -> ByCell:
        """The changes of relevant and irrelevant facts, in the order of CELLS.

        The irrelevant fact is one of another relation, or any other fact: then the one of the same relation, as often
        as a fact drawn among all others is of the same relation. It's drawn by the seed and the fact, the same one
        under both operations and in every group of the same facts.
        """
        probe = self._any_fact(seed) if is_any_fact else np.full(len(self.facts), OTHER)
        irrelevant = self.changes[np.arange(len(probe)), :, probe]
        by_role = np.stack([self.changes[:, :, OWN], irrelevant], axis=2)  # fact operation role change
        return by_role.reshape(len(probe), len(CELLS), len(CHANGES))

    def _any_fact(self, seed: int) -> np.ndarray:
        """The probe of each fact's irrelevant fact."""
        drawn = np.where(self._is_of_same_relation(seed), SAME, OTHER)
        other, every = SAME + OTHER - drawn, np.arange(len(drawn))
        # a probe is missing where, say, all facts of the relation have one answer: the other one is a fact as well
        return np.where(self.is_measured[every, other] & ~self.is_measured[every, drawn], other, drawn)

    def _is_of_same_relation(self, seed: int) -> Bool[np.ndarray, " fact"]:
        """Whether one fact, drawn among all others, is of the fact's own relation."""
        _, relation, n_facts = np.unique(self.relations, return_inverse=True, return_counts=True)
        lots = np.array([random_stream(seed, "irrelevant", fact).random() for fact in self.facts])
        return lots * max(len(lots) - 1, 1) < n_facts[relation] - 1


def _means(rows: pd.DataFrame, fact: np.ndarray, n_facts: int) -> tuple[np.ndarray, np.ndarray]:
    """Means of CHANGES, and the number of measurements, of each fact's first query and irrelevant facts."""
    shape = (n_facts, len(OPERATIONS), len(PROBES))
    operation, probe = (_places(rows[name], known) for name, known in (("operation", OPERATIONS), ("probe", PROBES)))
    kept = np.flatnonzero(_is_first(rows, fact, probe == OWN) & (operation >= 0) & (probe >= 0))
    # sorted, so that a mean over draws doesn't depend on the order of the rows
    kept = kept[np.lexsort((rows["p_after"].to_numpy(float)[kept], fact[kept]))]
    cell = np.ravel_multi_index((fact[kept], operation[kept], probe[kept]), shape)
    n_cells, changes = int(np.prod(shape)), _changes(rows)[kept]
    is_known = ~np.isnan(changes[:, 0])  # all changes of a measurement are defined, or none
    n_known = np.bincount(cell[is_known], minlength=n_cells)
    sums = [np.bincount(cell[is_known], column[is_known], minlength=n_cells) for column in changes.T]
    with np.errstate(invalid="ignore"):  # 0/0: nothing is defined
        means = np.stack(sums, axis=1) / n_known[:, None]
    return means.reshape(*shape, len(CHANGES)), np.bincount(cell, minlength=n_cells).reshape(shape)


def _places(column: pd.Series, known: list[str]) -> np.ndarray:
    """The place of each value in a list, -1 for one that isn't in it."""
    values = column.to_numpy(str)
    return np.select([values == name for name in known], range(len(known)), -1)


def _is_first(rows: pd.DataFrame, fact: np.ndarray, is_own: np.ndarray) -> np.ndarray:
    """Whether a row is of the first of its fact's own queries, or of an irrelevant fact."""
    query = rows["query"].to_numpy(float)
    first = np.full(fact.max(initial=-1) + 1, np.inf)
    np.minimum.at(first, fact[is_own], query[is_own])
    return ~is_own | (query == first[fact])


def _changes(rows: pd.DataFrame) -> Float[np.ndarray, "row change"]:
    before, after = rows["p_before"].to_numpy(float), rows["p_after"].to_numpy(float)
    is_defined = before > 0
    difference = np.where(is_defined, after - before, np.nan)
    relative = np.where(is_defined, relative_change(before, after), np.nan)
    return np.stack([relative, difference, np.abs(difference)], axis=1)
