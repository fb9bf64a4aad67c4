"""How far the results of two runs of a study lie apart: `python -m tests.workflow.comparison ONE OTHER`."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from knatlas.storage import read_csv, read_table

# columns that say what the numbers of a row are
PARTS = ("statistic", "table")
STAGES = ("known", "neurons", "experiments", "tables")


@dataclass
class Difference:
    """How two files of the same name differ.

    distances: the largest |a - b| / max(1, |b|) of each statistic, of each table that numbers are repeated from, or of
    each column where there is neither; only those above 0. others: what differs but is no such number, as
    sentences: columns, numbers of rows, texts, whole numbers, empty places.
    """

    name: str
    distances: dict[str, float] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)

    @property
    def largest(self) -> float:
        """The largest distance."""
        return max(self.distances.values(), default=0.0)


def compare_results(ours: Path, theirs: Path) -> list[Difference]:
    """One difference for each table of two studies' folders (parquet and csv of `STAGES`) that both have."""
    return [compare_tables(name, read(ours / name), read(theirs / name)) for name in common_tables(ours, theirs)]


def common_tables(ours: Path, theirs: Path) -> list[str]:
    """Names of the tables that both folders have. Raises: AssertionError when one of them has more."""
    names = [set(_tables(folder)) for folder in (ours, theirs)]
    assert names[0] == names[1], f"only one of them has {sorted(names[0] ^ names[1])}"
    return sorted(names[0])


def _tables(folder: Path) -> Iterator[str]:
    for stage in STAGES:
        for path in (folder / stage).rglob("*.*"):
            if path.suffix in (".parquet", ".csv"):
                yield str(path.relative_to(folder))


def read(path: Path) -> pd.DataFrame:
    return read_table(path) if path.suffix == ".parquet" else read_csv(path)


def compare_tables(name: str, ours: pd.DataFrame, theirs: pd.DataFrame) -> Difference:
    """The difference of two tables, row by row."""
    found = Difference(name)
    if list(ours) != list(theirs) or len(ours) != len(theirs):
        found.others.append(f"{ours.shape} and {theirs.shape} rows and columns, or other columns")
        return found
    for column in ours:
        a, b = ours[column], theirs[column]
        is_number = {a.dtype.kind, b.dtype.kind} == {"f"}
        is_other = a.isna() != b.isna() if is_number else (a != b) & ~(a.isna() & b.isna())
        if is_other.any():
            row = int(np.argmax(is_other))
            found.others.append(f"{column}: {is_other.sum()} of {len(a)}, first {a[row]!r} and {b[row]!r}")
        if is_number:
            apart = distances(a.to_numpy(), b.to_numpy())
            parts = next((ours[part] for part in PARTS if part in ours), np.full(len(a), column))
            for part, largest in pd.Series(apart).groupby(np.asarray(parts)).max().items():
                if largest > 0:
                    found.distances[part] = max(largest, found.distances.get(part, 0.0))
    return found


def distances(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """|a - b| / max(1, |b|) of each pair; 0 for equal infinities and for places that are empty in either."""
    is_apart = (ours != theirs) & ~np.isnan(ours) & ~np.isnan(theirs)
    apart = np.zeros(len(ours))
    apart[is_apart] = np.abs(ours[is_apart] - theirs[is_apart]) / np.maximum(1, np.abs(theirs[is_apart]))
    return apart


def main(ours: str, theirs: str) -> None:
    """Print the files that differ, the farthest first."""
    found = compare_results(Path(ours), Path(theirs))
    apart = [each for each in found if each.distances or each.others]
    print(f"{len(found) - len(apart)} of {len(found)} tables hold the same values")
    for each in sorted(apart, key=lambda each: -each.largest):
        where = max(each.distances, key=each.distances.get, default="")
        print(f"{each.largest:.1e}  {each.name}  {'; '.join([where, *each.others])}")


if __name__ == "__main__":
    main(*sys.argv[1:])
