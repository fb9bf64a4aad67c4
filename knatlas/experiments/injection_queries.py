"""Which queries are new knowledge, which of them are trained on, and which are old knowledge."""

import numpy as np
import pandas as pd

from knatlas.experiments.injection_settings import Injection
from knatlas.selection.controls import random_stream

NEW, HELD_OUT, UNTRAINED, OLD = SPLITS = ("new", "new_heldout", "new_untrained", "old")
FACT = ["language", "fact"]


def split_queries(answers: pd.DataFrame, settings: Injection, seed: int) -> pd.DataFrame:
    """The queries of each split, with the columns split and n_found (the split's queries before any were left out).

    `old`: right before. Wrong before: `new`, those that are trained on; `new_heldout`, a fact's held-out queries where
    another query of the fact is trained on in the language; `new_untrained`, where none is.

    Args: answers, a row per query: fact, language, query, is_right_before and others; settings, max_queries and
    holdout_queries; seed, of the queries that are left out. Returns: the rows in their order.
    """
    is_right = answers["is_right_before"].to_numpy(bool)
    is_held = _is_held_out(answers, settings.holdout_queries)
    split = np.where(is_right, OLD, np.where(is_held, HELD_OUT, NEW))
    trained = _limited(answers.assign(split=split)[split == NEW], settings.max_queries, seed)
    is_taught = pd.MultiIndex.from_frame(answers[FACT]).isin(pd.MultiIndex.from_frame(trained[FACT]))
    split = np.where((split == HELD_OUT) & ~is_taught, UNTRAINED, split)
    others = answers.assign(split=split)[split != NEW]
    return pd.concat([trained, _limited(others, settings.max_queries, seed)]).sort_index().reset_index(drop=True)


def _is_held_out(answers: pd.DataFrame, n_held: int) -> np.ndarray:
    """Whether a query is among the last of its fact in its language, and not the first."""
    groups = answers.sort_values("query", kind="stable").groupby(FACT, sort=False)
    is_held = (groups.cumcount(ascending=False) < n_held) & (groups.cumcount() > 0)
    return is_held.reindex(answers.index).to_numpy(bool)


def _limited(rows: pd.DataFrame, most: int | None, seed: int) -> pd.DataFrame:
    """At most so many rows of each language and split, drawn with the seed whatever their order."""
    parts = [rows.iloc[:0].assign(n_found=pd.Series(dtype=np.int64))]
    for (language, split), group in rows.groupby(["language", "split"], sort=False):
        ordered = group.sort_values(["fact", "query"])
        order = random_stream(seed, "injection", language, split).permutation(len(ordered))[:most]
        parts.append(ordered.iloc[order].assign(n_found=len(group)))
    return pd.concat(parts)
