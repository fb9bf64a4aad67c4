"""The attribution scores of one model: of all neurons, or of each fact's candidates and the range of the others."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float

from knatlas.errors import AtlasError, unknown
from knatlas.selection.certificates import Grid, LeftOut
from knatlas.storage import SlicedArrays, read_metadata

INDICES = "indices"


@dataclass(frozen=True)
class Scores:
    """Scores by "{method}.{statistic}", each (facts, languages, layers, neurons); NaN where a fact has no attribution.

    Statistics, over the queries of a fact in a language: mean; std (divisor T); first, the score of query 0; share,
    the part of the queries whose coarse set holds the neuron.

    Scores of candidates have (facts, languages, candidates) instead, beside them `indices` (facts, candidates), the
    neurons' numbers in a row of all layers, and `{name}.lowest`, `{name}.highest` (facts, languages), the range of the
    neurons left out; `layers_and_neurons` is then the model's shape, and `weights` the ratios of the weights of MATRICE
    for which `saig.over_queries` and `saig.over_languages` hold the range of its scores.
    """

    arrays: Mapping[str, np.ndarray]
    facts: list[str]
    languages: list[str]
    metadata: Mapping = field(default_factory=dict)
    layers_and_neurons: tuple[int, int] | None = None
    weights: Mapping = field(default_factory=dict)

    @property
    def is_dense(self) -> bool:
        """Whether all neurons' scores are there."""
        return INDICES not in self.arrays

    def of(self, method: str, statistic: str, i: int) -> Float[np.ndarray, "language layer neuron"]:
        """Scores of fact number i in float64; AtlasError when they were not computed or are NaN in part.

        Neurons that are no candidates get the value next to zero that lies in the range of the values left out.
        """
        name = f"{method}.{statistic}"
        block = self._values(name, i)
        if not self.is_dense:
            block = self._filled(block, name, i)
        missing = np.isnan(block).reshape(len(self.languages), -1)
        if (missing.any(axis=1) & ~missing.all(axis=1)).any():
            raise AtlasError(f"scores: {name} of fact {self.facts[i]} is NaN for some neurons; rerun its attribution")
        return block

    def left_out(self, method: str, statistic: str, i: int) -> LeftOut | None:
        """The range in each language of fact number i's neurons that are no candidates; None where all are there."""
        if self.is_dense or self._values(INDICES, i).size == np.prod(self.shape):
            return None
        name = f"{method}.{statistic}"
        return LeftOut(self._values(f"{name}.lowest", i), self._values(f"{name}.highest", i))

    def without_unknown(self, scores: Float[np.ndarray, "layer neuron"], i: int) -> Float[np.ndarray, "layer neuron"]:
        """Scores made of fact number i's, at most 0 where a neuron is no candidate: what was filled in is no score."""
        if self.is_dense:
            return scores
        known = self._values(INDICES, i).astype(np.int64)
        cut = np.minimum(scores, 0.0)
        cut.flat[known] = scores.flat[known]
        return cut

    def in_range(
        self, block: Float[np.ndarray, "language layer neuron"], left_out: LeftOut | None, i: int
    ) -> Float[np.ndarray, "language layer neuron"]:
        """A block made of filled ones, where neurons that are no candidates get a value of their range.

        Eq. 9 takes minimum and maximum of the block, which must not be values that no neuron has.
        """
        if left_out is None:
            return block
        flat, known = block.reshape(len(block), -1), self._values(INDICES, i).astype(np.int64)
        moved = np.clip(flat, left_out.lowest[:, None], left_out.highest[:, None])
        moved[:, known] = flat[:, known]
        return moved.reshape(block.shape)

    def grid(self, i: int) -> Grid | None:
        """What is recorded of the scores of MATRICE of fact number i's neurons that are no candidates."""
        if self.left_out("saig", "mean", i) is None or not self.weights:
            return None
        ranges = [self._values(f"saig.over_queries.{side}", i) for side in ("lowest", "highest")]
        ratios = [self.weights[key] for key in ("alpha_ratios", "beta_ratios", "floors")]
        return Grid(*ranges, self._values("saig.over_languages.highest", i), *ratios)

    def languages_with(self, block: Float[np.ndarray, "language layer neuron"]) -> list[str]:
        """The languages in which a block that `of` returned has scores."""
        return [language for language, part in zip(self.languages, block, strict=True) if not np.isnan(part.flat[0])]

    @property
    def shape(self) -> tuple[int, int]:
        """Number of layers, and of neurons per layer."""
        if self.layers_and_neurons:
            return tuple(self.layers_and_neurons)
        array = next(iter(self.arrays.values()))
        return tuple((array.shape if isinstance(array, np.ndarray) else array.get_shape())[2:])

    def _values(self, name: str, i: int) -> Float[np.ndarray, "..."]:
        if name not in self.arrays:
            raise AtlasError(unknown("scores", name, "a score that the attribution wrote", self.arrays))
        return np.asarray(self.arrays[name][i : i + 1], dtype=np.float64)[0]

    def _filled(self, values: Float[np.ndarray, "language candidate"], name: str, i: int) -> np.ndarray:
        """The values at their neurons (languages, layers, neurons)."""
        indices = self._values(INDICES, i).astype(np.int64)
        lowest, highest = self._values(f"{name}.lowest", i), self._values(f"{name}.highest", i)
        n_layers, n_neurons = self.shape
        rest = np.clip(0.0, lowest, highest)[:, None]
        filled = np.repeat(rest, n_layers * n_neurons, axis=1)
        filled[:, indices] = values
        return filled.reshape(-1, n_layers, n_neurons)


def read_scores(path: str | Path) -> Scores:
    """The scores of a file that `gather_shards` made; arrays are read from disk as they are needed.

    Raises: AtlasError for a file of other content.
    """
    metadata = read_metadata(path)
    missing = [key for key in ("facts", "languages") if key not in metadata]
    if missing:
        raise AtlasError(
            f"{path} holds no scores: its metadata has no {missing[0]}; delete it and run the workflow again"
        )
    origin = {key: value for key, value in metadata.items() if key not in ("facts", "languages", "shape", "grid")}
    shape = tuple(metadata["shape"]) if "shape" in metadata else None
    weights = metadata.get("grid", {})
    return Scores(SlicedArrays(path), metadata["facts"], metadata["languages"], origin, shape, weights)
