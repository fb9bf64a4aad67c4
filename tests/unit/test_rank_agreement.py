"""Rank correlation, precision at k and areas: against scipy, by hand, and unbiased where neurons are sampled."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from knatlas.selection.neuron_sample import best_ranks, every_neuron, stratified_sample
from knatlas.statistics.rank_agreement import (
    area_over_log_size,
    membership,
    precision_at,
    rank_correlation,
    weighted_ranks,
)

SHAPE = (4, 150)


def population(seed=0):
    """Scores of two methods and effects (layers, neurons) with few large values, in part of rank by the scores."""
    random = np.random.default_rng(seed)
    effects = random.standard_t(2, SHAPE)
    return [effects + random.standard_t(2, SHAPE) for _ in range(2)], effects


@pytest.mark.parametrize("n_values", [1000, 7])
def test_with_every_neuron_it_is_scipys_spearman_ties_or_none(n_values):
    random = np.random.default_rng(n_values)
    scores, effects = random.integers(n_values, size=(2, 80)).astype(float)
    effects += scores
    everything = (np.arange(80), effects, np.ones(80))
    assert rank_correlation(scores, *everything) == pytest.approx(spearmanr(scores, effects).statistic, abs=1e-12)


def test_a_neuron_of_weight_three_ranks_as_three_equal_ones():
    values, weights = np.array([5.0, 1.0, 5.0, 2.0]), np.array([3.0, 1.0, 1.0, 2.0])
    whole = np.repeat(values, weights.astype(int))
    ranks = weighted_ranks(whole, np.ones(len(whole)))
    of_value = dict(zip(whole.tolist(), ranks.tolist(), strict=True))
    assert weighted_ranks(values, weights).tolist() == [of_value[value] for value in values]


def test_equal_scores_or_effects_have_no_correlation():
    assert np.isnan(rank_correlation(np.zeros(3), np.arange(3), np.arange(3.0), np.ones(3)))


def test_membership_shares_the_edge_among_ties():
    assert membership(np.array([3.0, 1.0, 1.0, 1.0, 0.0]), np.ones(5), 2).tolist() == pytest.approx(
        [1, 1 / 3, 1 / 3, 1 / 3, 0]
    )
    # the second stands for four neurons, of which one is among the two largest
    assert membership(np.array([3.0, 2.0]), np.array([1.0, 4.0]), 2).tolist() == pytest.approx([1, 0.25])


def test_precision_by_hand():
    scores, effects = np.array([4.0, 3.0, 2.0, 1.0]), np.array([9.0, 0.0, 8.0, -5.0])
    everything = (np.arange(4), effects, np.ones(4))
    assert [precision_at(k, scores, *everything) for k in (1, 2, 3)] == pytest.approx([1, 0.5, 1])
    assert precision_at(1, np.zeros(4), *everything) == pytest.approx(0.25)  # chance


def test_areas_by_hand():
    assert area_over_log_size(np.array([1, 10, 100]), np.array([0.0, 0.5, 1.0])) == pytest.approx(0.5)
    assert area_over_log_size(np.array([100, 1, 10]), np.array([1.0, 0.0, 1.0])) == pytest.approx(0.75)
    assert area_over_log_size(np.array([2, 7]), np.array([0.3, 0.3])) == pytest.approx(0.3)
    assert area_over_log_size(np.array([5]), np.array([0.4])) == pytest.approx(0.4)


def test_a_sample_has_the_best_of_every_method_and_stands_for_all():
    methods, _ = population()
    for seed in range(20):
        sample = stratified_sample(methods, 10, 60, np.random.default_rng(seed))
        best = np.flatnonzero(best_ranks(methods) < 10)
        assert set(best) <= set(sample.numbers.tolist())
        assert (sample.weights[np.isin(sample.numbers, best)] == 1).all()
        assert 70 <= len(sample.numbers) < 120 and sample.weights.sum() == pytest.approx(600)
        layers = np.bincount(sample.numbers // SHAPE[1], weights=sample.weights)
        np.testing.assert_allclose(layers, SHAPE[1])


def test_a_sample_as_large_as_the_model_is_the_model():
    methods, _ = population()
    sample, every = stratified_sample(methods, 10, 600, np.random.default_rng(0)), every_neuron(SHAPE)
    np.testing.assert_array_equal(sample.numbers, every.numbers)
    np.testing.assert_array_equal(sample.weights, every.weights)


def test_weighted_estimates_are_those_of_all_neurons_on_average_and_unweighted_ones_are_not():
    methods, effects = population()
    flat, truth = effects.ravel(), (np.arange(600), effects.ravel(), np.ones(600))
    exact = {name: make(*truth) for name, make in ESTIMATES.items()}
    draws = [stratified_sample(methods, 10, 60, np.random.default_rng(seed)) for seed in range(400)]
    for name, make in ESTIMATES.items():
        weighted = np.array([make(d.numbers, flat[d.numbers], d.weights) for d in draws])
        plain = np.array([make(d.numbers, flat[d.numbers], np.ones(len(d.numbers))) for d in draws])
        error = weighted.std() / np.sqrt(len(draws))
        assert abs(weighted.mean() - exact[name]) < 3 * error + 0.005
        assert abs(plain.mean() - exact[name]) > 2 * abs(weighted.mean() - exact[name])


SCORES = population()[0][0].ravel()
ESTIMATES = {
    "mean": lambda numbers, effects, weights: weights @ effects / weights.sum(),
    "spearman": lambda *sample: rank_correlation(SCORES, *sample),
    "precision": lambda *sample: precision_at(30, SCORES, *sample),
}
