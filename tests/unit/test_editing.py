"""The interface of editors: requests, prompts of a request, edits, and nothing that remains of one."""

import numpy as np
import pytest
import torch

from knatlas.errors import AtlasError
from knatlas.interventions.editing import Edit, EditRequest, edit_of, edited, prompt_of
from knatlas.interventions.weights import erase
from knatlas.models.encoding import encode_prompt
from tests.tiny_models import tiny_model

REQUEST = EditRequest("The capital of {} is", "France", "Paris", "Helsinki", "7")


def bits(lm):
    return {name: tensor.clone().view(torch.int32) for name, tensor in lm.model.state_dict().items()}


def test_a_request_fills_its_prompt_and_ends_where_the_answer_comes():
    assert REQUEST.text == "The capital of France is"
    assert EditRequest("{}'s capital is ", "France", "Paris", "Rome").text == "France's capital is"
    assert EditRequest("The capital of {} is", "{}", "Paris", "Rome").text == "The capital of {} is"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"prompt": "The capital is"}, r"request '7': the prompt 'The capital is' has 0 places"),
        ({"prompt": "{} and {} is"}, "has 2 places for the subject; it needs one"),
        ({"target_new": " Helsinki"}, r"target_new is ' Helsinki'; expected a text without blanks"),
        ({"target_true": ""}, "target_true is ''"),
        ({"subject": "France "}, "subject is 'France '"),
    ],
)
def test_requests_that_are_none_are_sentences(change, sentence):
    values = {"prompt": REQUEST.prompt, "subject": "France", "target_true": "Paris", "target_new": "Helsinki"}
    with pytest.raises(AtlasError, match=sentence):
        EditRequest(**{**values, **change}, case="7")


@pytest.mark.parametrize(("kind", "text"), [("causal", "is Helsinki"), ("masked", "is Helsinki .")])
def test_a_row_of_a_request_is_encoded_as_its_sentence(kind, text):
    lm = tiny_model(kind)
    row = prompt_of(REQUEST, "Helsinki", kind)
    assert (row.before + row.separator + row.answer + row.after).endswith(text)
    query = encode_prompt(lm, row)
    assert lm.tokenizer.decode(query.targets).strip() == "Helsinki"
    assert encode_prompt(lm, prompt_of("The capital of France is ", "Helsinki", kind)).input_ids == query.input_ids
    with pytest.raises(AtlasError, match=r"kind of model is 'casual'.*Did you mean 'causal'"):
        prompt_of(REQUEST, "Helsinki", "casual")


@pytest.mark.parametrize("kind", ["causal", "masked"])
def test_an_edit_is_undone_bit_for_bit_also_after_an_exception(kind):
    lm = tiny_model(kind)
    before = bits(lm)
    edit = edit_of(erase((np.array([2, 0]), np.array([5, 7]))))
    with pytest.raises(KeyError), edited(lm, edit):
        assert not lm.value_vector(2, 5).any() and not lm.value_vector(0, 7).any()
        raise KeyError
    assert all(torch.equal(tensor, before[name]) for name, tensor in bits(lm).items())


def test_an_empty_edit_changes_nothing_and_has_no_neurons():
    lm = tiny_model("causal")
    before = bits(lm)
    nothing = (np.zeros(0, int), np.zeros(0, int))
    for edit in (Edit((), 0, None), edit_of(None), edit_of(erase(nothing))):
        assert (edit.values, edit.n_neurons, edit.layer) == ((), 0, None)
        with edited(lm, edit):
            assert all(torch.equal(tensor, before[name]) for name, tensor in bits(lm).items())


def test_an_edit_counts_each_neuron_once_and_names_its_layer_where_there_is_one():
    assert edit_of(erase(([1, 1, 1], [4, 5, 4])), {"p": 0.5}).n_neurons == 2
    assert edit_of(erase(([1, 1], [4, 5]))).layer == 1
    assert edit_of(erase(([1, 0], [4, 5]))).layer is None
