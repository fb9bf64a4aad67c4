"""Numbers that papers print (catalog/printed.yaml), set beside ours."""

import numpy as np
import pandas as pd

from knatlas.catalog import read_catalog
from knatlas.errors import AtlasError, unknown

VALUE, DOUBT = "value", "doubt"


def printed_values(paper: str, place: int | str) -> list[dict]:
    """The entries of one table, figure or text of a paper: the columns that identify a row, and `value`, as printed.

    An entry that doesn't agree with others of the paper, or is printed without its sign, says so in `doubt`.
    Args: paper; place, the number of a table (3), or a name in the catalog ("table3", "figure3", "perturbation").
    Raises: AtlasError for a paper or a place that the catalog lacks.
    """
    papers = read_catalog("printed")
    if paper not in papers:
        raise AtlasError(unknown("the paper", paper, "a paper of catalog/printed.yaml", papers))
    places = papers[paper]
    name = f"table{place}" if isinstance(place, int) else place
    if name not in places:
        kind = "table" if name.startswith("table") else "place"
        raise AtlasError(unknown(f"the {kind} of {paper}", name, "one of catalog/printed.yaml", places))
    return places[name]


def beside_paper(table: pd.DataFrame, paper: str, place: int | str) -> pd.DataFrame:
    """The table with what the paper prints: columns `paper`, in the unit of `value`, and `difference` = value - paper.

    A printed number stands beside every row whose columns equal, as text, those of its entry in the catalog; where the
    paper prints nothing both are NaN. Where any entry is in doubt, a column `doubt` says why, or is empty.

    Args: table; paper and place as in `printed_values`. Raises: AtlasError when the table lacks a column of an entry.
    """
    printed, entries = np.full(len(table), np.nan), printed_values(paper, place)
    doubts = np.full(len(table), "", dtype=object)
    for entry in entries:
        is_row = _is_row_of(table, entry)
        printed[is_row], doubts[is_row] = entry[VALUE], entry.get(DOUBT, "")
    table = table.assign(paper=printed, difference=table[VALUE].astype(float) - printed)
    return table.assign(doubt=doubts) if any(DOUBT in entry for entry in entries) else table


def _is_row_of(table: pd.DataFrame, entry: dict) -> np.ndarray:
    is_row = np.ones(len(table), dtype=bool)
    for column in entry.keys() - {VALUE, DOUBT}:
        if column not in table:
            raise AtlasError(unknown("catalog/printed.yaml: a key", column, "a column of the table", table.columns))
        is_row &= (table[column].astype(str) == str(entry[column])).to_numpy()
    return is_row


def printed_neurons(model: str) -> list[tuple[int, int]]:
    """The neurons (layer, index) of punctuation marks that the localization paper prints for a model, sorted."""
    entries = [entry for entry in printed_values("localization", 2) if entry["model"] == model]
    return sorted({(int(entry["layer"]), int(entry["index"])) for entry in entries})
