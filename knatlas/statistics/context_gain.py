"""Tables of what examples before a prompt add to P(answer) (section 3.2 of the localization paper: "by 50%").

statistic: p_without and p_with, mean P(answer) without and with examples, from 0 to 1; difference = p_with - p_without;
relative_change, the ratio of these two means less 1 (0.5 is the paper's 50%); right_without and right_with, the share
of prompts whose answer is the argmax; n_given, examples before a prompt, of those that were asked for.
"""

from collections.abc import Iterator

import pandas as pd

from knatlas.statistics.bootstrap import DEFAULT_RESAMPLES, Interval, bootstrap_mean, bootstrap_ratio

ALL = "all"
TABLE_COLUMNS = ["model", "language", "relation", "statistic", "value", "lo", "hi", "n", "n_excluded"]
MEANS = {
    "p_without": "p_without",
    "p_with": "p_with",
    "difference": "difference",
    "right_without": "is_right_without",
    "right_with": "is_right_with",
    "n_given": "n_given",
}
STATISTICS = ("p_without", "p_with", "difference", "relative_change", "right_without", "right_with", "n_given")


def summarise_context_gain(rows: pd.DataFrame, seed: int = 0, resamples: int = DEFAULT_RESAMPLES) -> pd.DataFrame:
    """Statistics (see the head of this file) over facts, from the rows that `measure_context_gain` measured.

    A fact's prompts are averaged; with and without are the same prompts: those that are too long with examples, or have
    none, don't count. relation: each, and `all`, the mean over all facts. Intervals: 95% bootstrap over facts.

    Returns: TABLE_COLUMNS. n, facts with the statistic; n_excluded, facts of which no prompt counts. Relations without
    a fact that counts have NaN and n = 0.
    """
    lines = []
    for (model, language), group in rows.groupby(["model", "language"], sort=False):
        groups = {ALL: group} | dict(sorted(group.groupby("relation"), key=lambda pair: (len(pair[0]), pair[0])))
        for relation, of_relation in groups.items():
            fixed = {"model": model, "language": language, "relation": relation}
            lines += [{**fixed, **line} for line in _lines(of_relation, seed, resamples)]
    return pd.DataFrame(lines, columns=TABLE_COLUMNS)


def _lines(rows: pd.DataFrame, seed: int, resamples: int) -> Iterator[dict]:
    facts = _by_fact(rows)
    n_excluded = rows["fact"].nunique() - len(facts)
    for name in STATISTICS:
        if name == "relative_change":
            interval = _relative_change(facts, seed, resamples)
        else:
            interval = bootstrap_mean(facts[MEANS[name]].to_numpy(), seed, resamples)
        yield {"statistic": name, **interval._asdict(), "n_excluded": n_excluded}


def _by_fact(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over the prompts that count of each fact, sorted by fact."""
    counted = rows[~rows["is_too_long"].astype(bool) & (rows["n_given"] > 0)]
    counted = counted.assign(difference=counted["p_with"] - counted["p_without"])
    return counted.astype(dict.fromkeys(MEANS.values(), float)).groupby("fact")[list(MEANS.values())].mean()


def _relative_change(facts: pd.DataFrame, seed: int, resamples: int) -> Interval:
    ratio = bootstrap_ratio(facts["p_with"].to_numpy(), facts["p_without"].to_numpy(), seed, resamples)
    return ratio._replace(value=ratio.value - 1, lo=ratio.lo - 1, hi=ratio.hi - 1)
