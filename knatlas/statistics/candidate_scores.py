"""The scores of a relation's candidates as arrays, by fact, candidate and neuron."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from knatlas.errors import AtlasError
from knatlas.statistics.checking_splits import PLACE, RelationFacts, Split

SCORES = ["attribution", "activation"]


@dataclass(frozen=True)
class RelationScores:
    """What was measured of a relation's candidates; NaN where a fact has fewer candidates than others.

    probability, is_argmax (facts, candidates); attribution, activation (facts, candidates, neurons): in the order of
    `facts`, candidate 0 the true object.
    """

    facts: RelationFacts
    probability: Float[np.ndarray, "fact candidate"]
    is_argmax: Float[np.ndarray, "fact candidate"]
    attribution: Float[np.ndarray, "fact candidate neuron"]
    activation: Float[np.ndarray, "fact candidate neuron"]

    def ask(self, split: Split, wrong: Int[np.ndarray, " fact"]) -> dict[str, Float[np.ndarray, "fact 2"]]:
        """Scores of true and wrong object by detector. Args: wrong, the candidate that stands for the wrong ones."""
        cells = split.facts[:, None], np.stack([np.zeros_like(wrong), wrong], axis=1)
        return {
            "dkn_attribution": self.attribution[cells][..., split.is_kept].mean(axis=-1),
            "dkn_activation": self.activation[cells][..., split.is_kept].mean(axis=-1),
            "probability": self.probability[cells],
            "argmax": self.is_argmax[cells],
            "always": np.ones((len(wrong), 2)),
        }


def relation_scores(
    candidates: pd.DataFrame, scores: pd.DataFrame, relations: Sequence[RelationFacts]
) -> list[RelationScores]:
    """The arrays of each relation, in their order.

    Raises: AtlasError where a degenerate neuron of a relation has no score for one of its candidates.
    """
    names = candidates.drop_duplicates("fact").set_index("fact")["relation"]
    keys = scores[["model", "language"]].assign(relation=scores["fact"].map(names))
    groups = keys.astype("category").groupby(PLACE, observed=True).indices
    nothing, rows = np.zeros(0, dtype=np.int64), candidates.groupby(PLACE).indices
    return [
        _relation_scores(of, candidates.iloc[rows[of.place]], scores.iloc[groups.get(of.place, nothing)])
        for of in relations
    ]


def _relation_scores(of: RelationFacts, candidates: pd.DataFrame, scores: pd.DataFrame) -> RelationScores:
    shape = (len(of.facts), 1 + int(of.n_wrong.max()))
    cells = np.searchsorted(of.facts, candidates["fact"].to_numpy(str)), candidates["candidate"].to_numpy()
    flat = {name: np.full(shape, np.nan) for name in ("p", "is_argmax")}
    for name, values in flat.items():
        values[cells] = candidates[name].to_numpy(float)
    deep = _by_neuron(of, scores, (*shape, len(of.neurons)))
    if any(np.isnan(values[cells]).any() for values in deep.values()):
        raise AtlasError(f"{' '.join(of.place)}: degenerate neurons without scores; rerun score_candidates")
    return RelationScores(of, flat["p"], flat["is_argmax"], **deep)


def _by_neuron(of: RelationFacts, scores: pd.DataFrame, shape: tuple[int, int, int]) -> dict[str, np.ndarray]:
    """Scores at the relation's neurons; NaN where there is none."""
    known = pd.MultiIndex.from_arrays(of.neurons.T)
    neuron = known.get_indexer(pd.MultiIndex.from_arrays([scores["layer"], scores["index"]]))
    facts = scores["fact"].astype("category").cat
    row = pd.Index(of.facts).get_indexer(facts.categories)[facts.codes]
    cells, is_known = (row, scores["candidate"].to_numpy(), neuron), neuron >= 0
    found = {name: np.full(shape, np.nan) for name in SCORES}
    for name, values in found.items():
        values[tuple(cell[is_known] for cell in cells)] = scores[name].to_numpy(float)[is_known]
    return found
