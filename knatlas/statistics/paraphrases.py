"""How much of a refined set a new sample of a fact's paraphrases would keep, from the kept shares of queries.

A neuron is refined when it's in the coarse sets of more than a share of the T queries. A query's coarse set doesn't
depend on the others, so that in T queries drawn again, with replacement, the number of those that have the neuron is
binomial, and its chance of being refined again is exact. No query is asked again.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.special import bdtrc

from knatlas.selection.scores import Scores
from knatlas.statistics.stability import row_means

NAME = "resampled_paraphrases"
ROUNDING = 1e-9  # of a number of queries: a share of queries is kept in 32 bits


def resampled_refined(
    scores: Scores, n_queries: Mapping[tuple[str, str], int], least: float
) -> Iterator[tuple[str, str, str, str, np.ndarray, float]]:
    """The line `resampled_paraphrases` of each language: a value per fact, and the chance level.

    value: expected number of neurons that the set and the set of the resample share, over the expected number in either
    (a ratio of expectations). NaN where the set is empty, and no neuron can enter it. Of scores of candidates, neurons
    left out count as never found. chance: the same with a random set of as many neurons in every layer.

    Args: n_queries by fact and language; least, the share of queries that a refined neuron's must exceed.
    """
    shape = (len(scores.facts), len(scores.languages))
    values, chances = np.full((2, *shape), np.nan)
    for i, fact in enumerate(scores.facts):
        for j, shares in enumerate(scores.of("bkn", "share", i)):
            n = n_queries.get((fact, scores.languages[j]), 0)
            if n and not np.isnan(shares.flat[0]):
                values[i, j], chances[i, j] = expected_overlap(shares, n, least)
    for language, value, chance in zip(scores.languages, values.T, chances.T, strict=True):
        yield "refined", "", language, NAME, value, float(row_means(chance[None])[0])


def expected_overlap(shares: Float[np.ndarray, "layer neuron"], n: int, least: float) -> tuple[float, float]:
    """Expected overlap of one fact's refined set with that of n queries drawn again, and its chance level.

    Args: shares of the n queries whose coarse sets hold a neuron; least, the share to exceed.
    """
    needed = np.floor(least * n + ROUNDING)
    again = bdtrc(needed, n, np.clip(shares.astype(np.float64), 0.0, 1.0)) if needed < n else np.zeros(shares.shape)
    is_refined = np.rint(shares * n) > needed
    size, expected = is_refined.sum(), again.sum()
    by_chance = (is_refined.sum(axis=1) * again.sum(axis=1)).sum() / shares.shape[1]
    return tuple(_ratio(shared, size + expected - shared) for shared in (again[is_refined].sum(), by_chance))


def query_counts(queries: pd.DataFrame) -> dict[tuple[str, str], int]:
    """The number of queries of each fact and language, from the table of queries that stands beside the scores."""
    return queries.groupby(["fact", "language"])["query"].nunique().to_dict()


def _ratio(shared: float, either: float) -> float:
    return float(shared / either) if either > 0 else np.nan
