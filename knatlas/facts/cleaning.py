"""Cleaning in the order that loses least: mend labels and patterns, merge twins, then keep what all languages have."""

import re
import unicodedata
from collections.abc import Collection

import pandas as pd

from knatlas.facts.steps import Steps

INVISIBLE = "\u200e"  # left-to-right mark
WIDE_BLANK = "\u3000"
APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u02bc\u00b4`", "'"))
SLOT = re.compile(r"\[[XY]\]")
# a bracket around a slot may keep a blank inside, "[ [X] ]": the blank goes with the bracket
STRAY_BRACKET = re.compile(r"\[\s*(?=\[[XY]\])|(?<=\[[XY]\])\s*\]|\[(?![XY]\])|(?<!\[[XY])\]")
TRAILING_COMMA = re.compile(r"[\s,，、]+$")
IGNORED_IN_TWINS = re.compile(r"[\s,、.。｡､]")


def repair_label(label: str) -> str:
    """A label in NFC, without left-to-right marks, its ideographic blanks made plain, trimmed."""
    return unicodedata.normalize("NFC", label).replace(INVISIBLE, "").replace(WIDE_BLANK, " ").strip()


def repair_pattern(pattern: str) -> str:
    """A pattern in NFC, without stray brackets around or behind its slots and without a comma at its end.

    >>> repair_pattern("[ [X] ]at [Y]us],")
    '[X]at [Y]us'
    """
    return TRAILING_COMMA.sub("", STRAY_BRACKET.sub("", unicodedata.normalize("NFC", pattern))).strip()


def twin_key(pattern: str) -> str:
    """What near-duplicates share: the pattern without blanks, commas and full stops, punctuation in its narrow form."""
    return IGNORED_IN_TWINS.sub("", unicodedata.normalize("NFKC", pattern.translate(APOSTROPHES)))


def repair_labels(facts: pd.DataFrame) -> pd.DataFrame:
    """The facts with both labels repaired."""
    return facts.assign(
        subject_label=facts["subject_label"].map(repair_label), object_label=facts["object_label"].map(repair_label)
    )


def repair_patterns(templates: pd.DataFrame) -> pd.DataFrame:
    """The templates with their patterns repaired."""
    return templates.assign(pattern=templates["pattern"].map(repair_pattern))


def merge_near_duplicates(
    templates: pd.DataFrame, unspaced: list[str], published: Collection[str] = ()
) -> pd.DataFrame:
    """One template of those in a relation and language that differ in blanks, commas, full stops or apostrophes only.

    Args: unspaced, the languages written without blanks, where the twin with the fewest blanks is kept. Among twins
    that are alike in this, the one that a native speaker checked is kept, then the first. published, the languages
    whose templates are taken as a data set's authors chose them: there only equal ones are merged.
    Returns: the templates in their order, numbered anew from 0 within relation and language.
    """
    n_blanks = templates["pattern"].str.count(r"\s").where(templates["language"].isin(unspaced), 0)
    keys = templates["pattern"].where(templates["language"].isin(published), templates["pattern"].map(twin_key))
    ranked = templates.assign(key=keys, n_blanks=n_blanks, unchecked=~templates["is_checked"])
    ranked = ranked.sort_values(["n_blanks", "unchecked"], kind="stable")
    kept = ranked.drop_duplicates(["relation", "language", "key"]).index
    return number(templates.loc[sorted(kept)].reset_index(drop=True))


def number(templates: pd.DataFrame) -> pd.DataFrame:
    """The templates numbered from 0 within relation and language, in their order."""
    return templates.assign(template=templates.groupby(["relation", "language"]).cumcount())


def keep_parallel(facts: pd.DataFrame, languages: list[str]) -> pd.DataFrame:
    """The facts that have labels in all languages."""
    n_languages = facts.groupby("fact")["language"].transform("nunique")
    return facts[n_languages == len(languages)].reset_index(drop=True)


def relations_in_all(templates: pd.DataFrame, languages: list[str]) -> set[str]:
    """The relations that have at least one template in every language."""
    n_languages = templates.groupby("relation")["language"].nunique()
    return set(n_languages.index[n_languages == len(languages)])


def clean(
    facts: pd.DataFrame,
    templates: pd.DataFrame,
    languages: list[str],
    unspaced: list[str],
    steps: Steps,
    published: Collection[str] = (),
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All steps in order, each counted in `steps`; facts and templates stay parallel over the languages.

    unspaced and published as in `merge_near_duplicates`.
    """
    repaired = repair_labels(facts)
    n_labels = n_changed(facts, repaired, "subject_label") + n_changed(facts, repaired, "object_label")
    steps.add("labels", f"{n_labels} labels mended: NFC, no invisible marks, no wide blanks, trimmed", repaired)
    mended = repair_patterns(templates)
    sentence = f"{n_changed(templates, mended, 'pattern')} patterns mended: NFC, no stray brackets, no final commas"
    steps.add("patterns", sentence, templates=mended)
    templates = merge_near_duplicates(mended, unspaced, published)
    sentence = "patterns merged that differ in blanks, commas, full stops or apostrophes only"
    if published:
        sentence += f"; in {' '.join(sorted(published))}, taken as published, equal ones"
    steps.add("twins", sentence, templates=templates, languages=languages)
    facts = keep_parallel(repaired, languages)
    steps.add("parallel", "facts with both labels in every language", facts)
    return keep_with_templates(facts, templates, languages, steps)


def n_changed(before: pd.DataFrame, after: pd.DataFrame, column: str) -> int:
    """How many rows a step changed."""
    return int((before[column] != after[column]).sum())


def keep_with_templates(
    facts: pd.DataFrame, templates: pd.DataFrame, languages: list[str], steps: Steps
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Facts and templates of the relations that have templates in every language; the step names the others."""
    kept = relations_in_all(templates, languages)
    without = sorted({*facts["relation"], *templates["relation"]} - kept, key=lambda name: (len(name), name))
    facts = facts[facts["relation"].isin(kept)].reset_index(drop=True)
    templates = templates[templates["relation"].isin(kept)].reset_index(drop=True)
    sentence = f"relations with a template in every language; dropped: {' '.join(without) or 'none'}"
    steps.add("templates", sentence, facts, templates, languages=languages)
    return facts, templates
