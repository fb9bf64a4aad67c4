"""The strength of every planted neuron, until zeroing it costs the share of P(answer) that its fact is designed for."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from knatlas.models.answers import answer_probabilities, token_log_probabilities
from knatlas.models.planted.design import DEGENERATE, LANGUAGE, STRENGTHS, TUNED, Design, Plant
from knatlas.models.planted.planting import PlantedModel, build_planted
from knatlas.models.scaling import NeuronScaling

P_ANSWER = 0.8  # P(answer) of every fact and language with all neurons in place
P_ONE_LEFT = 0.85  # of a degenerate pair: with one of the two zeroed
LARGEST = 0.6  # strength of a neuron: above, it drowns all others in the last norm
MARGIN = 7.0
LADDER = tuple(0.5 * 1.2**i for i in range(14))
STEP = 1.4  # largest factor on a strength in one step
SMALLEST_SLOPE = 0.5
TEST_REST = 0.2  # strength of the store at which its slope is measured
STEPS = 8
BATCH_ROWS = 256
SMALLEST = 1e-9


@dataclass(frozen=True)
class Measured:
    """Log-odds of the answer, by cell (fact and language): as it is, without each plant, without a whole pair.

    with_all: as it is, in the paraphrases that each plant is active for. NaN where a plant is not active or a fact has
    no degenerate pair.
    """

    whole: Float[ndarray, " cell"]
    with_all: Float[ndarray, "plant cell"]
    without: Float[ndarray, "plant cell"]
    without_pair: Float[ndarray, " cell"]


def log_odds(p: ndarray | float) -> ndarray:
    """log(P / (1 - P)), in nats."""
    return np.log(np.maximum(p, SMALLEST)) - np.log(np.maximum(1 - np.asarray(p), SMALLEST))


class Tuner:
    """Steps towards P(answer) = 0.8 and the designed effects, for all facts at once.

    A step changes log-odds: each neuron's strength by the ratio of wanted to measured change, and the store by what is
    then missing. All facts are independent but for what the last norm makes of them, so that few steps are enough.
    """

    def __init__(self, planted: PlantedModel) -> None:
        """Args: a model as `build_planted` leaves it, which is changed in place."""
        self.planted = planted
        self.cells = {cell: i for i, cell in enumerate(planted.cells)}
        self.group = np.array([fact.group for fact in planted.facts for _ in planted.design.language_names])
        strength = [STRENGTHS[fact.strength].effect for fact in planted.facts for _ in planted.design.language_names]
        self.effect = np.array(strength)
        self.is_pair = np.isin(self.group, DEGENERATE)
        self.tuned = [number for number, plant in enumerate(planted.plants) if plant.kind in TUNED]
        of_one = [planted.plants[number].query is not None for number in self.tuned]
        self.share = np.where(of_one, 1 / planted.design.paraphrases, 1.0)  # of the paraphrases it is active for

    def tune(self, steps: int) -> None:
        """Set the language neurons, then take so many steps."""
        self.separate_languages()
        self._steps(steps)

    def _steps(self, steps: int) -> None:
        slope = self._slope()
        before = self.measure()
        for _ in range(steps):
            ratios, expected = self._wanted(before)
            missing = self._target() - self._anchor(before) - expected
            change = np.clip(missing / slope, -self.planted.scale, self.planted.scale)
            strengths = self.planted.strengths.copy()
            strengths[self.tuned] = np.minimum(strengths[self.tuned] * ratios, LARGEST * self.planted.scale)
            self.planted.set_strengths(strengths, self.planted.rest + change)
            after = self.measure()
            found = self._anchor(after) - self._anchor(before) - expected
            is_clear = np.abs(change) > 0.02 * self.planted.scale
            guess = np.divide(found, change, out=slope.copy(), where=is_clear)
            slope = np.clip(guess, 0.5 * slope, 2.0 * slope)
            before = after

    def separate_languages(self) -> None:
        """Let the language neurons write until the answer's own name has `MARGIN` nats on its names in other languages.

        Without them a neuron that serves all languages raises all names of its answer alike, and P(answer) stays below
        one over the number of languages. All language neurons have one strength, the smallest on a fixed ladder.
        """
        is_language = np.array([plant.kind == LANGUAGE for plant in self.planted.plants])
        for strength in LADDER:
            strengths = np.where(is_language, strength * self.planted.scale, self.planted.strengths)
            self.planted.set_strengths(strengths, self.planted.rest)
            if np.median(self._margins()) >= MARGIN:
                return

    def _margins(self) -> Float[ndarray, " query"]:
        lm, names = self.planted.lm, {}
        for fact in self.planted.facts:
            for language in self.planted.design.language_names:
                names[fact.fact, language] = lm.tokenizer.convert_tokens_to_ids(f"o{fact.number}.{language}")
        margins = []
        for query, of_query in zip(
            self.planted.queries, token_log_probabilities(lm, self.planted.queries), strict=True
        ):
            others = [
                names[query.fact, language]
                for language in self.planted.design.language_names
                if language != query.language
            ]
            margins.append(float(of_query[-1, query.targets[-1]] - of_query[-1, others].max()))
        return np.array(margins)

    def measure(self) -> Measured:
        """Log-odds of mean P over the paraphrases of every cell, in every condition."""
        queries, scalings, places = self._conditions
        p = answer_probabilities(self.planted.lm, queries, BATCH_ROWS, scalings)["p"].to_numpy()
        whole = {query: value for query, value, row in zip(map(id, queries), p, places[0], strict=True) if row == 0}
        odds, before = self._means(p, places), self._means(np.array([whole[id(query)] for query in queries]), places)
        return Measured(odds[0], before[2:], odds[2:], odds[1])

    def _means(self, p: ndarray, places: tuple[ndarray, ndarray]) -> Float[ndarray, "condition cell"]:
        """Log-odds of the mean P over the queries of each place."""
        shape = (len(self.tuned) + 2, len(self.cells))
        total, count = np.zeros(shape), np.zeros(shape)
        np.add.at(total, places, p)
        np.add.at(count, places, 1)
        return log_odds(np.divide(total, count, out=np.full(shape, np.nan), where=count > 0))

    @cached_property
    def _conditions(self) -> tuple[list, list, tuple[ndarray, ndarray]]:
        """Queries, what is zeroed in each, and row and cell of each in the table of conditions."""
        members: dict[tuple[str, str], list] = {cell: [] for cell in self.cells}
        for query in self.planted.queries:
            members[query.fact, query.language].append(query)
        queries, scalings, rows, columns = [], [], [], []

        def ask(row: int, cell: tuple[str, str], scaling: NeuronScaling | None, plant: Plant | None = None) -> None:
            for query in members[cell]:
                if plant is None or plant.is_for(query.query):
                    queries.append(query)
                    scalings.append(scaling)
                    rows.append(row)
                    columns.append(self.cells[cell])

        for cell in self.cells:
            ask(0, cell, None)
        pairs: dict[str, list] = {}
        for row, number in enumerate(self.tuned):
            plant = self.planted.plants[number]
            if plant.kind in DEGENERATE:
                pairs.setdefault(plant.fact, []).append(plant)
            for cell in self._cells_of(plant):
                ask(row + 2, cell, zeroed([plant]), plant)
        for plants in pairs.values():
            for cell in self._cells_of(plants[0]):
                ask(1, cell, zeroed(plants))
        return queries, scalings, (np.array(rows), np.array(columns))

    def _cells_of(self, plant: object) -> list[tuple[str, str]]:
        languages = self.planted.design.language_names if plant.language == "all" else [plant.language]
        return [(plant.fact, language) for language in languages]

    def _target(self) -> ndarray:
        return np.where(self.is_pair, log_odds(P_ONE_LEFT), log_odds(P_ANSWER))

    def _anchor(self, measured: Measured) -> ndarray:
        """The log-odds that the store brings to its target: of a pair with one neuron left, else of the whole."""
        one_left = np.full(len(self.cells), np.nan)
        one_left[self.is_pair] = np.nanmean(measured.without[:, self.is_pair], axis=0)
        return np.where(self.is_pair, one_left, measured.whole)

    def _wanted(self, measured: Measured) -> tuple[ndarray, ndarray]:
        """The factor on each tuned strength, and what these factors will do to the anchors."""
        p = 1 / (1 + np.exp(-np.where(self.is_pair, measured.whole, log_odds(P_ANSWER))))
        drop = log_odds(p) - log_odds(p * (1 - self.effect))
        found = np.where(
            self.is_pair, measured.whole - measured.without_pair, measured.with_all - measured.without
        )  # (plant, cell)
        found[np.isnan(measured.without)] = np.nan
        ratios = np.clip(np.nanmean(drop / np.maximum(found, 0.05), axis=1), 1 / STEP, STEP)
        alone = np.where(
            self.is_pair, (measured.without - measured.without_pair) / 2, measured.with_all - measured.without
        )
        expected = np.nansum(((ratios - 1) * self.share)[:, None] * alone, axis=0)
        return ratios, expected

    def _slope(self) -> ndarray:
        """Log-odds per unit of the store's strength, by cell."""
        start, test = self.planted.rest, TEST_REST * self.planted.scale
        odds = [self._whole(start + change) for change in (test, 0.0)]
        return np.maximum((odds[0] - odds[1]) / test, SMALLEST_SLOPE / self.planted.scale)

    def _whole(self, rest: ndarray) -> ndarray:
        self.planted.set_strengths(self.planted.strengths, rest)
        queries, _, places = self._conditions
        n_whole = int((places[0] == 0).sum())
        p = answer_probabilities(self.planted.lm, queries[:n_whole], BATCH_ROWS)["p"].to_numpy()
        counts = np.bincount(places[1][:n_whole])
        return log_odds(np.bincount(places[1][:n_whole], weights=p) / counts)


def plant_model(design: Design, family: str, steps: int = STEPS) -> PlantedModel:
    """A model of a family with all plants in place and tuned. Raises: AtlasError for an unknown family."""
    planted = build_planted(design, family)
    Tuner(planted).tune(steps)
    return planted


def zeroed(plants: Sequence[object]) -> NeuronScaling:
    """Some plants with their activation set to zero."""
    return NeuronScaling(np.array([p.layer for p in plants]), np.array([p.index for p in plants]), 0.0)
