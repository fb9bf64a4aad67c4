"""Tidy tables in the arrangement in which papers print them, for people to read."""

from collections.abc import Sequence

import pandas as pd

from knatlas.errors import AtlasError, unknown


def arranged(table: pd.DataFrame, rows: Sequence[str], column: str) -> pd.DataFrame:
    """One line per combination of `rows`, one column per value of `column`, both in the order of the table.

    A cell reads "value (lo to hi), n" and, where the table has a printed number, "paper: number".
    Args: table with value, lo, hi, n, perhaps paper, and one line per combination of rows and column.
    Raises: AtlasError for a missing column, or several lines for one cell.
    """
    keys = [*rows, column]
    for name in [*keys, "value", "lo", "hi", "n"]:
        if name not in table:
            raise AtlasError(unknown("the table's column", name, "one of", table.columns))
    if table.duplicated(keys).any():
        cell = dict(table.loc[table.duplicated(keys), keys].iloc[0])
        raise AtlasError(f"the table has several lines for {cell}; leave all but one out before it is arranged")
    texts = [_cell(line) for line in table.to_dict("records")]
    wide = table[keys].assign(cell=texts).pivot(index=list(rows), columns=column, values="cell")
    lines = pd.MultiIndex.from_frame(table[list(rows)].drop_duplicates())
    wide = wide.reindex(index=lines if len(rows) > 1 else lines.get_level_values(0), columns=table[column].unique())
    return wide.fillna("").rename_axis(columns=None).reset_index()


def _cell(line: dict) -> str:
    """The text of one measurement."""
    if line["n"] == 0 or pd.isna(line["value"]):
        return f"none, n={line['n']}"
    interval = "" if pd.isna(line["lo"]) else f" ({line['lo']:.3g} to {line['hi']:.3g})"
    printed = line.get("paper")
    beside = "" if printed is None or pd.isna(printed) else f", paper: {printed:g}"
    return f"{line['value']:.3g}{interval}, n={line['n']}{beside}"
