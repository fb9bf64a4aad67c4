"""Facts as negative controls: with the answer of another fact of the relation, or with a made-up subject.

A control's facts keep their identity (relation, subject id, object id), so that what is found with them stands beside
what is found with the real fact; only the names differ from which prompts are built.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pandas as pd

from knatlas.errors import AtlasError, unknown
from knatlas.facts.made_up import made_up_names
from knatlas.facts.sampling import rank
from knatlas.facts.table import IDENTITY, check_columns

NAMED = [*IDENTITY, "language", "subject_label", "object_label"]
CONTROL_COLUMNS = [*NAMED, "answer_of"]
CHANGE_COLUMNS = ["relation", "facts", "answers", "changed", "left_out"]
Donors = dict[str, str]


def control_facts(name: str, facts: pd.DataFrame, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The facts of a negative control, and how many of each relation could be made into one.

    `shuffled_objects`: the answer of another fact of the relation in all languages, from `shuffled_donors`; a fact that
    has none is left out. `nonsense_subjects`: a made-up name in place of each subject's, from `made_up_names`.

    Args: name of the control; facts, a row per fact and language; seed of the study.
    Returns: CONTROL_COLUMNS, rows in their order, `answer_of` the fact whose answer it is; and CHANGE_COLUMNS, a row
    per relation and one for `all`: facts given, different objects among them, facts changed and left out.
    Raises: AtlasError for another name, or facts without their columns.
    """
    if name not in PROMPT_CONTROLS:
        raise AtlasError(unknown("controls: kinds", name, "a control that changes prompts", PROMPT_CONTROLS))
    check_columns(facts, NAMED, "the table of facts")
    changed = PROMPT_CONTROLS[name](facts[NAMED], seed)
    return changed[CONTROL_COLUMNS], _changes(facts, changed)


def shuffled_donors(facts: pd.DataFrame, seed: int) -> Donors:
    """For each fact another one of its relation whose answer it is given: fact -> fact.

    The facts of a relation, those with one object side by side, take the answers of the facts as many places further on
    as the most frequent object has facts: a permutation in which none keeps its object, wherever there is one. A fact
    that would be given an answer that is true of its subject, or a name that is also its own in some language, gets
    that of a fact drawn among the others. A fact without any has no entry.
    """
    names = facts.groupby("fact", sort=False)["object_label"].agg(tuple).to_dict()
    donors: Donors = {}
    for relation, group in facts.drop_duplicates("fact").groupby("relation", sort=True):
        stream = _stream(seed, "shuffled_objects", relation)
        rows = group.sort_values("fact")
        allowed = _Allowed(rows, names)
        for fact, donor in _shifted(dict(zip(rows["fact"], rows["object"], strict=True)), stream).items():
            others = [donor] if allowed(fact, donor) else [other for other in rows["fact"] if allowed(fact, other)]
            if others:
                donors[fact] = others[stream.integers(len(others))]
    return donors


class _Allowed:
    """Whether a fact may have another's answer: one that is not true of its subject, and not named as its own."""

    def __init__(self, rows: pd.DataFrame, names: Mapping[str, tuple[str, ...]]):
        self.names, self.objects = names, dict(zip(rows["fact"], rows["object"], strict=True))
        self.subjects = dict(zip(rows["fact"], rows["subject"], strict=True))
        self.true = rows.groupby("subject")["object"].agg(set).to_dict()

    def __call__(self, fact: str, donor: str) -> bool:
        is_true = self.objects[donor] in self.true[self.subjects[fact]]
        pairs = zip(self.names[fact], self.names[donor], strict=True)
        return not is_true and all(own.casefold() != other.casefold() for own, other in pairs)


def _shifted(objects: Mapping[str, str], stream: np.random.Generator) -> Donors:
    """Each fact with the one so many places further on, round the end, as the most frequent object has facts."""
    counts = Counter(objects.values())
    places = {name: place for place, name in enumerate(stream.permutation(sorted(counts)))}
    drawn = [list(objects)[i] for i in stream.permutation(len(objects))]
    ordered = sorted(drawn, key=lambda fact: places[objects[fact]])
    shift = max(counts.values())
    return {fact: ordered[(i + shift) % len(ordered)] for i, fact in enumerate(ordered)}


def _shuffle_objects(facts: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The facts that have a donor, with its answers."""
    donors = shuffled_donors(facts, seed)
    kept = facts[facts["fact"].isin(donors)]
    labels = facts.set_index(["fact", "language"])["object_label"].to_dict()
    answer_of = kept["fact"].map(donors)
    given = [labels[key] for key in zip(answer_of, kept["language"], strict=True)]
    return kept.assign(object_label=given, answer_of=answer_of)


def _make_up_subjects(facts: pd.DataFrame, seed: int) -> pd.DataFrame:
    """All facts, with made-up names of their subjects."""
    names = made_up_names(facts, seed)
    keys = zip(facts["language"], facts["subject"], strict=True)
    return facts.assign(subject_label=[names[key] for key in keys], answer_of=facts["fact"])


def _stream(seed: int, *names: str) -> np.random.Generator:
    """Random numbers that the seed and the names alone decide."""
    return np.random.default_rng(int(rank(":".join(names), seed), 16))


def _changes(facts: pd.DataFrame, changed: pd.DataFrame) -> pd.DataFrame:
    """CHANGE_COLUMNS, from the facts given and those that the control has."""
    given, kept = facts.drop_duplicates("fact"), set(changed["fact"])
    parts = {**dict(iter(given.groupby("relation", sort=True))), "all": given}
    return pd.DataFrame(list(_counts(parts, kept)), columns=CHANGE_COLUMNS)


def _counts(parts: Mapping[str, pd.DataFrame], kept: set[str]) -> Iterator[tuple]:
    for name, part in parts.items():
        n_kept = int(part["fact"].isin(kept).sum())
        n_answers = len(part[["relation", "object"]].drop_duplicates())
        yield name, len(part), n_answers, n_kept, len(part) - n_kept


PROMPT_CONTROLS: dict[str, Callable[[pd.DataFrame, int], pd.DataFrame]] = {
    "shuffled_objects": _shuffle_objects,
    "nonsense_subjects": _make_up_subjects,
}
