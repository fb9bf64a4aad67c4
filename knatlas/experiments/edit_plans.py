"""Which neurons are edited together, with what, and which queries are measured then."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import pandas as pd
from torch import Tensor

from knatlas.errors import AtlasError, unknown
from knatlas.experiments.edit_answers import Asked
from knatlas.experiments.edit_targets import Labels
from knatlas.interventions.rome import Rome
from knatlas.interventions.weights import (
    EMBEDDINGS,
    SCALINGS,
    Neurons,
    ValueEdit,
    erase,
    object_embedding,
    token_embedding,
    update,
)
from knatlas.models.language_model import LanguageModel
from knatlas.selection.neuron_set import NeuronSets

OPERATIONS = ("erase", "update")
SCOPES = ("single", "batch")
SUBTRACTED = ("object", "prediction")
ROME = "rome"
REFERENCES = (ROME,)


@dataclass(frozen=True)
class WeightEdits:
    """How facts are edited, and on what the edits are measured.

    operations, of `erase` and `update`; scopes, `single` (one fact is edited, measured and restored) and `batch` (all
    facts of a relation are edited, then measured). Of the update (Eq. 15): lambda1, lambda2; scaling, `norm` or `raw`;
    embedding, rows of the `output` or `input` matrix; subtract, E of the `object` or of the model's `prediction` in the
    edited query; common_share, neurons in more than this share of the relation's facts (and in two at least) are not
    edited, None: all are. holdout_queries, numbers of queries that the neurons were not searched with: only these then
    count as paraphrases. n_unrelated, facts of other relations; draws, the first so many of a random selection.
    source_language, in which facts are edited, with its separator between words. is_ranked, whether the objects of the
    relation are ranked before and after, which costs a forward row per object in place of one. reference_editors, of
    `rome`: editors that updates are set beside, of causal models and in scope `single`; rome, the settings of `Rome`
    that are not its defaults.

    Raises: AtlasError for a word that is not allowed.
    """

    operations: Sequence[str] = OPERATIONS
    scopes: Sequence[str] = ("single",)
    lambda1: float = 1.0
    lambda2: float = 8.0
    scaling: str = "norm"
    embedding: str = "output"
    subtract: str = "object"
    common_share: float | None = None
    holdout_queries: Sequence[int] = ()
    n_unrelated: int = 50
    draws: int = 5
    source_language: str = "en"
    separator: str = " "
    is_ranked: bool = False
    reference_editors: Sequence[str] = ()
    rome: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        words = [("operations", word, OPERATIONS) for word in self.operations]
        words += [("scopes", word, SCOPES) for word in self.scopes]
        words += [("reference_editors", word, REFERENCES) for word in self.reference_editors]
        words += [("scaling", self.scaling, SCALINGS), ("embedding", self.embedding, EMBEDDINGS)]
        for name, word, allowed in [*words, ("subtract", self.subtract, SUBTRACTED)]:
            if word not in allowed:
                raise AtlasError(unknown(f"weight_edits: {name}", word, "one of its words", allowed))
        Rome(**self.rome)


class Writer:
    """What is written into the weights for a fact.

    Args: labels of the facts' objects and of the new ones, by fact and language; predictions, token ids by fact.
    """

    def __init__(
        self,
        lm: LanguageModel,
        settings: WeightEdits,
        labels: Mapping[str, Labels],
        objects: Mapping[str, Labels],
        predictions: Mapping[str, tuple[int, ...]],
    ):
        self.lm, self.settings, self.predictions = lm, settings, predictions
        self.labels = {"erase": labels, "update": objects}
        self.embeddings: dict[str, Tensor] = {}

    def target(self, operation: str, fact: str, language: str) -> str:
        """The label of the object that is erased or that is new; empty without one."""
        return self.labels[operation].get(fact, {}).get(language, "")

    def edit(self, operation: str, fact: str, neurons: Neurons) -> ValueEdit | None:
        """The edit of a fact; None where there is nothing to edit or to write."""
        settings = self.settings
        if not len(neurons[0]) or not self.target(operation, fact, settings.source_language):
            return None
        if operation == "erase":
            return erase(neurons)
        new = self._embedding(self.target("update", fact, settings.source_language))
        return update(neurons, self._old(fact), new, settings.lambda1, settings.lambda2, settings.scaling)

    def _old(self, fact: str) -> Tensor:
        if self.settings.subtract == "prediction":
            return token_embedding(self.lm, self.predictions[fact], self.settings.embedding)
        return self._embedding(self.target("erase", fact, self.settings.source_language))

    def _embedding(self, label: str) -> Tensor:
        if label not in self.embeddings:
            found = object_embedding(self.lm, label, self.settings.embedding, self.settings.separator)
            self.embeddings[label] = found
        return self.embeddings[label]


class Group(NamedTuple):
    """Edits that are made together, the rows of the plan that are measured then, and how many neurons they change."""

    rows: np.ndarray
    edits: list[ValueEdit]
    n_edited: int


class Groups(Sized, Iterable[Group], Protocol):
    """As many groups as its length says; each may be made only when it is its turn."""


class Plan(NamedTuple):
    """All that is measured of one selection, draw, operation and scope.

    probes, without n_neurons where those that are edited are meant; nothing is measured of a group without an edit.
    """

    probes: pd.DataFrame
    asked: Asked
    groups: Groups


def edit_plans(sets: NeuronSets, probes: pd.DataFrame, asked: Asked, writer: Writer) -> Iterator[Plan]:
    """The plans of one selection: its first draws, every operation and scope; facts it didn't search are left out."""
    settings = writer.settings
    is_searched = np.array([sets.is_searched(fact, settings.source_language) for fact in probes["fact"]], dtype=bool)
    probes, asked = probes[is_searched].reset_index(drop=True), asked.of(is_searched)
    relations = dict(zip(probes["fact"], probes["relation"], strict=True))
    for draw in range(min(sets.n_draws, settings.draws)):
        found = {fact: sets.of(fact, settings.source_language, draw) for fact in relations}
        for operation in settings.operations:
            is_update = operation == "update"
            neurons = _without_common(found, relations, settings.common_share) if is_update else found
            n_neurons = [len(neurons[fact][0]) for fact in probes["fact"]]
            rows = described(probes, operation, writer)
            rows = rows.assign(n_neurons=n_neurons, selection=sets.selection, draw=draw)
            for scope in settings.scopes:
                groups = list(_groups(rows, scope, neurons, operation, writer))
                yield Plan(rows.assign(scope=scope), asked if is_update else asked.without_new(), groups)


def _without_common(
    found: Mapping[str, Neurons], relations: Mapping[str, str], common_share: float | None
) -> dict[str, Neurons]:
    """The sets without neurons that more than a share of the relation's facts have, and more than one."""
    if common_share is None:
        return dict(found)
    n_facts = Counter(relations.values())
    n_with = Counter(
        (relations[fact], *pair) for fact, neurons in found.items() for pair in set(zip(*neurons, strict=True))
    )
    kept = {}
    for fact, (layers, indices) in found.items():
        relation = relations[fact]
        counts = np.array([n_with[relation, *pair] for pair in zip(layers, indices, strict=True)], dtype=int)
        is_own = counts <= max(1, common_share * n_facts[relation])
        kept[fact] = (layers[is_own], indices[is_own])
    return kept


def described(probes: pd.DataFrame, operation: str, writer: Writer) -> pd.DataFrame:
    """The probes with columns that say what they are edited to: operation, object, is_same_as_english."""
    pairs = zip(probes["fact"], probes["language"], strict=True)
    objects = [writer.target(operation, fact, language) for fact, language in pairs]
    english = [writer.target(operation, fact, writer.settings.source_language) for fact in probes["fact"]]
    is_same = [bool(label) and label == source for label, source in zip(objects, english, strict=True)]
    return probes.assign(operation=operation, object=objects, is_same_as_english=is_same)


def _groups(
    rows: pd.DataFrame, scope: str, neurons: Mapping[str, Neurons], operation: str, writer: Writer
) -> Iterator[Group]:
    for positions in rows.groupby("fact" if scope == "single" else "relation", sort=False).indices.values():
        facts = dict.fromkeys(rows["fact"].iloc[positions])
        edits = [edit for fact in facts if (edit := writer.edit(operation, fact, neurons[fact])) is not None]
        if edits:
            pairs = {pair for edit in edits for pair in zip(edit.layers, edit.indices, strict=True)}
            yield Group(positions, edits, len(pairs))
