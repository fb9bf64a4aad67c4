"""How much a model knows: shares of facts answered rightly, by language, with intervals over facts."""

from collections.abc import Iterator

import pandas as pd

from knatlas.statistics.bootstrap import DEFAULT_RESAMPLES, bootstrap_mean

KNOWN_COLUMNS = ["model", "language", "statistic", "value", "lo", "hi", "n"]
MEASURES = {"answered_rightly": "is_argmax", "probability": "p", "rank": "rank", "consistency": "consistency"}


def summarise_known(known: pd.DataFrame, seed: int = 0, resamples: int = DEFAULT_RESAMPLES) -> pd.DataFrame:
    """Per model and language (and "all"): means over facts of four measures, with 95% bootstrap intervals.

    answered_rightly: the first query's answer tokens are all argmax (share of 1). probability: P(answer) of the first
    query. rank: of the right object among the relation's objects, first query. consistency: share of the fact's
    queries answered rightly. In language "all" a fact's languages are averaged first.
    """
    rows = []
    for model, of_model in known.groupby("model", sort=False):
        by_fact = _by_fact(of_model)
        languages = [(language, group) for language, group in by_fact.groupby("language", sort=False)]
        pooled = by_fact.groupby("fact")[list(MEASURES.values())].mean().reset_index()
        for language, group in [*languages, ("all", pooled)]:
            rows += [(model, language, *line) for line in _means(group, seed, resamples)]
    return pd.DataFrame(rows, columns=KNOWN_COLUMNS)


def _by_fact(known: pd.DataFrame) -> pd.DataFrame:
    """One row per fact and language: the first query's measures and the share of all queries answered rightly."""
    ordered = known.sort_values("query", kind="stable")
    grouped = ordered.groupby(["language", "fact"], sort=False)
    by_fact = grouped.agg(is_argmax=("is_argmax", "first"), p=("p", "first"), rank=("rank", "first"))
    by_fact["consistency"] = grouped["is_argmax"].mean()
    return by_fact.astype("float64").reset_index().sort_values(["language", "fact"])


def _means(by_fact: pd.DataFrame, seed: int, resamples: int) -> Iterator[tuple]:
    for name, column in MEASURES.items():
        yield name, *bootstrap_mean(by_fact[column].to_numpy(), seed, resamples)
