"""Bootstrap intervals over facts: known cases, coverage, pairs, no data."""

import numpy as np
import pytest

from knatlas.errors import AtlasError
from knatlas.statistics.bootstrap import (
    LEVEL,
    NO_DATA,
    _median_ranks,
    bootstrap_mean,
    bootstrap_median,
    bootstrap_ratio,
    mean_over_facts,
    median_over_facts,
    percentile_interval,
    ratio_of_means,
    resample_weights,
)

VALUES = np.array([1.0, 2.0, 3.0, 10.0])
ONE_SAMPLE = [bootstrap_mean, bootstrap_median]


@pytest.mark.parametrize("bootstrap", ONE_SAMPLE)
@pytest.mark.parametrize("value", [0.1, -3.7, 0.0])
def test_equal_values_give_an_interval_of_no_width(bootstrap, value):
    assert bootstrap(np.full(7, value)) == (value, value, value, 7)


@pytest.mark.parametrize("bootstrap", ONE_SAMPLE)
def test_without_data_there_is_no_value_and_n_is_zero(bootstrap):
    for values in (np.array([]), np.array([np.nan, np.nan])):
        assert bootstrap(values) is NO_DATA
    assert np.isnan(NO_DATA[:3]).all() and NO_DATA.n == 0


def test_resamples_of_zeros_alone_have_no_ratio_and_do_not_count():
    above, below = np.array([0.1, 0.0, 0.0, 0.0]), np.array([0.3, 0.0, 0.0, 0.0])
    interval = bootstrap_ratio(above, below)  # a third of all resamples has no fact with anything
    assert interval.lo == pytest.approx(1 / 3) and interval.hi == pytest.approx(1 / 3)


def test_values_are_those_of_the_sample():
    assert bootstrap_mean(VALUES).value == mean_over_facts(VALUES) == 4.0
    assert bootstrap_median(VALUES).value == median_over_facts(VALUES) == 2.5
    assert bootstrap_ratio(VALUES, [2.0, 2.0, 2.0, 2.0]).value == ratio_of_means(VALUES, [2.0, 2.0, 2.0, 2.0]) == 2.0


def test_facts_without_a_value_are_left_out():
    with_gap = np.append(VALUES, np.nan)
    assert bootstrap_mean(with_gap) == bootstrap_mean(VALUES)
    assert bootstrap_mean(with_gap).n == 4
    ratio = bootstrap_ratio([1.0, np.nan, 3.0], [1.0, 5.0, np.nan])
    assert (ratio.value, ratio.n) == (1.0, 1)


def test_the_interval_depends_on_the_seed_alone():
    values = np.random.default_rng(0).normal(size=60)
    assert bootstrap_mean(values, seed=3) == bootstrap_mean(values, seed=3)
    assert bootstrap_mean(values, seed=3) != bootstrap_mean(values, seed=4)


def test_mean_interval_is_that_of_explicit_resampling():
    values, n = np.random.default_rng(1).exponential(size=40), 40
    means = values[np.random.default_rng(9).integers(0, n, size=(2000, n))].mean(axis=1)
    found = bootstrap_mean(values, seed=9)
    assert (found.lo, found.hi) == pytest.approx(tuple(np.percentile(means, [2.5, 97.5], method="nearest")))


@pytest.mark.parametrize("n", [1, 2, 5, 6, 31])
def test_medians_are_distributed_as_those_of_explicit_resamples(n):
    values = np.arange(float(n))
    random, many = np.random.default_rng(2), 40_000
    explicit = np.median(values[random.integers(0, n, size=(many, n))], axis=1)
    direct = values[_median_ranks(n, many, 3)].mean(axis=0)
    steps = np.arange(-0.25, n, 0.5)
    share_explicit, share_direct = ((part[:, None] <= steps).mean(axis=0) for part in (explicit, direct))
    assert np.abs(share_explicit - share_direct).max() < 0.015  # four standard errors


def coverage(bootstrap, truth, n_facts, n_samples=400):
    random = np.random.default_rng(11)
    intervals = [bootstrap(random.normal(size=n_facts)) for _ in range(n_samples)]
    return np.mean([interval.lo <= truth <= interval.hi for interval in intervals])


@pytest.mark.parametrize("bootstrap", ONE_SAMPLE)
def test_intervals_cover_the_truth_in_95_percent_of_samples(bootstrap):
    assert 0.92 <= coverage(lambda values: bootstrap(values, resamples=1000), 0.0, 80) <= 0.98


def test_ratio_of_paired_means():
    below = np.random.default_rng(4).uniform(1.0, 9.0, size=50)
    exact = bootstrap_ratio(-3.0 * below, below)
    assert exact[:3] == pytest.approx((-3.0, -3.0, -3.0))  # pairs are kept together, so nothing varies
    absolute = bootstrap_ratio(-3.0 * below, below, is_absolute=True)
    assert absolute[:3] == pytest.approx((3.0, 3.0, 3.0))
    shuffled = bootstrap_ratio(-3.0 * np.roll(below, 1), below)
    assert shuffled.value == pytest.approx(-3.0) and shuffled.hi - shuffled.lo > 0.2


def test_ratio_is_one_of_means_and_not_a_mean_of_ratios():
    assert bootstrap_ratio([1.0, 1.0], [1.0, 3.0]).value == 0.5


def test_nothing_below_a_ratio():
    assert bootstrap_ratio([1.0, 2.0], [0.0, 0.0]) == (np.inf, np.inf, np.inf, 2)
    nothing = bootstrap_ratio([0.0, 0.0], [0.0, 0.0])
    assert np.isnan(nothing[:3]).all() and nothing.n == 2
    assert bootstrap_ratio([], []) is NO_DATA


def test_columns_of_different_length_can_not_be_paired():
    with pytest.raises(AtlasError, match="columns of 2 and 3 facts"):
        bootstrap_ratio([1.0, 2.0], [1.0, 2.0, 3.0])


def test_every_resample_draws_as_many_facts_as_there_are():
    weights = resample_weights(9, 50, 0)
    assert weights.shape == (50, 9)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)


@pytest.mark.parametrize("n", [1, 2, 20, 21, 41, 1999, 2000])
def test_ends_of_an_interval_are_the_nearest_percentiles(n):
    values = np.random.default_rng(n).normal(size=n)
    found = percentile_interval(0.0, values, 5)
    nearest = np.percentile(values, [50 * (1 - LEVEL), 50 * (1 + LEVEL)], method="nearest")
    assert (found.lo, found.hi) == tuple(nearest)


def test_weights_of_resamples_are_kept_whole():
    for n in (5, 500):  # few facts, and so many that fewer of such tables are kept
        weights = resample_weights(n, 1000, 0)
        assert weights is resample_weights(n, 1000, 0)
        assert weights.shape == (1000, n) and np.allclose(weights.sum(axis=1), 1)
        with pytest.raises(ValueError, match="read-only"):
            weights[0, 0] = 1.0
