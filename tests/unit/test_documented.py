"""How the pages about outputs are read, and that a file or a column too many or too few is found."""

import pytest

from knatlas.planning import comparison, plan
from tests.documented import column_mistakes, file_mistakes, fits, names, read_documents

PAGE = """# Outputs

## facts/

| file | rule | one row per | columns |
| --- | --- | --- | --- |
| `a.csv`, `b.csv` | `make` | step | `step` (int, of `c.csv`), `left` (of it; (`x`, `y`)), `late` (only with `z`) |
| `rare.csv` | `make` | step; only where there are any | of `a.csv`: `step` |

`{shard}.queries.parquet` and `scores/{model}.parquet`: one row per query.

| column | type | what |
| --- | --- | --- |
| `fact`, `query` | text, int | |
| `rank` | int? | only of the first query |

Only with a reference `{shard}.queries.parquet` has also these; `{kept}` stands for a share:

| column | type | what |
| --- | --- | --- |
| `missed_{kept}` | float | |

## known/{model}.parquet (`measure_known`)

One row per query.

| column | type | what |
| --- | --- | --- |
| `p` | float | |

## controls/{control}/

| file | what; only with controls | columns |
| --- | --- | --- |
| `facts/a.csv` | as outside | |

## figures/

| figure | drawn | from |
| --- | --- | --- |
| `one` (the first) | always | `facts/b.csv`, and `rule` (by which) |
"""
TABLES = {
    "facts/a.csv": ["step", "left", "late"],
    "facts/b.csv": ["step", "left"],
    "facts/0.queries.parquet": ["fact", "query", "rank", "missed_0.05"],
    "scores/bert.parquet": ["fact", "query"],
    "known/bert.parquet": ["p"],
    "figures/one.csv": ["step", "left", "rule"],
    "controls/x/facts/a.csv": ["step", "left"],
}


@pytest.fixture
def documents(tmp_path):
    (tmp_path / "outputs.md").write_text(PAGE)
    return read_documents(tmp_path)


def test_pages_in_the_house_form_are_read(documents):
    found = {entry.pattern: entry for entry in documents}
    assert found["facts/a.csv"].columns == ["step", "left", "late"] and found["facts/a.csv"].optional == {"late"}
    assert found["facts/rare.csv"].is_optional and found["facts/rare.csv"].columns == ["step"]
    queries = found["facts/{shard}.queries.parquet"]
    assert queries.columns == ["fact", "query", "rank", "missed_{kept}"] and queries.optional == {
        "rank",
        "missed_{kept}",
    }
    assert found["scores/{model}.parquet"].columns == ["fact", "query", "rank"]
    assert found["known/{model}.parquet"].columns == ["p"]
    assert found["controls/{control}/facts/a.csv"].columns == ["step", "left", "late"]
    assert found["figures/one.csv"].sources == ["facts/b.csv"] and found["figures/one.csv"].columns == ["rule"]
    assert len(found) == 8


def test_tables_as_they_are_described_have_no_mistakes(documents):
    assert file_mistakes(documents, TABLES) == column_mistakes(documents, TABLES) == []


def test_files_too_many_and_too_few_are_found(documents):
    (mistake,) = file_mistakes(documents, {**TABLES, "facts/new.csv": []})
    assert mistake.startswith("facts/new.csv is described nowhere: add a row")
    (mistake,) = file_mistakes(documents, {path: of for path, of in TABLES.items() if path != "facts/b.csv"})
    assert mistake.startswith("facts/b.csv is described and no study writes it")


@pytest.mark.parametrize(
    ("path", "columns", "mistakes"),
    [
        ("facts/b.csv", ["step", "left", "more"], ["more is not described"]),
        ("facts/b.csv", ["step"], ["left is described, but it is not there"]),
        ("figures/one.csv", ["step", "rule"], ["left is described, but it is not there"]),
        ("figures/one.csv", ["step", "left", "rule", "query"], ["query is not described"]),
        ("known/bert.parquet", ["q"], ["q is not described", "p is described, but it is not there"]),
    ],
)
def test_columns_too_many_and_too_few_are_found(documents, path, columns, mistakes):
    assert column_mistakes(documents, {**TABLES, path: columns}) == [f"{path}: {mistake}" for mistake in mistakes]


def test_brackets_and_wildcards_are_understood():
    assert names("`a` (one, `b` (two `c`)), `d` and `e(`, `f`") == ["a", "d", "e(", "f"]
    assert fits("x/known/y.csv", "{any}/known/{model}.csv") and not fits("x/y/z.csv", "x/{model}.csv")
    assert not fits("abc", "a.c")


def test_the_tables_of_a_plan_are_described(root):
    found = {entry.pattern: entry.columns for entry in read_documents(root / "docs")}
    assert found["plan.csv"] == plan.COLUMNS and found["plan_error.csv"] == comparison.COLUMNS
