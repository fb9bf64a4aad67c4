"""docs/outputs*.md and what the smoke study wrote: every file and every column, in both directions."""

from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from tests.documented import column_mistakes, file_mistakes, is_file, read_documents

pytestmark = pytest.mark.workflow


def columns_of(path: Path) -> list[str]:
    """The columns of a written table."""
    return list(pd.read_csv(path, nrows=0).columns) if path.suffix == ".csv" else pq.read_schema(path).names


def written(results: Path) -> dict[str, list[str]]:
    """The columns of each table below a study's folder, by its path from there."""
    paths = [path for path in sorted(results.rglob("*")) if is_file(path.name)]
    return {path.relative_to(results).as_posix(): columns_of(path) for path in paths}


@pytest.fixture(scope="module")
def documents(root):
    return read_documents(root / "docs")


def test_every_file_is_described_and_every_described_file_is_written(computed, documents):
    tables = written(computed.results)
    assert len(tables) > 100 and len(documents) > 80
    assert file_mistakes(documents, tables) == []


def test_every_column_is_described_and_every_described_column_is_written(computed, documents):
    assert column_mistakes(documents, written(computed.results)) == []


def test_every_described_file_has_its_columns_described(documents):
    assert [entry.pattern for entry in documents if not entry.columns and not entry.sources] == []
