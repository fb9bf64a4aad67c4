"""Bodies in half precision: the fast path keeps residual streams, logits and sums in float32."""

from copy import deepcopy

import numpy as np
import pytest
import torch

from knatlas.attribution import AttributionMethod
from knatlas.attribution.engine import attribute_queries
from knatlas.attribution.sweep import Sweep
from knatlas.models.blocks import network_of
from knatlas.models.language_model import as_language_model
from tests.naive_attribution import ONE_TOKEN, SEVERAL_TOKENS, example, relative_error
from tests.tiny_models import MODEL_TYPES, tiny_model
from tests.trained_models import memorised

METHODS = [AttributionMethod("zero", path="zero", steps=5), AttributionMethod("tokens", steps=5)]
# twice what was measured on these models at most; norms after each part, as in BERT, add up more rounding
LIMITS = {("bfloat16", "masked"): 1e-1, ("bfloat16", "causal"): 5e-2}
LIMITS |= {("float16", "masked"): 2e-2, ("float16", "causal"): 5e-3}
HALF = ["bfloat16", "float16"]


def in_float64(lm):
    """The same rounded weights, computed with in float64."""
    twin = tiny_model(lm.architecture.model_type, str(lm.dtype).removeprefix("torch."))
    return as_language_model(lm.name, twin.model.double(), twin.tokenizer, revision="random")


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_scores_of_the_fast_path_are_float32_and_near_those_of_the_same_weights_in_float64(model_type, dtype):
    lm = tiny_model(model_type, dtype)
    exact = in_float64(lm)
    for answer in (ONE_TOKEN, SEVERAL_TOKENS):
        (found,), (expected,) = (attribute_queries(m, [example(m, answer)], METHODS, path="fast") for m in (lm, exact))
        for method in METHODS:
            scores = found.scores[method.name]
            assert scores.dtype == np.float32
            assert relative_error(scores, expected.scores[method.name]) <= LIMITS[dtype, lm.kind]


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("model_type", ["bert", "gpt2", "llama"])
def test_half_precision_is_taken_by_the_weights_and_float32_by_the_residual_stream(model_type, dtype, monkeypatch):
    lm, seen, read = tiny_model(model_type, dtype), [], Sweep._read

    def watched(self, z, with_gradient):
        log_p, gradient = read(self, z, with_gradient)
        seen.extend(part.dtype for part in (z, log_p, gradient) if part is not None)
        return log_p, gradient

    monkeypatch.setattr(Sweep, "_read", watched)
    attribute_queries(lm, [example(lm)], METHODS, path="fast")
    network = network_of(lm)
    assert set(seen) == {torch.float32} and network.work == torch.float32
    assert network.vocabulary.dtype == network.blocks[0].feed.down.weight.dtype == getattr(torch, dtype)
    place = torch.arange(3)[None]
    assert network.embed(place, place).dtype == torch.float32


@pytest.mark.parametrize("model_type", ["bert", "gpt2", "llama"])
def test_float16_has_more_digits_than_bfloat16(model_type):
    errors = []
    for dtype in HALF:
        lm = tiny_model(model_type, dtype)
        (found,), (expected,) = (attribute_queries(m, [example(m)], METHODS, path="fast") for m in (lm, in_float64(lm)))
        errors.append(relative_error(found.scores["tokens"], expected.scores["tokens"]))
    assert errors[1] < errors[0] / 3


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_float16_keeps_the_digits_of_answers_that_are_nearly_certain(factor):
    trained, queries = memorised("causal")
    twin = deepcopy(trained.model)
    twin.transformer.ln_f.weight.data *= factor  # 1 - p is 3e-3, 9e-7 and 4e-10: float16 ends at 6e-8
    lm, exact = (
        as_language_model("twin", deepcopy(twin).half().to(dtype), trained.tokenizer, revision="trained")
        for dtype in (torch.float16, torch.float64)
    )
    (found,), (expected,) = (attribute_queries(m, queries[:1], METHODS, path="fast") for m in (lm, exact))
    for method in METHODS:
        assert relative_error(found.scores[method.name], expected.scores[method.name]) <= 5e-3


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("model_type", ["bert", "gpt2", "llama"])
def test_the_general_path_takes_half_precision_bodies_too(model_type, dtype):
    lm = tiny_model(model_type, dtype)
    (found,), (expected,) = (
        attribute_queries(m, [example(m)], METHODS, path=way) for m, way in ((lm, "general"), (in_float64(lm), "fast"))
    )
    for method in METHODS:
        assert found.scores[method.name].dtype == np.float32
        assert relative_error(found.scores[method.name], expected.scores[method.name]) <= 2 * LIMITS[dtype, lm.kind]
