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
        # sorted, so that a mean over draws doesn't depend on the order of the rows
        rows = _with_changes(_first_queries(rows)).sort_values(["fact", "p_after"], kind="stable")
        facts = rows.groupby("fact").agg(relation=("relation", "first"), n_neurons=("n_neurons", "max"))
        cells = rows.groupby(["fact", "operation", "probe"])[CHANGES].mean()
        keys = pd.MultiIndex.from_product([facts.index, OPERATIONS, PROBES])
        shape = (len(facts), len(OPERATIONS), len(PROBES))
        return cls(
            facts.index.to_numpy(str),
            facts["relation"].to_numpy(str),
            (facts["n_neurons"] == 0).to_numpy(),
            cells.reindex(keys).to_numpy(float).reshape(*shape, len(CHANGES)),
            keys.isin(cells.index).reshape(shape).any(axis=1),
        )

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


def _first_queries(rows: pd.DataFrame) -> pd.DataFrame:
    """Only the first of each fact's own queries, and the irrelevant facts."""
    is_own = rows["probe"] == "own"
    first = rows["query"].where(is_own).groupby(rows["fact"]).transform("min")
    return rows[~is_own | (rows["query"] == first)]


def _with_changes(rows: pd.DataFrame) -> pd.DataFrame:
    before, after = rows["p_before"].to_numpy(float), rows["p_after"].to_numpy(float)
    is_defined = before > 0
    difference = np.where(is_defined, after - before, np.nan)
    relative = np.where(is_defined, relative_change(before, after), np.nan)
    return rows.assign(relative=relative, absolute=difference, size=np.abs(difference))
