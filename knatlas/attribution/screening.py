"""A cheap method checked against a full one: what the neurons with the highest cheap scores miss.

`atp` takes one gradient per query, so it can point at the neurons for which a full attribution is worth its cost. How
many it misses is not known beforehand; it is counted here on a random subset of the queries.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from knatlas.attribution.methods import AttributionMethod
from knatlas.attribution.normalisation import normalise
from knatlas.errors import AtlasError
from knatlas.facts.sampling import rank

# The method that screens.
SCREENED = "atp"
RANKS = 16**64  # of `rank`, a SHA-256


def screening_columns(kept: Sequence[float]) -> list[str]:
    """Names of what `Screening.check` finds for the kept shares."""
    return [
        "n_reference",
        "rank_correlation",
        *(f"{name}_{part}" for part in kept for name in ("n_missed", "mass_kept")),
    ]


@dataclass(frozen=True)
class Screening:
    """How the scores of `atp` are checked.

    reference: the method that `atp` is checked against. share: of the queries that are checked, in (0, 1]. kept: shares
    of all neurons that a screening would keep, each in (0, 1). seed: of the study.
    Raises: AtlasError for shares outside these ranges, and for `atp` as its own reference.
    """

    reference: AttributionMethod
    share: float
    kept: tuple[float, ...]
    seed: int = 0

    def __post_init__(self) -> None:
        """Check reference and shares."""
        where = "attribution.screening"
        if self.reference.name == SCREENED:
            raise AtlasError(f"{where}.reference is '{SCREENED}', the method that is checked; expected another one.")
        if not 0 < self.share <= 1:
            raise AtlasError(f"{where}.share is {self.share}; expected a number above 0 and at most 1, such as 0.1.")
        if not self.kept or not all(0 < part < 1 for part in self.kept):
            kept = list(self.kept)
            raise AtlasError(f"{where}.kept is {kept}; expected shares above 0 and below 1, such as [0.01, 0.05].")

    def is_drawn(self, fact: str, language: str, query: int) -> bool:
        """Whether a query is checked: the seed and the query decide, not the shard; a larger share draws more."""
        return int(rank(f"screening:{fact}:{language}:{query}", self.seed), 16) < self.share * RANKS

    def check(
        self,
        screened: Float[ndarray, "layer neuron"],
        reference: Float[ndarray, "layer neuron"],
        refine_threshold: float,
    ) -> dict[str, float]:
        """What the neurons with the highest scores of `atp` miss of one query; names of `screening_columns`.

        n_reference: neurons with reference > refine_threshold * max (none where the maximum is not positive).
        rank_correlation: Spearman's, over all neurons; NaN where all scores of a method are equal. For each kept share:
        n_missed, neurons of the reference that are not kept; mass_kept, sum of the kept neurons' positive scores over
        that of all, by the reference; NaN where no score is positive. Kept are round(share * neurons), at least one.
        Args: screened, reference (layers, neurons), all finite; `screened` is put through the reference's norm first,
        which decides how the layers compare.
        """
        rough = normalise(screened, self.reference.norm).ravel().astype(np.float64)
        full = reference.ravel().astype(np.float64)
        place = np.empty(len(rough), dtype=np.int64)
        place[np.argsort(-rough, kind="stable")] = np.arange(len(rough))
        positive, highest = full.clip(min=0), full.max()
        wanted = place[full > refine_threshold * highest] if highest > 0 else place[:0]
        found = {"n_reference": float(len(wanted)), "rank_correlation": rank_correlation(rough, full)}
        for part in self.kept:
            n = max(1, round(part * len(rough)))
            found[f"n_missed_{part}"] = float((wanted >= n).sum())
            mass = positive[place < n].sum() / positive.sum() if highest > 0 else np.nan
            found[f"mass_kept_{part}"] = float(mass)
        return found


def rank_correlation(first: Float[ndarray, " neuron"], second: Float[ndarray, " neuron"]) -> float:
    """Spearman's rank correlation, equal values sharing their mean rank; NaN where all values of one are equal."""
    ranks = [pd.Series(values).rank().to_numpy() for values in (first, second)]
    if any(np.ptp(values) == 0 for values in ranks):
        return float("nan")
    return float(np.corrcoef(*ranks)[0, 1])
