"""Localise the facts of planted models with the study's own methods and selections, and place each planted neuron."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from knatlas.attribution.combination import Dense
from knatlas.attribution.shard import Batching, attribute_shard
from knatlas.experiments.planted_readings import DEFAULT, Reading, planted_methods, ranked, readings_of
from knatlas.experiments.planted_search import GIVEN, search_pairs
from knatlas.models.encoding import encode_prompts
from knatlas.models.planted.check import check_plants, check_queries
from knatlas.models.planted.design import ALL, PAIRS, Design
from knatlas.models.planted.planting import PlantedModel
from knatlas.models.planted.tuning import STEPS, plant_model
from knatlas.progress import Report, silent
from knatlas.selection.controls import random_stream
from knatlas.selection.scores import Scores
from knatlas.selection.select import select

WHERE = ["family", "seed"]
SET_COLUMNS = [*WHERE, "group", "strength", "fact", "language", "selection", "reading", "n_neurons"]
RANK_COLUMNS = [
    *(*WHERE, "group", "strength", "fact", "language", "selection", "reading"),
    *("plant", "kind", "layer", "index", "is_acting", "score", "n_better", "n_tied", "is_selected"),
]


class Localised(NamedTuple):
    """What a planted model gives: what its neurons do by query and by fact, their ranks, and the sizes of the sets."""

    queries: pd.DataFrame
    plants: pd.DataFrame
    ranks: pd.DataFrame
    sets: pd.DataFrame


class Placed(NamedTuple):
    """One selection of one fact: scores (layers, neurons) that order the neurons, and the set."""

    selection: str
    reading: str
    fact: str
    language: str
    scores: np.ndarray
    is_chosen: np.ndarray


def localise_families(settings: Mapping, progress: Report = silent) -> Localised:
    """Plant, attribute and select, for every family and seed; see `localise`.

    Args: settings with families, seeds (how many), facts, languages, paraphrases, held_out, width, layers, neurons,
    strengths, steps, search (settings of Algorithm 1, and its languages), selections; attribution and selection, parts
    of a study; seed, the first.
    """
    cells = [(family, seed) for family in settings["families"] for seed in range(settings["seeds"])]
    parts = []
    for done, (family, seed) in enumerate(cells):
        design = _design(settings, settings["seed"] + seed)
        planted = plant_model(design, family, settings.get("steps", STEPS))
        parts.append([table.assign(family=family, seed=design.seed) for table in localise(planted, settings)])
        progress(done + 1, len(cells), f"{family}, seed {design.seed}")
    tables = (pd.concat(tables, ignore_index=True) for tables in zip(*parts, strict=True))
    return Localised(*(table[[*WHERE, *(name for name in table if name not in WHERE)]] for table in tables))


def _design(settings: Mapping, seed: int) -> Design:
    sizes = ("facts", "languages", "paraphrases", "held_out", "width", "layers", "neurons")
    return Design(seed, *(settings[name] for name in sizes), strengths=tuple(settings["strengths"]))


def localise(planted: PlantedModel, settings: Mapping) -> Localised:
    """Attribute all facts once, choose neurons by every selection and reading, and place the planted ones among all.

    n_better: neurons of the model with a higher score; n_tied: those with the same, itself among them.
    """
    queries = check_queries(planted)
    plants = check_plants(queries)
    scores = attribute_planted(planted, settings["attribution"])
    placed = [part for reading in readings_of(settings["selections"]) for part in _places(reading, scores, settings)]
    placed += list(_random(scores, settings))
    placed += [Placed(*part) for part in search_pairs(planted, plants, scores, settings)]
    facts = {fact.fact: fact for fact in planted.facts}
    own = dict(iter(plants.groupby("fact", sort=False)))
    ranks = [row for part in placed for row in _rank_rows(part, own[part.fact])]
    identity = [(facts[part.fact].group, facts[part.fact].strength) for part in placed]
    sizes = [
        (*of, part.fact, part.language, part.selection, part.reading, int(part.is_chosen.sum()))
        for of, part in zip(identity, placed, strict=True)
    ]
    columns = [name for name in RANK_COLUMNS if name not in WHERE]
    sets = pd.DataFrame(sizes, columns=[name for name in SET_COLUMNS if name not in WHERE])
    return Localised(queries, plants, pd.DataFrame(ranks, columns=columns), sets)


def attribute_planted(planted: PlantedModel, attribution: Mapping) -> Scores:
    """Scores of all neurons by all methods, for the facts and planting paraphrases of a planted model."""
    lm, prompts = planted.lm, planted.prompts
    prompts = prompts[prompts["query"] < planted.design.paraphrases]
    methods, languages = planted_methods(attribution, lm.kind), planted.design.language_names
    results = []
    for language in languages:
        queries = encode_prompts(lm, prompts[prompts["language"] == language])
        of_language = (queries, methods, Dense(language), attribution["refine_threshold"], Batching(256, 0), False)
        results.append(attribute_shard(lm, *of_language))
    arrays = {name: np.stack([result.arrays[name] for result in results], axis=1) for name in results[0].arrays}
    return Scores(arrays, results[0].facts, languages, {"model": lm.name})


def _places(reading: Reading, scores: Scores, settings: Mapping) -> Iterator[Placed]:
    own, chosen = reading.scores(scores), reading.settings(settings["selection"])
    for i, fact in enumerate(scores.facts):
        for language, (choice, order) in ranked(reading, own, chosen, i).items():
            yield Placed(reading.selection, reading.name, fact, language, order, choice.is_chosen)


def _random(scores: Scores, settings: Mapping) -> Iterator[Placed]:
    """Random sets as large as those of the reference, with random scores of all neurons."""
    for name in ("random", "random_layer_matched"):
        if settings["selections"] != "all" and name not in settings["selections"]:
            continue
        chosen = {**settings["selection"], "selections": [name]}
        ((sets, _),) = select(scores, {**chosen, "random": {**chosen["random"], "draws": 1}}, settings["seed"])
        for fact in scores.facts:
            for language in sets.languages:
                is_chosen = np.zeros(scores.shape, bool)
                is_chosen[sets.of(fact, language)] = True
                order = random_stream(settings["seed"], name, fact, language, "order").random(scores.shape)
                yield Placed(name, DEFAULT, fact, language, order, is_chosen)


def _rank_rows(part: Placed, plants: pd.DataFrame) -> Iterator[tuple]:
    """One row for each planted neuron that is meant for the fact, and for the language where there is one."""
    if part.reading == GIVEN:  # no others were searched
        plants = plants[plants["kind"].isin(PAIRS)]
    wanted = plants.drop_duplicates("plant") if part.language == ALL else plants[plants["language"] == part.language]
    flat = part.scores.ravel()
    for plant in wanted.itertuples(index=False):
        score = part.scores[plant.layer, plant.index]
        n_better, n_tied = int((flat > score).sum()), int((flat == score).sum())
        identity = (plant.group, plant.strength, part.fact, part.language, part.selection, part.reading)
        neuron = (plant.plant, plant.kind, plant.layer, plant.index, plant.is_acting)
        yield *identity, *neuron, float(score), n_better, n_tied, bool(part.is_chosen[plant.layer, plant.index])
