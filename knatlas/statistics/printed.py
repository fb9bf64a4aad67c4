"""Numbers that papers print (catalog/paper_results), set beside ours."""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import pandas as pd

from knatlas.errors import AtlasError, unknown
from knatlas.statistics.printed_cells import read_cells

VALUE, DOUBT = "value", "doubt"


def printed_values(paper: str, place: int | str) -> list[dict]:
    """The legible entries of one table, figure or text of a paper: the columns that identify a row, and `value`.

    An entry that doesn't agree with others of the paper, or is printed without its sign, says so in `doubt`.
    Args: paper; place, the number of a table (3), or a name in the catalog ("table3", "figure3", "perturbation").
    Raises: AtlasError for a paper or a place that the catalog lacks.
    """
    cells = read_cells(paper, f"table{place}" if isinstance(place, int) else place)
    doubts = [{DOUBT: cell.doubt} if cell.doubt else {} for cell in cells]
    entries = [{**cell.keys, VALUE: cell.value, **doubt} for cell, doubt in zip(cells, doubts, strict=True)]
    return [entry for entry in entries if entry[VALUE] is not None]


def beside_paper(table: pd.DataFrame, paper: str, place: int | str) -> pd.DataFrame:
    """The table with what the paper prints: columns `paper`, in the unit of `value`, and `difference` = value - paper.

    A printed number stands beside every row whose columns equal, as text, those of its entry in the catalog; where the
    paper prints nothing both are NaN. Where any entry is in doubt, a column `doubt` says why, or is empty.

    Args: table; paper and place as in `printed_values`. Raises: AtlasError when the table lacks a column of an entry.
    """
    printed, entries = np.full(len(table), np.nan), printed_values(paper, place)
    doubts = np.full(len(table), "", dtype=object)
    keys = [{name: value for name, value in entry.items() if name not in (VALUE, DOUBT)} for entry in entries]
    for rows, entry in zip(rows_with(table, keys), entries, strict=True):
        printed[rows], doubts[rows] = entry[VALUE], entry.get(DOUBT, "")
    table = table.assign(paper=printed, difference=table[VALUE].astype(float) - printed)
    return table.assign(doubt=doubts) if any(DOUBT in entry for entry in entries) else table


def rows_with(table: pd.DataFrame, wanted: Iterable[Mapping]) -> Iterator[list[int]]:
    """For each of `wanted` (columns and values) the positions of the rows that have these values, compared as text.

    Raises: AtlasError when the table lacks a column.
    """
    indices: dict[tuple, dict] = {}
    for keys in wanted:
        columns = tuple(keys)
        if columns not in indices:
            indices[columns] = _index(table, columns)
        yield indices[columns].get(tuple(str(value) for value in keys.values()), [])


def _index(table: pd.DataFrame, columns: tuple[str, ...]) -> dict[tuple, list[int]]:
    """The positions of the rows by the text in their columns."""
    for column in columns:
        if column not in table:
            raise AtlasError(unknown("catalog/paper_results: a key", column, "a column of the table", table.columns))
    texts = [table[column].astype(str).tolist() for column in columns]
    positions: dict[tuple, list[int]] = {}
    for position, key in enumerate(zip(*texts, strict=True)):
        positions.setdefault(key, []).append(position)
    return positions


def printed_neurons(model: str) -> list[tuple[int, int]]:
    """The neurons (layer, index) of punctuation marks that the localization paper prints for a model, sorted."""
    entries = [entry for entry in printed_values("localization", 2) if entry["model"] == model]
    return sorted({(int(entry["layer"]), int(entry["index"])) for entry in entries})
