"""What a screening by `atp` misses: shares over the checked queries, with bounds."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from knatlas.errors import AtlasError
from knatlas.statistics.binomial import upper_bound
from knatlas.statistics.bootstrap import DEFAULT_RESAMPLES, bootstrap_ratio, mean_over_facts

SCREENED = "atp"
SCREENING_COLUMNS = [
    *("model", "language", "reference", "kept", "value", "lo", "hi", "n"),
    *("n_queries", "n_reference", "n_missed", "missed_bound"),
    *("losing_queries", "losing_share", "losing_bound", "losing_facts", "losing_facts_bound"),
    *("mass_kept", "rank_correlation"),
]


def summarise_screening(
    queries: pd.DataFrame, reference: str, kept: Sequence[float], seed: int = 0, resamples: int = DEFAULT_RESAMPLES
) -> pd.DataFrame:
    """What the kept neurons miss by model, language (and "all") and kept share, from the tables beside the scores.

    value, lo, hi: missed neurons of the reference as a share of them, pooled over the checked queries, with a 95%
    bootstrap interval over facts; n, facts. n_queries, checked queries with neurons of the reference; n_reference,
    n_missed, neurons of all of these. losing_queries and losing_facts, those that lose at least one neuron (a fact: in
    any checked query). missed_bound, losing_bound, losing_facts_bound: one-sided 95% Clopper-Pearson upper bounds over
    neurons, queries and facts, each taken as independent; neurons of a query and queries of a fact are not, so that
    only the last one and the interval count facts once. mass_kept, rank_correlation: means over facts of a fact's mean.
    Raises: AtlasError for a table without checks.
    """
    missing = [name for name in (f"n_missed_{part}" for part in kept) if name not in queries]
    if missing:
        raise AtlasError(
            f"The tables of queries have no column {' '.join(missing)}: nothing was checked. Set "
            "attribution.screening.reference to a method, and attribution.screening.kept to the shares to keep."
        )
    checked = queries[(queries["method"] == SCREENED) & (queries["n_reference"] > 0)]
    rows = []
    for language, part in [("all", checked), *checked.groupby("language", sort=False)]:
        for model, group in part.groupby("model", sort=False):
            for share in kept:
                rows.append((model, language, reference, share, *_of_share(group, share, seed, resamples)))
    return pd.DataFrame(rows, columns=SCREENING_COLUMNS).sort_values("model", kind="stable")


def _of_share(group: pd.DataFrame, share: float, seed: int, resamples: int) -> tuple:
    """The columns from `value` on, of one model, language and kept share."""
    missed, neurons = group[f"n_missed_{share}"], group["n_reference"]
    facts = group["fact"]
    by_fact = [column.groupby(facts).sum().to_numpy() for column in (missed, neurons)]
    interval = bootstrap_ratio(*by_fact, seed, resamples)
    n_missed, n_reference = int(missed.sum()), int(neurons.sum())
    losing, losing_facts = int((missed > 0).sum()), int((by_fact[0] > 0).sum())
    return (
        *interval,
        *(len(group), n_reference, n_missed, upper_bound(n_missed, n_reference)),
        *(losing, losing / len(group), upper_bound(losing, len(group))),
        *(losing_facts, upper_bound(losing_facts, len(by_fact[0]))),
        *(_fact_mean(group, name) for name in (f"mass_kept_{share}", "rank_correlation")),
    )


def _fact_mean(group: pd.DataFrame, name: str) -> float:
    """Mean over facts of a fact's mean."""
    return mean_over_facts(group.groupby("fact")[name].mean().to_numpy(dtype=np.float64))
