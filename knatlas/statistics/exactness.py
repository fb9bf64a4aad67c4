"""How exact the attributions are: completeness errors of all queries, and what the norms met."""

import numpy as np
import pandas as pd

from knatlas.statistics.bootstrap import DEFAULT_RESAMPLES, bootstrap_median

EXACTNESS_COLUMNS = [
    *("model", "language", "method", "value", "lo", "hi", "n"),
    *("n_queries", "percentile_95", "largest", "above_tolerance", "negative_layers", "skipped_layers"),
    *("largest_estimate", "evaluated_points", "fallback_queries"),
]
TOLERANCE = 0.05


def summarise_exactness(queries: pd.DataFrame, seed: int = 0, resamples: int = DEFAULT_RESAMPLES) -> pd.DataFrame:
    """Completeness errors by model, language (and "all") and method, from the tables beside the scores.

    The error of a query is that of its worst layer, relative to the layer's sum of absolute scores. value, lo, hi:
    median over facts of a fact's mean error, with its 95% bootstrap interval; n, facts; percentile_95 and largest,
    over queries; above_tolerance, share of queries above 0.05; negative_layers, skipped_layers, mean shares of layers
    whose sum is negative, or too near zero to divide by. Errors are NaN where the factor is the full activation, or
    where completeness was not measured. Of the quadrature: largest_estimate, the largest estimated relative error of a
    layer against the rule's full sum; evaluated_points, the gradients taken as a share of those of the full sum;
    fallback_queries, the share of queries in which some path took all points of the rule.
    """
    rows = []
    for language, part in [("all", queries), *queries.groupby("language", sort=False)]:
        for (model, method), group in part.groupby(["model", "method"], sort=False):
            by_fact = group.groupby("fact")["completeness_error"].mean().sort_index().to_numpy()
            rows.append((model, language, method, *bootstrap_median(by_fact, seed, resamples), *_over_queries(group)))
    return pd.DataFrame(rows, columns=EXACTNESS_COLUMNS).sort_values(["model", "method"], kind="stable")


def _over_queries(group: pd.DataFrame) -> tuple:
    errors = group["completeness_error"].dropna().to_numpy()
    high, largest = (np.quantile(errors, 0.95), errors.max()) if len(errors) else (np.nan, np.nan)
    above = float((errors > TOLERANCE).mean()) if len(errors) else np.nan
    layers = (group["negative_layers"].mean(), group["skipped_layers"].mean())
    return len(group), high, largest, above, *layers, *_quadrature(group)


def _quadrature(group: pd.DataFrame) -> tuple[float, float, float]:
    """Largest estimated error, share of points evaluated, share of queries with a path that took all points."""
    points = group["n_points"].sum() / group["n_full_points"].sum()
    return group["error_estimate"].max(), points, (group["n_fallbacks"] > 0).mean()
