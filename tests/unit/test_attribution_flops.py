"""Operations of the engine, counted by PyTorch: what the analytic count says, and what must not cost anything."""

from dataclasses import replace

import pytest
from torch.utils.flop_counter import FlopCounterMode

from knatlas.attribution import AttributionMethod, preset
from knatlas.attribution.cost import QuerySize, attribution_flops
from knatlas.attribution.engine import attribute_queries
from knatlas.attribution.shape import shape_of
from knatlas.models.encoding import EncodedQuery
from tests.tiny_models import tiny_model

WIDE = {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 4}
NEURONS = {"bert": {"intermediate_size": 256}, "gpt2": {"n_inner": 256}, "llama": {"intermediate_size": 160}}
SMALL = ["bert", "gpt2", "llama"]
METHODS = {
    "zero path": [preset("bkn")],
    "mean path": [replace(preset("amig"), path="mean_path")],
    "path per token": [preset("saig")],
    "gradient": [preset("atp")],
    "both": [preset("bkn"), preset("saig")],
}


def medium_model(model_type):
    """4 layers of hidden size 64; the vocabulary is that of the tiny tokenizer."""
    return tiny_model(model_type, scale=0.05, **WIDE, **NEURONS[model_type])


def query_of(lm, n_tokens=9, number=0):
    """A query with one answer token; all tokens but the first, and a mask, are its own."""
    ids = tuple((7 * number + 5 + i) % 50 + 5 for i in range(n_tokens))
    own = range(1, n_tokens - (lm.kind == "masked"))
    return EncodedQuery("f", "en", number, lm.kind, ids, (n_tokens - 1,), (11,), tuple(own))


def operations(lm, queries, methods, **settings):
    with FlopCounterMode(display=False) as counter:
        found = attribute_queries(lm, queries, methods, path="fast", **settings)
    return counter.get_total_flops(), found


@pytest.mark.parametrize("completeness", [False, True])
@pytest.mark.parametrize("methods", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("model_type", SMALL)
def test_the_exact_mode_takes_the_operations_of_the_analytic_count(model_type, methods, completeness):
    lm = medium_model(model_type)
    query = query_of(lm)
    size = QuerySize(len(query.input_ids), 1, len(query.replaceable))
    expected = attribution_flops(shape_of(lm.model.config), size, methods, completeness=completeness).total
    found, _ = operations(lm, [query], methods, completeness=completeness)
    assert found == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("model_type", SMALL)
def test_queries_of_one_length_together_take_the_operations_of_all_of_them(model_type):
    lm = medium_model(model_type)
    queries = [query_of(lm, number=number) for number in range(4)]
    alone = sum(operations(lm, [query], METHODS["both"])[0] for query in queries)
    together, _ = operations(lm, queries, METHODS["both"], batch_queries=4)
    # packed sentences share one call of the head's and the layers' products; none is computed twice
    assert together == pytest.approx(alone, rel=0.01)


@pytest.mark.parametrize("model_type", SMALL)
def test_rows_per_batch_cost_no_operation(model_type):
    lm = medium_model(model_type)
    most, few = (operations(lm, [query_of(lm)], METHODS["both"], batch_rows=rows)[0] for rows in (10_000, 16))
    assert few == most


@pytest.mark.parametrize("model_type", SMALL)
def test_operations_of_the_full_sum_grow_with_the_steps_and_those_of_the_checked_one_do_not(model_type):
    lm = medium_model(model_type)
    full, checked = (
        [
            operations(lm, [query_of(lm)], [replace(preset("saig"), steps=n, quadrature=kind)], completeness=False)[0]
            for n in (20, 60)
        ]
        for kind in ("full", "checked")
    )
    assert full[1] > 2.5 * full[0]
    assert checked[1] <= 1.1 * checked[0] and checked[0] < full[0] / 3


@pytest.mark.parametrize("model_type", SMALL)
def test_completeness_that_is_not_asked_for_costs_nothing(model_type):
    lm = medium_model(model_type)
    method = [AttributionMethod("x", steps=2)]
    more, less = (operations(lm, [query_of(lm)], method, completeness=flag)[0] for flag in (True, False))
    assert more > 1.1 * less
