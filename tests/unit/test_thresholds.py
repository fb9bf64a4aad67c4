"""Thresholds relative to the maximum: strict, empty where nothing is positive, guarded against neutral neurons."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from knatlas.errors import AtlasError
from knatlas.selection.thresholds import (
    NONE_LEFT_OUT,
    Choice,
    choose_above,
    choose_more_than,
    describe,
    intersect,
    not_searched,
)

SCORES = np.array([[1.0, 0.5, 0.25], [0.6, -1.0, 0.0]])


def chosen(choice):
    return list(zip(*(axis.tolist() for axis in np.nonzero(choice.is_chosen)), strict=True))


def test_neurons_above_a_share_of_the_maximum_are_chosen():
    choice = choose_above(SCORES, 0.4, NONE_LEFT_OUT)
    assert chosen(choice) == [(0, 0), (0, 1), (1, 0)]
    assert (choice.max_score, choice.threshold, choice.sentence) == (1.0, 0.4, "")


def test_a_neuron_at_the_threshold_stays_out():
    assert chosen(choose_above(SCORES, 0.5, NONE_LEFT_OUT)) == [(0, 0), (1, 0)]
    assert chosen(choose_more_than(SCORES, 0.5, NONE_LEFT_OUT)) == [(0, 0), (1, 0)]


def test_tied_maxima_are_chosen_together():
    assert chosen(choose_above(np.array([[2.0, 2.0, 1.0]]), 0.5, NONE_LEFT_OUT)) == [(0, 0), (0, 1)]


@pytest.mark.parametrize("scores", [np.zeros((2, 3)), -np.ones((2, 3))])
def test_without_a_positive_score_the_set_is_empty_and_says_so(scores):
    choice = choose_above(scores, 0.3, NONE_LEFT_OUT)
    assert chosen(choice) == []
    assert "no neuron has a positive score" in choice.sentence
    summary = describe(choice)
    assert (summary["n_neurons"], summary["is_empty"], summary["max_score"]) == (0, True, scores.max())
    assert np.isnan(summary["threshold"])


POSITIVE = arrays(np.float64, (2, 5), elements=st.floats(-1, 1, allow_nan=False, width=32))
SHARES = st.floats(0.01, 0.99)


@given(POSITIVE, SHARES, SHARES, st.floats(0, 1), st.sampled_from(["raise_threshold", "off"]))
def test_selection_shrinks_when_tau_grows(scores, one, other, neutral, guard):
    few = choose_above(scores, max(one, other), NONE_LEFT_OUT, neutral, guard)
    many = choose_above(scores, min(one, other), NONE_LEFT_OUT, neutral, guard)
    assert not (few.is_chosen & ~many.is_chosen).any()


def test_guard_raises_the_threshold_to_the_neutral_level():
    choice = choose_above(np.array([[1.0, 0.5, 0.4, 0.4, 0.41]]), 0.3, NONE_LEFT_OUT, neutral=0.4)
    assert chosen(choice) == [(0, 0), (0, 1), (0, 4)]
    assert choice.threshold == pytest.approx(0.4) and choice.neutral_level == 0.4
    assert "was raised" in choice.sentence


def test_guard_leaves_a_threshold_above_the_neutral_level_alone():
    choice = choose_above(SCORES, 0.5, NONE_LEFT_OUT, neutral=0.4)
    assert (choice.threshold, choice.sentence) == (0.5, "")


def test_guard_off_selects_nearly_everything():
    assert choose_above(np.array([[1.0, 0.4, 0.4]]), 0.3, NONE_LEFT_OUT, neutral=0.4, guard="off").is_chosen.all()


def test_guard_stop_names_the_place_and_the_remedies():
    with pytest.raises(AtlasError, match=r"fact P36:FR>Paris: the threshold 0\.3 .* score 0\.4 .* eq9_floor 'zero'"):
        choose_above(np.array([[1.0, 0.4]]), 0.3, NONE_LEFT_OUT, neutral=0.4, guard="stop", where="fact P36:FR>Paris")


def test_intersection_keeps_what_is_in_every_set_with_the_mean_score():
    one, other = choose_above(SCORES, 0.4, NONE_LEFT_OUT), choose_above(np.flip(SCORES, axis=1), 0.4, NONE_LEFT_OUT)
    both = intersect([one, other])
    assert chosen(both) == [(0, 1)]
    np.testing.assert_array_equal(both.scores, [[0.625, 0.5, 0.625], [0.3, -1.0, 0.3]])
    assert np.isnan(both.threshold)


def test_intersection_keeps_the_sentences():
    assert (
        "no neuron"
        in intersect(
            [choose_above(SCORES, 0.4, NONE_LEFT_OUT), choose_above(-np.ones((2, 3)), 0.4, NONE_LEFT_OUT)]
        ).sentence
    )


def test_a_fact_without_attribution_is_not_an_empty_set():
    summary = describe(not_searched((2, 3), "no attribution in fi"))
    assert (summary["is_empty"], summary["is_searched"], summary["sentence"]) == (True, False, "no attribution in fi")
    assert describe(Choice(np.zeros((2, 3), bool), SCORES))["is_searched"]
