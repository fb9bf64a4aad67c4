"""Agreement with Captum's integrated gradients over one layer's neurons, put into the model by a hook."""

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients

from knatlas.attribution import AttributionMethod
from knatlas.attribution.engine import attribute_queries
from tests.naive_attribution import baseline_paths, example, hooked, neurons, parts, relative_error
from tests.tiny_models import tiny_model

# Captum holds its nodes and weights in float32
TOLERANCE = 1e-6
CAPTUM = {"right": "riemann_right", "gauss": "gausslegendre", "midpoint": "riemann_middle"}


def probability_of(lm, part, layer):
    """P(answer) as a function of the neurons of one layer, for rows of points (rows, neurons)."""
    ids, (position,), (target,) = part

    def function(points):
        def put(value):
            value = value.clone()
            value[:, position] = points
            return value

        with hooked(lm, layer, False, put):
            logits = lm.model(torch.tensor([ids]).expand(len(points), -1)).logits
        return logits[:, position].softmax(-1)[:, target]

    return function


def captum_scores(lm, query, path, rule):
    """Scores of all layers, summed over the baselines, (layers, neurons)."""
    (part,) = parts(query)
    rows = []
    for layer in range(lm.n_layers):
        gradients = IntegratedGradients(probability_of(lm, part, layer))
        end = neurons(lm, part[0], part[1], layer, is_before=False)
        starts = baseline_paths(lm, query, part, layer, path, is_special=False, is_before=False)
        options = {"n_steps": 6, "method": CAPTUM[rule]}
        rows.append(sum(gradients.attribute(end, baselines=start, **options)[0] for start in starts))
    return torch.stack(rows).numpy()


@pytest.mark.parametrize("rule", CAPTUM)
@pytest.mark.parametrize("path", ["zero", "per_token"])
@pytest.mark.parametrize("model_type", ["bert", "gpt2"])
def test_scores_of_both_engine_paths_are_those_of_captum(model_type, path, rule):
    lm = tiny_model(model_type, "float64")
    query = example(lm)
    method, expected = AttributionMethod("x", path=path, rule=rule, steps=6), captum_scores(lm, query, path, rule)
    assert np.abs(expected).max() > 0
    for way in ("fast", "general"):
        scores = attribute_queries(lm, [query], [method], 64, path=way)[0].scores["x"]
        assert relative_error(scores, expected) <= TOLERANCE
