"""Tests of tables as Markdown: the same text as pandas writes."""

import pandas as pd
import pytest

from knatlas.markdown import markdown_table

MIXED = pd.DataFrame(
    {
        "name": ["one", " spaced ", None],
        "a long heading": ["1", "-2.5e-05", "nan"],
        "n": [1, 20, 300],
        "is_so": [True, False, True],
        "言語": ["日本語", "ä", "a word that is long"],
    }
)


@pytest.mark.parametrize("table", [MIXED, MIXED.iloc[:0], MIXED.iloc[1:2]], ids=["mixed", "empty", "one line"])
def test_markdown_is_what_pandas_writes(table):
    assert markdown_table(table) == table.to_markdown(index=False, disable_numparse=True)


def test_columns_are_aligned_and_cells_are_as_they_print():
    lines = markdown_table(pd.DataFrame({"a": ["x", "longer"], "b": [0.1, 2]})).splitlines()
    assert lines == ["| a      | b   |", "|:-------|:----|", "| x      | 0.1 |", "| longer | 2.0 |"]
