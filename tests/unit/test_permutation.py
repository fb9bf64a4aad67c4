"""Permutation tests by hand: all assignments of few signs, drawn ones beside them, ranks among draws, Holm."""

import numpy as np
import pandas as pd
import pytest

from knatlas.statistics.multiple_tests import holm, with_holm
from knatlas.statistics.permutation import all_signs, rank_p, rank_share, sign_flip


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([1, 2, 3], 2 / 8),  # sums 6 4 2 0 and their negatives: only 6 and -6 are as far as 6
        ([3, 2, -1], 4 / 8),  # 4, reached by 6 and 4 of either sign
        ([1, 1, -1], 1.0),
        ([-5.0], 1.0),
        ([2, 2, 2, 2, 2], 2 / 32),
        ([0.1, 0.2, 0.3], 2 / 8),  # 0.1 + 0.2 + 0.3 is rounded: a tie all the same
    ],
)
def test_exact_p_is_the_share_of_assignments_as_far_from_zero(differences, p):
    test = sign_flip(np.array(differences, float))
    assert test.p == p
    assert test.value == pytest.approx(np.mean(differences))
    assert (test.n, test.n_signs, test.method) == (len(differences), 2 ** len(differences), f"exact {test.n_signs}")


def test_the_sign_of_a_test_does_not_matter_and_zeros_change_no_p():
    given = np.array([0.5, -0.2, 0.9, 0.4])
    p = sign_flip(given).p
    assert sign_flip(-given).p == p
    with_zeros = sign_flip(np.array([*given, 0.0, 0.0, np.nan]))
    assert (with_zeros.p, with_zeros.n, with_zeros.n_nonzero) == (p, 6, 4)
    assert with_zeros.value == pytest.approx(1.6 / 6)


def test_nothing_changed_has_p_one_and_no_facts_have_none():
    assert sign_flip(np.zeros(30)).p == 1.0
    empty = sign_flip(np.array([np.nan]))
    assert np.isnan(empty.p)
    assert np.isnan(empty.value)
    assert empty.n == 0


def test_no_more_than_a_share_alpha_of_all_assignments_has_p_below_alpha():
    sizes = np.array([0.3, 1.1, 1.7, 2.9, 4.2, 0.8])
    p = np.array([sign_flip(sizes * signs).p for signs in all_signs(len(sizes))])
    for alpha in (0.05, 0.1, 0.25, 0.5):
        assert (p <= alpha).mean() <= alpha
    assert (p <= 2 / 64).mean() == 2 / 64  # the most extreme pair is reached


def test_drawn_signs_give_the_exact_p_within_their_error():
    differences = np.random.default_rng(3).normal(0.4, 1.0, size=12)
    exact, drawn = sign_flip(differences, permutations=4095), sign_flip(differences, permutations=4094)
    assert (exact.is_exact, drawn.is_exact, drawn.method) == (True, False, "drawn 4094")
    assert drawn.p == pytest.approx(exact.p, abs=4 * np.sqrt(exact.p * (1 - exact.p) / 4094))
    assert drawn.p == sign_flip(differences, permutations=4094).p
    assert drawn.p != sign_flip(differences, seed=1, permutations=4094).p


def test_p_of_drawn_signs_is_one_plus_k_over_one_plus_m():
    assert sign_flip(np.ones(60), permutations=999).p == 1 / 1000


def test_signs_that_are_not_kept_as_numbers_give_the_same_p(monkeypatch):
    differences = np.random.default_rng(5).normal(0.3, 1.0, size=18)
    kept = sign_flip(differences, permutations=5001)
    monkeypatch.setattr("knatlas.statistics.permutation.SMALL", 0)
    assert sign_flip(differences, permutations=5001) == kept


def test_rank_counts_draws_below_and_ties_as_half():
    found = np.array([5.0, 1.0, np.nan, 2.0])
    draws = np.array([[1.0, 2.0, 5.0], [3.0, 4.0, np.nan], [1.0, 1.0, 1.0], [np.nan] * 3])
    np.testing.assert_allclose(rank_share(found, draws), [2.5 / 3, 0.0, np.nan, np.nan])
    np.testing.assert_allclose(rank_p(found, draws), [2 / 4, 1.0, np.nan, np.nan])


def test_holm_of_a_textbook_example():
    # sorted: 0.005 x 4, 0.01 x 3, 0.03 x 2, 0.04 x 1, which may not lie below the one before
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])


def test_holm_is_at_most_one_and_does_not_count_tests_that_were_not_possible():
    np.testing.assert_allclose(holm(np.array([0.6, np.nan, 0.5])), [1.0, np.nan, 1.0])
    np.testing.assert_allclose(holm(np.array([np.nan, 0.02])), [np.nan, 0.02])
    assert len(holm(np.array([]))) == 0


def test_families_are_corrected_apart():
    table = pd.DataFrame({"figure": ["a", "b", "a", "b"], "p": [0.01, 0.01, 0.02, np.nan]})
    corrected = with_holm(table, ["figure"])
    np.testing.assert_allclose(corrected["p_holm"], [0.02, 0.01, 0.02, np.nan])
    assert corrected["n_tests"].tolist() == [2, 1, 2, 1]
