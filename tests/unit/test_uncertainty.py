"""Uncertainty over queries and languages: Eqs. 6-11 of MATRICE by hand, and the two readings of Eq. 9."""

import numpy as np
import pytest

from knatlas.selection.uncertainty import (
    high_percentile,
    language_uncertainty,
    neutral_level,
    normalise,
    query_uncertainty,
)

# two languages, one layer, three neurons
SCORES = np.array([[[4.0, 2.0, -4.0]], [[1.0, 1.0, 0.0]]])


def test_query_uncertainty_is_the_weighted_mean_minus_the_weighted_spread():
    queries = np.array([[1.0, 0.0], [3.0, 0.0]])  # two queries, two neurons
    mean, std = queries.mean(axis=0), queries.std(axis=0)
    np.testing.assert_array_equal(query_uncertainty(mean, std), [1.0, 0.0])  # 2 - 1, and 0 - 0
    np.testing.assert_array_equal(query_uncertainty(mean, std, alpha1=2.0, alpha2=0.5), [3.5, 0.0])


def test_normalise_per_language_with_negatives_clipped():
    np.testing.assert_array_equal(normalise(SCORES), [[[1.0, 0.5, 0.0]], [[1.0, 1.0, 0.0]]])


def test_normalise_per_language_with_the_minimum_as_floor():
    np.testing.assert_array_equal(normalise(SCORES, floor="min"), [[[1.0, 0.75, 0.0]], [[1.0, 1.0, 0.0]]])


def test_normalise_per_neuron_as_printed():
    printed = normalise(SCORES, axis="neuron", floor="min")
    np.testing.assert_array_equal(printed, [[[1.0, 1.0, 0.0]], [[0.0, 0.0, 1.0]]])


@pytest.mark.parametrize("axis", ["language", "neuron"])
def test_nothing_over_nothing_is_zero(axis):
    np.testing.assert_array_equal(normalise(np.full((2, 1, 3), 0.25), axis=axis, floor="min"), np.zeros((2, 1, 3)))


def test_language_uncertainty_by_hand():
    # neuron 1: normalised .5 and 1, so mean .75 and population standard deviation .25
    np.testing.assert_array_equal(language_uncertainty(SCORES), [[1.0, 0.5, 0.0]])
    np.testing.assert_array_equal(language_uncertainty(SCORES, beta1=2.0, beta2=1.0), [[2.0, 1.25, 0.0]])


def test_one_language_has_no_spread():
    np.testing.assert_array_equal(language_uncertainty(SCORES[:1]), [[1.0, 0.5, 0.0]])


def test_neutral_level_by_hand():
    # floor min: 0 lies at 4/8 in the first language, at 0/1 in the second: mean .25, standard deviation .25
    assert neutral_level(SCORES, floor="min") == 0.0
    assert neutral_level(SCORES, beta2=0.0, floor="min") == 0.25
    assert neutral_level(SCORES, floor="zero") == 0.0
    assert neutral_level(SCORES, axis="neuron", floor="min") == 0.0


@pytest.mark.parametrize("n_languages", [1, 2, 7, 11])
def test_neutral_level_is_the_score_of_a_neuron_without_attribution(n_languages):
    scores = np.random.default_rng(n_languages).normal(size=(n_languages, 2, 30))
    scores[:, 1, 7] = 0.0
    for floor in ("zero", "min"):
        assert neutral_level(scores, floor=floor) == pytest.approx(
            language_uncertainty(scores, floor=floor)[1, 7], abs=1e-14
        )


def test_printed_axis_gives_every_neuron_the_same_score_when_there_are_two_languages():
    scores = np.random.default_rng(0).normal(size=(2, 3, 50))
    same = language_uncertainty(scores, beta1=1.0, beta2=0.5, axis="neuron", floor="min")
    np.testing.assert_allclose(same, np.full((3, 50), 0.25), atol=1e-15)  # (beta1 - beta2) / 2


def planted_scores():
    """Seven languages of noise, with 30 neurons that are large in all of them."""
    random = np.random.default_rng(1)
    scores = random.normal(0, 0.01, size=(7, 10, 500))
    planted = random.choice(5000, size=30, replace=False)
    scores.reshape(7, -1)[:, planted] += random.uniform(0.5, 1.0, size=(7, 30))
    return scores, set(planted.tolist())


def top(scores, n):
    return set(np.argsort(-scores.ravel(), kind="stable")[:n].tolist())


def test_planted_neurons_are_the_top_per_language():
    scores, planted = planted_scores()
    assert top(language_uncertainty(scores), 30) == planted


def test_planted_neurons_are_lost_with_the_printed_axis():
    scores, planted = planted_scores()
    assert top(language_uncertainty(scores, axis="neuron", floor="min"), 30) & planted == set()


def test_high_percentile_is_far_below_a_single_outlier():
    scores = np.zeros((1, 10_001))
    scores[0, 0] = 1.0
    assert high_percentile(scores) == 0.0
    assert high_percentile(np.arange(1001.0)) == pytest.approx(999.0)
