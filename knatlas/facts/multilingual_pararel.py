"""The source multilingual PARAREL: six languages, to which mParaRel adds subjects, ids and Chinese."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from knatlas.errors import AtlasError, unknown
from knatlas.facts.cleaning import clean, number
from knatlas.facts.identities import Entries, keep_unique, match_identities, read_identities, read_vocabulary
from knatlas.facts.json_lines import REMEDY, check_keys, read_json_lines, read_json_object
from knatlas.facts.marks import mark_facts
from knatlas.facts.mpararel import (
    NATIVE,
    Key,
    Labels,
    check_folders,
    codes_of,
    label_facts,
    latin,
    mark_several_objects,
    order_facts,
    read_labels,
    read_patterns,
    refuse_empty,
    refuse_pattern,
    unspaced,
)
from knatlas.facts.steps import Steps
from knatlas.facts.table import TEMPLATE_COLUMNS

LANGUAGES = ("en", "fr", "fi", "hu", "ja", "ko")  # those of the data set itself
ENTRY_KEYS = {"relation_name": str, "obj_label": str, "sentences": list}
TEMPLATE_KEYS = {"relation": str, "pattern": str}


def read_multilingual_pararel(
    folder: str | Path,
    pararel: str | Path,
    mpararel: str | Path,
    languages: list[str],
    relations: list[str] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The facts of the data set that have labels in all languages, in the relations that have templates in all.

    Object labels and templates are the data set's, subject labels mParaRel's; Chinese has mParaRel's native labels
    (none copied from English) and its zh-hans patterns. [Y] stays in the templates. A fact's ids are read from
    identities/RELATION.jsonl; where that folder is missing they are matched by labels, which leaves some facts of
    relations without templates unidentified (knatlas.facts.identities). The step "identified" says which was done.

    Args: folder with LANGUAGE.json, templates/LANGUAGE.jsonl and identities; pararel with trex_lms_vocab; mpararel
    with tuples, patterns and t_rex_translation; relations, None for all.
    Returns: the tables of facts, templates and steps.
    Raises: AtlasError for what is missing, unknown or broken, or when no fact is left.
    """
    folder, pararel, mpararel = Path(folder), Path(pararel), Path(mpararel)
    check(languages, folder, mpararel)
    entries = choose_entries({name: read_entries(folder / f"{name}.json") for name in LANGUAGES}, relations)
    relations = relations_of(entries) if relations is None else relations
    templates = read_all_templates(folder, mpararel, relations)
    labels = read_all_labels(mpararel, relations)
    steps = Steps()
    chosen = choose_languages(templates, languages)
    steps.add("read", "facts and templates as they are", len(uuids_of(entries)), chosen)
    identities, how = identify(folder, pararel, entries, templates, labels)
    steps.add("identified", f"facts whose Wikidata ids are known, {how}", len(identities))
    facts = label_facts({name: join(identities, entries.get(name), labels[name]) for name in languages})
    sentence = "facts with a subject label in mParaRel, and in Chinese both labels, none copied from English"
    steps.add("labelled", sentence, facts, chosen, languages=languages)
    # the paraphrases of the six languages are the data set's own; Chinese ones come as mParaRel has them
    own = [name for name in languages if name in LANGUAGES]
    facts, chosen = clean(facts, chosen, languages, unspaced(languages), steps, published=own)
    refuse_empty(facts, folder, languages, steps)
    facts = mark_facts(order_facts(facts, languages, relations), latin(languages))
    return mark_several_objects(facts, labels), chosen, steps.table()


def check(languages: list[str], folder: Path, mpararel: Path) -> None:
    """Raise AtlasError for a language that the source lacks and for folders that are not there."""
    offered = (*LANGUAGES, "zh")
    where = "the languages of the facts: one"
    wrong = [unknown(where, name, "a language of this source", offered) for name in languages if name not in offered]
    if wrong or not languages:
        raise AtlasError("\n".join(wrong) or "the languages of the facts: none is given; name at least one")
    if not (folder / "templates").is_dir():
        raise AtlasError(
            f"{folder}/templates is not there; expected the multilingual PARAREL with templates/LANGUAGE.jsonl and "
            "LANGUAGE.json. Give the folder that contains it as facts.folder, or null to download it."
        )
    codes = codes_of([*LANGUAGES])
    patterns = mpararel / "patterns" / codes_of(["zh"])["zh"]
    check_folders([*(mpararel / "tuples" / code for code in codes.values()), patterns, mpararel / NATIVE])


def read_entries(path: Path) -> dict[str, Mapping]:
    """The facts of a language by uuid; AtlasError for an entry without relation, object or list of sentences."""
    entries = read_json_object(path)
    for uuid, entry in entries.items():
        if not isinstance(entry, Mapping):
            raise AtlasError(
                f"{path}: the entry {uuid} is no object; expected the keys {' '.join(ENTRY_KEYS)}. {REMEDY}"
            )
        check_keys(entry, f"{path}: the entry {uuid}", ENTRY_KEYS)
    return entries


def choose_entries(entries: Mapping[str, Entries], relations: list[str] | None) -> dict[str, Entries]:
    """The facts of the relations asked for; AtlasError for a relation that the data set lacks."""
    listed = relations_of(entries)
    asked = listed if relations is None else relations
    where = "the relations of the facts: one"
    wrong = [unknown(where, name, "a relation of this source", listed) for name in asked if name not in listed]
    if wrong:
        raise AtlasError("\n".join(wrong))
    return {
        language: {uuid: entry for uuid, entry in facts.items() if entry["relation_name"] in asked}
        for language, facts in entries.items()
    }


def relations_of(entries: Mapping[str, Entries]) -> list[str]:
    """All relations, by number."""
    names = {entry["relation_name"] for facts in entries.values() for entry in facts.values()}
    return sorted(names, key=lambda name: (len(name), name))


def uuids_of(entries: Mapping[str, Entries]) -> set[str]:
    """The facts that some language has."""
    return {uuid for facts in entries.values() for uuid in facts}


def read_all_templates(folder: Path, mpararel: Path, relations: list[str]) -> pd.DataFrame:
    """The templates of the six languages and mParaRel's Chinese patterns, of the relations, by relation."""
    tables = [read_own_templates(folder / "templates" / f"{name}.jsonl", name) for name in LANGUAGES]
    chinese = read_patterns({"zh": mpararel / "patterns" / codes_of(["zh"])["zh"]}, relations)
    templates = pd.concat([*tables, chinese], ignore_index=True)
    templates = templates[templates["relation"].isin(relations)]
    return number(templates.sort_values("relation", key=lambda names: names.map(relations.index), kind="stable"))


def read_own_templates(path: Path, language: str) -> pd.DataFrame:
    """The templates of a language of the data set; none of them is marked as checked."""
    rows = []
    for place, row in read_json_lines(path, TEMPLATE_KEYS):
        refuse_pattern(f"{path}, line {place}: the pattern '{row['pattern']}'", row["pattern"])
        rows.append((row["relation"], language, 0, row["pattern"], False))
    return pd.DataFrame(rows, columns=TEMPLATE_COLUMNS).astype({"is_checked": bool})


def choose_languages(templates: pd.DataFrame, languages: Iterable[str]) -> pd.DataFrame:
    """The templates of the languages."""
    return templates[templates["language"].isin(languages)].reset_index(drop=True)


def read_all_labels(mpararel: Path, relations: list[str]) -> dict[str, Labels]:
    """mParaRel's labels of the relations in the six languages, and its native Chinese ones."""
    folders = {name: mpararel / "tuples" / code for name, code in codes_of([*LANGUAGES]).items()}
    return {name: read_labels(path, relations) for name, path in (folders | {"zh": mpararel / NATIVE}).items()}


def identify(
    folder: Path,
    pararel: Path,
    entries: Mapping[str, Entries],
    templates: pd.DataFrame,
    labels: Mapping[str, Labels],
) -> tuple[dict[str, Key], str]:
    """The ids of the facts by uuid, and in words how they were found."""
    if (folder / "identities").is_dir():
        known, uuids = read_identities(folder / "identities"), uuids_of(entries)
        return keep_unique(
            {uuid: key for uuid, key in known.items() if uuid in uuids}
        ), "read from the data set's files"
    vocabulary = read_vocabulary(pararel / "trex_lms_vocab")
    patterns = {
        language: here.groupby("relation")["pattern"].agg(list).to_dict()
        for language, here in templates.groupby("language")
    }
    own = {language: labels[language] for language in entries}
    return match_identities(entries, patterns, own, vocabulary), "matched by labels, ties left out"


def join(identities: Mapping[str, Key], entries: Entries | None, labels: Labels) -> Labels:
    """The labels of a language: the data set's object with mParaRel's subject, or both of mParaRel without entries."""
    known = {key: (uuid, labels[key]) for uuid, key in identities.items() if key in labels}
    if entries is None:
        return {key: names for key, (_, names) in known.items()}
    return {
        key: (subject, entries[uuid]["obj_label"]) for key, (uuid, (subject, _)) in known.items() if uuid in entries
    }
