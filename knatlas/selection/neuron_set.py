"""Neuron sets: which neurons a selection chose for each fact, the one format that every experiment reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from knatlas.errors import AtlasError, unknown
from knatlas.storage import read_metadata, read_table

SET_COLUMNS = ["fact", "language", "draw", "layer", "index", "score", "selection"]
SET_TYPES = {"draw": "int32", "layer": "int32", "index": "int32", "score": "float64"}
SET_METADATA = ["selection", "facts", "languages", "n_layers", "n_neurons", "n_draws", "not_searched"]
ALL = "all"
FOLDER = "neurons"  # neurons/MODEL/SELECTION.parquet


@dataclass(frozen=True)
class NeuronSets:
    """The sets of one selection in one model: a table with a row per neuron, and what was searched.

    A searched fact without rows has an empty set. `languages` is ["all"] when one set serves all languages.
    `not_searched` lists the pairs (fact, language) that had no attribution; `origin` says model, revision and so on.
    """

    table: pd.DataFrame
    selection: str
    facts: list[str]
    languages: list[str]
    n_layers: int
    n_neurons: int
    n_draws: int = 1
    not_searched: list[tuple[str, str]] = field(default_factory=list)
    origin: Mapping = field(default_factory=dict)

    @classmethod
    def from_table(cls, table: pd.DataFrame, metadata: Mapping, where: str = "table of neuron sets") -> "NeuronSets":
        """The sets of a table and the metadata that `metadata` wrote.

        Raises: AtlasError, beginning with `where`, for missing columns or metadata, values of another type, and neurons
        that the model does not have.
        """
        _check_columns(table, metadata, where)
        known = {key: metadata[key] for key in SET_METADATA if key != "not_searched"}
        pairs = [tuple(pair) for pair in metadata["not_searched"]]
        origin = {key: value for key, value in metadata.items() if key not in SET_METADATA}
        return cls(_typed(table, metadata, where), **known, not_searched=pairs, origin=origin)

    @property
    def metadata(self) -> dict:
        """All but the rows, as JSON-like values."""
        return {
            **self.origin,
            "selection": self.selection,
            "facts": list(self.facts),
            "languages": list(self.languages),
            "n_layers": self.n_layers,
            "n_neurons": self.n_neurons,
            "n_draws": self.n_draws,
            "not_searched": [list(pair) for pair in self.not_searched],
        }

    @property
    def model(self) -> str:
        """Name of the model."""
        model = self.origin.get("model", "")
        return model["name"] if isinstance(model, Mapping) else model

    @property
    def shape(self) -> tuple[int, int]:
        """Number of layers, and of neurons per layer."""
        return self.n_layers, self.n_neurons

    def of(self, fact: str, language: str, draw: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Layers and indices (both 0-based) of the neurons of a fact, largest score first.

        A selection for all languages has the same set for each. Raises AtlasError for what was never searched.
        """
        key = (fact, self._language(language), draw)
        self._check(fact, draw)
        rows = self._rows.get(key, np.empty(0, dtype=np.int64))
        return self._layers[rows], self._indices[rows]

    def is_searched(self, fact: str, language: str) -> bool:
        """Whether the fact had an attribution to choose from in this language (or in any, for "all")."""
        language = ALL if self.languages == [ALL] else language
        return fact in self._facts and language in self.languages and (fact, language) not in self._not_searched

    def _language(self, language: str) -> str:
        if self.languages == [ALL]:
            return ALL
        if language not in self.languages:
            raise AtlasError(unknown("language", language, f"a language of selection {self.selection}", self.languages))
        return language

    def _check(self, fact: str, draw: int) -> None:
        if fact not in self._facts:
            raise AtlasError(f"fact {fact} was not searched by selection {self.selection}; run the selection on it")
        if not 0 <= draw < self.n_draws:
            raise AtlasError(f"draw {draw} of selection {self.selection}: expected 0 to {self.n_draws - 1}")

    @cached_property
    def _facts(self) -> frozenset[str]:
        return frozenset(self.facts)

    @cached_property
    def _not_searched(self) -> frozenset[tuple[str, str]]:
        return frozenset(self.not_searched)

    @cached_property
    def _rows(self) -> dict[tuple[str, str, int], np.ndarray]:
        return self.table.groupby(["fact", "language", "draw"], sort=False).indices if len(self.table) else {}

    @cached_property
    def _layers(self) -> np.ndarray:
        return self.table["layer"].to_numpy()

    @cached_property
    def _indices(self) -> np.ndarray:
        return self.table["index"].to_numpy()


class FoundSet(NamedTuple):
    """The neurons of one fact, language and draw: layers, indices and scores of equal length."""

    fact: str
    language: str
    draw: int
    layers: np.ndarray
    indices: np.ndarray
    scores: np.ndarray


def as_table(selection: str, found: Sequence[FoundSet]) -> pd.DataFrame:
    """The table of many sets, in their order; within a set the largest score first, ties by layer and index."""
    orders = [np.lexsort((part.indices, part.layers, -part.scores)) for part in found]
    sizes = [len(order) for order in orders]
    columns = {name: np.repeat([getattr(part, name) for part in found], sizes) for name in ("fact", "language", "draw")}
    for name, field_name in {"layer": "layers", "index": "indices", "score": "scores"}.items():
        parts = [getattr(part, field_name)[order] for part, order in zip(found, orders, strict=True)]
        columns[name] = np.concatenate([np.zeros(0), *parts])
    texts = dict.fromkeys(["fact", "language", "selection"], "str")
    return pd.DataFrame({**columns, "selection": selection})[SET_COLUMNS].astype({**SET_TYPES, **texts})


def read_neuron_sets(path: str | Path) -> NeuronSets:
    """The neuron sets of a file.

    Raises: AtlasError for a file that holds no neuron sets, or that lies in the folder of a study under the name of
    another model or selection.
    """
    sets, path = NeuronSets.from_table(read_table(path), read_metadata(path), str(path)), Path(path)
    if path.parent.parent.name == FOLDER and (sets.model, sets.selection) != (path.parent.name, path.stem):
        raise AtlasError(
            f"{path} holds the sets of selection '{sets.selection}' in the model '{sets.model}', not those of its "
            "name; delete it, and run the workflow again"
        )
    return sets


def _check_columns(table: pd.DataFrame, metadata: Mapping, where: str) -> None:
    for kind, found, expected in (("column", table, SET_COLUMNS), ("metadata", metadata, SET_METADATA)):
        missing = [name for name in expected if name not in found]
        if missing:
            raise AtlasError(
                f"{where}: {kind} {missing[0]} is missing; expected {' '.join(expected)}, as the selection writes them"
            )


def _typed(table: pd.DataFrame, metadata: Mapping, where: str) -> pd.DataFrame:
    """The rows in their types, all of them neurons of the model."""
    try:
        typed = table[SET_COLUMNS].astype(SET_TYPES)
    except (TypeError, ValueError) as error:
        raise AtlasError(f"{where}: a value is of another type than its column ({error})") from error
    for column, size in (("layer", metadata["n_layers"]), ("index", metadata["n_neurons"])):
        outside = typed.loc[(typed[column] < 0) | (typed[column] >= size), column]
        if len(outside):
            raise AtlasError(f"{where}: a neuron has {column} {outside.iloc[0]}; expected 0 to {size - 1}")
    return typed
