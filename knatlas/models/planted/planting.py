"""Planting: an empty network, detectors layer by layer, and the rest of every fact."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool
from numpy import ndarray

from knatlas.models.encoding import EncodedQuery, encode_prompts
from knatlas.models.language_model import LanguageModel, as_language_model
from knatlas.models.planted.design import (
    DISTRACTOR,
    FAMILIES,
    LANGUAGE,
    RELATION,
    Design,
    Plant,
    PlantedFact,
    place_plants,
    planted_facts,
    planted_prompts,
)
from knatlas.models.planted.detectors import read_states
from knatlas.models.planted.network import empty_network, planted_tokenizer, stream_scale, vocabulary
from knatlas.models.planted.store import Store
from knatlas.models.planted.writing import Directions, fires_for, write_detector, write_value

# what a neuron writes per unit of its activation; those of a fact are tuned from here
STARTS = {LANGUAGE: 0.8, RELATION: 0.3, DISTRACTOR: 0.15}
START = 0.1
STRONGER = 3.0  # times this, detectors still do what they shall


@dataclass
class PlantedModel:
    """A model with its plants.

    strengths: what each plant writes per unit of its activation, by number of the plant; queries: those that plants are
    fitted to; scale: length of the residual stream, in embeddings; rest: strength of the store for each fact and
    language, in the order of `cells`.
    """

    lm: LanguageModel
    design: Design
    facts: list[PlantedFact]
    plants: list[Plant]
    prompts: pd.DataFrame
    queries: list[EncodedQuery]
    directions: Directions
    store: Store
    strengths: ndarray
    scale: float
    rest: ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.rest = np.zeros(len(self.cells))

    @property
    def cells(self) -> list[tuple[str, str]]:
        """Fact and language of each cell."""
        return [(fact.fact, language) for fact in self.facts for language in self.design.language_names]

    @torch.no_grad()
    def set_strengths(self, strengths: ndarray, rest: ndarray) -> None:
        """Let every plant, and the store, write with these strengths."""
        self.strengths, self.rest = strengths, rest
        self.store.write(rest)  # the whole matrix of the last layer, so that its plants come after it
        for plant, strength in zip(self.plants, strengths, strict=True):
            write_value(self.lm, plant, self.directions.of(plant), strength)

    def save(self, folder: str | Path) -> None:
        """Write model and tokenizer as any other model is published."""
        self.lm.model.save_pretrained(folder)
        self.lm.tokenizer.save_pretrained(folder)


def build_planted(design: Design, family: str) -> PlantedModel:
    """A model of a family with all plants in place, at the strengths from which tuning starts."""
    facts = planted_facts(design)
    tokenizer = planted_tokenizer(vocabulary(design, facts, family), family)
    model = empty_network(design, family, tokenizer)
    lm = as_language_model(f"planted-{family}", model, tokenizer, "planted")
    prompts = planted_prompts(design, facts, FAMILIES[family])
    queries = encode_prompts(lm, prompts[prompts["query"] < design.paraphrases])
    plants = place_plants(design, facts)
    directions = Directions(lm, facts, design.language_names, design.seed, plants)
    strengths = stream_scale(family) * np.array([STARTS.get(plant.kind, START) for plant in plants])
    store = _plant(lm, design, facts, plants, queries, directions, strengths)
    return PlantedModel(lm, design, facts, plants, prompts, queries, directions, store, strengths, stream_scale(family))


@torch.no_grad()
def _plant(
    lm: LanguageModel,
    design: Design,
    facts: list[PlantedFact],
    plants: list[Plant],
    queries: list[EncodedQuery],
    directions: Directions,
    strengths: ndarray,
) -> Store:
    """Write detectors and values from the lowest layer up, and then the store.

    A detector is fitted to the states of the model with the plants below it, as strong as tuning starts and as it may
    make them, and to those of the model without them: else it would read what a lower neuron writes, and fall silent
    with it.
    """
    for plant in plants:
        write_value(lm, plant, directions.of(plant), 0.0)
    empty = read_states(lm, queries)
    fires = _firing(facts, queries)
    for layer in range(design.layers):
        here = [plant for plant in plants if plant.layer == layer]
        states = [empty[0][layer]]
        for factor in (STRONGER, 1.0):
            for number, plant in enumerate(plants):
                write_value(lm, plant, directions.of(plant), factor * strengths[number] * (plant.layer < layer))
            states.append(read_states(lm, queries)[0][layer])
        for plant in here:
            write_detector(lm, plant, np.vstack(states), np.tile(fires(plant), len(states)))
    for plant, strength in zip(plants, strengths, strict=True):
        write_value(lm, plant, directions.of(plant), strength)
    return _fill_store(lm, facts, design, plants, queries, directions, empty[1][-1])


def _firing(facts: list[PlantedFact], queries: list[EncodedQuery]) -> Callable[[Plant], Bool[ndarray, " query"]]:
    """A function from a plant to the queries it shall fire for."""
    relation = {fact.fact: fact.relation for fact in facts}
    columns = (
        np.array([query.fact for query in queries]),
        np.array([query.language for query in queries]),
        np.array([relation[query.fact] for query in queries]),
        np.array([query.query for query in queries]),
    )
    return lambda plant: fires_for(plant, *columns)


def _fill_store(
    lm: LanguageModel,
    facts: list[PlantedFact],
    design: Design,
    plants: list[Plant],
    queries: list[EncodedQuery],
    directions: Directions,
    empty: ndarray,
) -> Store:
    cells = [(fact.fact, language) for fact in facts for language in design.language_names]
    own = np.array([[(query.fact, query.language) == cell for query in queries] for cell in cells])
    is_planted = np.zeros(lm.n_neurons, bool)
    is_planted[[plant.index for plant in plants if plant.layer == design.layers - 1]] = True
    neurons = np.vstack([empty, read_states(lm, queries)[1][-1]])
    values = np.stack([directions.of_answer(*cell) for cell in cells])
    return Store(lm, neurons, np.tile(own, 2), values, is_planted)
