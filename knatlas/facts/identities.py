"""Which Wikidata ids the facts of the multilingual PARAREL have: its entries name a fact by a uuid only."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from knatlas.errors import AtlasError
from knatlas.facts.json_lines import read_json_lines
from knatlas.facts.mpararel import Key, Labels

Entries = Mapping[str, Mapping]  # uuid -> relation_name, obj_label, sentences
ID_KEYS = {"uuid": str, "sub_uri": str, "obj_uri": str}
VOCABULARY_KEYS = {"uuid": str, "sub_label": str}


def read_identities(folder: Path) -> dict[str, Key]:
    """The ids of each uuid, from RELATION.jsonl with uuid, sub_uri and obj_uri; the exact way."""
    return {
        row["uuid"]: (path.stem, row["sub_uri"], row["obj_uri"])
        for path in sorted(folder.glob("P*.jsonl"))
        for _, row in read_json_lines(path, ID_KEYS)
    }


def read_vocabulary(folder: Path) -> dict[str, str]:
    """The English label of the subject of each uuid, from PARAREL's RELATION.jsonl."""
    if not folder.is_dir():
        raise AtlasError(
            f"{folder} is not there; expected PARAREL's files RELATION.jsonl with uuid and sub_label, which the "
            "multilingual PARAREL needs unless its folder has identities/RELATION.jsonl. Fetch either of them."
        )
    return {
        row["uuid"]: row["sub_label"]
        for path in sorted(folder.glob("P*.jsonl"))
        for _, row in read_json_lines(path, VOCABULARY_KEYS)
    }


def match_identities(
    entries: Mapping[str, Entries],
    patterns: Mapping[str, Mapping[str, list[str]]],
    labels: Mapping[str, Labels],
    vocabulary: Mapping[str, str],
) -> dict[str, Key]:
    """The ids of each uuid by comparison of labels, where exactly one fact agrees best.

    Candidates are the facts with labels in every language, as the data set has them all in every language.
    A fact with the ids K speaks for a uuid with one vote for each language in which the object's labels agree, one for
    each language in which a stored sentence is a pattern with K's subject and no object, and one if the vocabulary's
    English subject is K's. It needs a vote for the object and one for the subject. Facts that another uuid matches
    alone are no candidates; a uuid with a tie stays without ids.

    Args: entries, patterns by relation, and labels, each by language; vocabulary, uuid -> English subject label.
    """
    candidates = find_candidates(entries, patterns, keep_common(labels), vocabulary)
    found: dict[str, Key] = {}
    while alone := {uuid: keys[0] for uuid, keys in candidates.items() if len(keys) == 1}:
        found |= keep_unique(alone)
        taken = set(alone.values())
        candidates = {
            uuid: [key for key in keys if key not in taken] for uuid, keys in candidates.items() if uuid not in alone
        }
    return found


def keep_common(labels: Mapping[str, Labels]) -> dict[str, Labels]:
    """The labels of the facts that have labels in every language."""
    common = set.intersection(*(set(known) for known in labels.values()))
    return {language: {key: known[key] for key in known if key in common} for language, known in labels.items()}


def find_candidates(
    entries: Mapping[str, Entries],
    patterns: Mapping[str, Mapping[str, list[str]]],
    labels: Mapping[str, Labels],
    vocabulary: Mapping[str, str],
) -> dict[str, list[Key]]:
    """The facts with most votes for each uuid."""
    subjects: dict[str, Counter] = defaultdict(Counter)
    for language, facts in entries.items():
        by_sentence = index_sentences(labels[language], patterns[language])
        by_subject = index_subjects(labels[language]) if language == "en" else {}
        for uuid, entry in facts.items():
            relation = entry["relation_name"]
            subjects[uuid].update(union(by_sentence.get((relation, text), ()) for text in entry["sentences"]))
            subjects[uuid].update(by_subject.get((relation, vocabulary.get(uuid)), ()))
    return {uuid: best(uuid, votes, entries, labels) for uuid, votes in subjects.items()}


def best(
    uuid: str, subjects: Mapping[Key, int], entries: Mapping[str, Entries], labels: Mapping[str, Labels]
) -> list[Key]:
    """The facts with votes for the subject (given) and for the object that have most votes together."""
    objects = {language: facts[uuid]["obj_label"] for language, facts in entries.items() if uuid in facts}
    votes = {}
    for key, n_subjects in subjects.items():
        n_objects = sum(labels[language][key][1] == label for language, label in objects.items())
        if n_objects:
            votes[key] = n_subjects + n_objects
    most = max(votes.values(), default=0)
    return sorted(key for key, n_votes in votes.items() if n_votes == most)


def index_sentences(labels: Labels, patterns: Mapping[str, list[str]]) -> dict[tuple[str, str], list[Key]]:
    """The facts by (relation, pattern with the subject and without object)."""
    by_sentence = defaultdict(list)
    for key, (subject, _) in labels.items():
        for pattern in patterns.get(key[0], ()):
            by_sentence[key[0], pattern.replace("[X]", subject).replace("[Y]", "")].append(key)
    return by_sentence


def index_subjects(labels: Labels) -> dict[tuple[str, str], list[Key]]:
    """The facts by (relation, label of the subject)."""
    by_subject = defaultdict(list)
    for key, (subject, _) in labels.items():
        by_subject[key[0], subject].append(key)
    return by_subject


def union(lists: Iterable[Iterable[Key]]) -> set[Key]:
    """All members of the lists."""
    return {key for members in lists for key in members}


def keep_unique(identities: Mapping[str, Key]) -> dict[str, Key]:
    """The identities whose ids no other uuid has."""
    n_uuids = Counter(identities.values())
    return {uuid: key for uuid, key in identities.items() if n_uuids[key] == 1}
