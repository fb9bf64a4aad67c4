"""The variants of MATRICE's ablation (Table II) with as many neurons per fact as the full method selects.

A variant and the full method select different numbers of neurons, and more neurons change an answer more. Here a
variant's scores say which neurons, and the full method says how many. Entered into the registry of selections.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from knatlas.selection import recipes
from knatlas.selection.certificates import LeftOut
from knatlas.selection.neuron_set import ALL
from knatlas.selection.recipes import Choices, recipe
from knatlas.selection.scores import Scores
from knatlas.selection.thresholds import ROUNDING_MARGIN, Choice

Block = Float[np.ndarray, "language layer neuron"]


@recipe("matrice_without_query_uncertainty_matched", is_per_language=False)
def choose_without_query_uncertainty_matched(scores: Scores, settings: Mapping, i: int) -> Choices:
    """The neurons of the largest S from the first queries alone, as many as MATRICE selects."""
    without_guard = {**settings, "matrice": {**settings["matrice"], "guard": "off"}}  # no threshold is taken here
    variant = recipes.choose_without_query_uncertainty(scores, without_guard, i)[ALL]
    return _as_many(variant, scores, settings, i)


@recipe("matrice_without_language_uncertainty_matched", is_per_language=False)
def choose_without_language_uncertainty_matched(scores: Scores, settings: Mapping, i: int) -> Choices:
    """The neurons of the largest min over languages of s / max s, as many as MATRICE selects.

    A neuron is in the intersection of the languages' sets at threshold tau when this number lies above tau.
    """
    variant = recipes.choose_without_language_uncertainty(scores, settings, i)[ALL]
    if variant.is_searched:
        block, left_out = recipes.over_queries_of(scores, settings, i)
        is_present = ~np.isnan(block[:, 0, 0])
        left_out = left_out and left_out.of_languages(is_present)
        level = scores.without_unknown(smallest_share(block[is_present]), i)
        bound = _bound_of_share(block[is_present], left_out)
        variant = replace(variant, scores=level, max_score=float(level.max()), highest_left_out=bound)
    return _as_many(variant, scores, settings, i)


def smallest_share(block: Block) -> Float[np.ndarray, "layer neuron"]:
    """Minimum over languages of score / (largest score of the language), at most 1.

    Where a language has no positive score no neuron is in all sets at any threshold: all zeros then.
    """
    largest = block.max(axis=(1, 2), keepdims=True)
    if (largest <= 0).any():
        return np.zeros(block.shape[1:])
    return (block / largest).min(axis=0)


def _bound_of_share(block: Block, left_out: LeftOut | None) -> float:
    """An upper bound of `smallest_share` over the neurons left out; infinite where one may be a language's largest."""
    if left_out is None:
        return -np.inf
    largest = block.max(axis=(1, 2))
    if (left_out.highest > np.maximum(largest, 0.0)).any():
        return np.inf
    if (largest <= 0).any():
        return 0.0
    return float((left_out.highest / largest).min() + ROUNDING_MARGIN)


def _as_many(variant: Choice, scores: Scores, settings: Mapping, i: int) -> Choices:
    full = recipes.choose_matrice(scores, settings, i)[ALL]
    if not (full.is_searched and variant.is_searched):
        return {ALL: full if variant.is_searched else variant}
    neutral = variant.neutral_level if settings["matrice"]["guard"] != "off" else np.nan
    return {ALL: choose_highest(variant, int(full.is_chosen.sum()), neutral, full.is_certified)}


def choose_highest(scored: Choice, n: int, neutral: float = np.nan, is_n_certain: bool = True) -> Choice:
    """The n neurons of the largest scores of a choice, ties in the order of layer and index; its own set is forgotten.

    Only scores above 0, and above `neutral` where it is given (the score of a neuron without attribution): where there
    are fewer than n, fewer are chosen, and the sentence says so. Certified when n is certain and no score left out
    (at most `scored.highest_left_out`) can reach the lowest that was chosen, or, where too few were, the floor.
    """
    floor = max(0.0, np.nan_to_num(neutral)) + ROUNDING_MARGIN
    values = scored.scores.ravel()
    order = np.argsort(-values, kind="stable")[:n]
    order = order[values[order] > floor]
    is_chosen = np.zeros(values.shape, bool)
    is_chosen[order] = True
    sentences, is_closed = [scored.sentence], n == 0 or scored.highest_left_out <= floor
    if len(order) < n:
        sentences.append(f"only {len(order)} of {n} neurons have a score above that of a neuron without attribution")
    elif n > 0:
        is_closed = scored.highest_left_out < values[order[-1]]
    return replace(
        scored,
        is_chosen=is_chosen.reshape(scored.scores.shape),
        threshold=np.nan,
        # where none is asked for it decides nothing, and candidates that certify the empty set may not know it
        neutral_level=scored.neutral_level if n else np.nan,
        sentence="; ".join(filter(None, sentences)),
        is_certified=bool(is_n_certain and is_closed),
    )
