"""The source context-PARAREL: PARAREL's patterns that end in the object, and 100 facts of each relation, in English.

The examples that stand before a prompt (the context) are not drawn here but where prompts are made
(knatlas.facts.contexts). Section 4.1 of the localization paper.
"""

import re
from pathlib import Path

import pandas as pd

from knatlas.errors import AtlasError, unknown
from knatlas.facts.cleaning import keep_with_templates
from knatlas.facts.json_lines import read_json_lines
from knatlas.facts.marks import mark_facts
from knatlas.facts.mpararel import LABELLED, refuse_empty, refuse_pattern
from knatlas.facts.steps import Steps
from knatlas.facts.table import TEMPLATE_COLUMNS

LANGUAGE = "en"
# those of the paper, in its order; its rule (at least four patterns) would give others
RELATIONS = (
    *("P39", "P264", "P108", "P131", "P176", "P30", "P178", "P138", "P47", "P27", "P364"),
    *("P495", "P449", "P20", "P36", "P19", "P740", "P279", "P159", "P106", "P101", "P937"),
)
FIRST = 100  # facts of a relation that are taken, in the order of the file
GRAPHS, VOCABULARY = "graphs_json", "trex_lms_vocab"
PATTERN_KEYS = {"pattern": str}
FACT_KEYS = {"sub_label": str, "obj_label": str, "uuid": str}
# [Y] ends the pattern, or is one character short of its end
FINAL = re.compile(r"\[Y\].?", re.DOTALL)


def read_context_pararel(
    folder: str | Path, languages: list[str], relations: list[str] | None = None
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The first 100 facts of each relation, and the patterns that end in the object.

    Patterns lose full stops, commas and blanks at both ends and get a full stop where none of ? . , ! ; ends them.
    Labels and patterns are not mended and none are merged, so that the counts are those of the paper. A fact is its
    uuid, `P36:{uuid}`, as PARAREL has no Wikidata ids; subject and object are the labels. Facts with equal labels stay.

    Args: folder, PARAREL with graphs_json and trex_lms_vocab; languages, English alone; relations, None for the
    paper's 22.
    Returns: the tables of facts, templates and steps.
    Raises: AtlasError for another language, a relation or folder that is not there, a broken file, a uuid that is
    listed twice, or when no fact is left.
    """
    folder = Path(folder)
    check_languages(languages)
    relations = choose_relations(folder, relations)
    facts, patterns = read_facts(folder, relations), read_patterns(folder, relations)
    steps = Steps()
    steps.add("read", f"facts and patterns of {len(relations)} relations as they are", facts, patterns)
    templates = keep_final(patterns)
    steps.add("final", "patterns that end in the object, with one full stop", templates=templates)
    facts, templates = keep_with_templates(facts, templates, [LANGUAGE], steps)
    refuse_empty(facts, folder, [LANGUAGE], steps)
    # marked before the others are left out: a further object of a subject is as true wherever it stands
    facts = mark_facts(facts, [LANGUAGE]).groupby("relation", sort=False).head(FIRST).reset_index(drop=True)
    n_repeated = int(facts.duplicated(["relation", "subject", "object"]).sum())
    sentence = f"the first {FIRST} facts of each relation; {n_repeated} repeat the labels of another and stay"
    steps.add("first", sentence, facts, languages=[LANGUAGE])
    return facts, templates, steps.table()


def check_languages(languages: list[str]) -> None:
    """Raise AtlasError for any language but English."""
    others = [name for name in languages if name != LANGUAGE]
    if others or not languages:
        raise AtlasError(
            f"the languages of the facts are {' '.join(languages) or 'none'}; the source context_pararel is in English "
            f"alone. Set languages to [{LANGUAGE}], or facts.source to a source with other languages."
        )


def choose_relations(folder: Path, relations: list[str] | None) -> list[str]:
    """The relations asked for, or the paper's; AtlasError for one without facts or patterns, or a missing folder."""
    for name in (GRAPHS, VOCABULARY):
        if not (folder / name).is_dir():
            raise AtlasError(
                f"{folder / name} is not there; expected PARAREL with {GRAPHS} and {VOCABULARY}, one RELATION.jsonl "
                "per relation in each. Give the folder that contains pararel as facts.folder, or null to download it."
            )
    listed = {path.stem for path in (folder / GRAPHS).glob("P*.jsonl")}
    listed &= {path.stem for path in (folder / VOCABULARY).glob("P*.jsonl")}
    present = sorted(listed, key=lambda name: (len(name), name))
    asked = list(RELATIONS) if relations is None else list(relations)
    where = "the relations of the facts: one"
    wrong = [
        unknown(where, name, f"a relation of {folder} with facts and patterns", present)
        for name in asked
        if name not in listed
    ]
    if wrong:
        raise AtlasError("\n".join(wrong))
    return asked


def read_facts(folder: Path, relations: list[str]) -> pd.DataFrame:
    """All facts of the relations, in the order of the files; AtlasError for a uuid that is listed twice."""
    rows, seen = [], set()
    for relation in relations:
        path = folder / VOCABULARY / f"{relation}.jsonl"
        for number, row in read_json_lines(path, FACT_KEYS):
            if row["uuid"] in seen:
                raise AtlasError(f"{path}, line {number} repeats the uuid {row['uuid']}; remove one of the lines.")
            seen.add(row["uuid"])
            labels = (row["sub_label"], row["obj_label"])
            rows.append((f"{relation}:{row['uuid']}", relation, *labels, LANGUAGE, *labels))
    return pd.DataFrame(rows, columns=LABELLED)


def read_patterns(folder: Path, relations: list[str]) -> pd.DataFrame:
    """All patterns of the relations, in the order of the files; AtlasError for one without [X] or [Y]."""
    rows = []
    for relation in relations:
        path = folder / GRAPHS / f"{relation}.jsonl"
        for place, (number, row) in enumerate(read_json_lines(path, PATTERN_KEYS)):
            refuse_pattern(f"{path}, line {number}: the pattern '{row['pattern']}'", row["pattern"])
            rows.append((relation, LANGUAGE, place, row["pattern"], False))
    return pd.DataFrame(rows, columns=TEMPLATE_COLUMNS).astype({"is_checked": bool})


def keep_final(patterns: pd.DataFrame) -> pd.DataFrame:
    """The patterns that end in the object, closed, and numbered from 0 within their relation."""
    closed = patterns.assign(pattern=[close(pattern) for pattern in patterns["pattern"]])
    kept = closed[closed["pattern"] != ""].reset_index(drop=True)
    return kept.assign(template=kept.groupby("relation").cumcount())


def close(pattern: str) -> str:
    """A pattern with one mark at its end; empty where the object does not end it.

    >>> close("[X], which has the capital [Y] ."), close("[Y] is the capital of [X].")
    ('[X], which has the capital [Y].', '')
    """
    bare = pattern.strip("., ")
    if not FINAL.fullmatch(bare[bare.index("[Y]") :]):
        return ""
    return bare if bare[-1] in "?.,!;" else f"{bare}."
