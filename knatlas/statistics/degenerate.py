"""How many neurons are degenerate, whether that is more than additivity gives, and where they lie (AMIG Figs 4-5)."""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from knatlas.experiments.layer_distribution import COUNT_COLUMNS
from knatlas.statistics.bootstrap import DEFAULT_RESAMPLES, Interval, bootstrap_mean, bootstrap_ratio
from knatlas.statistics.layers import layer_shares

GROUP = ["model", "sets", "language"]
DEGENERATE_COLUMNS = [*GROUP, "statistic", "value", "lo", "hi", "n"]
# mean over facts of one column
MEANS = {
    "facts_with_pairs": "has_pairs",
    "pairs_per_fact": "n_degenerate_pairs",
    "clusters_per_fact": "n_clusters",
    "candidates_per_fact": "n_candidates",
}
# sum over facts of one column by the sum of another
RATIOS = {
    "share_degenerate": ("n_degenerate_pairs", "n_pairs"),
    "share_super_additive": ("n_super_additive", "n_degenerate_pairs"),
    "share_merely_additive": ("n_merely_additive", "n_degenerate_pairs"),
    "mean_excess": ("excess", "n_degenerate_pairs"),
    "mean_drop_1": ("drop_1", "n_degenerate_members"),
    "mean_drop_12": ("drop_12", "n_degenerate_pairs"),
    "share_raised": ("n_raised", "n_candidates"),
}
# facts for which a column is true
COUNTS = {"n_no_neurons": "is_empty", "n_few_candidates": "has_few_candidates", "n_p_zero": "is_p_zero"}


def summarise_degenerate(
    pairs: pd.DataFrame, facts: pd.DataFrame, seed: int = 0, resamples: int = DEFAULT_RESAMPLES
) -> pd.DataFrame:
    """Statistics of the search by model, sets ("found", "random") and language, from its tables of pairs and facts.

    statistic: facts_with_pairs, share of facts with a degenerate pair; pairs_per_fact, clusters_per_fact (pairs and
    larger), candidates_per_fact, means; share_degenerate, of the tested pairs; share_super_additive (excess > 0) and
    share_merely_additive (excess <= 0), of the degenerate pairs; mean_excess, mean_drop_1 (of their members, each
    suppressed alone) and mean_drop_12, over degenerate pairs, in the unit of the search; share_raised, of the
    candidates; n_no_neurons, n_few_candidates (fewer than 2, facts without neurons among them) and n_p_zero (P before
    is 0), numbers of facts, without interval.
    Shares of pairs and means over pairs are ratios of sums over facts; lo and hi, 95% bootstrap intervals over facts;
    n, searched facts. NaN where there is nothing to divide by.
    """
    measures = _measures(pairs, facts)
    rows = []
    for key, group in measures.groupby(GROUP, sort=False):
        group = group.sort_values("fact")
        rows += [(*key, name, *interval) for name, interval in _statistics(group, seed, resamples)]
    return pd.DataFrame(rows, columns=DEGENERATE_COLUMNS)


def degenerate_layers(
    clusters: pd.DataFrame,
    facts: pd.DataFrame,
    n_layers: Mapping[str, int],
    seed: int = 0,
    resamples: int = DEFAULT_RESAMPLES,
) -> pd.DataFrame:
    """Share of the degenerate neurons' occurrences in each layer (Figures 4 and 5 of AMIG), of the found ones.

    A neuron counts once per pair (or larger cluster) that it is in. Columns as `layer_shares`, selection "dkn":
    n_neurons, occurrences in the layer; n_empty, facts without degenerate neurons. Args: n_layers, by model.
    """
    clusters, facts = (table[table["sets"] == "found"] for table in (clusters, facts))
    counts = clusters.groupby(["model", "language", "fact", "layer"]).size().rename("n_neurons").reset_index()
    cells = [
        (model, "dkn", language, fact, layer)
        for model, language, fact in facts[["model", "language", "fact"]].itertuples(index=False, name=None)
        for layer in range(n_layers[model])
    ]
    counts = pd.DataFrame(cells, columns=COUNT_COLUMNS[:-1]).merge(counts, how="left")
    return layer_shares(counts.fillna({"n_neurons": 0}).astype({"n_neurons": "int64"}), seed, resamples)


def _measures(pairs: pd.DataFrame, facts: pd.DataFrame) -> pd.DataFrame:
    """The table of facts with what the statistics take, sums over degenerate pairs among them."""
    degenerate = pairs[pairs["is_degenerate"]]
    degenerate = degenerate.assign(drop_1=degenerate["drop_1"] + degenerate["drop_2"])
    sums = degenerate.groupby([*GROUP, "fact"], sort=False)[["excess", "drop_1", "drop_12"]].sum().reset_index()
    measures = facts.merge(sums, on=[*GROUP, "fact"], how="left")
    measures = measures.fillna({"excess": 0.0, "drop_1": 0.0, "drop_12": 0.0})
    return measures.assign(
        has_pairs=measures["n_degenerate_pairs"] > 0,
        n_merely_additive=measures["n_degenerate_pairs"] - measures["n_super_additive"],
        n_degenerate_members=2 * measures["n_degenerate_pairs"],
        is_empty=measures["n_neurons"] == 0,
        has_few_candidates=measures["n_candidates"] < 2,
        is_p_zero=measures["p_before"] == 0,
    )


def _statistics(group: pd.DataFrame, seed: int, resamples: int) -> Iterator[tuple[str, Interval]]:
    def column(name: str) -> np.ndarray:
        return group[name].to_numpy(dtype=np.float64)

    for statistic, name in MEANS.items():
        yield statistic, bootstrap_mean(column(name), seed, resamples)
    for statistic, (above, below) in RATIOS.items():
        yield statistic, bootstrap_ratio(column(above), column(below), seed, resamples)
    for statistic, name in COUNTS.items():
        yield statistic, Interval(float(column(name).sum()), np.nan, np.nan, len(group))
