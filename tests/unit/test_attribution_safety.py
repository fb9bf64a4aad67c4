"""What the engine leaves behind, what it computes once, and what it refuses or counts."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from knatlas.attribution import AttributionMethod, preset
from knatlas.attribution.engine import attribute
from knatlas.attribution.general import chunks, log_probability
from knatlas.attribution.normalisation import normalise
from knatlas.errors import AtlasError
from tests.naive_attribution import SEVERAL_TOKENS, example
from tests.tiny_models import tiny_model

MODELS = ["bert", "gpt2", "llama"]


def count_passes(lm, query, methods):
    """Forward passes of the model's body during one attribution."""
    passes = []
    handle = lm.body.register_forward_hook(lambda *_: passes.append(1))
    attribute(lm, query, methods, 64)
    handle.remove()
    return len(passes)


@pytest.mark.parametrize("model_type", MODELS)
def test_methods_that_differ_in_name_factor_and_norm_are_computed_together(model_type):
    lm = tiny_model(model_type)
    query, method = example(lm), replace(preset("saig"), steps=3)
    variants = [replace(method, name=norm, norm=norm) for norm in ("none", "layer_sum", "query_l1")]
    variants.append(replace(method, name="full", multiplier="full"))
    assert count_passes(lm, query, [method, *variants]) == count_passes(lm, query, [method])
    assert count_passes(lm, query, [method, replace(method, name="left", rule="left")]) > count_passes(
        lm, query, [method]
    )


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


@pytest.mark.parametrize("site", ["down_input", "pre_activation"])
@pytest.mark.parametrize("model_type", MODELS)
def test_the_model_is_left_as_it_was(model_type, site):
    lm = tiny_model(model_type)
    query = example(lm, SEVERAL_TOKENS)
    before = {name: value.clone() for name, value in lm.model.state_dict().items()}
    logits = lm.model(torch.tensor([query.input_ids])).logits
    attribute(lm, query, [AttributionMethod("x", steps=2, neuron_site=site)], 64)
    assert hooks_of(lm) == []
    assert torch.equal(lm.model(torch.tensor([query.input_ids])).logits, logits)
    assert all(torch.equal(value, before[name]) for name, value in lm.model.state_dict().items())
    assert all(not weight.requires_grad and weight.grad is None for weight in lm.model.parameters())


def test_hooks_are_removed_when_a_pass_fails():
    lm = tiny_model("bert")
    query = replace(example(lm), input_ids=(10**6,) * 9)
    with pytest.raises(IndexError):
        attribute(lm, query, [preset("bkn")], 64)
    assert hooks_of(lm) == []


def test_the_same_query_gives_the_same_bits():
    lm = tiny_model("gpt2")
    first, second = (attribute(lm, example(lm), [preset("bkn"), preset("saig")], 16) for _ in range(2))
    assert all((first.scores[name] == second.scores[name]).all() for name in ("bkn", "saig"))


def test_gradients_that_are_zero_are_counted():
    lm = tiny_model("bert")
    method = AttributionMethod("x", steps=4)
    assert attribute(lm, example(lm), [method], 64).records["x"].n_zero_gradients == 0
    lm.model.bert.encoder.layer[1].output.dense.weight.data.zero_()
    found = attribute(lm, example(lm), [method], 64)
    assert found.records["x"].n_zero_gradients == 4 * len(example(lm).replaceable)
    assert (found.scores["x"][1] == 0).all() and found.completeness["x"][1] < 1e-3


def test_scores_that_are_not_finite_are_an_error_that_names_the_query():
    lm = tiny_model("gpt2")
    lm.model.transformer.h[2].mlp.c_proj.weight.data[3, 0] = torch.nan
    with pytest.raises(
        AtlasError, match=r"tiny-gpt2, fact P36:FR>Paris, language en, query 0: method 'bkn' gives .* not finite"
    ):
        attribute(lm, example(lm), [preset("bkn")], 64)


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


def test_an_empty_batch_is_refused():
    lm = tiny_model("bert")
    with pytest.raises(AtlasError, match="batch_rows is 0"):
        attribute(lm, example(lm), [preset("bkn")], 0)


@pytest.mark.parametrize(("n_rows", "batch_rows"), [(1, 64), (64, 64), (65, 64), (130, 64), (7, 1)])
def test_chunks_cover_all_rows_once_and_are_even(n_rows, batch_rows):
    parts = [range(n_rows)[part] for part in chunks(n_rows, batch_rows)]
    assert [row for part in parts for row in part] == list(range(n_rows))
    sizes = [len(part) for part in parts]
    assert max(sizes) <= batch_rows and max(sizes) - min(sizes) <= 1
    assert len(parts) == -(-n_rows // batch_rows)


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


@pytest.mark.parametrize("model_type", MODELS)
def test_bfloat16_models_are_attributed_in_float32(model_type):
    lm = tiny_model(model_type, "bfloat16")
    found = attribute(lm, example(lm), [AttributionMethod("x", path="zero")], 64).scores["x"]
    exact = attribute(tiny_model(model_type), example(lm), [AttributionMethod("x", path="zero")], 64).scores["x"]
    assert found.dtype == np.float32
    assert np.linalg.norm(found - exact) < 0.5 * np.linalg.norm(exact)
