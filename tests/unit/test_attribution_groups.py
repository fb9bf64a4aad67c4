"""Which queries go together, which sentences they need, and that their company changes nothing."""

from dataclasses import replace

import pytest
import torch

from knatlas.attribution import AttributionMethod, preset
from knatlas.attribution.engine import attribute_queries
from knatlas.attribution.groups import ReadoutGroup, batches, replaced_positions, takes
from knatlas.models.encoding import EncodedQuery, readouts
from tests.naive_attribution import ONE_TOKEN, SEVERAL_TOKENS, example, relative_error
from tests.tiny_models import MODEL_TYPES, tiny_model

ZERO, OWN = AttributionMethod("zero", path="zero"), AttributionMethod("own")
ALL = AttributionMethod("all", replace_special=True)


def query(kind, n_tokens, n_positions=1, number=0):
    """A query of some length, its last tokens read, the first one not its own."""
    positions = tuple(range(n_tokens - n_positions, n_tokens))
    ids = tuple(range(10, 10 + n_tokens))
    return EncodedQuery("f", "en", number, kind, ids, positions, positions, tuple(range(1, positions[0])))


MIXED = [(5, 1), (4, 1), (5, 2), (5, 1), (9, 1), (4, 1), (4, 1), (5, 2)]


@pytest.mark.parametrize("most", [1, 2, 3, 8])
@pytest.mark.parametrize("kind", ["masked", "causal"])
def test_every_query_is_in_one_batch_and_no_batch_is_too_large(kind, most):
    found = list(batches([query(kind, *form) for form in MIXED], most))
    assert sorted(number for batch in found for number in batch) == list(range(len(MIXED)))
    assert all(1 <= len(batch) <= most for batch in found)


def test_masked_queries_of_unequal_length_or_number_of_masks_never_share_a_batch():
    found = list(batches([query("masked", *form) for form in MIXED], 8))
    assert all(len({MIXED[number] for number in batch}) == 1 for batch in found)
    assert sorted(map(sorted, found)) == [[0, 3], [1, 5, 6], [2, 7], [4]]


def test_causal_queries_go_together_by_length_whatever_it_is():
    found = list(batches([query("causal", *form) for form in MIXED], 3))
    assert [[MIXED[number][0] for number in batch] for batch in found] == [[4, 4, 4], [5, 5, 5], [5, 9]]
    assert list(batches([], 3)) == []


def test_what_is_replaced():
    of_query = query("causal", 5, 2)
    assert of_query.replaceable == (1, 2) and len(readouts(of_query)) == 2
    assert [replaced_positions(of_query, method) for method in (ZERO, OWN, ALL)] == [(), (1, 2), (0, 1, 2, 3, 4)]
    first, second = readouts(of_query)
    assert takes(first, [0, 1, 2, 3], ALL) == [True] * 4
    assert takes(first, [0, 1, 2, 3], OWN) == [False, True, True, False]
    assert takes(second, [0, 1, 2, 3, 4], ZERO) == [False] * 5


def test_a_causal_group_holds_each_sentence_once_and_says_where_it_differs():
    one, other = query("causal", 4, 2), query("causal", 3, 1)
    group = ReadoutGroup([one, other], [OWN, ALL], 99, torch.device("cpu"))
    assert group.group.sentences == [
        (10, 11, 12, 13), (99, 11, 12, 13), (10, 99, 12, 13), (10, 11, 99, 13), (10, 11, 12, 99),
        (10, 11, 12), (99, 11, 12), (10, 99, 12), (10, 11, 99),
    ]  # fmt: skip
    assert group.group.starts == [0, 0, 1, 2, 3, 0, 0, 1, 2]
    assert group.group.origins == [0] * 5 + [5] * 4
    # a readout that ends before a replaced token does not take its sentence; its query stands in
    assert group.group.rows.tolist() == [[0, 1, 2, 3, 0], [0, 1, 2, 3, 4], [5, 6, 7, 8, 5]]
    assert group.group.is_path.int().tolist() == [[1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 0]]
    assert group.group.positions.tolist() == [[2], [3], [2]] and group.group.targets.tolist() == [[2], [3], [2]]
    assert group.chosen(ALL).int().tolist() == [[1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 0]]
    assert group.chosen(OWN).int().tolist() == [[0, 1, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0]]


def test_a_zero_path_alone_needs_no_sentence_but_the_query():
    group = ReadoutGroup([query("masked", 5), query("masked", 5)], [ZERO], 99, torch.device("cpu"))
    assert group.group.sentences == [(10, 11, 12, 13, 14)] * 2
    assert group.group.rows.tolist() == [[0], [1]] and group.group.is_path.shape == (2, 0)


METHODS = [
    replace(preset("bkn"), steps=4),
    replace(preset("saig"), steps=3),
    AttributionMethod("mean", path="mean_path", rule="left", steps=3, multiplier="full", replace_special=True),
    AttributionMethod("before", rule="gauss", steps=2, neuron_site="pre_activation", objective="logprob"),
]


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_queries_of_any_lengths_have_the_same_scores_alone_and_in_any_company(model_type):
    lm = tiny_model(model_type, "float64")
    queries = [example(lm, answer, number) for number in (2, 0, 1) for answer in (ONE_TOKEN, SEVERAL_TOKENS)]
    queries += [replace(queries[0], fact="again"), replace(queries[3], fact="again")]
    assert len({len(own.input_ids) for own in queries}) > 2
    alone = [attribute_queries(lm, [own], METHODS, path="fast")[0] for own in queries]
    for batch_queries in (1, 2, 8):
        together = attribute_queries(lm, queries, METHODS, 64, path="fast", batch_queries=batch_queries)
        assert [(own.fact, own.query) for own in together] == [(own.fact, own.query) for own in queries]
        for found, expected in zip(together, alone, strict=True):
            assert found.p == pytest.approx(expected.p, rel=1e-12)
            for method in METHODS:
                assert relative_error(found.scores[method.name], expected.scores[method.name]) <= 1e-12
                record, own = found.records[method.name], expected.records[method.name]
                assert (record.n_points, record.n_baselines) == (own.n_points, own.n_baselines)
                torch.testing.assert_close(
                    torch.tensor(record.completeness),
                    torch.tensor(own.completeness),
                    rtol=1e-8,
                    atol=1e-11,
                    equal_nan=True,
                )


@pytest.mark.parametrize("model_type", ["bert", "gpt2", "llama"])
def test_company_changes_float32_scores_by_rounding_only(model_type):
    lm = tiny_model(model_type)
    queries = [example(lm, answer, number) for number in (2, 0) for answer in (SEVERAL_TOKENS, ONE_TOKEN)]
    for found, own in zip(attribute_queries(lm, queries, METHODS, batch_queries=8), queries, strict=True):
        expected = attribute_queries(lm, [own], METHODS, batch_queries=1)[0]
        for method in METHODS:
            assert relative_error(found.scores[method.name], expected.scores[method.name]) <= 5e-6


def test_the_general_path_takes_queries_one_by_one_with_the_same_scores():
    lm = tiny_model("gpt2", "float64")
    queries = [example(lm, answer, number) for number in (2, 0) for answer in (SEVERAL_TOKENS, ONE_TOKEN)]
    fast, general = (
        attribute_queries(lm, queries, METHODS, path=path, batch_queries=4) for path in ("fast", "general")
    )
    for one, other in zip(fast, general, strict=True):
        assert all(relative_error(one.scores[m.name], other.scores[m.name]) <= 1e-12 for m in METHODS)
