"""What lower-casing answers does to the effect of suppressed neurons (localization paper, Figure 3).

The statistics: p_before, mean P(answer) in percent; difference, mean of P after - P before in percentage points, which
is what the paper prints; relative_change, that difference in percent of p_before (a ratio of means).
"""

from collections.abc import Iterator

import pandas as pd

from knatlas.statistics.bootstrap import DEFAULT_RESAMPLES
from knatlas.statistics.relation_means import RelationMeans

ALL = "all"
GROUP = ["model", "selection", "language"]
TABLE_COLUMNS = [
    *("model", "selection", "language", "relation", "case", "statistic"),
    *("value", "lo", "hi", "n", "n_empty", "n_same", "n_unreadable"),
]


def summarise_answer_case(rows: pd.DataFrame, seed: int = 0, resamples: int = DEFAULT_RESAMPLES) -> pd.DataFrame:
    """Statistics (see the head of this file) per relation and case, from the rows of `measure_answer_case`.

    Queries are averaged within a fact, facts within a relation; relation `all` is the mean over relations, each as
    one. Intervals: 95% bootstrap over facts within relations. Facts with an empty set are left out, as in the paper,
    and so are prompts that the tokenizer can't write in lower case, in either case: both are of the same prompts.

    n, facts; n_empty, facts left out without neurons; n_same, facts of n whose answer is the same in both cases;
    n_unreadable, facts with neurons and prompts that are left out. No facts give NaN and n = 0. Returns: TABLE_COLUMNS.
    """
    lines = []
    for key, group in rows.groupby(GROUP, sort=False):
        relations = sorted(group["relation"].unique(), key=lambda name: (len(name), name))  # P36 before P106
        for relation in [ALL, *relations]:
            part = group if relation == ALL else group[group["relation"] == relation]
            fixed = dict(zip(GROUP, key, strict=True)) | {"relation": relation}
            lines += [{**fixed, **line} for line in _lines(part, seed, resamples)]
    return pd.DataFrame(lines, columns=TABLE_COLUMNS)


def _lines(rows: pd.DataFrame, seed: int, resamples: int) -> Iterator[dict]:
    found = rows[rows["n_neurons"] > 0]
    is_readable = found.groupby(["fact", "query"])["is_readable"].transform("all").astype(bool)
    sizes = {"n_empty": rows.loc[rows["n_neurons"] == 0, "fact"].nunique()}
    sizes["n_unreadable"] = found.loc[~is_readable, "fact"].nunique()
    facts = _per_fact(found[is_readable])
    for case in rows["case"].unique():
        group = facts[facts["case"] == case]
        means = RelationMeans.of(group["relation"].to_numpy(), seed, resamples)
        before, difference = (group[name].to_numpy(float) for name in ("p_before", "difference"))
        ratio = means.ratio(difference, before)
        intervals = {
            "p_before": means.mean(before),
            "difference": means.mean(difference),
            "relative_change": ratio._replace(value=100 * ratio.value, lo=100 * ratio.lo, hi=100 * ratio.hi),
        }
        fixed = {"case": case, **sizes, "n_same": int(group["is_same"].sum())}
        yield from ({**fixed, "statistic": name, **interval._asdict()} for name, interval in intervals.items())


def _per_fact(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over queries in percent, one row per case and fact."""
    before, after = (100 * rows[name].to_numpy(float) for name in ("p_before", "p_after"))
    measured = rows[["case", "relation", "fact", "is_same"]].assign(p_before=before, difference=after - before)
    how = {"is_same": ("is_same", "all"), "p_before": ("p_before", "mean"), "difference": ("difference", "mean")}
    return measured.groupby(["case", "relation", "fact"]).agg(**how).reset_index()
