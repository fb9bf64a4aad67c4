"""What the engine leaves behind, what it computes once, and what it refuses or counts."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from knatlas.attribution import AttributionMethod, preset
from knatlas.attribution.engine import attribute, attribute_queries
from knatlas.attribution.evaluation import pieces
from knatlas.attribution.general import log_probability
from knatlas.attribution.normalisation import normalise
from knatlas.errors import AtlasError
from tests.naive_attribution import SEVERAL_TOKENS, example
from tests.tiny_models import tiny_model

MODELS = ["bert", "gpt2", "llama"]
ENGINE_PATHS = ["fast", "general"]


def attributed(lm, query, *methods, path="auto"):
    return attribute_queries(lm, [query], methods, 64, path=path)[0]


def operations(lm, query, methods, path):
    """Floating-point operations of one attribution."""
    with FlopCounterMode(display=False) as counter:
        attributed(lm, query, *methods, path=path)
    return counter.get_total_flops()


@pytest.mark.parametrize("path", ENGINE_PATHS)
@pytest.mark.parametrize("model_type", MODELS)
def test_methods_that_differ_in_name_factor_and_norm_cost_no_operation_more(model_type, path):
    lm = tiny_model(model_type)
    query, method = example(lm), replace(preset("saig"), steps=3)
    variants = [replace(method, name=norm, norm=norm) for norm in ("none", "layer_sum", "query_l1")]
    variants.append(replace(method, name="full", multiplier="full"))
    alone = operations(lm, query, [method], path)
    assert operations(lm, query, [method, *variants], path) == alone > 0
    assert operations(lm, query, [method, replace(method, name="left", rule="left")], path) > alone


@pytest.mark.parametrize("norm", ["layer_sum", "layer_l1", "query_l1"])
def test_norms_are_applied_to_the_scores_and_not_to_their_record(norm):
    lm = tiny_model("gpt2")
    method = AttributionMethod("none", steps=3)
    found = attribute(lm, example(lm), [method, replace(method, name="norm", norm=norm)], 64)
    assert (found.scores["norm"] == normalise(found.scores["none"], norm)).all()
    assert (found.scores["norm"] != found.scores["none"]).any()
    for name in ("none", "norm"):
        assert found.records[name].sums.signed.tolist() == found.scores["none"].sum(1, dtype=np.float64).tolist()


def hooks_of(lm):
    return [module for module in lm.model.modules() if module._forward_hooks or module._forward_pre_hooks]


@pytest.mark.parametrize("path", ENGINE_PATHS)
@pytest.mark.parametrize("site", ["down_input", "pre_activation"])
@pytest.mark.parametrize("model_type", MODELS)
def test_the_model_is_left_as_it_was(model_type, site, path):
    lm = tiny_model(model_type)
    query = example(lm, SEVERAL_TOKENS)
    before = {name: value.clone() for name, value in lm.model.state_dict().items()}
    logits = lm.model(torch.tensor([query.input_ids])).logits
    attributed(lm, query, AttributionMethod("x", steps=2, neuron_site=site), path=path)
    assert hooks_of(lm) == []
    assert torch.equal(lm.model(torch.tensor([query.input_ids])).logits, logits)
    assert all(torch.equal(value, before[name]) for name, value in lm.model.state_dict().items())
    assert all(not weight.requires_grad and weight.grad is None for weight in lm.model.parameters())


@pytest.mark.parametrize("path", ENGINE_PATHS)
def test_hooks_are_removed_when_a_pass_fails(path):
    lm = tiny_model("bert")
    query = replace(example(lm), input_ids=(10**6,) * 9)
    with pytest.raises(IndexError):
        attributed(lm, query, preset("bkn"), path=path)
    assert hooks_of(lm) == []


@pytest.mark.parametrize("path", ENGINE_PATHS)
@pytest.mark.parametrize("model_type", MODELS)
def test_the_same_query_gives_the_same_bits(model_type, path):
    lm = tiny_model(model_type)
    methods = [preset("bkn"), preset("saig"), replace(preset("saig"), name="checked", quadrature="checked")]
    first, second = (attributed(lm, example(lm), *methods, path=path) for _ in range(2))
    assert all((first.scores[name] == second.scores[name]).all() for name in ("bkn", "saig", "checked"))


@pytest.mark.parametrize("path", ENGINE_PATHS)
@pytest.mark.parametrize(("sign", "p"), [(1, 1.0), (-1, 0.0)])
def test_all_gradients_are_counted_as_zero_where_p_is_one_or_zero_for_every_digit(sign, p, path):
    lm = tiny_model("gpt2")
    query, method = example(lm), AttributionMethod("x", steps=4)
    record = attributed(lm, query, method, path=path).records["x"]
    assert record.n_zero_gradients == 0 < record.n_points
    lm.model.lm_head.weight = torch.nn.Parameter(torch.zeros_like(lm.model.lm_head.weight), requires_grad=False)
    lm.model.lm_head.bias = torch.nn.Parameter(torch.zeros(lm.n_vocabulary), requires_grad=False)
    lm.model.lm_head.bias[query.targets[0]] = 300.0 * sign
    found = attributed(lm, query, method, path=path)
    assert found.p == pytest.approx(p, abs=1e-45)
    assert found.records["x"].n_zero_gradients == found.records["x"].n_points == record.n_points
    assert (found.scores["x"] == 0).all()


@pytest.mark.parametrize("path", ENGINE_PATHS)
def test_neurons_that_write_nothing_have_no_scores(path):
    lm = tiny_model("bert")
    lm.model.bert.encoder.layer[1].output.dense.weight.data.zero_()
    query = example(lm)
    found = attributed(lm, query, AttributionMethod("x", steps=4), path=path)
    if path == "general":  # the fast path counts gradients of what the neurons write, which are not zero
        assert found.records["x"].n_zero_gradients == 1 + 3 * len(query.replaceable)
    assert (found.scores["x"][1] == 0).all() and found.completeness["x"][1] < 1e-3
    assert (found.scores["x"][0] != 0).any() and (found.scores["x"][2] != 0).any()


@pytest.mark.parametrize("path", ENGINE_PATHS)
def test_scores_that_are_not_finite_are_an_error_that_names_the_query(path):
    lm = tiny_model("gpt2")
    lm.model.transformer.h[2].mlp.c_proj.weight.data[3, 0] = torch.nan
    with pytest.raises(
        AtlasError, match=r"tiny-gpt2, fact P36:FR>Paris, language en, query 0: method 'bkn' gives .* not finite"
    ):
        attributed(lm, example(lm), preset("bkn"), path=path)


@pytest.mark.parametrize("path", ["per_token", "mean_path"])
def test_a_query_without_tokens_of_its_own_is_refused_unless_the_baseline_is_zero(path):
    lm = tiny_model("bert")
    query = replace(example(lm), replaceable=())
    with pytest.raises(AtlasError, match=f"query 0: path '{path}' replaces .* none of its own"):
        attribute(lm, query, [AttributionMethod("x", path=path)], 64)
    assert attribute(lm, query, [AttributionMethod("x", path=path, replace_special=True)], 64).p > 0
    assert attribute(lm, query, [preset("bkn")], 64).p > 0


@pytest.mark.parametrize("methods", [[], [preset("bkn"), replace(preset("bkn"), rule="left")]])
def test_methods_need_names_of_their_own(methods):
    lm = tiny_model("bert")
    with pytest.raises(AtlasError, match="expected at least one, and each name once"):
        attribute(lm, example(lm), methods, 64)


def test_a_negative_number_of_rows_is_refused():
    lm = tiny_model("bert")
    with pytest.raises(AtlasError, match=r"batch_rows is -1; expected a whole number >= 1, or 0"):
        attribute(lm, example(lm), [preset("bkn")], -1)


def test_an_unknown_engine_path_is_refused_and_the_nearest_offered():
    lm = tiny_model("bert")
    with pytest.raises(AtlasError, match=r"'fats'; expected one of \(auto fast general\). Did you mean 'fast'"):
        attribute_queries(lm, [example(lm)], [preset("bkn")], path="fats")


def test_a_model_with_a_part_that_is_not_known_is_attributed_by_hooks_or_refused_with_the_reason():
    lm = tiny_model("gpt2")
    query, methods = example(lm), [replace(preset("bkn"), steps=2)]
    known = attribute_queries(lm, [query], methods, path="general")[0].scores["bkn"]
    lm.model.config.activation_function = "quick_gelu"  # what the blocks read; the modules are as they were
    assert (attribute_queries(lm, [query], methods)[0].scores["bkn"] == known).all()
    with pytest.raises(AtlasError, match=r"tiny-gpt2 has no fast path: .*'quick_gelu'. Use 'auto' or 'general'"):
        attribute_queries(lm, [query], methods, path="fast")


@pytest.mark.parametrize(
    ("sizes", "most"), [((1,), 64), ((64,), 64), ((65,), 64), ((130,), 64), ((7,), 1)]
)  # fmt: skip
def test_pieces_of_one_layer_cover_all_columns_once_and_are_even(sizes, most):
    check_pieces(sizes, most)


@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 0, 1), (19, 19, 19), (0, 5, 2), (3, 0, 0), (40, 1, 7, 7, 0)])
@pytest.mark.parametrize("most", [1, 2, 3, 8, 1000])
def test_pieces_of_many_layers_hold_no_more_than_the_most_and_none_is_empty(sizes, most):
    check_pieces(sizes, most)


def check_pieces(sizes, most):
    parts = list(pieces(sizes, most))
    for layer, size in enumerate(sizes):
        assert [column for part in parts for column in range(size)[part[layer]]] == list(range(size))
    held = [sum(part.stop - part.start for part in of_layers) for of_layers in parts]
    assert min(held) > 0 and max(held) <= most and max(held) - min(held) <= 1
    assert len(parts) == -(-sum(sizes) // most)


def test_pieces_have_their_share_of_every_layer():
    for part in pieces((12, 24, 6), 14):
        assert [columns.stop - columns.start for columns in part] == [4, 8, 2]


def test_no_columns_are_one_empty_piece():
    assert list(pieces((0, 0), 5)) == [[slice(0, 0), slice(0, 0)]]


@pytest.mark.parametrize("margin", [-30.0, 0.0, 16.0, 40.0])
def test_float32_gradients_keep_their_digits_for_hopeless_and_for_certain_answers(margin):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 1, 50, generator=generator)
    logits[..., 7] += margin
    gradients = {}
    for dtype in (torch.float32, torch.float64):
        leaf = logits.to(dtype).requires_grad_()
        (gradients[dtype],) = torch.autograd.grad(log_probability(leaf, (7,)).sum(), leaf)
    torch.testing.assert_close(gradients[torch.float32].double(), gradients[torch.float64], rtol=2e-5, atol=0)


def test_log_probability_is_that_of_the_softmax():
    logits = torch.randn(3, 2, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = logits.log_softmax(-1)[:, [0, 1], [4, 9]].sum(-1)
    torch.testing.assert_close(log_probability(logits, (4, 9)), expected, rtol=1e-13, atol=0)
