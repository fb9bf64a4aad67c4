"""From the scores of one fact to a set of neurons: thresholds relative to the maximum, and intersections."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from knatlas.errors import AtlasError
from knatlas.selection.uncertainty import high_percentile

NO_POSITIVE = "no neuron has a positive score, so the set is empty"
UNCERTIFIED = "neurons that are no candidates may reach the threshold, so the set may not be that of all neurons"
# the bound of scores left out where none is: all neurons have theirs
NONE_LEFT_OUT = -np.inf
# normalised scores lie in [0, 1]; the margin is far above their rounding and far below any difference that matters
ROUNDING_MARGIN = 1e-12


@dataclass(frozen=True)
class Choice:
    """Which neurons of one fact were chosen, by which scores, and what is worth telling about it.

    Fields that don't apply are NaN. `is_searched` is False when the fact has no attribution to choose from.
    `highest_left_out` is an upper bound of the scores of neurons of which nothing else is known (no candidates); where
    it may lie above the threshold, the set is not certified: it may differ from that of all neurons' scores.
    """

    is_chosen: Bool[np.ndarray, "layer neuron"]
    scores: Float[np.ndarray, "layer neuron"]
    max_score: float = np.nan
    threshold: float = np.nan
    neutral_level: float = np.nan
    sentence: str = ""
    is_searched: bool = True
    highest_left_out: float = NONE_LEFT_OUT
    is_certified: bool = True


def choose_above(
    scores: Float[np.ndarray, "layer neuron"],
    tau: float,
    left_out: float,
    neutral: float = np.nan,
    guard: str = "raise_threshold",
    where: str = "",
) -> Choice:
    """Neurons with score > T, T = tau * (largest score over all layers): strict, so ties with T stay out.

    When no score is positive the set is empty, since tau * max would lie above the maximum. When T does not lie above
    `neutral`, the score of a neuron without attribution, the guard acts: `raise_threshold` takes T = neutral, `stop`
    raises AtlasError (which names `where`), `off` does nothing. `left_out` is an upper bound of scores that aren't
    among `scores`, `NONE_LEFT_OUT` where all are: it decides whether the set is certified.
    """
    largest, left_out = float(scores.max()), float(left_out)
    if largest <= 0:
        rest = {"neutral_level": neutral, "sentence": NO_POSITIVE, "highest_left_out": left_out}
        return Choice(np.zeros(scores.shape, bool), scores, largest, **rest, is_certified=left_out <= 0)
    threshold, sentence = tau * largest, ""
    if threshold <= neutral + ROUNDING_MARGIN and guard != "off":
        sentence = _guard_sentence(threshold, neutral, guard, where)
        threshold = neutral + ROUNDING_MARGIN
    rest = {"sentence": sentence, "highest_left_out": left_out, "is_certified": left_out <= threshold}
    return Choice(scores > threshold, scores, largest, threshold, neutral, **rest)


def choose_more_than(scores: Float[np.ndarray, "layer neuron"], threshold: float, left_out: float) -> Choice:
    """Neurons with score > threshold, a given number; `left_out` as in `choose_above`."""
    rest = {"highest_left_out": float(left_out), "is_certified": bool(left_out <= threshold)}
    return Choice(scores > threshold, scores, float(scores.max()), threshold, **rest)


def intersect(choices: Sequence[Choice]) -> Choice:
    """Neurons that are in every choice (Eq. 8 of AMIG); their score is the mean of their scores.

    Certified when every choice's maximum is certain and in one of them no neuron left out can be.
    """
    is_known = all(choice.highest_left_out <= max(choice.max_score, 0.0) for choice in choices)
    sentences = sorted({choice.sentence for choice in choices} - {""})
    return Choice(
        np.logical_and.reduce([choice.is_chosen for choice in choices]),
        np.mean([choice.scores for choice in choices], axis=0),
        sentence="; ".join(sentences),
        is_certified=is_known and any(choice.is_certified for choice in choices),
    )


def not_searched(shape: tuple[int, int], sentence: str) -> Choice:
    """The empty choice for a fact that has no attribution."""
    return Choice(np.zeros(shape, bool), np.zeros(shape), sentence=sentence, is_searched=False)


def describe(choice: Choice) -> dict:
    """What the summary of a selection says about one choice; NaN where neurons left out may decide a number."""
    n_neurons, is_one_score = int(choice.is_chosen.sum()), np.isfinite(choice.max_score)
    return {
        "n_neurons": n_neurons,
        "max_score": choice.max_score if choice.highest_left_out <= choice.max_score else np.nan,
        "percentile_999": high_percentile(choice.scores, choice.highest_left_out) if is_one_score else np.nan,
        "threshold": choice.threshold,
        "neutral_level": choice.neutral_level,
        "is_empty": n_neurons == 0,
        "is_searched": choice.is_searched,
        "is_certified": choice.is_certified,
        "sentence": "; ".join(filter(None, [choice.sentence, "" if choice.is_certified else UNCERTIFIED])),
    }


def _guard_sentence(threshold: float, neutral: float, guard: str, where: str) -> str:
    sentence = (
        f"the threshold {threshold:.4g} does not lie above the score {neutral:.4g} of a neuron without attribution"
    )
    if guard == "stop":
        remedy = "take eq9_floor 'zero', a larger tau, or guard 'raise_threshold'"
        raise AtlasError(f"{where}: {sentence}, so nearly all neurons would be selected; {remedy}")
    return f"{sentence}, and was raised to it"
