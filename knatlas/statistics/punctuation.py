"""Syntactic neurons: shares of sentences and levels as the paper prints them, and the controls (Table 2 of it)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import betaincinv
from scipy.stats import hypergeom

from knatlas.errors import AtlasError
from knatlas.statistics.bootstrap import DEFAULT_RESAMPLES, LEVEL, bootstrap_mean
from knatlas.statistics.printed import printed_neurons

ANY, CONTROL = "all", "control"
NEURON = ["layer", "index"]
PLACE = ["model", "language", "reading"]
TABLE_COLUMNS = [*PLACE, "mark", *NEURON, "rank", "n_marks_shared", "shown_as", "statistic", "value", "lo", "hi", "n"]
SUMMARY_COLUMNS = [*PLACE, "mark", "statistic", "value", "lo", "hi", "n"]
MARGIN = 1e-9  # keeps a product of level and sentences from lying below the whole number that it stands for
Counts = tuple[int, int]  # sentences whose coarse set holds a neuron, and all sentences


@dataclass(frozen=True)
class PunctuationSummary:
    """levels: shares of a mark's sentences, the lowest of which makes a neuron the mark's; control_level: a neuron is
    specific to a mark where it is also in the sets of fewer than this share of the control's sentences.
    Raises: AtlasError for levels that are not shares in rising order.
    """

    levels: Sequence[float] = (0.6, 0.7, 0.8, 0.9, 1.0)
    control_level: float = 0.2

    def __post_init__(self) -> None:
        """Check the levels."""
        levels = list(self.levels)
        if not levels or sorted(set(levels)) != levels or levels[0] <= 0 or levels[-1] > 1:
            raise AtlasError(f"punctuation: levels are {levels}; expected rising shares above 0, at most 1.")
        if not 0 <= self.control_level <= 1:
            raise AtlasError(f"punctuation: control_level is {self.control_level}; expected a share from 0 to 1.")


def punctuation_table(neurons: pd.DataFrame, settings: PunctuationSummary | None = None) -> pd.DataFrame:
    """The neurons of each mark with the paper's levels and with controls, one row per neuron and statistic.

    Shown are the neurons that pass the lowest level (`shown_as` "passes"), the one with the most sets where none does
    ("top"; none where all sets are empty), and those that the paper prints ("printed").
    statistic: share, of the mark's sentences whose coarse set holds the neuron; level, the highest of the levels with
    n_sets > level * n_sentences (NaN: none), as the paper prints; share_control, of the control's sentences;
    over_control, share - share_control; share_others, of the other marks' sentences; over_others, share - share_others;
    p_permuted, the probability that the neuron is in so many of the mark's sets or more when the marks are dealt anew
    to all marks' sentences (exact, one-sided; the choice among thousands of neurons is not corrected for).
    Intervals: 95 %, exact for shares, for differences from the shares' own intervals (square and add).
    rank: 1 + neurons in more sets of the mark; n_marks_shared: marks for which the neuron passes the lowest level.

    Args: neurons, columns NEURON_COLUMNS of `find_punctuation_neurons`. Returns: TABLE_COLUMNS.
    """
    settings = settings or PunctuationSummary()
    parts = [_of_place(part, settings) for _, part in neurons.groupby(PLACE, sort=False)]
    parts = [part for part in parts if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=TABLE_COLUMNS)


def _of_place(neurons: pd.DataFrame, settings: PunctuationSummary) -> pd.DataFrame:
    """The rows of one model and reading, marks in their order, then by rank."""
    counts = _with_controls(neurons, settings)
    printed = set(printed_neurons(counts["model"].iat[0])) if len(counts) else set()
    rows: list[dict] = []
    for _, of_mark in counts.groupby("mark", sort=False):
        ordered = of_mark.sort_values(["rank", *NEURON], kind="stable").reset_index(drop=True)
        for number, row in enumerate(ordered.to_dict("records")):
            if shown_as := _shown_as(row, number, printed):
                rows += [{**row, "shown_as": shown_as, **line} for line in _statistics(row)]
    return pd.DataFrame(rows, columns=TABLE_COLUMNS)


def _with_controls(neurons: pd.DataFrame, settings: PunctuationSummary) -> pd.DataFrame:
    """The rows of marks, with the level, and with the neuron's counts in the control and over all marks."""
    marks, control = neurons[neurons["group"] == "mark"], neurons[neurons["group"] == "control"]
    level = [
        highest_level(*counts, settings.levels) for counts in zip(marks["n_sets"], marks["n_sentences"], strict=True)
    ]
    marks = marks.assign(level=level, is_passing=~np.isnan(np.array(level, dtype=float)))
    counts = ["n_sets", "n_sentences"]
    beside = control[[*NEURON, *counts]].rename(columns={name: f"{name}_control" for name in counts})
    marks = marks.merge(beside, on=NEURON, how="left").fillna({f"{name}_control": 0 for name in counts})
    groups = marks.groupby(NEURON)
    sums = {f"{name}_all": groups[name].transform("sum") for name in counts}
    return marks.assign(**sums, n_marks_shared=groups["is_passing"].transform("sum"))


def highest_level(n_sets: int, n_sentences: int, levels: Sequence[float]) -> float:
    """The highest level with n_sets > level * n_sentences; NaN when there is none (so a level of 1 is never passed)."""
    passed = [level for level in levels if n_sets > level * n_sentences + MARGIN]
    return float(max(passed)) if passed else np.nan


def _shown_as(row: dict, number: int, printed: set[tuple[int, int]]) -> str:
    """Why the neuron of this number in the mark's order is shown; empty when it is not."""
    if row["is_passing"]:
        return "passes"
    if number == 0 and row["n_sets"]:
        return "top"
    return "printed" if (row["layer"], row["index"]) in printed else ""


def _statistics(row: dict) -> Iterator[dict]:
    """The measurements of one neuron and mark."""
    own, everywhere = _own(row), (row["n_sets_all"], row["n_sentences_all"])
    yield _line("share", *share_interval(*own), own[1])
    yield _line("level", row["level"], np.nan, np.nan, own[1])
    control = (row["n_sets_control"], row["n_sentences_control"])
    for name, beside in {"control": control, "others": _others(row)}.items():
        yield _line(f"share_{name}", *share_interval(*beside), beside[1])
        yield _line(f"over_{name}", *share_difference(own, beside), min(own[1], beside[1]))
    yield _line("p_permuted", p_permuted(own, everywhere), np.nan, np.nan, everywhere[1])


def _own(row: dict) -> Counts:
    return row["n_sets"], row["n_sentences"]


def _others(row: dict) -> Counts:
    """The counts of the other marks."""
    return row["n_sets_all"] - row["n_sets"], row["n_sentences_all"] - row["n_sentences"]


def _line(statistic: str, value: float, lo: float, hi: float, n: int) -> dict:
    return {"statistic": statistic, "value": value, "lo": lo, "hi": hi, "n": int(n)}


def share_interval(n_events: int, n: int) -> tuple[float, float, float]:
    """A share of independent trials with its exact (Clopper-Pearson) 95 % interval; NaN without trials."""
    if n == 0:
        return np.nan, np.nan, np.nan
    tail = (1 - LEVEL) / 2
    lo = betaincinv(n_events, n - n_events + 1, tail) if n_events else 0.0
    hi = betaincinv(n_events + 1, n - n_events, 1 - tail) if n_events < n else 1.0
    return n_events / n, float(lo), float(hi)


def share_difference(first: Counts, second: Counts) -> tuple[float, float, float]:
    """first - second, shares of (events, trials), with an interval made of the two shares' own (square and add)."""
    (p, p_lo, p_hi), (q, q_lo, q_hi) = share_interval(*first), share_interval(*second)
    return p - q, p - q - np.hypot(p - p_lo, q_hi - q), p - q + np.hypot(p_hi - p, q - q_lo)


def p_permuted(own: Counts, everywhere: Counts) -> float:
    """P(at least own's events) when own's trials are drawn from all trials at random; NaN where all or none are own."""
    (n_events, n), (all_events, all_n) = own, everywhere
    return float(hypergeom.sf(n_events - 1, all_n, all_events, n)) if 0 < n < all_n else np.nan


def summarise_punctuation(
    neurons: pd.DataFrame,
    answers: pd.DataFrame,
    settings: PunctuationSummary | None = None,
    seed: int = 0,
    resamples: int = DEFAULT_RESAMPLES,
) -> pd.DataFrame:
    """What the model says in the sentences of each mark, and how many neurons are the mark's.

    statistic: p, P(answer), mean; right, share of sentences whose answer is the argmax; set_size, neurons of a
    sentence's coarse set, mean; empty, share of sentences with an empty set; left_out, prompts that are too long for
    the model or whose answer its tokenizer lacks, a number; n_passing, neurons that pass the lowest level; n_specific,
    those of them in fewer than `control_level` of the control's sets; n_own, those of them that are in the mark's sets
    more often than in other marks' (the interval of over_others lies above 0); for mark "all", n_shared_by_all_marks,
    neurons that pass the lowest level for every mark that has sentences.
    mark "control" is the random words. Intervals: 95 %, bootstrap over sentences for means, exact for shares, none for
    numbers of neurons. n: sentences.

    Args: neurons and answers of `find_punctuation_neurons`, of any models. Returns: SUMMARY_COLUMNS.
    """
    settings, rows = settings or PunctuationSummary(), []
    by_place = dict(list(neurons.groupby(PLACE, sort=False)))
    for place, part in answers.groupby(PLACE, sort=False):
        own = by_place.get(place, neurons.iloc[:0])
        counts = _with_controls(own, settings)
        by_mark = part.groupby("mark", sort=False)
        lines = [(mark or CONTROL, line) for mark, of in by_mark for line in _answered(of, seed, resamples)]
        lines += [(mark, line) for mark, of in counts.groupby("mark", sort=False) for line in _numbers(of, settings)]
        lines += [(CONTROL, line) for line in _control_numbers(own, settings)]
        lines.append((ANY, _shared_by_all(counts)))
        rows += [{**dict(zip(PLACE, place, strict=True)), "mark": mark, **line} for mark, line in _by_mark(lines)]
    return pd.DataFrame(rows, columns=SUMMARY_COLUMNS)


def _by_mark(lines: list[tuple[str, dict]]) -> list[tuple[str, dict]]:
    """The lines of a mark together, marks in the order of their first line."""
    marks = list(dict.fromkeys(mark for mark, _ in lines))
    return sorted(lines, key=lambda line: marks.index(line[0]))


def _answered(answers: pd.DataFrame, seed: int, resamples: int) -> Iterator[dict]:
    """The measurements of one mark's sentences, or of the control's."""
    asked = answers[answers["left_out"] == ""]
    sizes, n = asked["n_neurons"].to_numpy(float), len(asked)
    yield _line("p", *bootstrap_mean(asked["p"].to_numpy(float), seed, resamples))
    yield _line("right", *share_interval(int(asked["is_right"].sum()), n), n)
    yield _line("set_size", *bootstrap_mean(sizes, seed, resamples))
    yield _line("empty", *share_interval(int((sizes == 0).sum()), n), n)
    yield _line("left_out", len(answers) - n, np.nan, np.nan, len(answers))


def _numbers(counts: pd.DataFrame, settings: PunctuationSummary) -> Iterator[dict]:
    """How many neurons are a mark's."""
    n, passing = counts["n_sentences"].max(), counts[counts["is_passing"]]
    is_specific = passing["n_sets_control"] < settings.control_level * passing["n_sentences_control"]
    yield _line("n_passing", len(passing), np.nan, np.nan, n)
    yield _line("n_specific", int(is_specific.sum()), np.nan, np.nan, n)
    n_own = sum(share_difference(_own(row), _others(row))[1] > 0 for row in passing.to_dict("records"))
    yield _line("n_own", n_own, np.nan, np.nan, n)


def _control_numbers(neurons: pd.DataFrame, settings: PunctuationSummary) -> Iterator[dict]:
    """How many neurons pass for random words: they serve whatever comes next."""
    control = neurons[neurons["group"] == "control"]
    if len(control):
        is_passing = control["n_sets"] > settings.levels[0] * control["n_sentences"] + MARGIN
        yield _line("n_passing", int(is_passing.sum()), np.nan, np.nan, control["n_sentences"].max())


def _shared_by_all(counts: pd.DataFrame) -> dict:
    """How many neurons pass for every mark that has sentences."""
    asked = counts[counts["n_sentences"] > 0]
    is_shared = asked.groupby(NEURON)["is_passing"].all()
    n = asked.drop_duplicates("mark")["n_sentences"].sum()
    return _line("n_shared_by_all_marks", int(is_shared.sum()), np.nan, np.nan, n)
