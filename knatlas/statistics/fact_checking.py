"""Fact-checking with degenerate knowledge neurons (AMIG Table 3): which detector accepts true and wrong objects."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from knatlas.statistics.bootstrap import DEFAULT_RESAMPLES, LEVEL, resample_weights
from knatlas.statistics.candidate_scores import RelationScores, relation_scores
from knatlas.statistics.checking_splits import NO_NEURONS, PLACE, CheckSettings, Split, relation_facts

DETECTORS = ["dkn_attribution", "dkn_activation", "probability", "argmax", "always"]
# accepted or not is all that these say: no threshold is chosen
BINARY = {"argmax", "always"}
STATISTICS = [
    *("precision", "recall", "f1", "balanced_accuracy", "auroc"),
    *("true_accepted", "wrong_accepted", "threshold"),
]
CHECK_COLUMNS = [
    *("model", "language", "detector", "reading", "statistic"),
    *("value", "lo", "hi", "n", "n_tests", "n_relations", "n_skipped"),
]
COVERAGE_COLUMNS = [*PLACE, "n_facts", "n_with_pairs", "reason", "n_splits_used"]


@dataclass(frozen=True)
class CheckReading:
    """How detectors are judged.

    is_fixed: the threshold lambda is the study's code_threshold, not chosen on the training part. is_first: the wrong
    object is always candidate 1, not drawn. is_exchanged: precision and recall are exchanged.
    """

    is_fixed: bool = False
    is_first: bool = False
    is_exchanged: bool = False


READINGS = {
    "default": CheckReading(),
    "paper": CheckReading(is_fixed=True),
    "code": CheckReading(is_fixed=True, is_first=True, is_exchanged=True),
}


def check_facts(
    candidates: pd.DataFrame,
    scores: pd.DataFrame,
    clusters: pd.DataFrame,
    settings: Mapping,
    seed: int = 0,
    resamples: int = DEFAULT_RESAMPLES,
) -> pd.DataFrame:
    """How well each detector tells true from wrong objects of test facts, one row per reading and statistic.

    Every split divides the facts of a relation; the neurons in most degenerate clusters of its training facts are kept.
    A test fact is asked with its true object and with one wrong one, and an object is accepted when its score is >=
    lambda. Score: mean attribution (`dkn_attribution`) or mean activation (`dkn_activation`) of the kept neurons,
    P(object | query) (`probability`), whether the model itself answers it (`argmax`: the paper's W/O), 1 (`always`).
    lambda, per language and split, is chosen on the training facts for balanced accuracy (`choose_threshold`).

    Questions of all relations and splits count alike. precision = accepted true / accepted, recall = true_accepted =
    accepted true / true, f1, balanced_accuracy = mean of recall and 1 - wrong_accepted, auroc over pairs of a true and
    a wrong object of one split (ties 1/2), threshold the (lower) median over splits, without an interval. 0/0 is NaN.

    Args: candidates and scores as `score_candidates` returns them; clusters, degenerate ones by fact; settings, as
    `CheckSettings.of` reads them.
    Returns: columns CHECK_COLUMNS. Intervals: 95% bootstrap over facts, each with all of its splits. n, facts tested;
    n_tests, questions; n_relations and n_skipped, relations with a split that could be used, and without.
    Raises: AtlasError when the tables don't belong together.
    """
    options, lines = CheckSettings.of(settings), []
    relations = relation_scores(candidates, scores, relation_facts(candidates, clusters))
    for place, group in groupby(relations, key=lambda relation: relation.facts.place[:2]):
        names = dict(zip(PLACE[:2], place, strict=True))
        lines += [{**names, **line} for line in _check_language(list(group), options, seed, resamples)]
    return pd.DataFrame(lines, columns=CHECK_COLUMNS)


def coverage(
    candidates: pd.DataFrame, clusters: pd.DataFrame, facts: pd.DataFrame, settings: Mapping, seed: int = 0
) -> pd.DataFrame:
    """Which relations fact-checking could use: one row per model, language and relation, columns COVERAGE_COLUMNS.

    n_facts, searched facts; n_with_pairs, those with degenerate neurons; n_splits_used, splits whose training part has
    degenerate neurons; reason, why there is none: "one fact", "no wrong object" (fewer than two facts have one) or
    "no degenerate neurons", else empty. Args: facts, the searched ones with n_clusters; others as in `check_facts`.
    """
    options, found = CheckSettings.of(settings), facts[facts["sets"] == "found"]
    sizes = found.assign(has_pairs=found["n_clusters"] > 0).groupby(PLACE)["has_pairs"].agg(["size", "sum"])
    lines = []
    for relation in relation_facts(candidates, clusters):
        n_used = sum(relation.split(number, options, seed) is not None for number in range(options.splits))
        reason = relation.obstacle or ("" if n_used else NO_NEURONS)
        n_facts, n_with_pairs = sizes.loc[relation.place]
        lines.append((*relation.place, n_facts, n_with_pairs, reason, n_used))
    return pd.DataFrame(lines, columns=COVERAGE_COLUMNS)


def choose_threshold(true: Float[np.ndarray, " fact"], wrong: Float[np.ndarray, " fact"]) -> float:
    """The lambda that maximises the balanced accuracy of "accepted when score >= lambda"; of several the smallest.

    Args: scores of true and of wrong objects, not empty. Looked at are -inf, the midpoints between neighbouring scores,
    and inf.
    """
    values = np.unique(np.concatenate([true, wrong]))
    middles = values[:-1] + np.diff(values) / 2
    # between neighbouring floats there is nothing: the upper one divides them as well
    cuts = np.concatenate([[-np.inf], np.where(middles > values[:-1], middles, values[1:]), [np.inf]])
    n_true, n_wrong = (len(part) - np.searchsorted(np.sort(part), cuts) for part in (true, wrong))
    # as whole numbers, so that ties are ties
    return float(cuts[np.argmax(n_true * len(wrong) - n_wrong * len(true))])


class _Questions(NamedTuple):
    """What one split asks, all relations together. scores: per detector, of true and wrong object (facts, 2)."""

    facts: np.ndarray
    is_test: np.ndarray
    scores: dict[str, np.ndarray]


class _Tests(NamedTuple):
    """The test facts of one split: their places among all facts tested, scores and verdicts (facts, 2)."""

    places: np.ndarray
    scores: np.ndarray
    is_accepted: np.ndarray


def _check_language(
    relations: Sequence[RelationScores], settings: CheckSettings, seed: int, resamples: int
) -> Iterator[dict]:
    """The lines of one model and language."""
    numbers = range(settings.splits)
    splits = [[(of, split) for of in relations if (split := of.facts.split(i, settings, seed))] for i in numbers]
    splits = [split for split in splits if split]
    n_used = len({of.facts.place for split in splits for of, _ in split})
    sizes = {"n_relations": n_used, "n_skipped": len(relations) - n_used}
    for name, reading in READINGS.items():
        questions = [_ask(split, reading.is_first) for split in splits]
        tested = np.unique(np.concatenate([np.zeros(0, dtype=str), *(of.facts[of.is_test] for of in questions)]))
        sizes |= {"n": len(tested), "n_tests": 2 * sum(int(of.is_test.sum()) for of in questions)}
        for detector in DETECTORS:
            cuts = [_threshold(of, detector, reading, settings) for of in questions]
            tests = [_test(of, detector, cut, tested) for of, cut in zip(questions, cuts, strict=True)]
            values = _intervals(tests, len(tested), seed, resamples)
            if reading.is_exchanged:
                values["precision"], values["recall"] = values["recall"], values["precision"]
            values["threshold"] = (_lower_median(cuts) if detector not in BINARY else np.nan, np.nan, np.nan)
            for statistic in STATISTICS:
                interval = dict(zip(("value", "lo", "hi"), values[statistic], strict=True))
                yield {"detector": detector, "reading": name, "statistic": statistic, **interval, **sizes}


def _ask(split: Sequence[tuple[RelationScores, Split]], is_first: bool) -> _Questions:
    parts = [of.ask(part, np.ones_like(part.drawn) if is_first else part.drawn) for of, part in split]
    facts = np.concatenate([of.facts.facts[part.facts] for of, part in split])
    is_test = np.concatenate([part.is_test for _, part in split])
    return _Questions(facts, is_test, {name: np.concatenate([part[name] for part in parts]) for name in DETECTORS})


def _threshold(questions: _Questions, detector: str, reading: CheckReading, settings: CheckSettings) -> float:
    """lambda; it never sees the test part."""
    if detector in BINARY:
        return 0.5
    return (
        settings.code_threshold
        if reading.is_fixed
        else choose_threshold(*questions.scores[detector][~questions.is_test].T)
    )


def _test(questions: _Questions, detector: str, threshold: float, tested: np.ndarray) -> _Tests:
    scores = questions.scores[detector][questions.is_test]
    return _Tests(np.searchsorted(tested, questions.facts[questions.is_test]), scores, scores >= threshold)


def _intervals(tests: Sequence[_Tests], n_facts: int, seed: int, resamples: int) -> dict[str, tuple]:
    """Each statistic's value and the ends of its interval."""
    if not n_facts:
        return dict.fromkeys(STATISTICS, (np.nan, np.nan, np.nan))
    # whole numbers: how often each fact is drawn
    drawn = np.rint(resample_weights(n_facts, resamples, seed) * n_facts)
    values, samples = _statistics(tests, np.ones((1, n_facts))), _statistics(tests, drawn)
    return {name: (float(values[name][0]), *_bounds(samples[name])) for name in values}


def _statistics(tests: Sequence[_Tests], drawn: Float[np.ndarray, "resample fact"]) -> dict[str, np.ndarray]:
    """The statistics of each resample, from how often it draws each fact."""
    n_asked, accepted, n_pairs, n_right = 0.0, 0.0, 0.0, 0.0
    for test in tests:
        weights = drawn[:, test.places]
        n_asked = n_asked + weights.sum(axis=1)
        accepted = accepted + weights @ test.is_accepted.astype(float)  # (resamples, 2)
        n_pairs = n_pairs + weights.sum(axis=1) ** 2
        n_right = n_right + _ordered_pairs(test.scores, weights)
    true, wrong = accepted.T
    with np.errstate(invalid="ignore"):
        precision = true / (true + wrong)
    return {
        "precision": precision,
        "recall": true / n_asked,
        "f1": 2 * true / (true + wrong + n_asked),
        "balanced_accuracy": (n_asked + true - wrong) / (2 * n_asked),
        "auroc": n_right / n_pairs,
        "true_accepted": true / n_asked,
        "wrong_accepted": wrong / n_asked,
    }


def _ordered_pairs(scores: Float[np.ndarray, "fact 2"], weights: np.ndarray) -> Float[np.ndarray, " resample"]:
    """Pairs of a true object and a wrong one with a smaller score, in each resample; equal scores count half."""
    true, wrong = scores.T
    order = np.argsort(wrong, kind="stable")
    below = np.cumsum(np.pad(weights[:, order], ((0, 0), (1, 0))), axis=1)
    n_less, n_most = (below[:, np.searchsorted(wrong[order], true, side)] for side in ("left", "right"))
    return (weights * (n_less + n_most)).sum(axis=1) / 2


def _bounds(samples: Float[np.ndarray, " resample"]) -> tuple[float, float]:
    known = samples[~np.isnan(samples)]
    if not len(known):
        return np.nan, np.nan
    lo, hi = np.percentile(known, [50 * (1 - LEVEL), 50 * (1 + LEVEL)], method="nearest")
    return float(lo), float(hi)


def _lower_median(cuts: Sequence[float]) -> float:
    """The median, of an even number the lower of the two in the middle: thresholds may be infinite."""
    return sorted(cuts)[(len(cuts) - 1) // 2] if cuts else np.nan
