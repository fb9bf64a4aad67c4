"""AMIG's Table 2: the success rate of edits made with one language's neurons, or both, and measured in each."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from knatlas.errors import AtlasError, unknown
from knatlas.statistics.bootstrap import DEFAULT_RESAMPLES
from knatlas.statistics.success_rate import RESULT_COLUMNS, STATISTICS, readings_with, success_rates

METHODS = ["likn", "mono", "seq"]
FACT_SETS = ["common", "per_row"]
PAIR = ["model", "pair"]
GROUP = [*PAIR, "language", "method"]
COUNTS = ["n", "n_empty", "n_excluded"]
SIZE_COLUMNS = [*PAIR, "size", "n", "share"]


def summarise_crosslingual(
    rows: pd.DataFrame, settings: Mapping, seed: int = 0, resamples: int = DEFAULT_RESAMPLES
) -> pd.DataFrame:
    """Success rates of cross-lingual edits, per pair, measured language, method and reading.

    method: `likn`, the neurons common to both languages; `mono`, those of the other language; `seq`, the edits of both
    languages one after the other, in reading `code` that of the second language alone, whichever is measured.
    Facts: `common`, those with common neurons, for all methods; `per_row`, these for likn and seq, and for mono all
    whose other language has neurons. Reading `default` takes them by the settings, `paper` common, `code` per_row.

    Args: rows as `edit_across` returns them; settings, those of a reading (see `success_rate`), and `facts`.
    Returns: GROUP and the columns of `success_rates`, then n_facts, searched in both languages; n_likn_empty, those
    without common neurons; mean_likn_size, the mean number of common neurons over n_facts; n_left_out, facts not
    searched in both. A method without facts has NaN and n = 0. Raises: AtlasError for an unknown setting.
    """
    settings = dict(settings)
    facts = _checked(settings.pop("facts", FACT_SETS[0]))
    readings = readings_with(settings)
    facts_of = {"default": facts, "paper": "common", "code": "per_row"}
    parts = []
    for name, reading in readings.items():
        edits = _with_methods(rows, is_seq_second=name == "code")
        edits = edits[_is_taken(edits, facts_of[name])]
        parts.append(success_rates(edits, GROUP, {name: reading}, seed, resamples))
    return _complete(pd.concat(parts, ignore_index=True), rows, list(readings)).merge(_pair_sizes(rows), on=PAIR)


def edits_with_methods(rows: pd.DataFrame, facts: str) -> pd.DataFrame:
    """The rows that each `method` counts, in readings whose `seq` is both edits. Args: facts, of FACT_SETS."""
    edits = _with_methods(rows, is_seq_second=False)
    return edits[_is_taken(edits, _checked(facts))]


def likn_sizes(rows: pd.DataFrame) -> pd.DataFrame:
    """How many facts have how many common neurons: model, pair, size, n (facts), share of the pair's facts.

    One row per size that a fact has, and for size 0 in any case.
    """
    lines = []
    for key, facts in _by_fact(rows).groupby(PAIR, sort=False):
        n = facts["n_likn"].value_counts()
        n = n.reindex(sorted({0, *n.index}), fill_value=0)
        lines += [(*key, size, count, count / n.sum()) for size, count in n.items()]
    return pd.DataFrame(lines, columns=SIZE_COLUMNS)


def _checked(facts: str) -> str:
    if facts not in FACT_SETS:
        raise AtlasError(unknown("crosslingual: facts", facts, "a choice of facts", FACT_SETS))
    return facts


def _with_methods(rows: pd.DataFrame, is_seq_second: bool) -> pd.DataFrame:
    """The rows with the method whose edit each one measures; a row may serve two methods, or none."""
    is_first_language = rows["language"] == rows["pair"].str.split("-").str[0]
    edits = {
        "likn": "likn",
        "mono": np.where(is_first_language, "second", "first"),
        "seq": "second" if is_seq_second else "both",
    }
    parts = [rows[rows["edit"] == edit].assign(method=method) for method, edit in edits.items()]
    return pd.concat(parts, ignore_index=True)


def _is_taken(edits: pd.DataFrame, facts: str) -> pd.Series:
    """Whether a method counts the fact."""
    is_common = edits["n_likn"] > 0
    return is_common if facts == "common" else is_common.mask(edits["method"] == "mono", edits["n_neurons"] > 0)


def _complete(table: pd.DataFrame, rows: pd.DataFrame, readings: list[str]) -> pd.DataFrame:
    """The table with a row for every method, reading and statistic, also for those without a fact."""
    names = [*GROUP, "reading", "statistic"]
    groups = rows[GROUP[:-1]].drop_duplicates().itertuples(index=False, name=None)
    keys = [
        (*group, method, reading, statistic)
        for group in groups
        for method in METHODS
        for reading in readings
        for statistic in STATISTICS
    ]
    table = table.set_index(names).reindex(pd.MultiIndex.from_tuples(keys, names=names)).reset_index()
    return table.assign(**table[COUNTS].fillna(0).astype(int))[[*GROUP, *RESULT_COLUMNS]]


def _by_fact(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.drop_duplicates([*PAIR, "fact"])[[*PAIR, "fact", "n_likn", "n_left_out"]]


def _pair_sizes(rows: pd.DataFrame) -> pd.DataFrame:
    sizes = _by_fact(rows).groupby(PAIR, sort=False)
    columns = {
        "n_facts": ("fact", "size"),
        "n_likn_empty": ("n_likn", lambda n: int((n == 0).sum())),
        "mean_likn_size": ("n_likn", "mean"),
        "n_left_out": ("n_left_out", "first"),
    }
    return sizes.agg(**columns).reset_index()
