"""What every planted neuron does: its activation, and P(answer) without it, query by query."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from knatlas.models.answers import answer_probabilities
from knatlas.models.encoding import EncodedQuery, encode_prompts
from knatlas.models.planted.design import (
    ACROSS_LAYERS,
    ALL,
    DISTRACTOR,
    LANGUAGE,
    PAIRS,
    RELATION,
    SAME_LAYER,
    STRENGTHS,
    Plant,
)
from knatlas.models.planted.detectors import read_states
from knatlas.models.planted.planting import PlantedModel
from knatlas.models.planted.tuning import BATCH_ROWS, zeroed

ACTIVE = 1.0  # smallest activation of a neuron that counts as active
PART = 0.5  # of the designed effect: less is no ground truth
UNNOTICED = 0.2  # largest loss of P by one neuron of a degenerate pair
NO_EFFECT = 0.05  # largest change of P by a distractor
SHARED_EFFECT = 0.02  # smallest loss of P by a neuron of a relation or of a language
QUERY_COLUMNS = [
    *("plant", "kind", "layer", "index", "group", "strength", "fact", "language", "query", "is_held_out"),
    *("activation", "p_before", "p_without", "p_without_pair"),
]
PLANT_COLUMNS = [
    *("plant", "kind", "layer", "index", "group", "strength", "fact", "language"),
    *("activation", "p_before", "effect", "effect_of_pair", "is_acting"),
]


def check_queries(planted: PlantedModel) -> pd.DataFrame:
    """One row per planted neuron and query that it is meant for, held-out ones too (QUERY_COLUMNS).

    activation: of the neuron at the read position; p_before, P(answer); p_without, with the neuron zeroed there;
    p_without_pair, with both neurons of its pair zeroed, NaN for others.
    """
    queries = encode_prompts(planted.lm, planted.prompts)
    activations, facts = read_states(planted.lm, queries)[1], {fact.fact: fact for fact in planted.facts}
    before = answer_probabilities(planted.lm, queries, BATCH_ROWS)["p"].to_numpy()
    pairs = _pairs(planted.plants)
    rows, asked, scalings = [], [], []
    for number, plant in enumerate(planted.plants):
        own, both = zeroed([plant]), zeroed(pairs.get(plant.fact, [plant]))
        for i in _queries_of(planted, plant, queries):
            query, fact = queries[i], facts[queries[i].fact]
            identity = (number, plant.kind, plant.layer, plant.index, fact.group, fact.strength)
            is_held_out = query.query >= planted.design.paraphrases
            place = (query.fact, query.language, query.query, is_held_out)
            rows.append((*identity, *place, activations[plant.layer][i, plant.index], before[i]))
            asked += [query, query]
            scalings += [own, both if plant.kind in PAIRS else own]
    p = answer_probabilities(planted.lm, asked, BATCH_ROWS, scalings)["p"].to_numpy()
    table = pd.DataFrame(rows, columns=QUERY_COLUMNS[:-2])
    table["p_without"], is_pair = p[::2], table["kind"].isin(PAIRS)
    table["p_without_pair"] = np.where(is_pair, p[1::2], np.nan)
    return table


def check_plants(queries: pd.DataFrame) -> pd.DataFrame:
    """One row per planted neuron, fact and language that it is meant for, and whether it does what its kind says.

    effect and effect_of_pair: shares of P(answer), over the planting paraphrases, that are lost with the neuron (with
    both of its pair) zeroed. is_acting: active in all of these queries, and in every language of the fact
    agnostic, specific, additive: effect at least half of the designed one; degenerate pairs: effect at most 0.2, and
    together at least half of the designed one; distractor: effect within 0.05; relation, language: effect at least
    0.02. What is not acting is no ground truth.
    """
    kept = queries[~queries["is_held_out"]]
    keys = PLANT_COLUMNS[:8]
    table = kept.groupby(keys, sort=False).agg(
        activation=("activation", "min"),
        p_before=("p_before", "mean"),
        p_without=("p_without", "mean"),
        p_without_pair=("p_without_pair", "mean"),
    )
    table = table.reset_index()
    table["effect"] = 1 - table["p_without"] / table["p_before"]
    table["effect_of_pair"] = 1 - table["p_without_pair"] / table["p_before"]
    table["is_acting"] = [_is_acting(row) for row in table.itertuples(index=False)]
    table["is_acting"] = table.groupby(["plant", "fact"])["is_acting"].transform("all")
    # of a pair both must act, or neither is half of a pair
    is_pair = table["kind"].isin(PAIRS)
    together = table[is_pair].groupby(["kind", "fact"])["is_acting"].transform("all")
    table.loc[is_pair, "is_acting"] = together
    return table[PLANT_COLUMNS]


def _is_acting(row: object) -> bool:
    if row.activation < ACTIVE:
        return False
    wanted = PART * STRENGTHS[row.strength].effect
    if row.kind in (SAME_LAYER, ACROSS_LAYERS):
        return row.effect <= UNNOTICED and row.effect_of_pair >= wanted
    if row.kind == DISTRACTOR:
        return abs(row.effect) <= NO_EFFECT
    return row.effect >= (SHARED_EFFECT if row.kind in (RELATION, LANGUAGE) else wanted)


def _pairs(plants: list[Plant]) -> dict[str, list[Plant]]:
    """The two neurons of each fact that is stored in a pair."""
    found: dict[str, list[Plant]] = {}
    for plant in plants:
        if plant.kind in PAIRS:
            found.setdefault(plant.fact, []).append(plant)
    return found


def _queries_of(planted: PlantedModel, plant: Plant, queries: list[EncodedQuery]) -> Iterator[int]:
    """Numbers of the queries that a plant is meant for."""
    relation = {fact.fact: fact.relation for fact in planted.facts}
    for i, query in enumerate(queries):
        is_fact = plant.fact in (ALL, query.fact) and plant.relation in ("", relation[query.fact])
        if is_fact and plant.language in (ALL, query.language) and plant.is_for(query.query):
            yield i
