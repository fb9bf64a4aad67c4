"""Algorithm 1 of AMIG on planted pairs: among the neurons that AMIG selects, and among the planted ones."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from knatlas.experiments.degenerate import search_degenerate
from knatlas.experiments.evaluation import evaluate_with
from knatlas.experiments.planted_readings import DEFAULT
from knatlas.models.planted.design import PAIRS
from knatlas.models.planted.planting import PlantedModel
from knatlas.models.planted.tuning import BATCH_ROWS
from knatlas.selection.degenerate import Thresholds
from knatlas.selection.neuron_set import FoundSet, NeuronSets, as_table
from knatlas.selection.scores import Scores
from knatlas.selection.select import select

SELECTION, REFERENCE, GIVEN = "dkn", "amig", "given"
Found = tuple[str, str, str, str, np.ndarray, np.ndarray]


def search_pairs(planted: PlantedModel, plants: pd.DataFrame, scores: Scores, settings: Mapping) -> Iterator[Found]:
    """Selection, reading, fact, language, scores and set of the search for the facts that are stored in pairs.

    Reading "default" searches among AMIG's neurons, "given" among the fact's planted ones: what then is missed is
    missed by the thresholds, not by the attribution. The score of a neuron is the number of degenerate combinations
    that it is in.
    """
    if settings["selections"] != "all" and SELECTION not in settings["selections"]:
        return
    facts = [fact.fact for fact in planted.facts if fact.group in PAIRS]
    languages = planted.design.language_names[: settings["search"]["languages"]]
    limits = {key: value for key, value in settings["search"].items() if key != "languages"}
    ((found, _),) = select(scores, {**settings["selection"], "selections": [REFERENCE]}, settings["seed"])
    given = _given(found, plants[plants["kind"].isin(PAIRS)], facts, languages)
    prompts = planted.prompts[planted.prompts["language"].isin(languages)]
    evaluate = evaluate_with(planted.lm, prompts, BATCH_ROWS)
    for reading, sets in ((DEFAULT, _only(found, facts, languages)), (GIVEN, given)):
        result = search_degenerate(sets, prompts, evaluate, Thresholds(**limits), seed=settings["seed"]).sets
        for fact in facts:
            for language in languages:
                yield SELECTION, reading, fact, language, *_as_arrays(result, fact, language)


def _only(sets: NeuronSets, facts: Sequence[str], languages: Sequence[str]) -> NeuronSets:
    """The sets of some facts and languages."""
    table = sets.table[sets.table["fact"].isin(facts) & sets.table["language"].isin(languages)]
    return replace(sets, table=table.reset_index(drop=True), facts=list(facts), languages=list(languages))


def _given(sets: NeuronSets, plants: pd.DataFrame, facts: Sequence[str], languages: Sequence[str]) -> NeuronSets:
    """The planted pairs as if they had been found."""
    parts = []
    for fact in facts:
        own = plants[plants["fact"] == fact].drop_duplicates("plant")
        for language in languages:
            parts.append(FoundSet(fact, language, 0, *own[["layer", "index"]].to_numpy().T, np.ones(len(own))))
    table = as_table(REFERENCE, parts)
    return replace(sets, table=table, facts=list(facts), languages=list(languages))


def _as_arrays(sets: NeuronSets, fact: str, language: str) -> tuple[np.ndarray, np.ndarray]:
    """The scores of the neurons of a set, 0 elsewhere, and the set."""
    scores = np.zeros(sets.shape)
    own = sets.table[(sets.table["fact"] == fact) & (sets.table["language"] == language)]
    scores[own["layer"], own["index"]] = own["score"]
    return scores, scores > 0
