"""The attribution scores of one model, and how shards are gathered into them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float
from safetensors import safe_open

from knatlas.errors import AtlasError, unknown
from knatlas.storage import read_arrays, read_table

STATISTICS = ["mean", "std", "first", "share"]


@dataclass(frozen=True)
class Scores:
    """Scores by "{method}.{statistic}", each (facts, languages, layers, neurons); NaN where a fact has no attribution.

    Statistics, over the queries of a fact in a language: mean; std (divisor T); first, the score of query 0; share,
    the part of the queries whose coarse set holds the neuron.
    """

    arrays: Mapping[str, np.ndarray]
    facts: list[str]
    languages: list[str]
    metadata: Mapping = field(default_factory=dict)

    def of(self, method: str, statistic: str, i: int) -> Float[np.ndarray, "language layer neuron"]:
        """Scores of fact number i in float64; AtlasError when they were not computed or are NaN in part."""
        name = f"{method}.{statistic}"
        if name not in self.arrays:
            raise AtlasError(unknown("scores", name, "a score that the attribution wrote", self.arrays))
        block = np.asarray(self.arrays[name][i : i + 1], dtype=np.float64)[0]
        missing = np.isnan(block).reshape(len(self.languages), -1)
        if (missing.any(axis=1) & ~missing.all(axis=1)).any():
            raise AtlasError(f"scores: {name} of fact {self.facts[i]} is NaN for some neurons; rerun its attribution")
        return block

    def languages_with(self, block: Float[np.ndarray, "language layer neuron"]) -> list[str]:
        """The languages in which a block that `of` returned has scores."""
        return [language for language, part in zip(self.languages, block, strict=True) if not np.isnan(part.flat[0])]

    @property
    def shape(self) -> tuple[int, int]:
        """Number of layers, and of neurons per layer."""
        return tuple(self._any_array_shape()[2:])

    def _any_array_shape(self) -> Sequence[int]:
        array = next(iter(self.arrays.values()))
        return array.shape if isinstance(array, np.ndarray) else array.get_shape()


class SlicedArrays(Mapping):
    """The arrays of a safetensors file, read slice by slice: a file need not fit into memory."""

    def __init__(self, path: str | Path):
        self.file = safe_open(path, framework="numpy")
        self.names = sorted(self.file.keys())

    def __getitem__(self, name: str) -> object:
        if name not in self.names:
            raise KeyError(name)
        return self.file.get_slice(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def read_scores(path: str | Path) -> Scores:
    """The scores of a file that `gather_shards` made; arrays are read from disk as they are needed."""
    _, metadata = read_arrays(path, names=[])
    origin = {key: value for key, value in metadata.items() if key not in ("facts", "languages")}
    return Scores(SlicedArrays(path), metadata["facts"], metadata["languages"], origin)


def gather_shards(
    paths: Sequence[str | Path], languages: Sequence[str]
) -> tuple[dict[str, np.ndarray], dict, pd.DataFrame]:
    """Put attribution shards (facts, layers, neurons) of one language each together over facts and languages.

    Returns: arrays (facts, languages, layers, neurons), NaN where no shard has a fact in a language; their metadata
    with sorted facts; and the tables of queries that lie beside the shards (NAME.queries.parquet).
    """
    metadata = {str(path): read_arrays(path, names=[])[1] for path in paths}
    facts = sorted({fact for part in metadata.values() for fact in part["facts"]})
    row_of, arrays = {fact: i for i, fact in enumerate(facts)}, {}
    for path, part in metadata.items():
        rows, column = [row_of[fact] for fact in part["facts"]], list(languages).index(part["language"])
        _place(arrays, read_arrays(path)[0], rows, column, (len(facts), len(languages)))
    queries = pd.concat([read_table(_queries_of(path)) for path in paths], ignore_index=True)
    common = {key: value for key, value in metadata[str(paths[0])].items() if key not in ("facts", "language")}
    return arrays, {**common, "facts": facts, "languages": list(languages)}, queries


def _place(arrays: dict, part: dict, rows: list[int], column: int, size: tuple[int, int]) -> None:
    for name, block in part.items():
        if block.ndim != 3:
            continue  # a shard may carry more than scores per neuron
        if name not in arrays:
            arrays[name] = np.full((*size, *block.shape[1:]), np.nan, dtype=block.dtype)
        arrays[name][rows, column] = block


def _queries_of(path: str | Path) -> Path:
    return Path(path).with_suffix("").with_name(f"{Path(path).stem}.queries.parquet")
