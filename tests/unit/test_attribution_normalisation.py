"""Norms of the scores of a query, computed by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from knatlas.attribution.normalisation import layer_sums, normalise
from knatlas.errors import AtlasError

# sums of the layers: 4 (of 6 in absolute value), -2 (of 4), 0 (of 0)
SCORES = np.array([[1.0, 4.0, -1.0], [-3.0, 1.0, 0.0], [0.0, 0.0, 0.0]])


def test_norms_as_computed_by_hand():
    assert normalise(SCORES, "none").tolist() == SCORES.tolist()
    assert normalise(SCORES, "layer_sum").tolist() == [[0.25, 1.0, -0.25], [1.5, -0.5, 0.0], [0.0, 0.0, 0.0]]
    expected = [[1 / 6, 4 / 6, -1 / 6], [-0.75, 0.25, 0.0], [0.0, 0.0, 0.0]]
    assert normalise(SCORES, "layer_l1").tolist() == expected
    assert normalise(SCORES, "query_l1").tolist() == [[0.1, 0.4, -0.1], [-0.3, 0.1, 0.0], [0.0, 0.0, 0.0]]


def test_sums_of_the_layers_as_computed_by_hand():
    sums = layer_sums(SCORES)
    assert sums.signed.tolist() == [4.0, -2.0, 0.0]
    assert sums.absolute.tolist() == [6.0, 4.0, 0.0]
    assert sums.is_negative.tolist() == [False, True, False]
    assert sums.is_skipped.tolist() == [False, False, True]
    assert sums.cancellation.tolist() == [1.5, 2.0, 1.0]


def test_a_negative_layer_sum_turns_the_order_of_the_neurons_around():
    assert normalise(SCORES, "layer_sum")[1].argmax() == SCORES[1].argmin()


def test_a_layer_whose_sum_cancels_is_set_to_zero_by_layer_sum_only():
    # sum|.| = 2, so the sum is a divisor from 0.002 on
    cancelling = np.array([[1.0, -0.9981], [1.0, -0.9979]])
    assert layer_sums(cancelling).is_skipped.tolist() == [True, False]
    divided = normalise(cancelling, "layer_sum")
    assert divided[0].tolist() == [0.0, 0.0]
    assert divided[1, 0] == pytest.approx(1 / 0.0021, rel=1e-9)
    assert (normalise(cancelling, "layer_l1") != 0).all()


def test_exact_cancellation_has_no_finite_ratio():
    assert layer_sums(np.array([[1.0, -1.0]])).cancellation.tolist() == [np.inf]


@pytest.mark.parametrize("norm", ["none", "layer_sum", "layer_l1", "query_l1"])
def test_all_zero_scores_stay_zero_and_the_dtype_stays(norm):
    scores = normalise(np.zeros((2, 3), dtype=np.float32), norm)
    assert scores.dtype == np.float32 and (scores == 0).all()


@given(st.lists(st.lists(st.integers(-1000, 1000), min_size=4, max_size=4), min_size=1, max_size=5))
def test_absolute_norms_leave_absolute_sums_of_one_and_the_signs(values):
    scores = np.array(values, dtype=np.float64)
    by_layer, by_query = normalise(scores, "layer_l1"), normalise(scores, "query_l1")
    has_scores = (scores != 0).any(axis=1)
    np.testing.assert_allclose(np.abs(by_layer).sum(1), has_scores, rtol=1e-12)
    np.testing.assert_allclose(np.abs(by_query).sum(), has_scores.any(), rtol=1e-12)
    assert (np.sign(by_layer) == np.sign(scores)).all() and (np.sign(by_query) == np.sign(scores)).all()


def test_an_unknown_norm_is_named():
    with pytest.raises(AtlasError, match="is 'layer'; expected one of"):
        normalise(SCORES, "layer")
