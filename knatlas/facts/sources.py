"""The sources of facts behind one call: CLDR, mParaRel, the multilingual PARAREL, context-PARAREL."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from knatlas.catalog import FOLDER, read_catalog
from knatlas.errors import AtlasError
from knatlas.facts.cldr import read_cldr
from knatlas.facts.context_pararel import read_context_pararel
from knatlas.facts.mpararel import read_mpararel
from knatlas.facts.multilingual_pararel import read_multilingual_pararel
from knatlas.facts.sampling import sample_facts
from knatlas.facts.steps import Steps
from knatlas.facts.templates import read_templates


def read_source(settings: Mapping, languages: list[str], seed: int, folders: list[str]) -> tuple:
    """Facts, templates and steps of the study's source, after marks are excluded and the facts are sampled.

    Args: settings, the study's `facts`; folders, the data sets' folders (none for cldr).
    Raises: AtlasError when nothing is left.
    """
    facts, templates, steps = READERS[settings["source"]](settings, languages, [Path(folder) for folder in folders])
    record = Steps.continued(steps)
    facts = _without_marks(facts, settings["exclude_marks"])
    record.add(
        "exclude_marks", f"facts without the marks: {' '.join(settings['exclude_marks']) or 'none asked for'}", facts
    )
    facts = sample_facts(facts, settings["facts_per_relation"], _answer_caps(settings), seed)
    record.add("sample", _sentence_of_sample(settings), facts)
    if facts.empty:
        raise AtlasError(
            f"facts: no fact of source '{settings['source']}' is left for the languages {' '.join(languages)}; "
            "the steps are in the log; ask for other relations, fewer languages or fewer exclude_marks"
        )
    templates = templates[templates["relation"].isin(facts["relation"].unique())].reset_index(drop=True)
    return facts, templates, record.table()


def _read_cldr(settings: Mapping, languages: list[str], folders: list[Path]) -> tuple:
    relations = _relations(settings) or [name for name, row in read_catalog("relations").items() if "cldr" in row]
    facts, steps = read_cldr(languages, relations, settings["as_of"], read_catalog("capitals")["zones"])
    return facts, read_templates(FOLDER / "templates", languages, relations), steps


def _read_mpararel(settings: Mapping, languages: list[str], folders: list[Path]) -> tuple:
    return read_mpararel(folders[0], languages, _relations(settings), settings["chinese"])


def _read_multilingual_pararel(settings: Mapping, languages: list[str], folders: list[Path]) -> tuple:
    return read_multilingual_pararel(*folders, languages, _relations(settings))


def _read_context_pararel(settings: Mapping, languages: list[str], folders: list[Path]) -> tuple:
    return read_context_pararel(folders[0], languages, _relations(settings))


READERS = {
    "cldr": _read_cldr,
    "mpararel": _read_mpararel,
    "multilingual_pararel": _read_multilingual_pararel,
    "context_pararel": _read_context_pararel,
}


def _relations(settings: Mapping) -> list[str] | None:
    return None if settings["relations"] == "all" else settings["relations"]


def _sentence_of_sample(settings: Mapping) -> str:
    at_most = settings["facts_per_relation"]
    of_relation = "all facts of a relation" if at_most is None else f"at most {at_most} facts of a relation"
    return f"{of_relation}, {'capped per answer' if settings['cap_answers'] else 'without a cap per answer'}"


def _answer_caps(settings: Mapping) -> dict[str, int]:
    rows = read_catalog("relations").items() if settings["cap_answers"] else ()
    return {name: row["per_object"] for name, row in rows if "per_object" in row}


def _without_marks(facts: pd.DataFrame, marks: list[str]) -> pd.DataFrame:
    """Leave out facts that carry a mark in any language, so that the languages stay parallel."""
    if not marks:
        return facts
    marked = facts.loc[facts[marks].any(axis=1), "fact"].unique()
    return facts[~facts["fact"].isin(marked)].reset_index(drop=True)
