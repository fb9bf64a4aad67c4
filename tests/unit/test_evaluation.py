"""The evaluating function on tiny random models: the right query is run, with its neurons scaled."""

import numpy as np
import pytest

from knatlas.errors import AtlasError
from knatlas.experiments.evaluation import evaluate_with
from knatlas.experiments.manipulation import manipulate
from knatlas.experiments.measurement import Request
from knatlas.models.answers import answer_probabilities
from knatlas.models.encoding import encode_prompts
from knatlas.selection.neuron_set import FoundSet, NeuronSets, as_table
from tests.tiny_models import tiny_model, tiny_prompts

NOTHING = np.zeros(0, dtype=int)


def every_neuron(lm):
    return tuple(axis.ravel() for axis in np.indices((lm.n_layers, lm.n_neurons)))


def first_key(prompts):
    return tuple(prompts[["fact", "language", "query"]].iloc[0])


@pytest.mark.parametrize("model_type", ["bert", "gpt2", "llama"])
def test_unscaled_requests_are_the_answer_probabilities(model_type):
    lm = tiny_model(model_type)
    prompts = tiny_prompts(lm.kind, n_queries=2)
    keys = prompts[["fact", "language", "query"]].itertuples(index=False, name=None)
    p, is_argmax = evaluate_with(lm, prompts, batch_rows=4)([Request(*key, NOTHING, NOTHING, 1.0) for key in keys])
    expected = answer_probabilities(lm, encode_prompts(lm, prompts), batch_rows=4)
    np.testing.assert_allclose(p, expected["p"], rtol=1e-5)
    np.testing.assert_array_equal(is_argmax, expected["is_argmax"])


@pytest.mark.parametrize("kind", ["masked", "causal"])
def test_factor_one_changes_nothing_and_factor_zero_does(kind):
    lm = tiny_model(kind)
    prompts = tiny_prompts(kind)
    key = first_key(prompts)
    requests = [Request(*key, NOTHING, NOTHING, 1.0)] + [Request(*key, *every_neuron(lm), f) for f in (1.0, 0.0, 2.0)]
    clean, same, suppressed, enhanced = evaluate_with(lm, prompts, batch_rows=4)(requests)[0]
    assert same == pytest.approx(clean, rel=1e-5)
    assert abs(suppressed / clean - 1) > 0.01 and abs(enhanced / clean - 1) > 0.01


@pytest.mark.parametrize("kind", ["masked", "causal"])
def test_only_the_fact_with_neurons_changes_in_a_manipulation(kind):
    lm = tiny_model(kind)
    prompts = tiny_prompts(kind, n_queries=2)
    facts = sorted(set(prompts["fact"]))
    table = as_table("matrice", [FoundSet(facts[0], "all", 0, *every_neuron(lm), np.ones(lm.n_layers * lm.n_neurons))])
    sets = NeuronSets(table, "matrice", facts, ["all"], lm.n_layers, lm.n_neurons, origin={"model": {"name": lm.name}})
    rows = manipulate([sets], prompts, evaluate_with(lm, prompts, batch_rows=4))
    is_changed = (rows["p_after"] / rows["p_before"] - 1).abs() > 1e-4
    assert (is_changed == (rows["fact"] == facts[0])).all()


def test_a_query_without_a_prompt_is_a_sentence():
    lm = tiny_model("causal")
    with pytest.raises(AtlasError, match="no causal prompt of fact P9, language en, query 0"):
        evaluate_with(lm, tiny_prompts("causal"), 4)([Request("P9", "en", 0, NOTHING, NOTHING, 1.0)])
