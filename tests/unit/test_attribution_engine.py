"""The engine against integrated gradients written down a second time, and against what is known in closed form."""

from copy import deepcopy
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from knatlas.attribution import AttributionMethod, preset
from knatlas.attribution.engine import attribute_queries
from knatlas.attribution.quadrature import RULES
from knatlas.models.encoding import EncodedQuery
from knatlas.models.language_model import as_language_model
from tests.naive_attribution import (
    EXACT,
    ONE_TOKEN,
    SEVERAL_TOKENS,
    example,
    gradient,
    naive,
    naive_scores,
    neurons,
    parts,
    probability,
    relative_error,
    replaced,
)
from tests.tiny_models import FLOAT32_NORMS, MODEL_TYPES, tiny_model
from tests.trained_models import memorised

ANSWERS = [ONE_TOKEN, SEVERAL_TOKENS]
PATHS = ["zero", "per_token", "mean_path"]
ENGINE_PATHS = ["fast", "general"]
# float64 sums, and what is left where transformers takes norms or angles in float32
FLOAT64 = {name: 1e-5 if name in FLOAT32_NORMS else 1e-12 for name in MODEL_TYPES}


def attributed(lm, query, *methods, batch_rows=64, path="auto"):
    return attribute_queries(lm, [query], methods, batch_rows, path=path)[0]


def scores_of(lm, query, *methods, batch_rows=64, path="auto"):
    return attributed(lm, query, *methods, batch_rows=batch_rows, path=path).scores


def check_scores(model_type, answer, method, expected):
    """Both factors on both paths of the engine, in float64 and float32."""
    for dtype, tolerance in (("float64", FLOAT64[model_type]), ("float32", 1e-5)):
        lm = tiny_model(model_type, dtype)
        for path in ENGINE_PATHS:
            scores = scores_of(
                lm, example(lm, answer), method, replace(method, name="full", multiplier="full"), path=path
            )
            for factor in ("delta", "full"):
                assert scores[factor].dtype == dtype
                assert relative_error(scores[factor], expected[factor]) <= tolerance


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("model_type", ["bert", "gpt2"])
def test_both_paths_give_the_scores_of_the_explicit_loop(model_type, answer, path, rule):
    method = AttributionMethod("delta", path=path, rule=rule, steps=2)
    check_scores(model_type, answer, method, naive(model_type, answer, path, rule, 2))


# every type, answer and path; with every path the six rules take turns, then the two sites
OTHERS = [name for name in MODEL_TYPES if name not in ("bert", "gpt2")]
TURNS = [
    (*case, list(RULES)[number // 3 % 6], number // 18 % 2 == 1)
    for number, case in enumerate(product(OTHERS, ANSWERS, PATHS))
]


@pytest.mark.parametrize(("model_type", "answer", "path", "rule", "is_before"), TURNS)
def test_both_paths_of_every_type_agree_as_far_as_its_own_float32_norms_allow(
    model_type, answer, path, rule, is_before
):
    site = "pre_activation" if is_before else "down_input"
    method = AttributionMethod("delta", path=path, rule=rule, steps=2, neuron_site=site)
    check_scores(model_type, answer, method, naive(model_type, answer, path, rule, 2, is_before=is_before))


def test_the_turns_cover_every_rule_and_site_with_every_path():
    assert {turn[2:] for turn in TURNS} == set(product(PATHS, RULES, (True, False)))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", ["masked", "causal"])
def test_both_paths_give_the_scores_of_the_loop_on_a_trained_model(kind, path):
    lm, queries = memorised(kind)
    single = as_language_model(lm.name, deepcopy(lm.model).float(), lm.tokenizer, revision="trained")
    method = AttributionMethod("x", path=path, steps=4)
    for query in queries[:2]:
        expected = naive_scores(lm, query, path, "right", 4)["delta"]
        for way in ENGINE_PATHS:
            assert relative_error(scores_of(lm, query, method, path=way)["x"], expected) <= 1e-12
            assert relative_error(scores_of(single, query, method, path=way)["x"], expected) <= 1e-5


@pytest.mark.parametrize("way", ENGINE_PATHS)
@pytest.mark.parametrize("is_before", [False, True])
@pytest.mark.parametrize("model_type", ["bert", "gpt2", "llama"])
def test_scores_of_log_p_are_those_of_the_loop(model_type, is_before, way):
    lm = tiny_model(model_type, "float64")
    query = example(lm)
    (part,) = parts(query)
    expected = []
    for layer in range(lm.n_layers):
        end = neurons(lm, part[0], part[1], layer, is_before)
        points = [end / 3, 2 * end / 3, end]
        steps = [gradient(lm, part, layer, is_before, v) / probability(lm, part, layer, is_before, v) for v in points]
        expected.append((end * torch.stack(steps).mean(0))[0].detach().numpy())
    site = "pre_activation" if is_before else "down_input"
    method = AttributionMethod("x", path="zero", steps=3, objective="logprob", neuron_site=site)
    assert relative_error(scores_of(lm, query, method, path=way)["x"], np.array(expected)) <= FLOAT64[model_type]


@pytest.mark.parametrize("model_type", ["bert", "gpt2"])
def test_b_kn_is_activation_times_mean_gradient_on_the_way_from_zero(model_type):
    lm = tiny_model(model_type, "float64")
    query = example(lm)
    (part,) = parts(query)
    expected = []
    for layer in range(lm.n_layers):
        activation = neurons(lm, part[0], part[1], layer, is_before=False)
        steps = [gradient(lm, part, layer, False, activation * k / 20) for k in range(1, 21)]
        expected.append((activation * torch.stack(steps).mean(0))[0].numpy())
    from_zero = replace(preset("amig"), path="zero")
    scores = scores_of(lm, query, preset("bkn"), from_zero)
    assert relative_error(scores["bkn"], np.array(expected)) <= 1e-12
    assert (scores["amig"] == scores["bkn"]).all()


@pytest.mark.parametrize("model_type", ["bert", "gpt2"])
def test_amig_as_released_averages_the_paths_of_all_tokens_point_by_point(model_type):
    lm = tiny_model(model_type, "float64")
    query, method = example(lm), preset("amig", "code", lm.kind)
    (part,) = parts(query)
    ids, positions, _ = part
    is_before = lm.kind == "causal"
    sentences = replaced(query, ids, lm.replacement_id, is_special=True)
    assert len(sentences) == len(ids)
    expected = []
    for layer in range(lm.n_layers):
        end = neurons(lm, ids, positions, layer, is_before)
        starts = [neurons(lm, sentence, positions, layer, is_before) for sentence in sentences]
        total = torch.zeros_like(end)
        for k in range(20):
            points = [start + k / 20 * (end - start) for start in starts]
            total += gradient(lm, part, layer, is_before, sum(points) / len(points))
        expected.append((end / 20 * total)[0].numpy())
    assert relative_error(scores_of(lm, query, method)["amig"], np.array(expected)) <= 1e-12


@pytest.mark.parametrize("path", ["per_token", "mean_path"])
@pytest.mark.parametrize("model_type", ["bert", "gpt2"])
def test_special_tokens_and_masks_are_replaced_on_demand_only(model_type, path):
    lm = tiny_model(model_type, "float64")
    method = AttributionMethod("own", path=path, steps=2)
    everything = replace(method, name="all", replace_special=True)
    for way in ENGINE_PATHS:
        scores = scores_of(lm, example(lm, SEVERAL_TOKENS), method, everything, path=way)
        for name, is_special in (("own", False), ("all", True)):
            expected = naive(model_type, SEVERAL_TOKENS, path, "right", 2, is_special=is_special)["delta"]
            assert relative_error(scores[name], expected) <= 1e-12
    assert relative_error(scores["own"], scores["all"]) > 1e-3


@pytest.mark.parametrize("way", ENGINE_PATHS)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-6)])
@pytest.mark.parametrize("model_type", ["bert", "gpt2", "llama"])
def test_rows_per_batch_change_speed_only(model_type, dtype, tolerance, way):
    lm = tiny_model(model_type, dtype)
    methods = [replace(preset("bkn"), steps=5), replace(preset("saig"), rule="gauss", steps=2)]
    query = example(lm, SEVERAL_TOKENS)
    one, many, odd, chosen = (scores_of(lm, query, *methods, batch_rows=rows, path=way) for rows in (1, 64, 7, 0))
    limit = max(tolerance, EXACT[model_type]) if (model_type, way) == ("llama", "general") else tolerance
    for name, other in product(("bkn", "saig"), (one, odd, chosen)):
        assert relative_error(other[name], many[name]) <= limit


@pytest.mark.parametrize("way", ENGINE_PATHS)
def test_a_causal_prompt_of_a_single_token_has_no_prefix_to_keep(way):
    lm = tiny_model("gpt2", "float64")
    query = EncodedQuery("f", "en", 0, "causal", (70,), (0,), (71,), (0,))
    found = scores_of(lm, query, AttributionMethod("x", steps=2), path=way)["x"]
    assert relative_error(found, naive_scores(lm, query, "per_token", "right", 2)["delta"]) <= 1e-12


def test_the_order_of_queries_is_kept_and_none_give_none():
    lm = tiny_model("gpt2")
    queries = [example(lm, query=number) for number in (1, 0, 2)]
    assert [found.query for found in attribute_queries(lm, queries, [preset("bkn")], batch_queries=3)] == [1, 0, 2]
    assert attribute_queries(lm, [], [preset("bkn")]) == []
