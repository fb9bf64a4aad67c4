"""What is written into a planted model: facts, the kinds of neurons that hold them, and how strong each shall be."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from knatlas.errors import AtlasError, unknown
from knatlas.facts.table import PROMPT_COLUMNS, fact_id

FAMILIES = {"bert": "masked", "gpt2": "causal", "llama": "causal"}
ALL = "all"
AGNOSTIC, SPECIFIC, PARAPHRASE, ADDITIVE = "agnostic", "specific", "paraphrase", "additive"
SAME_LAYER, ACROSS_LAYERS = "degenerate_same_layer", "degenerate_across_layers"
DISTRACTOR, RELATION, LANGUAGE = "distractor", "relation", "language"
PAIRS = (SAME_LAYER, ACROSS_LAYERS, ADDITIVE)
DEGENERATE = (SAME_LAYER, ACROSS_LAYERS)
# what a fact is stored in; `specific` facts have no neuron that serves all languages, `paraphrase` ones have, beside
# neurons for each of their paraphrases
GROUPS = (AGNOSTIC, SPECIFIC, PARAPHRASE, *PAIRS)
KINDS = (*GROUPS, DISTRACTOR, RELATION, LANGUAGE)
TUNED = GROUPS  # kinds whose effect is set for each neuron
N_RELATIONS = 3
NOISE = 0.25


@dataclass(frozen=True)
class Strength:
    """How concentrated a fact is in single neurons.

    effect: share of P(answer) that is lost when one of the fact's neurons is zeroed (of a degenerate pair: when both
    are). n_neurons: agnostic neurons of an agnostic fact, or neurons of each language of a specific one: the weaker
    they are, the more of them are needed for an answer. Facts with paraphrase-dependent neurons have one agnostic one.
    """

    effect: float
    n_neurons: int


STRENGTHS: Mapping[str, Strength] = {
    "low": Strength(0.3, 3),
    "medium": Strength(0.5, 2),
    "high": Strength(0.7, 1),
}


@dataclass(frozen=True)
class Design:
    """Sizes of a planted model.

    facts: of each group and strength; languages, paraphrases (for planting), held_out (paraphrases that nothing is
    fitted to): numbers; width: of the residual stream; neurons: of each layer, the planted among them; noise: what the
    random neurons, and the random attention, of a layer add to the residual stream, as a share of an embedding.
    Raises: AtlasError for numbers that leave no room for the plants.
    """

    seed: int = 0
    facts: int = 1
    languages: int = 4
    paraphrases: int = 3
    held_out: int = 1
    width: int = 128
    layers: int = 4
    neurons: int = 256
    strengths: tuple[str, ...] = tuple(STRENGTHS)
    noise: float = NOISE

    def __post_init__(self) -> None:
        for name in self.strengths:
            if name not in STRENGTHS:
                raise AtlasError(unknown("planted.strengths", name, "a strength", STRENGTHS))
        least = {"facts": 1, "languages": 2, "paraphrases": 2, "held_out": 0, "width": 32, "layers": 4, "neurons": 32}
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise AtlasError(f"planted.{name} is {getattr(self, name)}; expected a number from {smallest} on")
        if not self.noise > 0:
            raise AtlasError(f"planted.noise is {self.noise}; expected a number above 0")

    @property
    def language_names(self) -> list[str]:
        """Names of the invented languages."""
        return [f"l{i}" for i in range(self.languages)]

    @property
    def queries(self) -> range:
        """Numbers of the paraphrases, the held-out ones last."""
        return range(self.paraphrases + self.held_out)


@dataclass(frozen=True)
class PlantedFact:
    """One fact: its number, name and relation, what it is stored in, and how strong one of its neurons is."""

    number: int
    fact: str
    relation: str
    group: str
    strength: str


@dataclass(frozen=True)
class Plant:
    """One planted neuron.

    fact and language: those it is active for, or "all"; relation: that of a relation neuron, else ""; query: number
    of the one paraphrase that it is active for, None for all.
    """

    kind: str
    fact: str
    language: str
    layer: int
    index: int
    relation: str = ""
    query: int | None = None

    def is_for(self, query: int) -> bool:
        """Whether it is meant to be active for a paraphrase, by its number."""
        return self.query in (None, query)


def planted_facts(design: Design) -> list[PlantedFact]:
    """The facts of a design: `design.facts` of each group and strength, dealt out over the relations in turn."""
    cells = [(group, strength) for _ in range(design.facts) for group in GROUPS for strength in design.strengths]
    return [
        PlantedFact(i, fact_id(f"R{i % N_RELATIONS}", f"s{i}", f"o{i}"), f"R{i % N_RELATIONS}", group, strength)
        for i, (group, strength) in enumerate(cells)
    ]


def place_plants(design: Design, facts: list[PlantedFact]) -> list[Plant]:
    """Every planted neuron with its place, drawn by the seed.

    Layer 0 and the last hold no fact: below the first nothing has reached the read position, and the last one decodes
    the language. Pairs across layers take the two lowest of the others, neurons of one paraphrase the lowest: what the
    others write there would hide a paraphrase's word from their detectors. Raises: AtlasError when a layer is too
    small.
    """
    random = np.random.default_rng([design.seed, 1])
    inner = range(1, design.layers - 1)
    free = {layer: list(random.permutation(design.neurons)) for layer in range(design.layers)}
    plants = []
    for wanted, relation, fact in _wanted(design, facts, random, inner):
        if len(free[wanted.layer]) <= design.neurons // 4:
            raise AtlasError(
                f"planted.neurons is {design.neurons}, too few for {len(facts)} facts; take more, or fewer facts"
            )
        index = int(free[wanted.layer].pop())
        plants.append(Plant(wanted.kind, fact, wanted.language, wanted.layer, index, relation, wanted.query))
    return plants


class _Wanted(NamedTuple):
    """A neuron without a place in its layer."""

    kind: str
    language: str
    layer: int
    query: int | None = None


def _wanted(
    design: Design, facts: list[PlantedFact], random: np.random.Generator, inner: range
) -> Iterator[tuple[_Wanted, str, str]]:
    """Every neuron with its relation and fact."""

    def drawn() -> int:
        return int(random.choice(inner))

    for fact in facts:
        for wanted in _of_fact(design, fact, drawn, inner):
            yield wanted, "", fact.fact
    for relation in sorted({fact.relation for fact in facts}):
        yield _Wanted(RELATION, ALL, drawn()), relation, ALL
    for language in design.language_names:
        yield _Wanted(LANGUAGE, language, design.layers - 1), "", ALL


def _of_fact(design: Design, fact: PlantedFact, drawn: Callable[[], int], inner: range) -> Iterator[_Wanted]:
    """The neurons of one fact."""
    n_neurons = STRENGTHS[fact.strength].n_neurons
    n_agnostic = {AGNOSTIC: n_neurons, PARAPHRASE: 1}.get(fact.group, 0)
    n_specific = {AGNOSTIC: 1, SPECIFIC: n_neurons}.get(fact.group, 0)
    yield from (_Wanted(AGNOSTIC, ALL, drawn()) for _ in range(n_agnostic))
    if fact.group in PAIRS:
        first = drawn()
        layers = (inner[0], inner[1]) if fact.group == ACROSS_LAYERS else (first, first)
        yield from (_Wanted(fact.group, ALL, layer) for layer in layers)
    for language in design.language_names:
        yield from (_Wanted(SPECIFIC, language, drawn()) for _ in range(n_specific))
    if fact.group == PARAPHRASE:
        yield from (_Wanted(PARAPHRASE, ALL, inner[0], query) for query in range(design.paraphrases))
    yield _Wanted(DISTRACTOR, ALL, drawn())


def words_of(fact: PlantedFact, language: str, query: int) -> tuple[list[str], str]:
    """The words of a query, and its answer: the subject stands before or behind the relation's word."""
    subject, relation = f"s{fact.number}.{language}", f"{fact.relation}.{language}"
    start = [subject, relation] if query % 2 == 0 else [relation, subject]
    return [*start, f"{fact.relation}.q{query}.{language}"], f"o{fact.number}.{language}"


def planted_prompts(design: Design, facts: list[PlantedFact], kind: str) -> pd.DataFrame:
    """The prompts of all facts, languages and paraphrases for models of a kind, "masked" or "causal"."""
    rows = []
    for fact in facts:
        for language in design.language_names:
            for query in design.queries:
                words, answer = words_of(fact, language, query)
                text = (" ".join(words), " ", answer, " ." if kind == "masked" else "")
                rows.append((fact.fact, fact.relation, language, kind, query, query, "final", *text))
    return pd.DataFrame(rows, columns=PROMPT_COLUMNS)
