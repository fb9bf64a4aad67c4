"""How P(answer) changes when word embeddings are noisy (word-embedding perturbation, localization paper 5.4).

The statistics, in percent and percentage points:
p_clean, p_noisy: mean P(answer) without and with noise. difference: mean of P noisy - P clean, what the paper prints.
p_clean_first, p_noisy_first, difference_first: the same of the answer's first token alone, the paper's for GPT-2.
difference_over_facts: the mean over facts, in which relations weigh by their facts (of all relations only).
relative_change: difference in percent of p_clean (a ratio of means).
answers_lost: of the queries answered rightly without noise, those answered wrongly with it.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from knatlas.statistics.bootstrap import DEFAULT_RESAMPLES, NO_DATA, bootstrap_mean, mean_over_facts
from knatlas.statistics.relation_means import RelationMeans

ALL, PRINTED = "all", "printed"
GROUP = ["model", "language", "reading", "level"]
NOISE = ["sigma", "relative_sigma", "is_tied"]
TABLE_COLUMNS = [
    *(*GROUP, *NOISE, "is_left_out", "relation", "statistic"),
    *("value", "lo", "hi", "n", "draw_min", "draw_max"),
]
MEASURES = ["clean", "noisy", "difference", "first_clean", "first_noisy", "first_difference", "right", "lost"]
# the mean of one measure, or the ratio of the means of two [%]
STATISTICS = {
    "p_clean": ("clean",),
    "p_noisy": ("noisy",),
    "difference": ("difference",),
    "relative_change": ("difference", "clean"),
    "answers_lost": ("lost", "right"),
    "p_clean_first": ("first_clean",),
    "p_noisy_first": ("first_noisy",),
    "difference_first": ("first_difference",),
}
OVER_FACTS = "difference_over_facts"


def summarise_perturbation(rows: pd.DataFrame, seed: int = 0, resamples: int = DEFAULT_RESAMPLES) -> pd.DataFrame:
    """Statistics (see the head of this file) of each reading and level, from the rows that `perturb` measured.

    Queries are averaged within fact and draw, draws within the fact, facts within the relation; relation `all` is the
    mean over relations, each as one. Intervals: 95% bootstrap over facts within relations. n, facts (of answers_lost,
    those with a query answered rightly without noise); draw_min and draw_max, the range over draws of the noise.

    is_left_out: the level `printed` where its rule gives sigma 0, which was not measured: NaN and n = 0.
    Returns: TABLE_COLUMNS, in the order of the rows.
    """
    lines = []
    for _, of_model in rows.groupby(["model", "language"], sort=False):
        groups = {key: _Group.of(group) for key, group in of_model.groupby(GROUP, sort=False)}
        relations = sorted(of_model["relation"].unique(), key=lambda name: (len(name), name))  # P36 before P106
        for relation in [ALL, *relations]:
            lines += [
                {
                    **dict(zip(GROUP, key, strict=True)),
                    **group.noise,
                    "is_left_out": False,
                    "relation": relation,
                    **line,
                }
                for key, group in groups.items()
                for line in group.lines(relation, seed, resamples)
            ]
        lines += _left_out(of_model)
    return _ordered(pd.DataFrame(lines, columns=TABLE_COLUMNS))


class _Group(NamedTuple):
    """The measurements of one model, language, reading and level: facts by draws, in percent."""

    relations: np.ndarray
    measures: dict[str, Float[np.ndarray, "fact draw"]]
    noise: dict

    @classmethod
    def of(cls, rows: pd.DataFrame) -> "_Group":
        measured = _with_measures(rows)
        cells = measured.groupby(["relation", "fact", "draw"])[MEASURES].mean()
        relations = cells.index.droplevel("draw").drop_duplicates().get_level_values("relation").to_numpy(str)
        measures = {name: cells[name].unstack("draw").to_numpy(float) for name in MEASURES}
        return cls(relations, measures, rows.iloc[0][NOISE].to_dict())

    def lines(self, relation: str, seed: int, resamples: int) -> Iterator[dict]:
        """The statistics of one relation or of all."""
        is_in = self.relations == relation if relation != ALL else np.ones(len(self.relations), dtype=bool)
        means = RelationMeans.of(self.relations[is_in], seed, resamples)
        parts = {name: values[is_in] for name, values in self.measures.items()}
        for statistic, names in STATISTICS.items():
            columns = [parts[name] for name in names]
            yield {"statistic": statistic, **_interval(means, columns, statistic), **_range(means, columns)}
        if relation == ALL:
            values = parts["difference"]
            interval = bootstrap_mean(values.mean(axis=1), seed, resamples)
            by_draw = [mean_over_facts(draw) for draw in values.T]
            yield {"statistic": OVER_FACTS, **interval._asdict(), "draw_min": min(by_draw), "draw_max": max(by_draw)}


def _with_measures(rows: pd.DataFrame) -> pd.DataFrame:
    clean, noisy, first_clean, first_noisy = (
        100 * rows[name].to_numpy(float) for name in ("p_clean", "p_noisy", "p_first_clean", "p_first_noisy")
    )
    right, is_right = (rows[name].to_numpy(bool) for name in ("is_right_clean", "is_right_noisy"))
    values = (clean, noisy, noisy - clean, first_clean, first_noisy, first_noisy - first_clean)
    flags = (100.0 * right, 100.0 * (right & ~is_right))
    return rows[["relation", "fact", "draw"]].assign(**dict(zip(MEASURES, (*values, *flags), strict=True)))


def _interval(means: RelationMeans, columns: list[Float[np.ndarray, "fact draw"]], statistic: str) -> dict:
    """Value, interval and n over facts, the draws of each averaged."""
    by_fact = [column.mean(axis=1) for column in columns]
    if len(by_fact) == 1:
        return means.mean(*by_fact)._asdict()
    interval = means.ratio(*by_fact)
    n = int((by_fact[1] > 0).sum()) if statistic == "answers_lost" else interval.n
    return {"value": 100 * interval.value, "lo": 100 * interval.lo, "hi": 100 * interval.hi, "n": n}


def _range(means: RelationMeans, columns: list[Float[np.ndarray, "fact draw"]]) -> dict:
    by_draw = [
        means.value(*draws) if len(draws) == 1 else 100 * means.ratio_value(*draws)
        for draws in zip(*(column.T for column in columns), strict=True)
    ]
    return {"draw_min": min(by_draw), "draw_max": max(by_draw)}


def _left_out(rows: pd.DataFrame) -> Iterator[dict]:
    """A line per statistic for each reading whose printed level has no noise."""
    for _, row in rows[rows["printed_sigma"] == 0].drop_duplicates("reading").iterrows():
        noise = {"sigma": 0.0, "relative_sigma": 0.0, "is_tied": row["is_tied"], "is_left_out": True}
        place = {**row[["model", "language", "reading"]].to_dict(), "level": PRINTED, **noise, "relation": ALL}
        for statistic in [*STATISTICS, OVER_FACTS]:
            yield {**place, "statistic": statistic, **NO_DATA._asdict(), "draw_min": np.nan, "draw_max": np.nan}


def _ordered(table: pd.DataFrame) -> pd.DataFrame:
    """By model, language, reading and level, each in the order of first appearance; within them as they are."""
    levels = {name: {value: i for i, value in enumerate(dict.fromkeys(table[name]))} for name in GROUP}
    return table.sort_values(
        GROUP, key=lambda column: column.map(levels[column.name]), kind="stable", ignore_index=True
    )
