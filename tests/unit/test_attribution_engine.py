"""The engine against integrated gradients written down a second time, and against what is known in closed form."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from knatlas.attribution import AttributionMethod, preset
from knatlas.attribution.engine import attribute, completeness_error
from knatlas.attribution.integrals import integrals, path_gradients
from knatlas.attribution.quadrature import RULES, quadrature
from knatlas.models.encoding import EncodedQuery, readouts
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
    relative_error,
    replaced,
)
from tests.tiny_models import MODEL_TYPES, tiny_model

ANSWERS = [ONE_TOKEN, SEVERAL_TOKENS]
PATHS = ["zero", "per_token", "mean_path"]


def scores_of(lm, query, *methods, batch_rows=64):
    return attribute(lm, query, methods, batch_rows).scores


class Quadratic:
    """F(v) = w . v + v . v / 2 at one position, in any layer: its gradient is w + v."""

    def __init__(self, weights):
        self.weights = torch.as_tensor(weights)

    def gradients(self, points, layers):
        return (points @ self.weights + (points**2).sum(-1) / 2)[:, 0], self.weights + points


@pytest.mark.parametrize("rule", RULES)
def test_integrals_of_a_quadratic_are_those_in_closed_form(rule):
    clean = torch.tensor([[[1.0, -2.0, 0.5]], [[3.0, 0.0, 1.0]]], dtype=torch.float64)
    baselines = torch.stack([torch.zeros_like(clean), 0.5 - clean])
    weights = [0.3, -1.0, 2.0]
    method = AttributionMethod("x", rule=rule, steps=4, objective="logprob")
    model = Quadratic(torch.tensor(weights, dtype=torch.float64))
    sums, n_zero = path_gradients(model, clean, baselines, method, batch_rows=3)
    # the mean node is all that a linear gradient sees of a rule
    middle = {"right": 0.625, "left": 0.375}.get(rule, 0.5)
    expected = torch.tensor(weights) + baselines + middle * (clean - baselines)
    torch.testing.assert_close(sums, expected.transpose(0, 1), rtol=1e-7, atol=1e-7)
    assert n_zero == 0


def test_integrals_of_a_linear_function_are_weight_times_difference_for_any_number_of_steps():
    class Linear(Quadratic):
        def gradients(self, points, layers):
            return (points @ self.weights)[:, 0], self.weights.expand_as(points)

    clean = torch.tensor([[[1.0, -2.0]]])
    for rule in RULES:
        for steps in (2, 7):
            method = AttributionMethod("x", rule=rule, steps=steps, objective="logprob")
            sums, _ = path_gradients(Linear([0.5, 4.0]), clean, torch.zeros(1, 1, 1, 2), method, batch_rows=64)
            torch.testing.assert_close(sums.flatten(), torch.tensor([0.5, 4.0]))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("model_type", ["bert", "gpt2"])
def test_scores_are_those_of_the_explicit_loop(model_type, answer, path, rule):
    expected = naive(model_type, answer, path, rule, 2)
    for dtype, tolerance in (("float64", EXACT[model_type]), ("float32", 1e-5)):
        lm = tiny_model(model_type, dtype)
        method = AttributionMethod("delta", path=path, rule=rule, steps=2)
        scores = scores_of(lm, example(lm, answer), method, replace(method, name="full", multiplier="full"))
        for factor in ("delta", "full"):
            assert scores[factor].dtype == dtype
            assert relative_error(scores[factor], expected[factor]) <= tolerance


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("model_type", [name for name in MODEL_TYPES if name not in ("bert", "gpt2")])
def test_every_type_agrees_as_far_as_its_own_float32_norms_allow(model_type, answer, path):
    expected = naive(model_type, answer, path, "right", 2)
    for dtype, tolerance in (("float64", EXACT[model_type]), ("float32", 1e-5)):
        lm = tiny_model(model_type, dtype)
        method = AttributionMethod("delta", path=path, steps=2)
        scores = scores_of(lm, example(lm, answer), method, replace(method, name="full", multiplier="full"))
        assert max(relative_error(scores[factor], expected[factor]) for factor in scores) <= tolerance


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
    assert relative_error(scores["bkn"], np.array(expected)) <= 1e-10
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
    assert relative_error(scores_of(lm, query, method)["amig"], np.array(expected)) <= 1e-10


@pytest.mark.parametrize("path", ["per_token", "mean_path"])
@pytest.mark.parametrize("model_type", ["bert", "gpt2"])
def test_special_tokens_and_masks_are_replaced_on_demand_only(model_type, path):
    lm = tiny_model(model_type, "float64")
    method = AttributionMethod("own", path=path, steps=2)
    scores = scores_of(lm, example(lm, SEVERAL_TOKENS), method, replace(method, name="all", replace_special=True))
    for name, is_special in (("own", False), ("all", True)):
        expected = naive(model_type, SEVERAL_TOKENS, path, "right", 2, is_special=is_special)["delta"]
        assert relative_error(scores[name], expected) <= 1e-10
    assert relative_error(scores["own"], scores["all"]) > 1e-3


def test_log_probability_is_an_objective_of_its_own():
    lm = tiny_model("bert", "float64")
    prob = AttributionMethod("prob", path="zero", rule="gauss", steps=20)
    found = attribute(lm, example(lm, SEVERAL_TOKENS), [prob, replace(prob, name="logprob", objective="logprob")], 64)
    lost = found.records["prob"].sums.signed  # P(query) - P(neurons of the layer at zero)
    expected = -np.log1p(-lost / found.p)  # log P(query) - log P(neurons of the layer at zero)
    np.testing.assert_allclose(found.records["logprob"].sums.signed, expected, rtol=1e-6)
    assert found.completeness["logprob"].max() <= 1e-6


@pytest.mark.parametrize("model_type", ["bert", "gpt2", "llama"])
def test_delta_is_complete_with_many_steps_and_the_full_activation_is_not(model_type):
    lm = tiny_model(model_type, "float64")
    delta = AttributionMethod("delta", steps=200)
    found = attribute(lm, example(lm), [delta, replace(delta, name="full", multiplier="full")], 256)
    assert found.completeness["delta"].max() <= 0.01
    assert np.isnan(found.completeness["full"]).all()
    change = found.records["delta"].sums.signed  # within 1 % of sum_i F(a) - F(b_i)
    assert completeness_error(found.scores["full"], change, found.p / 1000).max() > 0.1
    many_points = attribute(lm, example(lm), [replace(delta, rule="gauss", steps=20)], 256)
    assert many_points.completeness["delta"].max() <= 1e-5


@pytest.mark.parametrize(("objective", "per_baseline"), [("prob", None), ("logprob", 1.0)])
def test_an_effect_is_measured_against_the_probability_or_one_nat_per_baseline(objective, per_baseline):
    lm = tiny_model("bert", "float64")
    query = example(lm, SEVERAL_TOKENS)
    method = AttributionMethod("x", steps=2, objective=objective)
    found, log_p = integrals(lm, readouts(query)[0], [method.integral], 64)
    expected = len(query.replaceable) * (math.exp(log_p) if per_baseline is None else per_baseline)
    assert found[method.integral].unit == pytest.approx(expected, rel=1e-12)


def test_the_completeness_error_is_relative_to_the_absolute_scores_and_bounded():
    scores = np.array([[3.0, -1.0], [1.0, -1.0], [0.0, 0.0], [0.0, 0.0], [0.0, 1e-9]])
    change = np.array([1.0, 0.5, 0.0, 4.0, 3e-9])
    errors = completeness_error(scores, change, floor=0.001)
    np.testing.assert_allclose(errors, [0.25, 0.25, 0.0, 1.0, 2e-6], rtol=1e-14)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-6)])
@pytest.mark.parametrize("model_type", ["bert", "gpt2", "llama"])
def test_rows_per_batch_change_speed_only(model_type, dtype, tolerance):
    lm = tiny_model(model_type, dtype)
    methods = [replace(preset("bkn"), steps=5), replace(preset("saig"), rule="gauss", steps=2)]
    one, many, odd = (scores_of(lm, example(lm, SEVERAL_TOKENS), *methods, batch_rows=rows) for rows in (1, 64, 7))
    limit = max(tolerance, EXACT[model_type]) if model_type == "llama" else tolerance
    for name in ("bkn", "saig"):
        assert relative_error(many[name], one[name]) <= limit
        assert relative_error(odd[name], one[name]) <= limit


def test_a_causal_prompt_of_a_single_token_has_no_prefix_to_keep():
    lm = tiny_model("gpt2", "float64")
    query = EncodedQuery("f", "en", 0, "causal", (70,), (0,), (71,), (0,))
    found = scores_of(lm, query, AttributionMethod("x", steps=2))["x"]
    assert relative_error(found, naive_scores(lm, query, "per_token", "right", 2)["delta"]) <= 1e-10


@pytest.mark.parametrize("model_type", ["bert", "gpt2", "llama"])
def test_the_probability_is_the_product_over_the_answer(model_type):
    lm = tiny_model(model_type, "float64")
    query = example(lm, SEVERAL_TOKENS)
    logits = lm.model(torch.tensor([query.input_ids])).logits[0].softmax(-1)
    expected = math.prod(logits[at, word].item() for at, word in zip(query.positions, query.targets, strict=True))
    found = attribute(lm, query, [preset("bkn")], 64)
    assert found.p == pytest.approx(expected, rel=1e-6 if model_type == "llama" else 1e-10)
    assert (found.n_positions, found.n_tokens) == (len(query.targets), len(query.input_ids))


def test_the_record_counts_baselines_and_points():
    lm = tiny_model("bert", "float64")
    record = attribute(lm, example(lm), [AttributionMethod("x", rule="trapezoid", steps=5)], 64).records["x"]
    n_replaced = len(example(lm).replaceable)
    assert record.n_baselines == n_replaced
    assert record.n_points == lm.n_layers * n_replaced * len(quadrature("trapezoid", 5)[0])
