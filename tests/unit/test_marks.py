"""Marks of facts, row by row."""

import pandas as pd
import pytest

from knatlas.facts.marks import has_latin_letters_only, mark_facts
from knatlas.facts.table import FACT_COLUMNS


def marks_of(rows):
    columns = ["fact", "relation", "subject", "object", "language", "subject_label", "object_label"]
    return mark_facts(pd.DataFrame(rows, columns=columns), ["en", "fr"])


def test_marks_of_single_rows():
    marked = marks_of(
        [
            ("P36:MX>a", "P36", "MX", "a", "en", "Mexico", "Mexico City"),
            ("P36:MX>a", "P36", "MX", "a", "ja", "メキシコ", "Mexico City"),
            ("P1376:b>c", "P1376", "b", "c", "en", "New York City", "new york"),
            ("P1376:b>d", "P1376", "b", "d", "en", "New York City", "Empire (state)"),
            ("P1376:b>d", "P1376", "b", "d", "fr", "New York", "Empire"),
            ("P1376:e>f", "P1376", "e", "f", "fr", "Lyon", "Gaule"),
        ]
    )
    assert list(marked.columns) == FACT_COLUMNS
    assert marked["several_objects"].tolist() == [False, False, True, True, True, False]
    assert marked["object_in_subject"].tolist() == [False, False, True, False, False, False]
    assert marked["has_brackets"].tolist() == [False, False, False, True, False, False]
    assert marked["object_has_blank"].tolist() == [True, True, True, True, False, False]
    assert marked["latin_object"].tolist() == [False, True, False, False, False, False]
    assert marked["same_as_english"].tolist() == [False, True, False, False, False, False]
    assert all(marked[name].dtype == bool for name in FACT_COLUMNS[7:])


@pytest.mark.parametrize(
    ("label", "is_latin"),
    [("Paris", True), ("Córdoba 2", True), ("パリ", False), ("CFAフラン", False), ("12", False), ("Москва", False)],
)
def test_latin_letters_only(label, is_latin):
    assert has_latin_letters_only(label) is is_latin
