"""Right and wrong objects of facts, scored at degenerate knowledge neurons (AMIG Table 3)."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from knatlas.attribution.engine import attribute_queries
from knatlas.attribution.methods import AttributionMethod
from knatlas.errors import AtlasError
from knatlas.experiments.object_activations import Neurons, object_activations
from knatlas.models.answers import BATCH_ROWS, answer_probabilities
from knatlas.models.encoding import EncodedQuery, encode_prompt
from knatlas.models.language_model import LanguageModel
from knatlas.progress import Report, silent
from knatlas.selection.controls import random_stream

OBJECT_COLUMNS = ["fact", "relation", "language", "candidate", "label", "is_true"]
CANDIDATE_COLUMNS = ["model", "fact", "relation", "language", "candidate", "label", "is_true", "p", "is_argmax"]
SCORE_COLUMNS = ["model", "fact", "language", "candidate", "layer", "index", "attribution", "activation"]
PLACE = ["relation", "language"]
CHUNK = 64  # queries handed to the engine at once: enough of like length, few dense scores in memory


class CandidateScores(NamedTuple):
    """candidates: one row per fact, language and candidate; scores: one row per candidate and neuron."""

    candidates: pd.DataFrame
    scores: pd.DataFrame


def degenerate_neurons(clusters: pd.DataFrame) -> pd.DataFrame:
    """The neurons in any degenerate cluster of the found sets: relation, language, layer, index, each once, sorted."""
    columns = [*PLACE, "layer", "index"]
    return clusters.loc[clusters["sets"] == "found", columns].drop_duplicates().sort_values(columns, ignore_index=True)


def choose_objects(prompts: pd.DataFrame, facts: pd.DataFrame, n_wrong: int, seed: int) -> pd.DataFrame:
    """The true object of each fact and language (candidate 0), and other objects of the relation (1, 2, ...).

    The order of the other objects is drawn with the seed and the fact, so that all languages take the same ones where
    they have them. No object that is true of the subject by any fact of `prompts`, no label twice, none that is a true
    object's (case ignored). A relation with fewer other objects gives fewer candidates.

    Args: prompts of one or both kinds (fact, relation, language, answer), whose facts all lend their objects; facts,
    the pairs of fact and language that are asked; n_wrong, wrong objects per fact and language.
    Returns: columns OBJECT_COLUMNS, sorted by fact and language. Raises: AtlasError for a pair without a prompt.
    """
    named = _with_ids(prompts)
    labels = {place: _labels(group) for place, group in named.groupby(PLACE, sort=False)}
    objects = named.groupby("relation")["object"].agg(lambda of: sorted(set(of)))
    is_true = named.groupby(["relation", "subject"])["object"].agg(set)
    rows = []
    for row in _searched(named, facts).itertuples(index=False):
        order = random_stream(seed, "wrong object", row.fact).permutation(objects[row.relation])
        others = {obj: labels[row.relation, row.language].get(obj) for obj in order}
        chosen = _choose(row.answer, others, is_true[row.relation, row.subject], n_wrong)
        rows += [(row.fact, row.relation, row.language, i, label, i == 0) for i, label in enumerate(chosen)]
    return pd.DataFrame(rows, columns=OBJECT_COLUMNS)


def _with_ids(prompts: pd.DataFrame) -> pd.DataFrame:
    """One row per fact and language, with the ids of its subject and object taken from the fact's."""
    named = prompts.sort_values(["fact", "language"], kind="stable").drop_duplicates(["fact", "language"])
    # a fact's id is relation:subject>object
    pairs = [fact.removeprefix(f"{relation}:").rpartition(">") for fact, relation in _pairs(named, "fact", "relation")]
    return named.assign(subject=[pair[0] for pair in pairs], object=[pair[2] for pair in pairs])


def _pairs(table: pd.DataFrame, *columns: str) -> Iterator[tuple]:
    return zip(*(table[column] for column in columns), strict=True)


def _labels(group: pd.DataFrame) -> dict[str, str]:
    """The label of each object of a relation in one language."""
    return dict(_pairs(group.drop_duplicates("object"), "object", "answer"))


def _searched(named: pd.DataFrame, facts: pd.DataFrame) -> pd.DataFrame:
    """The rows of the pairs of fact and language that are asked, sorted by them."""
    pairs = facts[["fact", "language"]].drop_duplicates().sort_values(["fact", "language"])
    searched = pairs.merge(named, on=["fact", "language"], how="left")
    missing = searched[searched["answer"].isna()]
    if len(missing):
        raise AtlasError(
            f"{len(missing)} searched facts have no prompts, the first is {missing['fact'].iat[0]} in "
            f"{missing['language'].iat[0]}; rerun build_prompts"
        )
    return searched


def _choose(own: str, others: Mapping[str, str | None], is_true: set[str], n_wrong: int) -> list[str]:
    """The true label, then up to n_wrong others in their order; others without a label are unknown in the language."""
    chosen = [own]
    taken = {own.casefold(), *(label.casefold() for obj, label in others.items() if label and obj in is_true)}
    for obj, label in others.items():
        if label and len(chosen) <= n_wrong and obj not in is_true and label.casefold() not in taken:
            chosen.append(label)
            taken.add(label.casefold())
    return chosen


def score_candidates(
    lm: LanguageModel,
    prompts: pd.DataFrame,
    objects: pd.DataFrame,
    neurons: pd.DataFrame,
    method: AttributionMethod,
    batch_rows: int = BATCH_ROWS,
    attribution_rows: int = 0,
    progress: Report = silent,
) -> CandidateScores:
    """P, attribution and activation of each candidate in the place of the answer, in the fact's first query.

    attribution: the method's score of a neuron with F = P(candidate | query). activation: the neuron's value at the
    candidate's own tokens with the candidate written into the sentence, mean over the tokens. is_argmax: every token
    of the candidate is the model's most probable one. Relations without neurons in a language have candidates alone.

    Args: objects as `choose_objects` returns them; neurons as `degenerate_neurons` does; batch_rows and
    attribution_rows (0: as many as memory allows) of forward passes and of attribution sweeps: speed and memory only.
    Returns: columns CANDIDATE_COLUMNS and SCORE_COLUMNS. Raises: AtlasError for a fact without prompts of the kind.
    """
    queries = _encode(lm, prompts, objects)
    answers = answer_probabilities(lm, queries, batch_rows)
    of_place = {place: tuple(group[["layer", "index"]].to_numpy().T) for place, group in neurons.groupby(PLACE)}
    places = list(_pairs(objects, *PLACE))
    asked = [number for number, place in enumerate(places) if place in of_place]
    parts = _Parts([queries[number] for number in asked], [of_place[places[number]] for number in asked])
    attributions = parts.attribute(lm, method, attribution_rows, progress)
    activations = object_activations(lm, parts.queries, parts.neurons, batch_rows)
    candidates = objects.assign(model=lm.name, p=answers["p"].to_numpy(), is_argmax=answers["is_argmax"].to_numpy(bool))
    scores = _score_table(candidates.iloc[asked], parts.neurons, attributions, activations)
    return CandidateScores(candidates[CANDIDATE_COLUMNS].reset_index(drop=True), scores)


def _encode(lm: LanguageModel, prompts: pd.DataFrame, objects: pd.DataFrame) -> list[EncodedQuery]:
    """The first query of each row's fact, with the row's label as its answer."""
    of_kind = prompts[prompts["kind"] == lm.kind].sort_values("query", kind="stable")
    first = of_kind.drop_duplicates(["fact", "language"])
    rows = {(row.fact, row.language): row for row in first.itertuples(index=False)}
    missing = [key for key in _pairs(objects, "fact", "language") if key not in rows]
    if missing:
        fact, language = missing[0]
        raise AtlasError(f"{lm.name}: no {lm.kind} prompt of fact {fact} in {language}; rerun build_prompts")
    asked = _pairs(objects, "fact", "language", "label")
    return [encode_prompt(lm, rows[fact, language]._replace(answer=label)) for fact, language, label in asked]


class _Parts(NamedTuple):
    """Queries with the neurons that are looked at."""

    queries: list[EncodedQuery]
    neurons: list[Neurons]

    def attribute(self, lm: LanguageModel, method: AttributionMethod, rows: int, progress: Report) -> list[np.ndarray]:
        """The scores at the neurons of each query; only a chunk's dense scores are in memory."""
        found = [np.zeros(0)] * len(self.queries)
        # like sentences together: the engine runs those of equal length at once
        order = sorted(range(len(self.queries)), key=lambda number: _form(self.queries[number]))
        for start in range(0, len(order), CHUNK):
            chunk = order[start : start + CHUNK]
            queries = [self.queries[number] for number in chunk]
            dense = attribute_queries(lm, queries, [method], rows, completeness=False)
            for number, attribution in zip(chunk, dense, strict=True):
                found[number] = attribution.scores[method.name][self.neurons[number]]
            progress(start + len(chunk), len(order), "candidates")
        return found


def _form(query: EncodedQuery) -> tuple[int, int]:
    return len(query.input_ids), len(query.positions)


def _score_table(
    rows: pd.DataFrame,
    neurons: Sequence[Neurons],
    attributions: Sequence[np.ndarray],
    activations: Sequence[np.ndarray],
) -> pd.DataFrame:
    """One row per candidate and neuron; text as categories, which a table of millions of rows needs."""
    n_neurons = [len(layers) for layers, _ in neurons]
    columns = {name: rows[name].astype("category") for name in ("model", "fact", "language")}
    columns = {name: column.repeat(n_neurons).array for name, column in columns.items()}
    columns["candidate"] = np.repeat(rows["candidate"].to_numpy(np.int64), n_neurons)
    nothing = np.zeros(0, dtype=np.int64)
    columns["layer"] = np.concatenate([nothing, *(layers for layers, _ in neurons)])
    columns["index"] = np.concatenate([nothing, *(indices for _, indices in neurons)])
    columns["attribution"], columns["activation"] = _joined(attributions), _joined(activations)
    return pd.DataFrame(columns)[SCORE_COLUMNS]


def _joined(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate(arrays) if arrays else np.zeros(0, dtype=np.float32)
