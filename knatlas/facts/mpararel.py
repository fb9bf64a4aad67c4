"""The source mParaRel: paraphrased patterns and labelled facts of Wikidata in many languages."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from knatlas.catalog import read_catalog
from knatlas.errors import AtlasError, unknown
from knatlas.facts.cleaning import clean
from knatlas.facts.json_lines import read_json_lines
from knatlas.facts.marks import mark_facts
from knatlas.facts.steps import Steps
from knatlas.facts.table import IDENTITY, TEMPLATE_COLUMNS, fact_id
from knatlas.facts.templates import slot_mistakes

CHINESE = ("zh-hans", "native")
NATIVE = "t_rex_translation/zh"
LABELLED = [*IDENTITY, "language", "subject_label", "object_label"]
TUPLE_KEYS = {"sub_uri": str, "obj_uri": str, "sub_label": str, "obj_label": str}
ROW_KEYS = ("family", "script", "is_latin", "separator", "blank", "cue")  # of a language of the catalog
PATTERN_KEYS = {"pattern": str, "checked-by-human": bool}
Key = tuple[str, str, str]  # relation, subject id, object id: the same in all languages
Labels = dict[Key, tuple[str, str]]  # key -> label of the subject, label of the object


def read_mpararel(
    folder: str | Path,
    languages: list[str],
    relations: list[str] | None = None,
    chinese: str = "zh-hans",
    codes: Mapping[str, str] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The facts that have labels in all languages, in the relations that have patterns in all languages.

    Args: folder with patterns/CODE/RELATION.jsonl and tuples/CODE/RELATION.jsonl; relations, None for all; chinese,
    "zh-hans" (simplified) or "native" (t_rex_translation/zh: more labels, mixed scripts, those copied from English
    left out); codes, the folder of a language where it differs from the catalog's.
    Returns: the tables of facts, templates and steps.
    Raises: AtlasError for a folder, language or relation that is not there, a broken file, or when no fact is left.
    """
    folder, codes = Path(folder), codes_of(languages) | dict(codes or {})
    check_chinese(chinese)
    sources = {name: folder / "tuples" / codes[name] for name in languages}
    if chinese == "native" and "zh" in sources:
        sources["zh"] = folder / NATIVE
    patterns = {name: folder / "patterns" / codes[name] for name in languages}
    check_folders([*sources.values(), *patterns.values()])
    relations = choose_relations(sources, relations)
    steps = Steps()
    labels = {name: read_labels(source, relations) for name, source in sources.items()}
    facts = label_facts(labels)
    templates = read_patterns(patterns, relations)
    steps.add(
        "read", "facts with a label in a language, and patterns, as they are", facts, templates, languages=languages
    )
    facts, templates = clean(facts, templates, languages, unspaced(languages), steps)
    refuse_empty(facts, folder, languages, steps)
    facts = mark_facts(order_facts(facts, languages, relations), latin(languages))
    return mark_several_objects(facts, labels), templates, steps.table()


def codes_of(languages: list[str]) -> dict[str, str]:
    """The folder name of each language in mParaRel, from the catalog; AtlasError for a language it does not list."""
    catalog = read_catalog("languages")
    wrong = [
        unknown("the languages of the facts: one", name, "a language of catalog/languages.yaml", catalog)
        for name in languages
        if name not in catalog
    ]
    wrong += [
        f"catalog/languages.yaml: the row '{name}' has no {key}; every row needs {' '.join(ROW_KEYS)}. Add it."
        for name in languages
        for key in ROW_KEYS
        if name in catalog and key not in catalog[name]
    ]
    if wrong or not languages:
        raise AtlasError("\n".join(wrong) or "the languages of the facts: none is given; name at least one")
    return {name: catalog[name].get("mpararel", name) for name in languages}


def latin(languages: list[str]) -> list[str]:
    """The languages written with Latin letters."""
    return [name for name in languages if read_catalog("languages")[name]["is_latin"]]


def unspaced(languages: list[str]) -> list[str]:
    """The languages written without blanks between words."""
    return [name for name in languages if not read_catalog("languages")[name]["separator"]]


def check_chinese(chinese: str) -> None:
    """Raise AtlasError for Chinese labels that the data set does not have."""
    if chinese not in CHINESE:
        raise AtlasError(unknown("the Chinese labels of mParaRel (facts.chinese)", chinese, "one of two", CHINESE))


def check_folders(folders: list[Path]) -> None:
    """Raise AtlasError with a sentence for each folder of the data set that is not there."""
    wrong = []
    for path in dict.fromkeys(folders):
        remedy = "Give the folder that contains mpararel as facts.folder, or null to download it."
        if not path.parent.is_dir():
            wrong.append(
                f"{path.parent} is not there; expected a folder of mParaRel, one sub-folder per language. {remedy}"
            )
        elif not path.is_dir():
            present = sorted(child.name for child in path.parent.iterdir() if child.is_dir())
            wrong.append(unknown(f"{path.parent}: the language asked for", path.name, "a folder of it", present))
    if wrong:
        raise AtlasError("\n".join(dict.fromkeys(wrong)))


def choose_relations(sources: Mapping[str, Path], relations: list[str] | None) -> list[str]:
    """The relations asked for, or all that have facts in some language, by number; AtlasError for an unknown one."""
    present = {path.stem for source in sources.values() for path in source.glob("P*.jsonl")}
    listed = sorted(present, key=lambda name: (len(name), name))
    wrong = [
        unknown("the relations of the facts: one", name, "a relation of mParaRel", listed)
        for name in relations or []
        if name not in present
    ]
    if wrong:
        raise AtlasError("\n".join(wrong))
    return list(relations) if relations else listed


def read_labels(folder: Path, relations: list[str]) -> Labels:
    """The labels of a language by (relation, subject id, object id), without those marked as copied from English.

    Raises: AtlasError for a broken line and for a fact that a file lists twice.
    """
    keys = TUPLE_KEYS | ({"from_english": bool} if folder.match(NATIVE) else {})
    labels: Labels = {}
    for relation in relations:
        path = folder / f"{relation}.jsonl"
        for number, row in read_json_lines(path, keys) if path.exists() else ():
            key = (relation, row["sub_uri"], row["obj_uri"])
            if key in labels:
                raise AtlasError(f"{path}, line {number} repeats the fact {fact_id(*key)}; remove one of the lines.")
            if not row.get("from_english", False):
                labels[key] = (row["sub_label"], row["obj_label"])
    return labels


def label_facts(labels: Mapping[str, Labels]) -> pd.DataFrame:
    """One row per fact and language that has labels: identity, language, the two labels."""
    rows = [
        (fact_id(*key), *key, language, *names) for language, known in labels.items() for key, names in known.items()
    ]
    return pd.DataFrame(rows, columns=LABELLED)


def read_patterns(folders: Mapping[str, Path], relations: list[str]) -> pd.DataFrame:
    """The templates of the relations, from one folder per language; AtlasError for a pattern without [X] or [Y]."""
    rows = []
    for relation in relations:
        for language, folder in folders.items():
            path = folder / f"{relation}.jsonl"
            lines = read_json_lines(path, PATTERN_KEYS) if path.exists() else ()
            for place, (number, row) in enumerate(lines):
                refuse_pattern(f"{path}, line {number}: the pattern '{row['pattern']}'", row["pattern"])
                rows.append((relation, language, place, row["pattern"], row["checked-by-human"]))
    return pd.DataFrame(rows, columns=TEMPLATE_COLUMNS).astype({"is_checked": bool})


def refuse_pattern(where: str, pattern: str) -> None:
    """Raise AtlasError for a pattern that lacks or repeats a slot."""
    wrong = slot_mistakes(where, pattern)
    if wrong:
        raise AtlasError("\n".join(f"{sentence} Mend the line or remove it." for sentence in wrong))


def refuse_empty(facts: pd.DataFrame, where: object, languages: list[str], steps: Steps) -> None:
    """Raise AtlasError, with the counts of the steps, when no fact is left."""
    if facts.empty:
        totals = steps.table().query("language == 'all'")
        counts = ", ".join(f"{name} {n_facts}" for name, n_facts in zip(totals["name"], totals["facts"], strict=True))
        raise AtlasError(
            f"{where}: no fact has labels and patterns in all of {' '.join(languages)} (facts after each step: "
            f"{counts}); ask for fewer languages or for other relations."
        )


def order_facts(facts: pd.DataFrame, languages: list[str], relations: list[str]) -> pd.DataFrame:
    """The rows by relation and language as given, subject and object."""
    places = facts.assign(
        relation_place=facts["relation"].map(relations.index), language_place=facts["language"].map(languages.index)
    )
    return places.sort_values(["relation_place", "subject", "object", "language_place"], ignore_index=True)[LABELLED]


def mark_several_objects(facts: pd.DataFrame, labels: Mapping[str, Labels]) -> pd.DataFrame:
    """The facts with `several_objects` also where the data set has another object of the subject in some language only.

    Such an object was not kept, but is as true an answer as the one that was.
    """
    n_objects = Counter(
        (relation, subject) for relation, subject, _ in {key for known in labels.values() for key in known}
    )
    pairs = zip(facts["relation"], facts["subject"], strict=True)
    return facts.assign(several_objects=[n_objects[pair] > 1 for pair in pairs])
