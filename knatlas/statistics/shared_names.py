"""Facts whose object is written alike in two languages, beside those where it's not: overlap of sets, and effects.

A name that is the same string has the same tokens, so that neurons of the name look like neurons of the fact in both
languages. Where what is found holds for the same names alone, it's about names.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from knatlas.selection.controls import random_stream
from knatlas.selection.neuron_set import ALL, NeuronSets
from knatlas.statistics.bootstrap import (
    DEFAULT_RESAMPLES,
    Interval,
    bootstrap_mean,
    percentile_interval,
    resample_weights,
)
from knatlas.statistics.stability import Sets, same_facts
from knatlas.statistics.summaries import relative_change

SHARED_COLUMNS = ["model", "selection", "pair", "group", "statistic", "value", "lo", "hi", "n"]
GROUPS = ("same", "different")
DIFFERENCE = "difference"
CELL = ["fact", "pair", "is_same"]


def name_pairs(facts: pd.DataFrame, languages: Sequence[str]) -> pd.DataFrame:
    """For every fact and pair of languages ("en-fr") whether the object's name is the same string; without one: no row.

    Args: rows of facts.parquet. Returns: fact, pair, first, second (languages), is_same.
    """
    labels = facts.pivot_table("object_label", "fact", "language", aggfunc="first")
    parts = []
    for first, second in combinations([name for name in languages if name in labels], 2):
        both = labels[[first, second]].dropna()
        is_same = (both[first] == both[second]).to_numpy()
        names = {"pair": f"{first}-{second}", "first": first, "second": second, "is_same": is_same}
        parts.append(pd.DataFrame({"fact": both.index, **names}))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*CELL, "first", "second"])


def shared_names_table(
    sets: Sequence[NeuronSets],
    manipulated: pd.DataFrame,
    pairs: pd.DataFrame,
    seed: int = 0,
    resamples: int = DEFAULT_RESAMPLES,
    min_p_before: float = 0.0,
) -> pd.DataFrame:
    """Statistics of one model by whether the object is written alike, per pair of languages and for all pairs ("all").

    overlap: Jaccard of a fact's sets in the two languages (selections with a set per language); suppress, enhance:
    relative change of P(answer), mean of the two languages. group: `same`, `different`, and their `difference` (same
    minus different). Only pairs of languages with facts of both groups count, so that languages of two scripts don't
    pass for different names. share_same, of the facts in each pair, stands once (selection "-"), for all pairs.

    Pairs of a group pool: a fact weighs by its pairs in the group. Intervals: 95% bootstrap over facts, both groups of
    a resample from the same facts; resamples without one of them don't count. n, facts in the group.

    Args: sets of one model; manipulated, its rows of `manipulate`; pairs, what `name_pairs` returns, of its facts.
    """
    if not len(sets) or pairs.empty:
        return pd.DataFrame(columns=SHARED_COLUMNS)
    model, lines = sets[0].model, []
    shares = pairs.assign(value=pairs["is_same"].astype(float))
    for pair, part in _by_pair(shares):
        interval = bootstrap_mean(part.groupby("fact")["value"].mean().to_numpy(), seed, resamples)
        lines.append((model, "-", pair, ALL, "share_same", *interval))
    pairs = pairs[pairs.groupby("pair")["is_same"].transform("nunique") == len(GROUPS)]
    changes = _changes(manipulated, pairs, min_p_before)
    for part in sets:
        measured = {"overlap": _overlaps(part, pairs, seed)} | {
            operation: table for (selection, operation), table in changes.items() if selection == part.selection
        }
        for statistic, values in measured.items():
            for pair, of_pair in _by_pair(values):
                groups = _groups(of_pair, seed, resamples)
                lines += [(model, part.selection, pair, name, statistic, *line) for name, line in groups.items()]
    return pd.DataFrame(lines, columns=SHARED_COLUMNS)


def _by_pair(values: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """All pairs pooled, then each."""
    if not values.empty:
        yield ALL, values
        yield from values.groupby("pair", sort=False)


def _overlaps(sets: NeuronSets, pairs: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Jaccard of each fact's sets in both languages of each pair; none for selections with one set for all."""
    stream, parts = random_stream(seed, "shared names", sets.model, sets.selection), []
    relations = dict.fromkeys(sets.facts, "")
    by_language = {name: Sets.of(sets, name, relations) for name in sets.languages if name != ALL}
    for (first, second), rows in pairs.groupby(["first", "second"], sort=False):
        if first in by_language and second in by_language:
            found = same_facts(by_language[first], by_language[second], stream)
            parts.append(rows.merge(found.dropna(), on="fact"))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*CELL, "value"])


def _changes(rows: pd.DataFrame, pairs: pd.DataFrame, min_p_before: float) -> Mapping[tuple[str, str], pd.DataFrame]:
    """Relative change of P per fact and pair, mean of its languages, by selection and operation."""
    is_kept = (rows["probe"] == "own") & (rows["p_before"] > 0) & (rows["p_before"] >= min_p_before)
    rows = rows[is_kept]
    rows = rows.assign(value=relative_change(rows["p_before"].to_numpy(float), rows["p_after"].to_numpy(float)))
    changes = rows.groupby(["selection", "operation", "language", "fact"], sort=False)["value"].mean()
    found = {}
    for key, part in changes.groupby(["selection", "operation"], sort=False):
        table = pairs
        for place in ("first", "second"):
            at = part.rename_axis(index={"language": place}).rename(f"of_{place}").reset_index([place, "fact"])
            table = table.merge(at, on=["fact", place])
        found[key] = table.assign(value=(table["of_first"] + table["of_second"]) / 2)
    return found


def _groups(values: pd.DataFrame, seed: int, resamples: int) -> dict[str, Interval]:
    """The mean of either group, and the difference, with intervals over facts."""
    facts, fact = np.unique(values["fact"].to_numpy(str), return_inverse=True)
    value, is_same = values["value"].to_numpy(float), values["is_same"].to_numpy(bool)
    weights = resample_weights(len(facts), resamples, seed)
    means, drawn, found = {}, {}, {}
    for name, is_in in zip(GROUPS, (is_same, ~is_same), strict=True):
        sums, counts = (np.bincount(fact[is_in], part, len(facts)) for part in (value[is_in], None))
        with np.errstate(invalid="ignore", divide="ignore"):
            means[name] = float(np.divide(sums.sum(), counts.sum()))
            drawn[name] = (weights @ sums) / (weights @ counts)
        found[name] = percentile_interval(means[name], drawn[name], int((counts > 0).sum()))
    same, different = GROUPS
    found[DIFFERENCE] = percentile_interval(
        means[same] - means[different], drawn[same] - drawn[different], len(facts) if is_same.any() else 0
    )
    return found
