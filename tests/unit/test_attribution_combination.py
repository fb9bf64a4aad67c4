"""Statistics over the queries of a fact, against numpy and by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from knatlas.attribution.combination import STATISTICS, QueryStatistics
from knatlas.errors import AtlasError


def combined(queries, threshold=0.3):
    statistics = QueryStatistics(threshold)
    for scores in queries:
        statistics.add(np.asarray(scores))
    return statistics.result()


def test_two_queries_as_computed_by_hand():
    result = combined([[[1.0, 4.0]], [[3.0, 4.0]]])
    assert {name: value.tolist() for name, value in result.items()} == {
        "mean": [[2.0, 4.0]],
        "std": [[1.0, 0.0]],  # the population's: divisor 2, not 1
        "first": [[1.0, 4.0]],
        "share": [[0.5, 1.0]],  # 1 is not above 0.3 * 4, 3 is
    }


@pytest.mark.parametrize("n_queries", [1, 2, 3, 17])
def test_one_pass_agrees_with_numpy(n_queries):
    queries = np.random.default_rng(n_queries).normal(size=(n_queries, 3, 5)).astype(np.float32)
    result = combined(queries)
    np.testing.assert_allclose(result["mean"], queries.mean(0, dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(result["std"], queries.std(0, dtype=np.float64), rtol=1e-6)
    assert (result["first"] == queries[0]).all()
    above = queries > 0.3 * queries.max(axis=(1, 2), keepdims=True).astype(np.float64)
    np.testing.assert_allclose(result["share"], above.mean(0), rtol=1e-6)


def test_the_spread_of_equal_queries_is_exactly_zero():
    scores = np.full((2, 2), 0.1, dtype=np.float32)
    assert (combined([scores] * 7)["std"] == 0).all()


def test_the_spread_survives_a_large_mean():
    queries = [np.array([[1e8 + value]]) for value in (0.0, 1.0, 2.0)]
    assert combined(queries)["std"].item() == pytest.approx(np.sqrt(2 / 3), rel=1e-6)


def test_the_threshold_is_strict_and_a_query_without_positive_scores_counts_for_no_neuron():
    assert combined([[[1.0, 0.5, 0.6]]], threshold=0.5)["share"].tolist() == [[1.0, 0.0, 1.0]]
    assert combined([[[-1.0, -2.0]], [[0.0, 0.0]]], threshold=0.0)["share"].tolist() == [[0.0, 0.0]]


def test_statistics_are_named_once_and_float32():
    result = combined([[[1.0]]])
    assert tuple(result) == STATISTICS
    assert {value.dtype for value in result.values()} == {np.dtype(np.float32)}


@given(st.permutations([[[1.0, 2.0]], [[5.0, -1.0]], [[0.0, 3.0]]]))
def test_the_order_of_the_queries_changes_the_first_one_only(queries):
    result, other = combined(queries), combined([[[1.0, 2.0]], [[5.0, -1.0]], [[0.0, 3.0]]])
    for name in ("mean", "std", "share"):
        np.testing.assert_allclose(result[name], other[name], rtol=1e-6)
    assert result["first"].tolist() == queries[0]


def test_the_first_query_is_kept_as_it_was():
    scores = np.array([[1.0]])
    statistics = QueryStatistics(0.3)
    statistics.add(scores)
    scores[:] = 7.0
    assert statistics.result()["first"].item() == 1.0


def test_no_queries_and_scores_that_are_not_finite_are_errors():
    with pytest.raises(AtlasError, match="without queries"):
        QueryStatistics(0.3).result()
    with pytest.raises(AtlasError, match="Query 1 of a fact has scores that are not finite"):
        combined([[[1.0]], [[np.nan]]])


@pytest.mark.parametrize("threshold", [-0.1, 1.0, float("nan")])
def test_a_threshold_outside_the_unit_interval_is_refused(threshold):
    with pytest.raises(AtlasError, match="expected a number >= 0 and < 1"):
        QueryStatistics(threshold)
