"""Localise the facts of planted models with the study's own methods and selections, and place each planted neuron."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from knatlas.attribution.combination import Dense
from knatlas.attribution.shard import Batching, attribute_shard
from knatlas.experiments.planted_ablation import rank_by_ablation
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

WHERE = ["family", "seed", "network"]
REFERENCE = "reference"
BATCHING = Batching(queries=256, rows=1024)  # so small networks are fastest with rows that stay near the processor
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

    Args: settings with families, seeds (how many), facts, languages, paraphrases, held_out, width, neurons, strengths,
    layers and noise (levels, see `networks`), steps, search (settings of Algorithm 1, and its languages),
    ablation_queries, selections; attribution and selection, parts of a study; seed, the first.
    """
    designs = [of for seed in range(settings["seeds"]) for of in networks(settings, settings["seed"] + seed).items()]
    cells = [(family, name, design) for family in settings["families"] for name, design in designs]
    parts = []
    for done, (family, name, design) in enumerate(cells):
        planted = plant_model(design, family, settings.get("steps", STEPS))
        identity = {"family": family, "seed": design.seed, "network": name}
        parts.append([table.assign(**identity) for table in localise(planted, settings)])
        progress(done + 1, len(cells), f"{family}, seed {design.seed}, {name}")
    tables = (pd.concat(tables, ignore_index=True) for tables in zip(*parts, strict=True))
    return Localised(*(table[[*WHERE, *(name for name in table if name not in WHERE)]] for table in tables))


def networks(settings: Mapping, seed: int) -> dict[str, Design]:
    """The designs of a seed by name, in which one thing is varied at a time.

    "reference" has the first number of layers and the first noise; one more, "layers_6" or "noise_0.5", has each
    further level of either.
    """
    sizes = ("facts", "languages", "paraphrases", "held_out", "width", "neurons")
    layers, noise = settings["layers"], settings["noise"]
    fixed = {name: settings[name] for name in sizes} | {"strengths": tuple(settings["strengths"])}
    reference = Design(seed, layers=layers[0], noise=noise[0], **fixed)
    deeper = {f"layers_{level}": replace(reference, layers=level) for level in layers[1:]}
    noisier = {f"noise_{level}": replace(reference, noise=level) for level in noise[1:]}
    return {REFERENCE: reference, **deeper, **noisier}


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
    placed += [Placed(*part) for part in rank_by_ablation(planted, settings)]
    facts = {fact.fact: (fact.group, fact.strength) for fact in planted.facts}
    meant = _meant(plants)
    identity = [(*facts[part.fact], part.fact, part.language, part.selection, part.reading) for part in placed]
    ranks = [(*of, *row) for of, part in zip(identity, placed, strict=True) for row in _rank_rows(part, meant)]
    sizes = [(*of, int(part.is_chosen.sum())) for of, part in zip(identity, placed, strict=True)]
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
        of_language = (queries, methods, Dense(language), attribution["refine_threshold"], BATCHING, False)
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


def _meant(plants: pd.DataFrame) -> dict[tuple[str, str], list[tuple]]:
    """Number, kind, layer, index and is_acting of the neurons meant for each fact, by it and by language or "all"."""
    columns = ["plant", "kind", "layer", "index", "is_acting"]
    whole = plants.drop_duplicates(["fact", "plant"]).assign(language=ALL)
    groups = pd.concat([plants, whole]).groupby(["fact", "language"], sort=False)[columns]
    return {key: list(rows.itertuples(index=False, name=None)) for key, rows in groups}


def _rank_rows(part: Placed, meant: Mapping[tuple[str, str], list[tuple]]) -> Iterator[tuple]:
    """One row for each planted neuron that is meant for the fact, and for the language where there is one."""
    # of given pairs no others were searched
    wanted = [row for row in meant[part.fact, part.language] if part.reading != GIVEN or row[1] in PAIRS]
    place = np.array([row[2] for row in wanted], int), np.array([row[3] for row in wanted], int)
    scores, flat = part.scores[place], part.scores.ravel()
    n_better, n_tied = (flat > scores[:, None]).sum(axis=1), (flat == scores[:, None]).sum(axis=1)
    for row, *found in zip(wanted, scores, n_better, n_tied, part.is_chosen[place], strict=True):
        yield *row, float(found[0]), int(found[1]), int(found[2]), bool(found[3])
