"""How many neurons each selection chooses per fact, and how often none."""

import pandas as pd

from knatlas.statistics.bootstrap import DEFAULT_RESAMPLES, bootstrap_mean, median_over_facts

SIZE_COLUMNS = [
    *("model", "selection", "language", "value", "lo", "hi", "n"),
    *("n_empty", "empty_share", "empty_lo", "empty_hi", "median_of_found", "largest", "n_remarks"),
]


def summarise_sizes(summaries: pd.DataFrame, seed: int = 0, resamples: int = DEFAULT_RESAMPLES) -> pd.DataFrame:
    """Mean number of neurons per fact with its interval, by model, selection and language.

    Args: summaries, the tables that `select` gives, with a column `model`. A fact that was not searched is left out.
    Returns: value, lo, hi, neurons per fact; n, facts; n_empty, facts with an empty set; empty_share, empty_lo,
    empty_hi, their share; median_of_found, of the sizes that are not zero; largest size;
    n_remarks, facts whose set carries a remark (a raised threshold, no positive score, a language without attribution).
    """
    searched = summaries[summaries["is_searched"].astype(bool)]
    rows = []
    for key, group in searched.groupby(["model", "selection", "language"], sort=False):
        sizes = group["n_neurons"].to_numpy(dtype=float)
        empty = bootstrap_mean((sizes == 0).astype(float), seed, resamples)
        rest = (median_over_facts(sizes[sizes > 0]), int(sizes.max()), _n_remarks(group))
        rows.append((*key, *bootstrap_mean(sizes, seed, resamples), int((sizes == 0).sum()), *empty[:3], *rest))
    return pd.DataFrame(rows, columns=SIZE_COLUMNS)


def _n_remarks(group: pd.DataFrame) -> int:
    return int((group["sentence"].fillna("") != "").sum())
