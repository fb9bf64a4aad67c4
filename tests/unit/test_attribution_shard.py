"""A shard: the queries of several facts, combined to statistics of each fact."""

from dataclasses import replace

import numpy as np
import pytest

from knatlas.attribution import preset
from knatlas.attribution.candidates import Candidates, kept_names
from knatlas.attribution.combination import STATISTICS, Dense
from knatlas.attribution.engine import attribute
from knatlas.attribution.shard import QUERY_COLUMNS, Batching, attribute_shard, fact_batches, worst
from knatlas.errors import AtlasError
from tests.naive_attribution import example
from tests.tiny_models import tiny_model

METHODS = [preset("bkn"), replace(preset("amig", "paper"), steps=3), replace(preset("saig"), rule="gauss", steps=3)]
EN = Dense("en")


@pytest.fixture(scope="module")
def lm():
    # float64: which queries share a sweep decides last digits only, and those vanish in the float32 arrays
    return tiny_model("bert", "float64")


@pytest.fixture(scope="module")
def queries(lm):
    """Three queries of one fact and two of another, mixed."""
    numbers = [("b", 1), ("a", 2), ("a", 0), ("b", 0), ("a", 1)]
    return [example(lm, query=number, fact=fact) for fact, number in numbers]


@pytest.fixture(scope="module")
def result(lm, queries):
    return attribute_shard(lm, queries, METHODS, EN, 0.3)


def test_facts_keep_the_order_in_which_they_come(result):
    assert result.facts == ["b", "a"]


def test_arrays_are_the_statistics_of_each_fact(lm, queries, result):
    for index, fact in enumerate(result.facts):
        of_fact = sorted((query for query in queries if query.fact == fact), key=lambda query: query.query)
        found = [attribute(lm, query, METHODS, 0).scores for query in of_fact]
        for method in METHODS:
            scores = np.stack([one[method.name] for one in found]).astype(np.float64)
            arrays = {name: result.arrays[f"{method.name}.{name}"][index] for name in STATISTICS}
            np.testing.assert_allclose(arrays["mean"], scores.mean(0), rtol=1e-6, atol=1e-12)
            np.testing.assert_allclose(arrays["std"], scores.std(0), rtol=1e-5, atol=1e-12)
            np.testing.assert_array_equal(arrays["first"], scores[0].astype(np.float32))
            above = scores > 0.3 * scores.max(axis=(1, 2), keepdims=True)
            np.testing.assert_allclose(arrays["share"], above.mean(0), rtol=1e-6)


def test_arrays_have_one_shape_and_are_float32(lm, result):
    assert list(result.arrays) == [f"{method.name}.{name}" for method in METHODS for name in STATISTICS]
    assert {(array.shape, array.dtype.name) for array in result.arrays.values()} == {((2, 3, 24), "float32")}


def test_the_table_has_one_row_per_query_and_method(lm, queries, result):
    table = result.queries
    assert list(table.columns) == QUERY_COLUMNS
    keys = list(table[["fact", "query", "method"]].itertuples(index=False, name=None))
    in_order = [("b", 0), ("b", 1), ("a", 0), ("a", 1), ("a", 2)]
    assert keys == [(*key, method.name) for key in in_order for method in METHODS]
    assert set(table["language"]) == {"en"}


def test_a_row_says_what_the_attribution_says(lm, queries, result):
    query = queries[1]
    found = attribute(lm, query, METHODS, 0)
    rows = result.queries.query("fact == 'a' and query == 2").set_index("method")
    assert rows["p"].tolist() == [found.p] * 3
    assert rows["n_positions"].tolist() == [1] * 3
    assert rows["n_tokens"].tolist() == [len(query.input_ids)] * 3
    assert rows["n_baselines"].tolist() == [1, len(query.replaceable), len(query.replaceable)]
    for column in ("n_points", "n_full_points", "n_fallbacks"):
        assert rows[column].tolist() == [getattr(found.records[method.name], column) for method in METHODS]
    assert rows["error_estimate"].tolist() == [found.records[method.name].error_estimate.max() for method in METHODS]
    assert rows["max_score"].tolist() == [float(found.scores[method.name].max()) for method in METHODS]
    assert rows["completeness_error"].tolist()[::2] == [found.completeness[name].max() for name in ("bkn", "saig")]
    assert np.isnan(rows["completeness_error"]["amig"])
    negative = [(found.records[method.name].sums.signed < 0).mean() for method in METHODS]
    assert rows["negative_layers"].tolist() == negative and max(negative) > 0
    assert rows["skipped_layers"].tolist() == [0.0] * 3 and rows["zero_gradients"].tolist() == [0.0] * 3


def test_splitting_a_shard_changes_nothing(lm, queries, result):
    for index, fact in enumerate(result.facts):
        alone = attribute_shard(lm, [query for query in queries if query.fact == fact], METHODS, EN, 0.3)
        for name, array in alone.arrays.items():
            np.testing.assert_array_equal(array[0], result.arrays[name][index])


@pytest.mark.parametrize("n_queries", [1, 3, 100])
def test_the_size_of_batches_changes_nothing(lm, queries, result, n_queries):
    other = attribute_shard(lm, queries, METHODS, EN, 0.3, Batching(queries=n_queries))
    for name, array in other.arrays.items():
        np.testing.assert_allclose(array, result.arrays[name], rtol=1e-5, atol=1e-9)


def test_batches_are_whole_facts():
    facts = {"a": [1, 2, 3], "b": [4], "c": [5, 6, 7, 8, 9], "d": [10], "e": [11]}
    assert [list(batch) for batch in fact_batches(facts, 4)] == [["a", "b"], ["c"], ["d", "e"]]
    assert [list(batch) for batch in fact_batches(facts, 1)] == [["a"], ["b"], ["c"], ["d"], ["e"]]
    assert list(fact_batches({}, 4)) == []


def test_candidates_of_all_languages_are_kept_together(lm, queries, result):
    both = queries + [replace(query, language="fr") for query in queries if query.fact == "a"]
    kept = attribute_shard(lm, both, METHODS, Candidates(("en", "fr"), 10), 0.3)
    assert kept.facts == result.facts and len(kept.queries) == (5 + 3) * 3
    assert kept.arrays["indices"].shape == (2, 10)
    for name in kept_names(["bkn", "amig", "saig"]):
        dense = result.arrays[name].reshape(2, -1)
        for fact in range(2):
            np.testing.assert_allclose(kept.arrays[name][fact, 0], dense[fact][kept.arrays["indices"][fact]], rtol=1e-5)
        np.testing.assert_allclose(kept.arrays[name][1, 1], kept.arrays[name][1, 0], rtol=1e-5)
        assert np.isnan(kept.arrays[name][0, 1]).all()  # fact b has no query in fr


def test_the_worst_layer_is_found_among_errors_that_are_numbers():
    assert worst(np.array([0.1, np.nan, 0.3])) == 0.3
    assert np.isnan(worst(np.array([np.nan, np.nan])))


def test_completeness_that_nobody_asked_for_is_missing(lm, queries):
    result = attribute_shard(lm, queries, [preset("bkn")], EN, 0.3, completeness=False)
    assert result.queries["completeness_error"].isna().all()


def test_progress_counts_every_query(lm, queries):
    calls = []
    attribute_shard(lm, queries, [preset("bkn")], EN, 0.3, progress=lambda *call: calls.append(call))
    assert calls == [(2, 5, "b"), (5, 5, "a")]


def test_a_shard_without_queries_is_empty_and_no_error(lm):
    result = attribute_shard(lm, [], METHODS, EN, 0.3)
    assert result.facts == [] and len(result.queries) == 0 and list(result.queries.columns) == QUERY_COLUMNS
    assert result.arrays["bkn.mean"].shape == (0, 3, 24)
    kept = attribute_shard(lm, [], METHODS, Candidates(("en", "fr"), 10), 0.3).arrays
    assert kept["saig.mean"].shape == (0, 2, 10) and kept["saig.mean.lowest"].shape == (0, 2)


def test_another_language_and_a_query_given_twice_are_refused(lm, queries):
    with pytest.raises(AtlasError, match="queries in fr; expected queries in en only"):
        attribute_shard(lm, [queries[0], replace(queries[1], language="fr")], METHODS, EN, 0.3)
    with pytest.raises(AtlasError, match="Query 1 of fact b in en is twice"):
        attribute_shard(lm, [queries[0], queries[0]], METHODS, EN, 0.3)
