"""From the scores of one fact to a set of neurons: thresholds relative to the maximum, and intersections."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from knatlas.errors import AtlasError
from knatlas.selection.uncertainty import high_percentile

NO_POSITIVE = "no neuron has a positive score, so the set is empty"
# normalised scores lie in [0, 1]; the margin is far above their rounding and far below any difference that matters
ROUNDING_MARGIN = 1e-12


@dataclass(frozen=True)
class Choice:
    """Which neurons of one fact were chosen, by which scores, and what is worth telling about it.

    Fields that don't apply are NaN. `is_searched` is False when the fact has no attribution to choose from.
    """

    is_chosen: Bool[np.ndarray, "layer neuron"]
    scores: Float[np.ndarray, "layer neuron"]
    max_score: float = np.nan
    threshold: float = np.nan
    neutral_level: float = np.nan
    sentence: str = ""
    is_searched: bool = True


def choose_above(
    scores: Float[np.ndarray, "layer neuron"],
    tau: float,
    neutral: float = np.nan,
    guard: str = "raise_threshold",
    where: str = "",
) -> Choice:
    """Neurons with score > T, T = tau * (largest score over all layers): strict, so ties with T stay out.

    When no score is positive the set is empty, since tau * max would lie above the maximum. When T does not lie above
    `neutral`, the score of a neuron without attribution, the guard acts: `raise_threshold` takes T = neutral, `stop`
    raises AtlasError (which names `where`), `off` does nothing.
    """
    largest = float(scores.max())
    if largest <= 0:
        return Choice(np.zeros(scores.shape, bool), scores, largest, neutral_level=neutral, sentence=NO_POSITIVE)
    threshold, sentence = tau * largest, ""
    if threshold <= neutral + ROUNDING_MARGIN and guard != "off":
        sentence = _guard_sentence(threshold, neutral, guard, where)
        threshold = neutral + ROUNDING_MARGIN
    return Choice(scores > threshold, scores, largest, threshold, neutral, sentence)


def choose_more_than(scores: Float[np.ndarray, "layer neuron"], threshold: float) -> Choice:
    """Neurons with score > threshold, a given number."""
    return Choice(scores > threshold, scores, float(scores.max()), threshold)


def intersect(choices: Sequence[Choice]) -> Choice:
    """Neurons that are in every choice (Eq. 8 of AMIG); their score is the mean of their scores."""
    sentences = sorted({choice.sentence for choice in choices} - {""})
    return Choice(
        np.logical_and.reduce([choice.is_chosen for choice in choices]),
        np.mean([choice.scores for choice in choices], axis=0),
        sentence="; ".join(sentences),
    )


def not_searched(shape: tuple[int, int], sentence: str) -> Choice:
    """The empty choice for a fact that has no attribution."""
    return Choice(np.zeros(shape, bool), np.zeros(shape), sentence=sentence, is_searched=False)


def describe(choice: Choice) -> dict:
    """What the summary of a selection says about one choice."""
    n_neurons = int(choice.is_chosen.sum())
    return {
        "n_neurons": n_neurons,
        "max_score": choice.max_score,
        "percentile_999": high_percentile(choice.scores) if np.isfinite(choice.max_score) else np.nan,
        "threshold": choice.threshold,
        "neutral_level": choice.neutral_level,
        "is_empty": n_neurons == 0,
        "is_searched": choice.is_searched,
        "sentence": choice.sentence,
    }


def _guard_sentence(threshold: float, neutral: float, guard: str, where: str) -> str:
    sentence = (
        f"the threshold {threshold:.4g} does not lie above the score {neutral:.4g} of a neuron without attribution"
    )
    if guard == "stop":
        remedy = "take eq9_floor 'zero', a larger tau, or guard 'raise_threshold'"
        raise AtlasError(f"{where}: {sentence}, so nearly all neurons would be selected; {remedy}")
    return f"{sentence}, and was raised to it"
