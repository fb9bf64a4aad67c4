"""Two places at which a neuron can be read and replaced: before and after the non-linearity."""

import pytest
import torch

from knatlas.attribution import AttributionMethod
from knatlas.attribution.engine import attribute
from knatlas.attribution.general import ReadoutModel, capture
from knatlas.models.encoding import readouts
from tests.naive_attribution import EXACT, SEVERAL_TOKENS, example, naive, relative_error
from tests.tiny_models import MODEL_TYPES, tiny_model


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_the_value_before_the_non_linearity_can_be_the_neuron(model_type):
    lm = tiny_model(model_type, "float64")
    method = AttributionMethod("x", steps=2, neuron_site="pre_activation")
    expected = naive(model_type, SEVERAL_TOKENS, "per_token", "right", 2, is_before=True)["delta"]
    found = attribute(lm, example(lm, SEVERAL_TOKENS), [method], 64).scores["x"]
    assert relative_error(found, expected) <= EXACT[model_type]
    after = naive(model_type, SEVERAL_TOKENS, "per_token", "right", 2)["delta"]
    assert relative_error(found, after) > 1e-2


def test_zeros_at_either_site_are_the_same_and_doubled_values_are_not():
    for model_type in ("bert", "gpt2", "llama"):
        lm = tiny_model(model_type, "float64")
        zero, double = (probabilities_at_sites(lm, factor) for factor in (0.0, 2.0))
        assert zero[0] == pytest.approx(zero[1], rel=1e-6 if model_type == "llama" else 1e-10)
        assert abs(double[0] / double[1] - 1) > 1e-2


def probabilities_at_sites(lm, factor):
    """P with all neurons of layer 1 times `factor`, at the down projection's input and before the non-linearity."""
    (readout,) = readouts(example(lm))
    values = []
    for site in ("down_input", "pre_activation"):
        point = factor * capture(lm, readout, site, (), 64).clean[1:2]
        values.append(ReadoutModel(lm, readout, site).log_p(point, torch.tensor([1])).exp().item())
    return values
