"""Accuracy on queries that were answered wrongly, once a fact's neurons are enhanced (Figure 6 of MATRICE).

Beside it stand what it costs (queries no longer answered rightly) and whether the model just says one thing more often
(the histogram of what it says).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array
from scipy.special import xlogy

from knatlas.statistics.bootstrap import DEFAULT_RESAMPLES, LEVEL, NO_DATA, Interval, bootstrap_ratio, resample_weights

ALL = "all"
SUMMARY_COLUMNS = [
    *("model", "selection", "language", "relation", "statistic"),
    *("value", "lo", "hi", "n", "n_queries", "n_empty"),
]
RATIOS = ("accuracy_on_wrong", "lost_on_right", "p_change_on_wrong", "p_change_on_right")
HISTOGRAMS = ("top1_entropy", "most_common_top1_share")
DIGITS = 12  # of an entropy
RESAMPLES_AT_ONCE = 256  # their histograms are in memory together


def summarise_enhancement(rows: pd.DataFrame, seed: int = 0, resamples: int = DEFAULT_RESAMPLES) -> pd.DataFrame:
    """Figure 6 as a table: a row per model, selection, language and relation ("all" pools each) and statistic.

    accuracy_on_wrong, of the queries answered wrongly before, those right after [%]; lost_on_right, of those answered
    rightly before, those wrong after [%]; p_change_on_wrong and p_change_on_right, mean change of P(answer) on the same
    queries; top1_entropy [nats] and most_common_top1_share [%] of what the model says, each _before, _after and _change
    (after minus before). All pool queries, so that a fact weighs by how many of its queries count; draws of a random
    selection are averaged within a fact (histograms: their statistics are).

    Intervals: 95% bootstrap over facts, each with all its queries, languages and draws. Those of a histogram lie low
    (entropy) or high (share), since a resample holds fewer different answers; a change's does much less.
    n, facts with such queries; n_queries, such queries; n_empty, facts of n without neurons. No such query gives NaN
    and 0, as do histograms where what the model says was not noted.

    Args: rows of `enhance_answers`. Returns: SUMMARY_COLUMNS.
    """
    lines = []
    for (model, selection), part in rows.groupby(["model", "selection"], sort=False):
        for language, relation, group in _groups(part):
            fixed = {"model": model, "selection": selection, "language": language, "relation": relation}
            lines += [{**fixed, **line} for line in _lines(_Answers.of(group), seed, resamples)]
    return pd.DataFrame(lines, columns=SUMMARY_COLUMNS)


def _groups(rows: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    for language in [*rows["language"].unique(), ALL]:
        of_language = rows if language == ALL else rows[rows["language"] == language]
        for relation in of_language["relation"].unique():
            yield language, relation, of_language[of_language["relation"] == relation]
        yield language, ALL, of_language


@dataclass(frozen=True)
class _Answers:
    """The measurements of one group as columns; facts and what is said as numbers."""

    fact: Int[np.ndarray, " row"]
    draw: Int[np.ndarray, " row"]
    n_neurons: Int[np.ndarray, " row"]
    gain: Float[np.ndarray, " row"]
    was_right: Bool[np.ndarray, " row"]
    is_right: Bool[np.ndarray, " row"]
    said: dict[str, Int[np.ndarray, " row"]]

    @classmethod
    def of(cls, rows: pd.DataFrame) -> "_Answers":
        texts = np.concatenate([rows["predicted_before"], rows["predicted_after"]]).astype(str)
        before, after = np.split(np.unique(texts, return_inverse=True)[1], 2)
        return cls(
            np.unique(rows["fact"].to_numpy(str), return_inverse=True)[1],
            np.unique(rows["draw"].to_numpy(), return_inverse=True)[1],
            rows["n_neurons"].to_numpy(),
            (rows["p_after"] - rows["p_before"]).to_numpy(float),
            rows["is_right_before"].to_numpy(bool),
            rows["is_right_after"].to_numpy(bool),
            {"before": before, "after": after} if (texts != "").any() else {},
        )

    @cached_property
    def n_facts(self) -> int:
        return int(self.fact.max()) + 1

    @cached_property
    def n_draws(self) -> int:
        return int(self.draw.max()) + 1

    def by_fact(self, values: np.ndarray) -> Float[np.ndarray, " fact"]:
        """Sums over the rows of each fact, averaged over draws."""
        return np.bincount(self.fact, values, self.n_facts) / self.n_draws

    def is_empty(self) -> Bool[np.ndarray, " fact"]:
        return self.by_fact(self.n_neurons) == 0


def _lines(answers: _Answers, seed: int, resamples: int) -> Iterator[dict]:
    right, wrong = answers.was_right, ~answers.was_right
    parts = {
        "accuracy_on_wrong": (100.0 * answers.is_right, wrong),
        "lost_on_right": (100.0 * ~answers.is_right, right),
        "p_change_on_wrong": (answers.gain, wrong),
        "p_change_on_right": (answers.gain, right),
    }
    for name in RATIOS:
        yield {"statistic": name, **_ratio(answers, *parts[name], seed, resamples)}
    yield from _histogram_lines(answers, seed, resamples)


def _ratio(answers: _Answers, values: np.ndarray, counts: np.ndarray, seed: int, resamples: int) -> dict:
    """The mean of values over the queries that count, pooled."""
    above, below = answers.by_fact(values * counts), answers.by_fact(counts)
    is_kept = below > 0
    interval = bootstrap_ratio(above[is_kept], below[is_kept], seed, resamples)
    n_empty = int(answers.is_empty()[is_kept].sum())
    return {**interval._asdict(), "n_queries": round(below.sum()), "n_empty": n_empty}


def _histogram_lines(answers: _Answers, seed: int, resamples: int) -> Iterator[dict]:
    """Entropy and largest share of what is said before and after, and how they change."""
    n_queries = round(len(answers.fact) / answers.n_draws) if answers.said else 0
    sizes = {"n_queries": n_queries, "n_empty": int(answers.is_empty().sum()) if answers.said else 0}
    values, resampled = {}, {}
    for when in answers.said:
        values[when] = _over_draws(answers, when, np.full((1, answers.n_facts), 1 / answers.n_facts))[:, 0]
        resampled[when] = _over_draws(answers, when, resample_weights(answers.n_facts, resamples, seed))
    if answers.said:
        values["change"] = values["after"] - values["before"]
        resampled["change"] = resampled["after"] - resampled["before"]
    for i, name in enumerate(HISTOGRAMS):
        for when in ("before", "after", "change"):
            bounds = _interval(values[when][i], resampled[when][i], answers.n_facts) if answers.said else NO_DATA
            yield {"statistic": f"{name}_{when}", **bounds._asdict(), **sizes}


def _over_draws(
    answers: _Answers, when: str, weights: Float[np.ndarray, "resample fact"]
) -> Float[np.ndarray, "statistic resample"]:
    """Entropy and largest share of the histogram of each weighting of the facts, averaged over draws."""
    said, n_said = answers.said[when], max(int(part.max()) for part in answers.said.values()) + 1
    # what is said before is the same in every draw
    draws = range(1 if when == "before" else answers.n_draws)
    found = np.zeros((len(HISTOGRAMS), len(weights)))
    for draw in draws:
        rows = answers.draw == draw
        cells = (np.ones(rows.sum()), (said[rows], answers.fact[rows]))
        counts = csr_array(cells, shape=(n_said, answers.n_facts))
        for start in range(0, len(weights), RESAMPLES_AT_ONCE):
            part = slice(start, start + RESAMPLES_AT_ONCE)
            # whole numbers, so that equal histograms have equal shares
            found[:, part] += _describe(counts @ np.rint(answers.n_facts * weights[part]).T)
    return found / len(draws)


def _describe(histogram: Float[np.ndarray, "text resample"]) -> Float[np.ndarray, "statistic resample"]:
    """Entropy [nats] and largest share [%] of each column."""
    shares = histogram / histogram.sum(axis=0)
    # rounded: a sum's last digits depend on the order of the texts
    entropy = np.round(np.abs(xlogy(shares, shares).sum(axis=0)), DIGITS)
    return np.stack([entropy, 100 * shares.max(axis=0)])


def _interval(value: float, resampled: np.ndarray, n: int) -> Interval:
    lo, hi = np.percentile(resampled, [50 * (1 - LEVEL), 50 * (1 + LEVEL)], method="nearest")
    return Interval(float(value), float(lo), float(hi), n)
