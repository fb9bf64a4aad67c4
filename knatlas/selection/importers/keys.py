"""Which fact of the study a key of an imported file means: its own id, PARAREL's uuid, or what a mapping says."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from knatlas.errors import AtlasError, nearest
from knatlas.facts.identities import keep_unique, read_identities
from knatlas.facts.json_lines import read_json_lines, read_json_object
from knatlas.facts.table import fact_id

LABEL_KEYS = {"uuid": str, "sub_label": str, "obj_label": str}
MAPPING_COLUMNS = ["key", "fact"]
Labels = tuple[str, str, str]  # relation, subject, object


def keys_of(
    facts: pd.DataFrame, chosen: Sequence[str], folders: Iterable[str | Path] = (), mappings: Iterable[str | Path] = ()
) -> dict[str, str]:
    """The fact of every key that is known: {key: fact}.

    A fact's own id is a key, and so is its uuid where the id ends in one (source context_pararel). Of the folders of
    data sets, `identities/` tells the Wikidata ids of uuids; where none has it, `trex_lms_vocab/` tells their English
    labels. A uuid that fits several facts, or shares one with another uuid, is left out. Mappings come last and win.

    Args: facts, the table of facts; chosen, those that keys may mean; folders, of public data sets; mappings, files
    with {"key": "fact"} (.json) or the columns key and fact (.csv).
    Raises: AtlasError for a broken file, and for a mapping that names no chosen fact.
    """
    folders, known = [Path(folder) for folder in folders], set(chosen)
    keys = {fact.partition(":")[2]: fact for fact in chosen if ">" not in fact}
    uuids = _by_identities(folders) or _by_labels(facts[facts["fact"].isin(known)], folders)
    keys |= {uuid: fact for uuid, fact in uuids.items() if fact in known}
    keys |= {fact: fact for fact in chosen}
    for path in mappings:
        keys |= _mapped(Path(path), known)
    return keys


def _by_identities(folders: Sequence[Path]) -> dict[str, str]:
    found = {}
    for folder in folders:
        if (folder / "identities").is_dir():
            found |= read_identities(folder / "identities")
    return {uuid: fact_id(*ids) for uuid, ids in keep_unique(found).items()}


def _by_labels(facts: pd.DataFrame, folders: Sequence[Path]) -> dict[str, str]:
    """The facts of uuids by relation and English labels, where one of each has them."""
    english = facts[facts["language"] == "en"]
    labels = dict(zip(english["fact"], _rows(english, "relation", "subject_label", "object_label"), strict=True))
    facts_of = {label: fact for fact, label in keep_unique(labels).items()}
    relations, listed = set(english["relation"]), {}
    for path in (path for folder in folders for path in sorted((folder / "trex_lms_vocab").glob("P*.jsonl"))):
        if path.stem in relations:
            rows = (row for _, row in read_json_lines(path, LABEL_KEYS))
            listed |= {row["uuid"]: (path.stem, row["sub_label"], row["obj_label"]) for row in rows}
    return {uuid: facts_of[label] for uuid, label in keep_unique(listed).items() if label in facts_of}


def _rows(table: pd.DataFrame, *columns: str) -> list[Labels]:
    return list(zip(*(table[column] for column in columns), strict=True))


def _mapped(path: Path, known: set[str]) -> Mapping[str, str]:
    """The part of a mapping that leads to facts of the study."""
    rows = _read_json(path) if path.suffix == ".json" else _read_csv(path)
    repeated = [key for key, n in Counter(key for key, _ in rows).items() if n > 1]
    if repeated:
        raise AtlasError(f"{path} names the key {repeated[0]} twice; keep one of the lines")
    found = {key: fact for key, fact in rows if fact in known}
    if not found:
        first = rows[0][1] if rows else ""
        raise AtlasError(
            f"{path}: none of its {len(rows)} facts ('{first}', ...) was searched by the study, whose facts have ids "
            f"such as '{min(known, default='')}'.{nearest(first, known)} Write the ids of facts/facts.parquet"
        )
    return found


def _read_json(path: Path) -> list[tuple[str, str]]:
    rows = read_json_object(path)
    wrong = [key for key, fact in rows.items() if not isinstance(fact, str)]
    if wrong:
        raise AtlasError(f"{path}: the fact of {wrong[0]} is no text; expected the id of a fact")
    return list(rows.items())


def _read_csv(path: Path) -> list[tuple[str, str]]:
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise AtlasError(f"{path} can't be read as csv ({error}); expected the columns key and fact") from error
    missing = [name for name in MAPPING_COLUMNS if name not in table]
    if missing:
        raise AtlasError(
            f"{path} has no column '{missing[0]}'; its columns are {' '.join(table)}, expected key and fact"
        )
    return _rows(table, *MAPPING_COLUMNS)
