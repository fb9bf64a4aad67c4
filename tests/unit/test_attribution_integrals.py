"""What is known of integrals in closed form, and what their records say."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from knatlas.attribution import AttributionMethod, preset
from knatlas.attribution.engine import attribute, attribute_queries, completeness_error
from knatlas.attribution.evaluation import Evaluated, pieces
from knatlas.attribution.integrals import integrals
from knatlas.attribution.paths import choose
from knatlas.attribution.quadrature import RULES
from knatlas.attribution.routes import choose_route
from tests.naive_attribution import SEVERAL_TOKENS, example, gradient, neurons, parts, relative_error, replaced
from tests.tiny_models import tiny_model

ENGINE_PATHS = ["fast", "general"]


def attributed(lm, query, *methods, path="auto"):
    return attribute_queries(lm, [query], methods, 64, path=path)[0]


class Quadratic:
    """Readouts with log P = w . v + curvature v . v / 2 at one position, in any layer: the gradient is w + curvature v.

    The first of two readouts has two baselines, the second one of them.
    """

    def __init__(self, curvature=1.0, most=3):
        generator = torch.Generator().manual_seed(0)
        draw = lambda *shape: torch.randn(*shape, dtype=torch.float64, generator=generator)  # noqa: E731
        self.weights, self.curvature, self.most = draw(5), curvature, most
        self.clean = [draw(2, 1, 5) for _ in range(3)]
        self.baselines = [draw(2, 2, 1, 5) for _ in range(3)]
        self.chosen = torch.tensor([[True, True], [True, False]])
        self.n_evaluated = 0

    def set_paths(self, starts):
        self.starts = starts

    def function(self, v):
        return (v @ self.weights + self.curvature * (v**2).sum(-1) / 2).sum(-1), self.weights + self.curvature * v

    def evaluate(self, asked, with_gradient):
        for part in pieces([nodes.size for nodes in asked], self.most):
            for layer, (nodes, columns) in enumerate(zip(asked, part, strict=True)):
                start, alpha = choose(self.starts[layer], nodes.path[:, columns]), nodes.alpha[:, columns, None, None]
                log_p, values = self.function(start + alpha * (self.clean[layer][:, None] - start))
                self.n_evaluated += values.shape[0] * values.shape[1] * with_gradient
                yield Evaluated(layer, columns, log_p, values if with_gradient else None)

    def end(self, layer):
        return self.function(self.clean[layer])[1]

    def log_p(self):
        return torch.zeros(2, dtype=torch.float64)

    def lift(self, layer, sums):
        return sums


def starts_of(readouts, path, layer, readout):
    """The baselines of one readout, (paths, neurons)."""
    own = readouts.baselines[layer][readout, readouts.chosen[readout], 0]
    return {"zero": torch.zeros_like(own[:1]), "per_token": own, "mean_path": own.mean(0, keepdim=True)}[path]


# where the rule's mean node lies: all that a linear gradient sees of a rule
MIDDLE = {rule: {"right": 0.625, "left": 0.375}.get(rule, 0.5) for rule in RULES}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("path", ["zero", "per_token", "mean_path"])
def test_integrals_of_a_quadratic_are_those_in_closed_form(path, rule):
    readouts = Quadratic()
    method = AttributionMethod("x", path=path, rule=rule, steps=4, objective="logprob")
    found, _ = integrals(readouts, {method: readouts.chosen}, with_changes=False, is_smooth=True)
    for readout, integral in enumerate(found[method]):
        for layer in range(3):
            clean, starts = readouts.clean[layer][readout], starts_of(readouts, path, layer, readout)
            gradients = readouts.weights + starts + MIDDLE[rule] * (clean - starts)
            np.testing.assert_allclose(integral.delta[layer], ((clean - starts) * gradients).sum(0), rtol=1e-12)
            np.testing.assert_allclose(integral.full[layer], (clean[0] * gradients.sum(0)), rtol=1e-12)
        assert integral.n_baselines == len(starts)
        assert integral.n_points == 3 * (1 + len(starts) * (4 - (rule in ("right", "linspace"))))
        assert integral.n_zero_gradients == integral.n_fallbacks == 0 and np.isnan(integral.change).all()


def test_integrals_of_a_linear_function_are_weight_times_difference_for_any_number_of_steps():
    for rule in RULES:
        for steps in (2, 7):
            readouts = Quadratic(curvature=0.0)
            method = AttributionMethod("x", path="zero", rule=rule, steps=steps, objective="logprob")
            found, _ = integrals(readouts, {method: readouts.chosen}, with_changes=False, is_smooth=True)
            for readout, integral in enumerate(found[method]):
                expected = torch.stack([clean[readout, 0] * readouts.weights for clean in readouts.clean])
                np.testing.assert_allclose(integral.delta, expected, rtol=1e-12)


def test_methods_of_one_call_share_no_points_and_change_no_sums():
    methods = [
        AttributionMethod("a", path="zero", steps=4, objective="logprob"),
        AttributionMethod("b", path="per_token", rule="gauss", steps=3, objective="logprob"),
        AttributionMethod("c", path="mean_path", rule="left", steps=2, objective="logprob"),
    ]
    together = Quadratic(most=5)
    found, _ = integrals(together, dict.fromkeys(methods, together.chosen), with_changes=True, is_smooth=True)
    for method in methods:
        alone = Quadratic(most=100)
        (expected,) = integrals(alone, {method: alone.chosen}, with_changes=True, is_smooth=True)[0].values()
        for one, other in zip(found[method], expected, strict=True):
            np.testing.assert_allclose(one.delta, other.delta, rtol=1e-13)
            np.testing.assert_allclose(one.change, other.change, rtol=1e-13)
            assert one.n_points == other.n_points


def test_a_path_of_no_length_has_the_gradient_of_its_end_and_costs_nothing():
    readouts = Quadratic()
    for layer in range(3):
        readouts.baselines[layer][:, 0] = readouts.clean[layer]
    method = AttributionMethod("x", steps=4, objective="logprob")
    found, _ = integrals(readouts, {method: readouts.chosen}, with_changes=False, is_smooth=True)
    assert [integral.n_points for integral in found[method]] == [3 * (1 + 3), 3]
    assert [integral.n_full_points for integral in found[method]] == [3 * (1 + 2 * 3), 3 * (1 + 3)]
    for layer in range(3):
        clean = readouts.clean[layer][1, 0]
        np.testing.assert_allclose(found[method][1].full[layer], clean * (readouts.weights + clean), rtol=1e-12)
        assert (found[method][1].delta[layer] == 0).all()


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


@pytest.mark.parametrize("way", ENGINE_PATHS)
@pytest.mark.parametrize(("objective", "per_baseline"), [("prob", None), ("logprob", 1.0)])
def test_an_effect_is_measured_against_the_probability_or_one_nat_per_baseline(objective, per_baseline, way):
    lm = tiny_model("bert", "float64")
    query = example(lm, SEVERAL_TOKENS)
    method = AttributionMethod("x", steps=2, objective=objective).integral
    ((found, log_p),) = choose_route(lm, way)([query], [method], 64, True)
    expected = len(query.replaceable) * (math.exp(log_p[0]) if per_baseline is None else per_baseline)
    assert found[method][0].unit == pytest.approx(expected, rel=1e-12)


def test_the_completeness_error_is_relative_to_the_absolute_scores_and_bounded():
    scores = np.array([[3.0, -1.0], [1.0, -1.0], [0.0, 0.0], [0.0, 0.0], [0.0, 1e-9]])
    change = np.array([1.0, 0.5, 0.0, 4.0, 3e-9])
    errors = completeness_error(scores, change, floor=0.001)
    np.testing.assert_allclose(errors, [0.25, 0.25, 0.0, 1.0, 2e-6], rtol=1e-14)


@pytest.mark.parametrize("model_type", ["bert", "gpt2", "llama"])
def test_the_probability_is_the_product_over_the_answer(model_type):
    lm = tiny_model(model_type, "float64")
    query = example(lm, SEVERAL_TOKENS)
    logits = lm.model(torch.tensor([query.input_ids])).logits[0].softmax(-1)
    expected = math.prod(logits[at, word].item() for at, word in zip(query.positions, query.targets, strict=True))
    found = attribute(lm, query, [preset("bkn")], 64)
    assert found.p == pytest.approx(expected, rel=1e-6 if model_type == "llama" else 1e-10)
    assert (found.n_positions, found.n_tokens) == (len(query.targets), len(query.input_ids))


@pytest.mark.parametrize("way", ENGINE_PATHS)
def test_the_record_counts_baselines_and_points_the_shared_end_once_per_layer(way):
    lm = tiny_model("bert", "float64")
    method = AttributionMethod("x", rule="trapezoid", steps=5)
    record = attributed(lm, example(lm), method, path=way).records["x"]
    n_replaced = len(example(lm).replaceable)
    assert record.n_baselines == n_replaced
    assert record.n_points == record.n_full_points == lm.n_layers * (n_replaced * 5 + 1)
    assert record.n_fallbacks == 0 and (record.error_estimate == 0).all()


@pytest.mark.parametrize("way", ENGINE_PATHS)
@pytest.mark.parametrize("model_type", ["bert", "gpt2"])
def test_attribution_patching_is_the_gradient_at_the_query_times_the_difference_from_one_point_a_layer(model_type, way):
    lm = tiny_model(model_type, "float64")
    query = example(lm)
    (part,) = parts(query)
    sentences = replaced(query, part[0], lm.replacement_id, is_special=False)
    expected = []
    for layer in range(lm.n_layers):
        end = neurons(lm, part[0], part[1], layer, False)
        lost = sum(end - neurons(lm, sentence, part[1], layer, False) for sentence in sentences)
        expected.append((lost * gradient(lm, part, layer, False, end))[0].numpy())
    found = attributed(lm, query, preset("atp"), path=way)
    assert relative_error(found.scores["atp"], np.array(expected)) <= 1e-12
    assert found.records["atp"].n_points == lm.n_layers


@pytest.mark.parametrize("way", ENGINE_PATHS)
@pytest.mark.parametrize("model_type", ["bert", "gpt2"])
def test_without_completeness_the_scores_are_the_same_bits_and_the_error_is_not_a_number(model_type, way):
    lm = tiny_model(model_type)
    query, methods = example(lm, SEVERAL_TOKENS), [preset("bkn"), preset("saig")]
    checked, unchecked = (
        attribute_queries(lm, [query], methods, completeness=flag, path=way)[0] for flag in (True, False)
    )
    for name in ("bkn", "saig"):
        assert (checked.scores[name] == unchecked.scores[name]).all()
        assert np.isfinite(checked.completeness[name]).all() and np.isnan(unchecked.completeness[name]).all()
