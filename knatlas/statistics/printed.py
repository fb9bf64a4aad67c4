"""Numbers that papers print (catalog/printed.yaml), set beside ours."""

import numpy as np
import pandas as pd

from knatlas.catalog import read_catalog
from knatlas.errors import AtlasError, unknown

VALUE = "value"


def printed_values(paper: str, number: int) -> list[dict]:
    """The entries of one table of a paper: the columns that identify a row, and `value`, as printed.

    Raises: AtlasError for a paper or a table that the catalog lacks.
    """
    papers = read_catalog("printed")
    if paper not in papers:
        raise AtlasError(unknown("the paper", paper, "a paper of catalog/printed.yaml", papers))
    tables = papers[paper]
    if f"table{number}" not in tables:
        raise AtlasError(unknown(f"the table of {paper}", f"table{number}", "one of catalog/printed.yaml", tables))
    return tables[f"table{number}"]


def beside_paper(table: pd.DataFrame, paper: str, number: int) -> pd.DataFrame:
    """The table with what the paper prints: columns `paper`, in the unit of `value`, and `difference` = value - paper.

    A printed number stands beside every row whose columns equal, as text, those of its entry in the catalog; where the
    paper prints nothing both are NaN.

    Raises: AtlasError when the table lacks a column of an entry.
    """
    printed = np.full(len(table), np.nan)
    for entry in printed_values(paper, number):
        printed[_is_row_of(table, entry)] = entry[VALUE]
    return table.assign(paper=printed, difference=table[VALUE].astype(float) - printed)


def _is_row_of(table: pd.DataFrame, entry: dict) -> np.ndarray:
    is_row = np.ones(len(table), dtype=bool)
    for column in entry.keys() - {VALUE}:
        if column not in table:
            raise AtlasError(unknown("catalog/printed.yaml: a key", column, "a column of the table", table.columns))
        is_row &= (table[column].astype(str) == str(entry[column])).to_numpy()
    return is_row
