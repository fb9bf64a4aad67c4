"""When a selection from candidates is the one that the scores of all neurons would give, neuron for neuron.

Of the neurons left out only the range of each score in each language is known. A selection takes scores above a
threshold T that depends on the largest score, and for Eq. 9 of MATRICE on the smallest. It is certain when these are
among the candidates and when an upper bound of the scores left out does not lie above T:

- B-KN, AMIG, refined: the bound is the largest value left out, and T > 0 is tau * max (or the share).
- LIKN: all maxima must be certain, but only in one language must no neuron left out reach T: the sets are intersected.
- UaQ: s = alpha1 mean - alpha2 std lies between alpha1 min mean - alpha2 max std and alpha1 max mean - alpha2 min std.
  Its extremes are recorded for some ratios alpha2 / alpha1. s is linear in the ratio, so that its largest value is
  convex and its smallest concave in it: between two recorded ratios, chords bound them.
- UaL: with s in [v_l, u_l] after Eq. 9 in each language l, S <= beta1 mean(u) - beta2 max(0, std(c) - rms(h)), where c
  is the middle of the ranges and h half their width, since std is a seminorm: std(c + d) >= std(c) - rms(d). For the
  recorded ratios the largest S itself is known, at some ratios beta2 / beta1, and bounded by chords between them.
- UaL with a language left out: the same, but for the recorded largest S, which is one over all languages.
- Eq. 9 over the languages of a neuron cannot be bounded: a small score can be the largest of its neuron.

The bounds need alpha1, alpha2, beta1, beta2 >= 0, as the configuration demands.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from knatlas.errors import AtlasError
from knatlas.selection.thresholds import ROUNDING_MARGIN


@dataclass(frozen=True)
class LeftOut:
    """The smallest and the largest score in each language (languages,) among the neurons that are no candidates."""

    lowest: Float[np.ndarray, " language"]
    highest: Float[np.ndarray, " language"]

    def of_languages(self, is_present: Bool[np.ndarray, " language"]) -> "LeftOut":
        """Those of some languages."""
        return LeftOut(self.lowest[is_present], self.highest[is_present])


def highest_by_language(left_out: LeftOut | None, n_languages: int) -> Float[np.ndarray, " language"]:
    """Upper bounds of the scores left out; -inf where none is."""
    return np.full(n_languages, -np.inf) if left_out is None else left_out.highest


@dataclass(frozen=True)
class Grid:
    """What is recorded of the neurons of a fact that are no candidates, for some ratios of the weights of MATRICE.

    lowest, highest (languages, ratios) of mean - ratio std; agnostic (floors, ratios and the first query, spreads), the
    largest S over beta1. ratios: alpha2 / alpha1, ascending from 0; spreads: beta2 / beta1, ascending from 0.
    """

    lowest: Float[np.ndarray, "language ratio"]
    highest: Float[np.ndarray, "language ratio"]
    agnostic: Float[np.ndarray, "floor source spread"]
    ratios: Sequence[float]
    spreads: Sequence[float]
    floors: Sequence[str]

    def source(self, alpha1: float, alpha2: float) -> int | None:
        """The number of the recorded ratio alpha2 / alpha1; None where it is not recorded."""
        return list(self.ratios).index(alpha2 / alpha1) if alpha1 > 0 and alpha2 / alpha1 in self.ratios else None

    @property
    def first_query(self) -> int:
        """The number of the source that is the first query alone."""
        return len(self.ratios)


def over_queries(
    mean: LeftOut | None, std: LeftOut | None, grid: Grid | None, alpha1: float, alpha2: float
) -> LeftOut | None:
    """The range of s = alpha1 mean - alpha2 std of the neurons left out (Eq. 8); None where none is."""
    if mean is None or std is None:
        return None
    lowest = alpha1 * mean.lowest - alpha2 * std.highest
    highest = alpha1 * mean.highest - alpha2 * std.lowest
    if grid and alpha1 > 0 and alpha2 / alpha1 <= grid.ratios[-1]:
        chord = [alpha1 * _chord(grid.ratios, values, alpha2 / alpha1) for values in (grid.lowest, grid.highest)]
        # a chord is rounded where it lies between two recorded values
        margin = ROUNDING_MARGIN * np.maximum(*np.abs(chord)) * (grid.source(alpha1, alpha2) is None)
        lowest, highest = np.maximum(lowest, chord[0] - margin), np.minimum(highest, chord[1] + margin)
    return LeftOut(lowest, highest)


def over_languages(
    block: Float[np.ndarray, "language layer neuron"],
    left_out: LeftOut | None,
    matrice: Mapping,
    grid: Grid | None = None,
    source: int | None = None,
) -> float:
    """An upper bound of S (Eqs. 9-11) over the neurons left out.

    Infinite when the minimum or the maximum of a language may be one of them, since Eq. 9 then is not known.
    Args: block, scores of the languages that have some, as `Scores.of` fills them; matrice, the settings beta1, beta2,
    eq9_axis, eq9_floor; grid and the number of the recorded ratio of alpha2 and alpha1 (or of the first query) in it.
    Returns: -inf when no neuron is left out. Raises: AtlasError for eq9_axis `neuron`.
    """
    if left_out is None:
        return -np.inf
    if matrice["eq9_axis"] == "neuron":
        raise AtlasError(
            "selection.matrice.eq9_axis is 'neuron', which compares a neuron's languages with each other whatever "
            "their size: candidates can't tell what it selects. Take eq9_axis 'language', or attribution.keep 'all'"
        )
    low, high, lowest, highest = _floored(block, left_out, matrice["eq9_floor"])
    is_silent = (high <= 0) & (highest <= 0) & (low >= 0)  # nothing but zeros: Eq. 9 leaves zeros
    if ((lowest < low) | ((highest >= high) & ~is_silent)).any():
        return np.inf
    width = np.where(high > low, high - low, np.inf)
    upper, lower = (highest - low) / width, (lowest - low) / width
    if not upper.any():
        return 0.0
    bound = min(_box_bound(lower, upper, matrice), _recorded_bound(matrice, grid, source))
    return float(bound + ROUNDING_MARGIN * (matrice["beta1"] + matrice["beta2"]))


def _box_bound(lower: np.ndarray, upper: np.ndarray, matrice: Mapping) -> float:
    """The largest S that ranges of the normalised scores in each language allow."""
    middle, half = (upper + lower) / 2, (upper - lower) / 2
    spread = max(0.0, float(middle.std() - np.sqrt((half**2).mean())))
    return float(matrice["beta1"] * upper.mean() - matrice["beta2"] * spread)


def _recorded_bound(matrice: Mapping, grid: Grid | None, source: int | None) -> float:
    """The largest S as recorded; inf where it is not."""
    beta1, beta2 = matrice["beta1"], matrice["beta2"]
    if grid is None or source is None or beta1 <= 0:
        return np.inf
    recorded = grid.agnostic[list(grid.floors).index(matrice["eq9_floor"]), source]
    return beta1 * float(_chord(grid.spreads, recorded, min(beta2 / beta1, grid.spreads[-1])))


def _chord(points: Sequence[float], values: Float[np.ndarray, "*shape point"], at: float) -> np.ndarray:
    """Linear interpolation along the last axis."""
    i = min(int(np.searchsorted(points, at, side="right")) - 1, len(points) - 2)
    part = (at - points[i]) / (points[i + 1] - points[i])
    if part in (0.0, 1.0):
        return values[..., i + int(part)]
    return (1 - part) * values[..., i] + part * values[..., i + 1]


def _floored(block: np.ndarray, left_out: LeftOut, floor: str) -> tuple[np.ndarray, ...]:
    """Minimum and maximum of each language, and the range left out, as Eq. 9 sees them."""
    values = (block.min(axis=(1, 2)), block.max(axis=(1, 2)), left_out.lowest, left_out.highest)
    return tuple(np.maximum(value, 0.0) if floor == "zero" else value for value in values)
