"""Tests of two treatments of the same facts: means as by sign flips, ratios against a loop over all exchanges."""

from itertools import product

import numpy as np
import pytest

from knatlas.statistics.bootstrap import bootstrap_mean, bootstrap_ratio
from knatlas.statistics.paired_tests import Paired, paired_test
from knatlas.statistics.permutation import sign_flip


def ratio(means):
    """The mean of the first column over that of the second."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return means[:, 0] / means[:, 1]


def paired(one, other, statistic=ratio):
    return Paired(np.array(one, dtype=float), np.array(other, dtype=float), statistic)


def by_loop(test):
    """p over all exchanges, one by one, each statistic from the means of the numbers that are there."""
    distances = []
    for is_swapped in product([False, True], repeat=len(test.one)):
        is_swapped = np.array(is_swapped)[:, None]
        sides = np.where(is_swapped, test.other, test.one), np.where(is_swapped, test.one, test.other)
        first, second = (test.statistic(np.nanmean(side, axis=0)[None])[0] for side in sides)
        distances.append(abs(first - second))
    return np.mean(np.array(distances) >= distances[0] * (1 - 1e-9))


@pytest.mark.parametrize(("n_facts", "permutations"), [(1, 999), (7, 999), (12, 999), (40, 999)])
def test_a_mean_has_the_p_of_sign_flips_and_the_interval_of_its_differences(n_facts, permutations):
    random = np.random.default_rng(n_facts)
    one, other = random.normal(0.4, 1, (2, n_facts, 1))
    test = paired_test(paired(one, other, np.ravel), 3, 200, permutations)
    flips = sign_flip((one - other).ravel(), 3, permutations)
    assert (test.n, test.n_nonzero, test.method) == (n_facts, n_facts, flips.method)
    error = 0.0 if flips.is_exact else 4 * np.sqrt(2 * flips.p * (1 - flips.p) / permutations)
    assert test.p == pytest.approx(flips.p, rel=0, abs=error)
    assert test[:4] == pytest.approx(bootstrap_mean((one - other).ravel(), 3, 200))


def test_a_ratio_by_hand():
    # 3 / 1 against 1 / 1; with the first fact exchanged 2 / 1 against 2 / 1, with the second 2 against 2 too
    test = paired_test(paired([[4, 1], [2, 1]], [[2, 1], [0, 1]]))
    assert (test.value, test.p, test.n, test.n_nonzero, test.method) == (2.0, 2 / 4, 2, 2, "exact 4")


@pytest.mark.parametrize("seed", range(4))
def test_all_exchanges_are_those_of_a_loop_also_where_numbers_are_missing(seed):
    random = np.random.default_rng(seed)
    one, other = random.uniform(0.2, 2, (2, 7, 2))
    one[0, 1] = other[3, 0] = other[3, 1] = np.nan
    other[5] = one[5]
    test = paired(one, other)
    found = paired_test(test)
    assert found.p == by_loop(test)
    assert (found.n, found.n_nonzero, found.method) == (7, 6, "exact 64")
    assert found.value == pytest.approx(ratio(np.nanmean(one, 0)[None])[0] - ratio(np.nanmean(other, 0)[None])[0])


def test_a_fact_without_any_number_does_not_count():
    one, other = np.random.default_rng(5).uniform(1, 2, (2, 5, 2))
    gaps = np.full((2, 2), np.nan)
    assert paired_test(paired(np.vstack([gaps, one]), np.vstack([gaps, other]))) == paired_test(paired(one, other))


def test_the_interval_draws_a_fact_with_both_treatments():
    one = np.random.default_rng(2).uniform(0.5, 2, (9, 2))
    # the ratio is the same number less in every resample
    both = paired_test(paired(one, np.stack([one[:, 0] - 0.3 * one[:, 1], one[:, 1]], axis=1)), resamples=200)
    assert both[:3] == pytest.approx((0.3, 0.3, 0.3))
    # against a constant the interval is that of the ratio
    against_one = paired_test(paired(one, np.ones((9, 2))), resamples=200)
    expected = bootstrap_ratio(one[:, 0], one[:, 1], resamples=200)
    assert [part + 1 for part in against_one[:3]] == pytest.approx(expected[:3])


def test_under_the_null_p_is_at_most_alpha_in_a_share_alpha_of_all_cases():
    parts = np.random.default_rng(8).uniform(0.2, 3, (2, 6, 2))
    p = []
    for is_swapped in product([False, True], repeat=6):
        sides = np.where(np.array(is_swapped)[:, None], parts[::-1], parts)
        p.append(paired_test(paired(*sides), resamples=10).p)
    for alpha in (0.05, 0.1, 0.25, 0.5):
        assert (np.array(p) <= alpha).mean() <= alpha
    assert min(p) == 2 / 64


def test_a_planted_effect_is_found_and_none_where_there_is_none():
    random = np.random.default_rng(4)
    p = {shift: [] for shift in (0.0, 1.0)}
    for shift, found in p.items():
        for seed in range(30):
            one, other = random.uniform(0.5, 1.5, (2, 16, 2))
            found.append(paired_test(paired(one + np.array([shift, 0]), other), seed, 10, 499).p)
    assert max(p[1.0]) <= 0.02
    assert np.mean(np.array(p[0.0]) < 0.05) <= 0.15 and 0.35 < np.mean(p[0.0]) < 0.65


def test_treatments_that_do_the_same_do_not_differ_and_rounding_breaks_no_tie():
    same = np.random.default_rng(6).uniform(1, 2, (20, 2))
    test = paired_test(paired(same, same))
    assert (test.value, test.lo, test.hi, test.p, test.n_nonzero, test.method) == (0, 0, 0, 1, 0, "exact 1")
    noisy = same * (1 + 1e-9 * np.random.default_rng(7).normal(size=same.shape))
    one = np.vstack([same, [[2.0, 1.0]] * 3])
    other = [np.vstack([part, [[1.0, 1.0]] * 3]) for part in (same, noisy)]
    # three facts decide: all or none of them exchanged
    assert paired_test(paired(one, other[0])).p == 2 / 8
    assert paired_test(paired(one, other[1]), permutations=1999).p == pytest.approx(2 / 8, abs=0.04)


def test_a_statistic_that_is_not_defined_has_no_p_and_one_that_is_infinite_has():
    undefined = paired_test(paired([[0, 0], [0, 0]], [[1, 1], [2, 1]]))
    assert np.isnan(undefined.value) and np.isnan(undefined.p) and undefined.n == 2
    infinite = paired_test(paired([[1, 0], [1, 0]], [[1, 1], [2, 1]]))
    # an exchange of one fact gives finite ratios on both sides
    assert (infinite.value, infinite.p) == (np.inf, 2 / 4)
    # both infinite in every case: no difference is defined
    assert np.isnan(paired_test(paired([[1, 0]], [[2, 0]])).p)
    # one fact has no ratio of its own: the exchange that leaves 0 / 0 counts as far
    assert paired_test(paired([[4, 1], [0, 0]], [[0, 0], [2, 1]])).p == 1.0


def test_no_facts_give_no_test():
    test = paired_test(paired(np.empty((0, 2)), np.empty((0, 2))))
    assert np.isnan([test.value, test.lo, test.hi, test.p]).all() and (test.n, test.n_nonzero) == (0, 0)
