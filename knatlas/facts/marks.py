"""Marks on facts that make a measurement easier or harder; computed alike for every source, never a reason to drop."""

import unicodedata

import pandas as pd

from knatlas.facts.table import FACT_COLUMNS

BRACKETS = r"[()\[\]（）［］【】]"


def mark_facts(facts: pd.DataFrame, latin_languages: list[str]) -> pd.DataFrame:
    """The table of facts with its marks (the columns MARKS of knatlas.facts.table).

    Args: facts, one row per fact and language with identity, language and labels; latin_languages, the codes of the
    languages written with Latin letters, in which `latin_object` is never set. `object_in_subject` ignores capitals;
    `same_as_english` does not, and is False in English and where the table has no English.
    Returns: a copy with the columns FACT_COLUMNS, rows in the same order.
    """
    marked = facts.copy()
    pairs = list(zip(facts["subject_label"], facts["object_label"], strict=True))
    marked["several_objects"] = facts.groupby(["relation", "subject"])["object"].transform("nunique") > 1
    marked["object_in_subject"] = [obj.casefold() in subject.casefold() for subject, obj in pairs]
    labels = facts["subject_label"] + " " + facts["object_label"]
    marked["has_brackets"] = labels.str.contains(BRACKETS, regex=True)
    marked["object_has_blank"] = facts["object_label"].str.contains(r"\s", regex=True)
    is_latin = facts["object_label"].map(has_latin_letters_only)
    marked["latin_object"] = is_latin & ~facts["language"].isin(latin_languages)
    marked["same_as_english"] = is_spelled_as_in_english(facts)
    return marked[FACT_COLUMNS]


def has_latin_letters_only(label: str) -> bool:
    """Whether a label has letters and all of them are Latin."""
    letters = [letter for letter in label if letter.isalpha()]
    return bool(letters) and all(unicodedata.name(letter, "").startswith("LATIN") for letter in letters)


def is_spelled_as_in_english(facts: pd.DataFrame) -> pd.Series:
    """For each row, whether the object's label equals the English label of the same fact, in another language."""
    english = facts[facts["language"] == "en"].drop_duplicates("fact").set_index("fact")["object_label"]
    return (facts["fact"].map(english) == facts["object_label"]) & (facts["language"] != "en")
