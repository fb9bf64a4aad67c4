"""One neuron at a time: what it reads, and what it writes."""

from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray

from knatlas.models.language_model import LanguageModel
from knatlas.models.planted.design import DISTRACTOR, LANGUAGE, RELATION, SPECIFIC, Plant, PlantedFact
from knatlas.models.planted.detectors import fit_constant, fit_detector, fit_level

VALUE_NOISE = 0.5  # length of the random part of what a fact's neuron writes, beside a direction of length 1


def write_detector(
    lm: LanguageModel, plant: Plant, states: Float[ndarray, "state width"], fires: Bool[ndarray, " state"]
) -> None:
    """Let a neuron fire for some of the states of its layer.

    In a gated network the gate is the detector, and the other branch is 1 where it fires and 0 elsewhere. Matrices
    without a bias take it from what all states have in common.
    """
    weights, bias = fit_detector(states, fires)
    gate = lm.pre_activations()[plant.layer]
    views = lm.incoming_weights(plant.layer, plant.index)
    if gate.bias is None:
        weights = weights + bias * fit_constant(states)
    else:
        gate.bias[plant.index] = bias
    views[0].copy_(torch.from_numpy(weights))
    if len(views) > 1:
        views[1].copy_(torch.from_numpy(fit_level(states, fires)))


def write_value(lm: LanguageModel, plant: Plant, direction: Float[ndarray, " width"], strength: float) -> None:
    """Let a neuron write a direction of length 1, times a strength, per unit of its activation."""
    lm.value_vector(plant.layer, plant.index).copy_(torch.from_numpy(direction * strength))


class Directions:
    """What the neurons of each kind write, from the rows of the vocabulary: all of length 1."""

    def __init__(
        self, lm: LanguageModel, facts: list[PlantedFact], languages: list[str], seed: int, plants: list[Plant]
    ) -> None:
        """Args: the empty model, whose tokenizer has a token for each answer; seed, of the distractors; all plants."""
        rows = lm.model.get_input_embeddings().weight.double().numpy()
        names = {(fact.fact, lang): f"o{fact.number}.{lang}" for fact in facts for lang in languages}
        self.rows = {key: rows[lm.tokenizer.convert_tokens_to_ids(name)] for key, name in names.items()}
        self.languages, self.facts = languages, facts
        self.mean = np.mean(list(self.rows.values()), axis=0)
        self.random = np.random.default_rng([seed, 3])
        self.of_plant = {plant: self._of(plant) for plant in plants}

    def of(self, plant: Plant) -> Float[ndarray, " width"]:
        """What a plant writes."""
        return self.of_plant[plant]

    def of_answer(self, fact: str, language: str) -> Float[ndarray, " width"]:
        """The answer's row in a language, without what all answers have in common."""
        return _unit(self.rows[fact, language] - self.mean)

    def _of(self, plant: Plant) -> Float[ndarray, " width"]:
        """The direction of a plant.

        specific: the answer's row, without what all answers have in common; agnostic and pairs: the mean of these over
        the languages; relation: the mean over the relation's answers; language: over the language's; distractor: a
        random one without any part in the fact's rows, and little in those of other answers.
        """
        if plant.kind == SPECIFIC:
            return self._with_noise(self.of_answer(plant.fact, plant.language))
        if plant.kind == RELATION:
            return self._mean_of(lambda fact, _: fact.relation == plant.relation)
        if plant.kind == LANGUAGE:
            return self._mean_of(lambda _, language: language == plant.language)
        if plant.kind == DISTRACTOR:
            return self._without(np.stack([self.rows[plant.fact, language] for language in self.languages]))
        return self._with_noise(self._mean_of(lambda fact, _: fact.fact == plant.fact))

    @cached_property
    def _main(self) -> Float[ndarray, "direction width"]:
        """The space where most of all answers' rows lie: half of the width."""
        return np.linalg.svd(np.stack(list(self.rows.values())), full_matrices=False)[2][: len(self.mean) // 2]

    def _with_noise(self, direction: Float[ndarray, " width"]) -> ndarray:
        """Neurons of one fact would else be copies of each other, and aligned with the vocabulary as none is."""
        return _unit(direction + VALUE_NOISE * _unit(self.random.standard_normal(len(direction))))

    def _mean_of(self, belongs: object) -> ndarray:
        chosen = [(fact.fact, lang) for fact in self.facts for lang in self.languages if belongs(fact, lang)]
        return _unit(np.mean([self.rows[key] for key in chosen], axis=0) - self.mean)

    def _without(self, rows: Float[ndarray, "language width"]) -> ndarray:
        """A random direction without any part in some rows, nor in the space where most of all answers' rows lie."""
        basis = np.linalg.qr(np.vstack([rows, self.mean, self._main]).T)[0]
        drawn = self.random.standard_normal(len(self.mean))
        return _unit(drawn - basis @ (basis.T @ drawn))


def fires_for(
    plant: Plant, facts: ndarray, languages: ndarray, relations: ndarray, queries: ndarray
) -> Bool[ndarray, " query"]:
    """For which queries a neuron shall fire, from the fact, language, relation and number of each."""
    own_fact = (facts == plant.fact) if plant.kind not in (RELATION, LANGUAGE) else np.ones(len(facts), bool)
    own_language = (languages == plant.language) if plant.kind in (SPECIFIC, LANGUAGE) else np.ones(len(facts), bool)
    own_relation = (relations == plant.relation) if plant.kind == RELATION else np.ones(len(facts), bool)
    own_query = np.array([plant.is_for(query) for query in queries])
    return own_fact & own_language & own_relation & own_query


def _unit(row: ndarray) -> ndarray:
    return row / np.linalg.norm(row)
