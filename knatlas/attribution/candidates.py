"""Which neurons of a fact are kept where all of them would not fit on a disk, and what is known of the others.

The fact's statistics in all languages are in memory at once; only the candidates' values, and the range of the values
left out, ever reach a file. From these it can be told whether a selection is the one that all neurons would give
(`knatlas.selection.certificates`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from knatlas.attribution.agnostic import FLOORS, RATIOS, SPREADS, over_languages, over_queries
from knatlas.errors import AtlasError

# Statistics by method that some selection reads; of other methods the mean is kept.
SELECTED = {"bkn": ("first", "share"), "amig": ("first",), "saig": ("first", "mean", "std")}
OTHERS = ("mean",)
INDICES = "indices"
# Ranges of s and largest S of MATRICE among the neurons left out, on the grid of weights of `agnostic`.
QUERY_RANGES = ("saig.over_queries.lowest", "saig.over_queries.highest")
LANGUAGE_BOUND = "saig.over_languages.highest"

# Statistics of a fact by language and by "{method}.{statistic}", each (layers, neurons).
ByLanguage = Mapping[str, Mapping[str, Float[ndarray, "layer neuron"]]]


def kept_names(methods: Sequence[str]) -> list[str]:
    """The arrays "{method}.{statistic}" of which candidates are kept."""
    return [f"{method}.{statistic}" for method in methods for statistic in SELECTED.get(method, OTHERS)]


class Agnostic:
    """The scores of MATRICE of one fact in the languages in which it has queries, on the grid of weights."""

    def __init__(self, arrays: Mapping[str, Float[ndarray, "language neuron"]], is_present: Bool[ndarray, " language"]):
        """Args: arrays, with `saig.mean`, `saig.std`, `saig.first`; is_present, languages with queries."""
        mean, std, first = (arrays[f"saig.{name}"][is_present] for name in ("mean", "std", "first"))
        self.is_present, self.by_ratio = is_present, over_queries(mean, std)
        sources = [*self.by_ratio, first.astype(np.float64)]
        self.by_floor = np.empty((len(FLOORS), len(sources), len(SPREADS), mean.shape[1]))
        for i, floor in enumerate(FLOORS):
            for j, source in enumerate(sources):
                self.by_floor[i, j] = over_languages(source, floor)

    def ranges(self, indices: Int[ndarray, " candidate"]) -> dict[str, ndarray]:
        """`QUERY_RANGES` (languages, ratios) and `LANGUAGE_BOUND` (floors, ratios and first query, spreads)."""
        found = {name: np.full((len(self.is_present), len(RATIOS)), np.nan) for name in QUERY_RANGES}
        for name, values in zip(QUERY_RANGES, left_out_range(self.by_ratio, indices), strict=True):
            found[name][self.is_present] = values.T
        return found | {LANGUAGE_BOUND: left_out_range(self.by_floor, indices)[1]}


def left_out_range(
    array: Float[ndarray, "*shape neuron"], indices: Int[ndarray, " candidate"]
) -> tuple[Float[ndarray, "*shape"], Float[ndarray, "*shape"]]:
    """Smallest and largest value along the last axis among the neurons not in `indices`; +inf and -inf if none is."""
    kept = array[..., indices]
    # in place and undone: a copy of the others would be a copy of nearly everything
    array[..., indices] = np.inf
    lowest = array.min(axis=-1)
    array[..., indices] = -np.inf
    highest = array.max(axis=-1)
    array[..., indices] = kept
    return lowest, highest


def importance(
    arrays: Mapping[str, Float[ndarray, "language neuron"]], agnostic: Agnostic | None = None
) -> Float[ndarray, " neuron"]:
    """How near a neuron comes to the largest score: max over arrays and languages of value / largest value.

    With `agnostic`, also over s and S of MATRICE on the grid of weights (negative scores counting as 0 in Eq. 9); the
    neurons of the smallest s in each language, which Eq. 9 may need, are infinitely important. A row without a positive
    value doesn't count, rows of NaN (no attribution) neither. Returns: (neurons,), 0 or more.
    """
    rows = [row for array in arrays.values() for row in array.astype(np.float64)]
    lowest = []
    if agnostic:
        lowest = [*agnostic.by_ratio.reshape(-1, len(rows[0])), *arrays["saig.first"][agnostic.is_present]]
        rows += [*lowest, *agnostic.by_floor[FLOORS.index("zero")].reshape(-1, len(rows[0]))]
    found = np.zeros(len(rows[0]))
    for row in rows:
        if row.max() > 0:  # false for NaN
            np.maximum(found, row / row.max(), out=found)
    for row in lowest:
        found[row.argmin()] = np.inf
    return found


def choose_candidates(found: Float[ndarray, " neuron"], n: int) -> Int[ndarray, " candidate"]:
    """The numbers of the `n` most important neurons (all, if there are fewer), ascending; of equal ones the first."""
    return np.sort(np.argsort(-found, kind="stable")[:n]).astype(np.int32)


@dataclass(frozen=True)
class Candidates:
    """Keep the `n` most important neurons of every fact, their union over languages.

    Per fact: `indices` int32 (candidates,), layer * neurons per layer + neuron; every array of `kept_names`
    float32 (languages, candidates); and `{array}.lowest`, `{array}.highest` float32 (languages,), the smallest and
    largest value among the neurons left out (+inf and -inf where none is); with SAIG also `QUERY_RANGES` float64
    (languages, ratios) and `LANGUAGE_BOUND` float64 (floors, ratios and the first query, spreads), the same of s and S
    of MATRICE on the grid of weights of `agnostic`. NaN in languages without queries of the fact.
    """

    languages: tuple[str, ...]
    n: int

    def __post_init__(self) -> None:
        """Check the number."""
        if self.n < 1:
            raise AtlasError(f"attribution.candidates is {self.n}; expected a whole number >= 1.")

    def layout(self, methods: Sequence[str], n_layers: int, n_neurons: int) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Type and shape of every array of a fact."""
        n, count = min(self.n, n_layers * n_neurons), len(self.languages)
        shapes = {INDICES: ("int32", (n,))}
        for name in kept_names(methods):
            shapes[name] = ("float32", (count, n))
            shapes |= {f"{name}.{side}": ("float32", (count,)) for side in ("lowest", "highest")}
        if "saig" in methods:
            shapes |= dict.fromkeys(QUERY_RANGES, ("float64", (count, len(RATIOS))))
            shapes[LANGUAGE_BOUND] = ("float64", (len(FLOORS), len(RATIOS) + 1, len(SPREADS)))
        return shapes

    def of_fact(self, statistics: ByLanguage) -> dict[str, ndarray]:
        """The arrays of one fact from its dense statistics in the languages in which it has queries."""
        names = kept_names(list(dict.fromkeys(name.split(".")[0] for name in next(iter(statistics.values())))))
        dense = {name: self._stack(statistics, name) for name in names}
        is_present = np.array([language in statistics for language in self.languages])
        agnostic = Agnostic(dense, is_present) if "saig.mean" in dense else None
        found = importance(dense, agnostic)
        indices = choose_candidates(found, self.n)
        kept: dict[str, ndarray] = {INDICES: indices}
        for name, array in dense.items():
            kept[name] = array[:, indices]
            kept[f"{name}.lowest"], kept[f"{name}.highest"] = left_out_range(array, indices)
        return kept | (agnostic.ranges(indices) if agnostic else {})

    def _stack(self, statistics: ByLanguage, name: str) -> Float[ndarray, "language neuron"]:
        """One array over the languages, neurons of all layers in a row; NaN rows for languages without queries."""
        some = next(iter(statistics.values()))[name]
        missing = np.full(some.size, np.nan, dtype=some.dtype)
        return np.stack([statistics[lang][name].ravel() if lang in statistics else missing for lang in self.languages])

    def metadata(self, n_layers: int, n_neurons: int) -> dict:
        """What a reader of the arrays must know."""
        grid = {"alpha_ratios": list(RATIOS), "beta_ratios": list(SPREADS), "floors": list(FLOORS)}
        return {"languages": list(self.languages), "candidates": self.n, "shape": [n_layers, n_neurons], "grid": grid}
