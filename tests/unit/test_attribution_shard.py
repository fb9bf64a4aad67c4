"""A shard: the queries of several facts, combined to statistics of each fact."""

from dataclasses import replace

import numpy as np
import pytest

from knatlas.attribution import preset
from knatlas.attribution.engine import attribute
from knatlas.attribution.shard import QUERY_COLUMNS, attribute_shard
from knatlas.errors import AtlasError
from tests.naive_attribution import example
from tests.tiny_models import tiny_model

METHODS = [preset("bkn"), replace(preset("amig", "paper"), steps=3), replace(preset("saig"), rule="gauss", steps=3)]


@pytest.fixture(scope="module")
def lm():
    return tiny_model("bert")


@pytest.fixture(scope="module")
def queries(lm):
    """Three queries of one fact and two of another, mixed."""
    numbers = [("b", 1), ("a", 2), ("a", 0), ("b", 0), ("a", 1)]
    return [example(lm, query=number, fact=fact) for fact, number in numbers]


@pytest.fixture(scope="module")
def result(lm, queries):
    return attribute_shard(lm, queries, METHODS, 64, 0.3)


def test_facts_keep_the_order_in_which_they_come(result):
    assert result.facts == ["b", "a"]


def test_arrays_are_the_statistics_of_each_fact(lm, queries, result):
    for index, fact in enumerate(result.facts):
        of_fact = sorted((query for query in queries if query.fact == fact), key=lambda query: query.query)
        found = [attribute(lm, query, METHODS, 64).scores for query in of_fact]
        for method in METHODS:
            scores = np.stack([one[method.name] for one in found]).astype(np.float64)
            arrays = {name: array[index] for name, array in result.arrays[method.name].items()}
            np.testing.assert_allclose(arrays["mean"], scores.mean(0), rtol=1e-6, atol=1e-12)
            np.testing.assert_allclose(arrays["std"], scores.std(0), rtol=1e-5, atol=1e-12)
            np.testing.assert_array_equal(arrays["first"], scores[0].astype(np.float32))
            above = scores > 0.3 * scores.max(axis=(1, 2), keepdims=True)
            np.testing.assert_allclose(arrays["share"], above.mean(0), rtol=1e-6)


def test_arrays_have_one_shape_and_are_float32(lm, result):
    for of_method in result.arrays.values():
        assert list(of_method) == ["mean", "std", "first", "share"]
        assert {(array.shape, array.dtype.name) for array in of_method.values()} == {((2, 3, 24), "float32")}


def test_the_table_has_one_row_per_query_and_method(lm, queries, result):
    table = result.queries
    assert list(table.columns) == QUERY_COLUMNS
    keys = list(table[["fact", "query", "method"]].itertuples(index=False, name=None))
    in_order = [("b", 0), ("b", 1), ("a", 0), ("a", 1), ("a", 2)]
    assert keys == [(*key, method.name) for key in in_order for method in METHODS]
    assert set(table["language"]) == {"en"}


def test_a_row_says_what_the_attribution_says(lm, queries, result):
    query = queries[1]
    found = attribute(lm, query, METHODS, 64)
    rows = result.queries.query("fact == 'a' and query == 2").set_index("method")
    assert rows["p"].tolist() == [found.p] * 3
    assert rows["n_positions"].tolist() == [1] * 3
    assert rows["n_tokens"].tolist() == [len(query.input_ids)] * 3
    assert rows["n_baselines"].tolist() == [1, len(query.replaceable), len(query.replaceable)]
    assert rows["max_score"].tolist() == [float(found.scores[method.name].max()) for method in METHODS]
    assert rows["completeness_error"].tolist()[::2] == [found.completeness[name].max() for name in ("bkn", "saig")]
    assert np.isnan(rows["completeness_error"]["amig"])
    negative = [(found.records[method.name].sums.signed < 0).mean() for method in METHODS]
    assert rows["negative_layers"].tolist() == negative and max(negative) > 0
    assert rows["skipped_layers"].tolist() == [0.0] * 3 and rows["zero_gradients"].tolist() == [0.0] * 3


def test_splitting_a_shard_changes_nothing(lm, queries, result):
    for index, fact in enumerate(result.facts):
        alone = attribute_shard(lm, [query for query in queries if query.fact == fact], METHODS, 64, 0.3)
        for method, of_method in alone.arrays.items():
            for name, array in of_method.items():
                np.testing.assert_array_equal(array[0], result.arrays[method][name][index])


def test_progress_counts_every_query(lm, queries):
    calls = []
    attribute_shard(lm, queries, [preset("bkn")], 64, 0.3, lambda *call: calls.append(call))
    assert calls == [(1, 5, "en: b"), (2, 5, "en: b"), (3, 5, "en: a"), (4, 5, "en: a"), (5, 5, "en: a")]


def test_a_shard_without_queries_is_empty_and_no_error(lm):
    result = attribute_shard(lm, [], METHODS, 64, 0.3)
    assert result.facts == [] and len(result.queries) == 0 and list(result.queries.columns) == QUERY_COLUMNS
    assert result.arrays["bkn"]["mean"].shape == (0, 3, 24)


def test_two_languages_and_a_query_given_twice_are_refused(lm, queries):
    with pytest.raises(AtlasError, match="languages en fr; expected one language"):
        attribute_shard(lm, [queries[0], replace(queries[1], language="fr")], METHODS, 64, 0.3)
    with pytest.raises(AtlasError, match="Query 1 of fact b is twice"):
        attribute_shard(lm, [queries[0], queries[0]], METHODS, 64, 0.3)
