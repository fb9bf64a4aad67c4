"""The growing sweep: rows that join at their layer, against the unmodified model with its neurons' sum replaced."""

import pytest
import torch

from knatlas.attribution import AttributionMethod
from knatlas.attribution.capture import capture_causal, capture_masked
from knatlas.attribution.groups import ReadoutGroup
from knatlas.attribution.sweep import CausalSweep, MaskedSweep
from knatlas.models.blocks import network_of
from tests.naive_attribution import ONE_TOKEN, SEVERAL_TOKENS, example, in_one_row, relative_error
from tests.tiny_models import FLOAT32_NORMS, MODEL_TYPES, tiny_model

FLOAT64 = {name: 1e-5 if name in FLOAT32_NORMS else 1e-12 for name in MODEL_TYPES}
KINDS = ["bert", "gpt2", "llama"]


class Swept:
    """A sweep of some queries, and points around those of the queries themselves: some per layer, all different."""

    def __init__(self, lm, queries, n_points=(3, 1, 2), scale=0.5):
        self.lm, self.network = lm, network_of(lm)
        group = ReadoutGroup(queries, [AttributionMethod("x", path="zero")], 0, lm.device)
        is_causal = lm.kind == "causal"
        capture, sweep = (capture_causal, CausalSweep) if is_causal else (capture_masked, MaskedSweep)
        self.readouts = group.readouts
        layers = capture(self.network, group.group, "down_input")
        self.sweep = sweep(self.network, layers, group.group.positions, group.group.targets)
        self.ends = [block.feed.down(layer.clean) for block, layer in zip(self.network.blocks, layers, strict=True)]
        generator = torch.Generator().manual_seed(0)
        self.points = []
        for end, n in zip(self.ends, n_points, strict=True):
            noise = torch.randn(len(end), n, *end.shape[1:], dtype=torch.float64, generator=generator).to(end.dtype)
            self.points.append(end[:, None] + scale * noise)

    def run(self, points=None, with_gradient=True, is_shared=False):
        return self.sweep.run(self.points if points is None else points, with_gradient, is_shared)


def in_the_model(lm, readout, layer, point):
    """log P and its gradient with `point` (positions, hidden) as what the neurons of a layer write, all by hooks."""
    leaf = point.clone().requires_grad_()

    def put(value):
        value = value.clone()
        value[0, list(readout.positions)] = leaf
        return value

    module = lm.down_projections()[layer]
    handle = module.register_forward_hook(lambda _, __, output: in_one_row(put, output))
    logits = lm.model(torch.tensor([readout.input_ids])).logits[0, list(readout.positions)]
    handle.remove()
    log_p = logits.log_softmax(-1)[torch.arange(len(leaf)), list(readout.targets)].sum()
    return log_p.item(), torch.autograd.grad(log_p, leaf)[0]


@pytest.mark.parametrize("answer", [ONE_TOKEN, SEVERAL_TOKENS])
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_value_and_gradient_of_every_row_are_those_of_the_unmodified_model(model_type, answer):
    lm = tiny_model(model_type, "float64")
    case = Swept(lm, [example(lm, answer)])
    found = case.run()
    for layer, points in enumerate(case.points):
        for number, readout in enumerate(case.readouts):
            for column, point in enumerate(points[number]):
                log_p, gradient = in_the_model(lm, readout, layer, point)
                assert found.log_p[layer][number, column].item() == pytest.approx(log_p, rel=FLOAT64[model_type])
                assert relative_error(found.gradients[layer][number, column], gradient) <= FLOAT64[model_type]


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_the_end_of_every_layer_is_the_query_itself(model_type):
    lm = tiny_model(model_type, "float64")
    case = Swept(lm, [example(lm, SEVERAL_TOKENS)])
    found = case.run([end[:, None] for end in case.ends])
    for number, readout in enumerate(case.readouts):
        logits = lm.model(torch.tensor([readout.input_ids])).logits[0, list(readout.positions)].log_softmax(-1)
        expected = logits[range(len(readout.targets)), list(readout.targets)].sum().item()
        for log_p in found.log_p:
            assert log_p[number, 0].item() == pytest.approx(expected, rel=FLOAT64[model_type])


@pytest.mark.parametrize("n_points", [(3, 1, 2), (0, 0, 0), (0, 2, 1), (0, 0, 3)])
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_one_shared_row_has_the_gradient_of_every_layers_own_end(model_type, n_points):
    lm = tiny_model(model_type, "float64")
    case = Swept(lm, [example(lm, SEVERAL_TOKENS)], n_points)
    own = torch.cat(case.run([end[:, None] for end in case.ends]).gradients, dim=1)
    points = [torch.cat((case.ends[0][:, None], case.points[0]), dim=1), *case.points[1:]]
    found = case.run(points, is_shared=True)
    torch.testing.assert_close(found.shared, own, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(found.gradients[0][:, 0], own[:, 0], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("kept", [(0,), (1,), (2,), (0, 2), (1, 2)])
@pytest.mark.parametrize("model_type", KINDS)
def test_rows_do_not_know_of_each_other_and_layers_may_have_none(model_type, kept):
    lm = tiny_model(model_type, "float64")
    case = Swept(lm, [example(lm, SEVERAL_TOKENS)])
    everything = case.run()
    some = case.run([points if layer in kept else points[:, :0] for layer, points in enumerate(case.points)])
    for layer in kept:
        torch.testing.assert_close(some.log_p[layer], everything.log_p[layer], rtol=1e-12, atol=0)
        torch.testing.assert_close(some.gradients[layer], everything.gradients[layer], rtol=1e-11, atol=1e-13)
    for layer in {0, 1, 2} - set(kept):
        assert some.log_p[layer].shape[1] == some.gradients[layer].shape[1] == 0


@pytest.mark.parametrize("model_type", KINDS)
def test_points_in_another_order_give_results_in_that_order(model_type):
    lm = tiny_model(model_type, "float64")
    case = Swept(lm, [example(lm)])
    forward, backward = case.run(), case.run([points.flip(1) for points in case.points])
    for layer in range(lm.n_layers):
        torch.testing.assert_close(backward.log_p[layer].flip(1), forward.log_p[layer], rtol=1e-12, atol=0)
        torch.testing.assert_close(backward.gradients[layer].flip(1), forward.gradients[layer], rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("model_type", KINDS)
def test_without_gradient_the_values_are_the_same_and_nothing_is_kept(model_type):
    lm = tiny_model(model_type)
    case = Swept(lm, [example(lm)])
    found, values = case.run(), case.run(with_gradient=False)
    assert values.gradients is None and values.shared is None
    for one, other in zip(found.log_p, values.log_p, strict=True):
        assert torch.equal(one, other) and not other.requires_grad


@pytest.mark.parametrize("model_type", [name for name in MODEL_TYPES if tiny_model(name).kind == "causal"])
def test_queries_of_other_lengths_in_the_sweep_change_nothing(model_type):
    lm = tiny_model(model_type, "float64")
    queries = [example(lm, answer, query) for query in (0, 1, 2) for answer in (ONE_TOKEN, SEVERAL_TOKENS)]
    together, first = Swept(lm, queries), 0
    found = together.run()
    for query in queries:
        alone = Swept(lm, [query])
        part = slice(first, first + len(alone.readouts))
        expected = alone.run([points[part] for points in together.points])
        for layer in range(lm.n_layers):
            torch.testing.assert_close(found.log_p[layer][part], expected.log_p[layer], rtol=1e-11, atol=0)
            torch.testing.assert_close(found.gradients[layer][part], expected.gradients[layer], rtol=1e-10, atol=1e-12)
        first = part.stop


def test_a_sweep_leaves_no_gradient_at_the_weights():
    for model_type in KINDS:
        lm = tiny_model(model_type)
        Swept(lm, [example(lm)]).run()
        assert all(weight.grad is None and not weight.requires_grad for weight in lm.model.parameters())
