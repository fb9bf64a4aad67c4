"""What an unfinished shard has computed so far, so that a killed job loses one batch of facts at most.

A folder beside the shard's output holds one file per finished batch. A file names the digest of everything that decides
its numbers; what is torn, or of other settings, is left alone and computed again.
"""

import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
from numpy import ndarray

from knatlas.errors import AtlasError
from knatlas.models.encoding import EncodedQuery
from knatlas.provenance import digest
from knatlas.storage import read_arrays, write_arrays

# One row of the table of queries, by column.
Row = dict[str, object]


@dataclass(frozen=True)
class FactResult:
    """What is kept of one fact: arrays by name, without an axis of facts, and the rows of its queries."""

    fact: str
    arrays: dict[str, ndarray]
    rows: list[Row]


class PartialResults:
    """The folder `{shard}.partial/` of a shard that is being computed."""

    def __init__(self, output: str | Path, settings: Mapping, log: Callable[[str], None]) -> None:
        """Args: output, the shard's file; settings, all that decides the numbers but the queries, JSON-like; log."""
        self.folder = Path(output).with_suffix(".partial")
        self.key, self.log = digest(dict(settings)), log

    def read(self, facts: Mapping[str, Sequence[EncodedQuery]]) -> Iterator[FactResult]:
        """The results of those facts that an earlier run finished with the same settings and the same queries."""
        wanted = {fact: self._digest(fact, queries) for fact, queries in facts.items()}
        for path in sorted(self.folder.glob("*.safetensors")):
            try:
                arrays, metadata = read_arrays(path)
            except AtlasError as error:
                self.log(f"{path} is torn and was ignored: its facts are computed again ({error})")
                continue
            for i, (fact, found) in enumerate(metadata.get("facts", [])):
                if wanted.get(fact) != found:
                    self.log(f"{path}: fact {fact} is of other settings or queries and was ignored")
                    continue
                del wanted[fact]
                yield FactResult(fact, {name: array[i] for name, array in arrays.items()}, metadata["rows"][i])

    def write(self, batch: Sequence[FactResult], queries: Mapping[str, Sequence[EncodedQuery]]) -> None:
        """Keep a finished batch, in one file that appears as a whole or not at all."""
        digests = [[result.fact, self._digest(result.fact, queries[result.fact])] for result in batch]
        arrays = {name: np.stack([result.arrays[name] for result in batch]) for name in batch[0].arrays}
        metadata = {"facts": digests, "rows": [result.rows for result in batch]}
        write_arrays(arrays, self.folder / f"{digest(digests)}.safetensors", metadata)

    def remove(self) -> None:
        """Remove the folder: the shard's outputs are written."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _digest(self, fact: str, queries: Collection[EncodedQuery]) -> str:
        return digest([self.key, fact, [astuple(query) for query in queries]])
