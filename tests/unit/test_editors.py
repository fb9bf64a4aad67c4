"""Editors behind one interface: what KN-E, CNE and erasure write, and that the CounterFact experiment undoes it."""

from functools import cache

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.nn.functional import gelu
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from knatlas.attribution.engine import attribute
from knatlas.attribution.methods import preset
from knatlas.errors import AtlasError
from knatlas.experiments.coarse_neurons import coarse_neurons, coarse_set
from knatlas.experiments.counterfact import COLUMNS, askable_requests, edit_records, request_of
from knatlas.experiments.counterfact_settings import CounterfactEdits, editors_of
from knatlas.facts.counterfact import CounterfactRecord
from knatlas.interventions.causal_neuron_edit import CausalNeurons, causal_neurons, cne, literal_neuron
from knatlas.interventions.editing import Edit, EditRequest, edited, prompt_of
from knatlas.interventions.editors import EDITORS, Bench, EditorSettings, make_editors
from knatlas.interventions.key_statistics import measure_key_statistics
from knatlas.interventions.knowledge_edit import KnowledgeEdit, erasure, kn_e, object_replaced
from knatlas.interventions.tracing import Noise, TraceSettings, neuron_effects, trace
from knatlas.interventions.weights import ValueEdit, object_embedding, token_embedding
from knatlas.models.answers import answer_details
from knatlas.models.encoding import encode_prompt
from knatlas.models.language_model import as_language_model
from tests.tiny_models import tiny_model

REQUEST = EditRequest("The capital of {} is", "France", "Paris", "Helsinki", "5")
NEURONS = (np.array([2, 0, 2]), np.array([5, 7, 23]))
KINDS = ["bert", "gpt2", "llama"]
# the network: subject i is followed by object i, which neuron i of the only layer writes
N_FACTS, N_NEURONS, HIDDEN, ACTIVE, WRITTEN = 5, 8, 24, 10.0, 3.0
TRACING = TraceSettings(Noise(2.0, 4), ["mlp"])


def direction(place):
    """One of 12 couples of coordinates of opposite sign, so that a layer norm has no mean to subtract."""
    vector = torch.zeros(HIDDEN)
    vector[2 * place], vector[2 * place + 1] = 1.0, -1.0
    return vector


@cache
def planted():
    """A GPT-2 whose neuron i is active after the subject s{i} and writes the object o{i}; attention adds nothing."""
    places = {f"s{i}": i for i in range(N_FACTS)} | {f"o{i}": N_FACTS + i for i in range(N_FACTS)}
    names = ["[UNK]", "[END]", "is", "the", *places]
    tokenizer = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", eos_token="[END]")
    sizes = {"n_embd": HIDDEN, "n_layer": 1, "n_head": 1, "n_inner": N_NEURONS, "n_positions": 8}
    drops = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    model = GPT2LMHeadModel(GPT2Config(**sizes, **drops, vocab_size=len(names), bos_token_id=1, eos_token_id=1))
    for parameter in model.parameters():
        parameter.data.zero_()
    body, mlp = model.transformer, model.transformer.h[0].mlp
    for name, place in places.items():
        body.wte.weight.data[names.index(name)] = direction(place) + direction(10)
    body.h[0].ln_2.weight.data[:] = body.ln_f.weight.data[:] = (4 / HIDDEN) ** 0.5
    for i in range(N_FACTS):
        mlp.c_fc.weight.data[:, i], mlp.c_fc.bias.data[i] = ACTIVE * direction(i), -ACTIVE
        mlp.c_proj.weight.data[i] = WRITTEN / gelu(torch.tensor(ACTIVE)) * direction(N_FACTS + i)
    mlp.c_proj.weight.data[N_FACTS:] = direction(11)
    return as_language_model("planted", model, fast, revision="by hand")


def planted_record(i=1, **changes):
    texts = {"prompt": "the {}", "subject": f"s{i}", "target_true": f"o{i}", "target_new": f"o{(i + 2) % N_FACTS}"}
    lists = {"paraphrases": (f"is the s{i}",), "neighbours": (f"the s{(i + 1) % N_FACTS}",)}
    return CounterfactRecord(**{"case": i, "fact": f"f{i}", "relation": "P1", **texts, **lists, **changes})


def kept(lm):
    return {name: value.clone() for name, value in lm.model.state_dict().items()}


def is_untouched(lm, before):
    return all(torch.equal(value, before[name]) for name, value in lm.model.state_dict().items())


def vectors(lm, neurons=NEURONS):
    return [lm.value_vector(layer, index).clone() for layer, index in zip(*neurons, strict=True)]


def changed(lm, edit):
    """The value vectors of NEURONS before and inside an edit."""
    before = vectors(lm)
    with edited(lm, edit):
        return before, vectors(lm)


@pytest.mark.parametrize("model_type", KINDS)
def test_kn_e_subtracts_the_true_and_adds_the_new_object_at_the_length_of_each_value_vector(model_type):
    lm = tiny_model(model_type, "float64")
    edit = kn_e(lambda lm, request: NEURONS, KnowledgeEdit())(lm, REQUEST)
    old, new = (object_embedding(lm, label) for label in ("Paris", "Helsinki"))
    assert edit.n_neurons == 3 and edit.layer is None
    for before, after in zip(*changed(lm, edit), strict=True):
        expected = before + before.norm() * (8 * new / new.norm() - old / old.norm())
        torch.testing.assert_close(after, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("model_type", KINDS)
def test_raw_scaling_and_other_factors_are_those_of_the_settings(model_type):
    lm = tiny_model(model_type, "float64")
    settings = KnowledgeEdit(lambda1=0.5, lambda2=3.0, scaling="raw")
    old, new = (object_embedding(lm, label) for label in ("Paris", "Helsinki"))
    for before, after in zip(*changed(lm, object_replaced(lm, REQUEST, NEURONS, settings)), strict=True):
        torch.testing.assert_close(after, before - 0.5 * old + 3 * new, rtol=1e-10, atol=1e-12)


def first_said(lm):
    """The token that the model finds most probable behind the prompt, from its plain forward pass."""
    query = encode_prompt(lm, prompt_of(REQUEST, "Paris", lm.kind))
    logits = lm.model(torch.tensor([query.input_ids])).logits[0, query.positions[0]]
    return int(logits.argmax())


@pytest.mark.parametrize("model_type", KINDS)
def test_subtract_argmax_takes_the_first_token_that_the_model_would_say(model_type):
    lm = tiny_model(model_type, "float64")
    settings = KnowledgeEdit(subtract="argmax", scaling="raw")
    said, new = token_embedding(lm, [first_said(lm)]), object_embedding(lm, "Helsinki")
    for before, after in zip(*changed(lm, object_replaced(lm, REQUEST, NEURONS, settings)), strict=True):
        torch.testing.assert_close(after, before - said + 8 * new, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("model_type", KINDS)
def test_preset_code_is_minus_twice_what_the_model_says_plus_the_sum_over_the_new_tokens(model_type):
    lm = tiny_model(model_type, "float64")
    tokens = encode_prompt(lm, prompt_of(REQUEST, "Helsinki", lm.kind)).targets
    assert len(tokens) > 1
    matrix = lm.model.get_output_embeddings().weight
    written = matrix[list(tokens)].sum(0) - 2 * matrix[first_said(lm)]
    edit = object_replaced(lm, REQUEST, NEURONS, KnowledgeEdit(lambda1=5, scaling="norm", preset="code"))
    for before, after in zip(*changed(lm, edit), strict=True):
        torch.testing.assert_close(after, before + written, rtol=1e-10, atol=1e-12)


def test_without_neurons_an_edit_changes_nothing():
    nothing = (np.zeros(0, int), np.zeros(0, int))
    for editor in (kn_e(lambda lm, request: nothing, KnowledgeEdit()), erasure(lambda lm, request: nothing)):
        edit = editor(tiny_model("gpt2"), REQUEST)
        assert edit.values == () and edit.n_neurons == 0 and edit.layer is None


@pytest.mark.parametrize("model_type", KINDS)
def test_erasure_sets_the_value_vectors_to_zero(model_type):
    lm = tiny_model(model_type)
    _, after = changed(lm, erasure(lambda lm, request: NEURONS)(lm, REQUEST))
    assert all(not vector.any() for vector in after)


@pytest.mark.parametrize("wrong", [{"scaling": "nrm"}, {"subtract": "argmin"}, {"preset": "cod"}, {"embedding": "in"}])
def test_a_word_that_is_not_allowed_is_refused_with_its_setting(wrong):
    with pytest.raises(AtlasError, match=f"counterfact: {next(iter(wrong))} is '{next(iter(wrong.values()))}'"):
        KnowledgeEdit(**wrong)


@pytest.mark.parametrize("model_type", KINDS)
def test_coarse_sets_are_the_scores_above_the_ratio_of_the_largest(model_type):
    lm = tiny_model(model_type, "float64")
    requests = [REQUEST, EditRequest("Hungary: {} is", "the capital", "Budapest", "Paris")]
    found = coarse_neurons(lm, requests, ratio=0.2, steps=5)
    for request in requests:
        query = encode_prompt(lm, prompt_of(request, request.target_true, lm.kind))
        method = preset("bkn")
        scores = attribute(lm, query, [type(method)(**{**vars(method), "steps": 5})]).scores["bkn"]
        layers, indices = np.nonzero(scores > 0.2 * scores.max())
        np.testing.assert_array_equal(found[request], (layers, indices))
        assert 0 < len(layers) < scores.size


def test_a_coarse_set_without_a_positive_score_is_empty():
    layers, indices = coarse_set(-np.ones((2, 3)), 0.2)
    assert len(layers) == len(indices) == 0


def test_the_coarse_set_of_a_planted_fact_is_its_neuron_and_kn_e_makes_the_model_say_the_new_object():
    lm, request = planted(), request_of(planted_record())
    found = coarse_neurons(lm, [request])
    np.testing.assert_array_equal(found[request], ([0], [1]))
    query = encode_prompt(lm, prompt_of(request, "o3", lm.kind))
    assert not answer_details(lm, [query])["is_argmax"].iat[0]
    edit = kn_e(lambda _, request: found[request], KnowledgeEdit())(lm, request)
    with edited(lm, edit):
        assert answer_details(lm, [query])["is_argmax"].iat[0]
    assert edit.layer == 0


def test_preset_code_attributes_the_object_without_its_blank_and_before_the_non_linearity():
    lm = tiny_model("gpt2", "float64")
    (found,) = coarse_neurons(lm, [REQUEST], steps=5, equations="code").values()
    row = prompt_of(REQUEST, "Paris", "causal")
    row.separator = ""
    method = preset("bkn", "code", "causal")
    scores = attribute(lm, encode_prompt(lm, row), [type(method)(**{**vars(method), "steps": 5})]).scores["bkn"]
    np.testing.assert_array_equal(found, np.nonzero(scores > 0.2 * scores.max()))
    assert method.neuron_site == "pre_activation"


def test_cne_finds_the_planted_neuron_at_the_subject():
    neurons, details = causal_neurons(planted(), request_of(planted_record()), TRACING, 1)
    np.testing.assert_array_equal(neurons, ([0], [1]))
    assert (details["position"], details["layer"]) == (1, 0)
    assert 0 < details["neuron_effect"] <= 1 and details["state_effect"] > 0


def test_cne_writes_the_formula_of_kn_e_into_its_neuron():
    lm, request = planted(), request_of(planted_record())
    edit = cne(CausalNeurons(), KnowledgeEdit(), TRACING)(lm, request)
    expected = kn_e(lambda lm, request: (np.array([0]), np.array([1])), KnowledgeEdit())(lm, request)
    with edited(lm, expected):
        vector = lm.value_vector(0, 1).clone()
    with edited(lm, edit):
        torch.testing.assert_close(lm.value_vector(0, 1), vector, rtol=0, atol=0)
    assert edit.n_neurons == 1 and set(edit.details) == {"position", "layer", "state_effect", "neuron_effect"}


@pytest.mark.parametrize("model_type", KINDS)
def test_cne_takes_the_neurons_that_bring_back_most_where_the_mlp_brings_back_most(model_type):
    lm = tiny_model(model_type, "float64")
    (layers, indices), _ = causal_neurons(lm, REQUEST, TRACING, 3)
    prompt = prompt_of(REQUEST, "Paris", lm.kind)
    effects = trace(lm, prompt, "France", TRACING).effect("mlp")
    position, layer = np.unravel_index(effects.argmax(), effects.shape)
    each = neuron_effects(lm, prompt, "France", TRACING, int(layer), int(position))
    assert set(layers) == {layer} and len(indices) == 3
    np.testing.assert_array_equal(each[indices], np.sort(each)[::-1][:3])


def test_cne_edits_nothing_where_no_restoration_brings_anything_back():
    lm = tiny_model("gpt2", "float64")
    # every token is as probable as any other, whatever is restored
    lm.model.get_output_embeddings().weight.data.zero_()
    edit = cne(CausalNeurons(), KnowledgeEdit(), TRACING)(lm, REQUEST)
    assert edit.n_neurons == 0 and edit.values == () and edit.details["state_effect"] <= 0


def test_code_literal_takes_the_position_for_the_layer_and_the_layer_for_the_index():
    lm = tiny_model("gpt2", "float64")
    request = EditRequest("{} is", "France", "Paris", "Helsinki")
    tracing = TraceSettings(Noise(2.0, 4), ["block"])
    effects = trace(lm, prompt_of(request, "Paris", "causal"), "France", tracing).effect("block")
    position, layer = np.unravel_index(effects.argmax(), effects.shape)
    neurons, details = literal_neuron(lm, request, TRACING, 1)
    assert (details["position"], details["layer"]) == (position, layer)
    if position < lm.n_layers:
        np.testing.assert_array_equal(neurons, ([position], [layer]))
    else:
        assert len(neurons[0]) == 0


def test_code_literal_finds_nothing_where_there_is_no_such_layer():
    # the subject is the second token, and the model has one layer
    neurons, details = literal_neuron(planted(), request_of(planted_record()), TRACING, 1)
    assert len(neurons[0]) == 0 and details["position"] == 1


def test_cne_settings_are_checked():
    with pytest.raises(AtlasError, match="cne_variant is 'neuron'"):
        CausalNeurons("neuron")
    with pytest.raises(AtlasError, match="cne_top_k is 0"):
        CausalNeurons(top_k=0)


def bench(lm, **changes):
    parts = {"settings": EditorSettings(), "neurons_of": lambda lm, request: NEURONS, "tracing": TRACING}
    return Bench(lm, **{**parts, **changes})


def test_every_editor_is_made_by_its_name_in_their_order():
    lm = tiny_model("gpt2")
    statistics = measure_key_statistics(lm, ["The capital of France is Paris."] * 4, [1])
    names = ["erase", *sorted(set(EDITORS) - {"erase"})]
    told = []
    assert list(make_editors(bench(lm, statistics=statistics), names, told.append)) == names
    assert told == ["tiny-gpt2: rome and rome_last both edit layer 1 of its 3"]


def test_an_unknown_or_repeated_editor_is_refused():
    with pytest.raises(AtlasError, match=r"counterfact: editors is 'kne'; expected an editor .* Did you mean 'kn_e'"):
        make_editors(bench(tiny_model("gpt2")), ["kne"])
    with pytest.raises(AtlasError, match="expected each once"):
        make_editors(bench(tiny_model("gpt2")), ["cne", "cne"])


def test_rome_is_left_out_for_masked_models_with_a_sentence():
    told = []
    editors = make_editors(bench(tiny_model("bert")), ["kn_e", "rome", "cne", "rome_last", "erase"], told.append)
    assert list(editors) == ["kn_e", "cne", "erase"]
    assert told == ["tiny-bert is a masked model: rome and rome_last left out, which edit causal models only"]


def test_rome_without_key_statistics_is_a_sentence():
    with pytest.raises(AtlasError, match="rome needs the second moment of the keys"):
        make_editors(bench(tiny_model("gpt2")), ["rome"])


def test_settings_of_the_experiment_are_checked_before_anything_runs():
    for wrong in ({"editors": ["kne"]}, {"ratio": 1.0}, {"scaling": "x"}, {"cne_top_k": 0}, {"rome": {"steps": 0}}):
        with pytest.raises(AtlasError):
            CounterfactEdits(**wrong)


def test_experiment_measures_before_and_after_each_editor_and_leaves_the_model_as_it_was():
    lm, records = planted(), [planted_record(1), planted_record(2)]
    before = kept(lm)
    settings = CounterfactEdits(editors=["kn_e", "cne", "erase"], noise=2.0, samples=3)
    editors = editors_of(lm, askable_requests(lm, records), settings)
    table = edit_records(lm, records, editors)
    assert is_untouched(lm, before) and list(table.columns) == COLUMNS
    assert list(dict.fromkeys(table["editor"])) == ["none", "kn_e", "cne", "erase"]
    assert len(table) == 4 * 2 * 3 and set(table["n_neurons"]) == {0, 1}
    none = table[table["editor"] == "none"]
    assert (none["nll_true"] == none["nll_true_before"]).all() and (none["nll_new"] == none["nll_new_before"]).all()
    assert none["layer"].isna().all() and (table.loc[table["editor"] == "kn_e", "layer"] == 0).all()


def test_experiment_rewrites_the_planted_facts_and_leaves_their_neighbours():
    lm, records = planted(), [planted_record(i) for i in range(N_FACTS)]
    settings = CounterfactEdits(editors=["kn_e", "erase"], noise=2.0)
    table = edit_records(lm, records, editors_of(lm, askable_requests(lm, records), settings))
    own, others = table[table["prompt_kind"] != "neighborhood"], table[table["prompt_kind"] == "neighborhood"]
    none, edited_rows = (own[own["editor"] == name] for name in ("none", "kn_e"))
    assert (none["nll_true"] < none["nll_new"]).all() and (edited_rows["nll_true"] > edited_rows["nll_new"]).all()
    erased = own[own["editor"] == "erase"]
    assert (erased["nll_true"] > erased["nll_true_before"] + 0.5).all()
    np.testing.assert_allclose(others["nll_true"], others["nll_true_before"], atol=1e-4)


def test_results_do_not_depend_on_the_rows_of_a_batch_or_on_the_other_records():
    lm = tiny_model("gpt2", "float64")
    texts = {"prompt": REQUEST.prompt, "target_true": "Paris", "target_new": "Helsinki"}
    records = [planted_record(i, subject=name, **texts) for i, name in enumerate(["France", "Finland", "Hungary"])]
    settings = CounterfactEdits(editors=["kn_e", "cne"], steps=3, samples=2)

    def numbers(records, batch_rows):
        editors = editors_of(lm, askable_requests(lm, records), settings, batch_rows=batch_rows)
        table = edit_records(lm, records, editors, batch_rows=batch_rows)
        return table[table["case"] == 1].reset_index(drop=True)

    all_of_them, alone = numbers(records, 64), numbers(records[1:2], 1)
    assert list(all_of_them["n_neurons"]) == list(alone["n_neurons"])
    for column in COLUMNS[8:12]:
        np.testing.assert_allclose(all_of_them[column], alone[column], rtol=1e-9)


def test_records_that_cannot_be_asked_are_left_out_and_counted():
    lm, told = planted(), []
    records = [
        planted_record(1),
        planted_record(2, paraphrases=("is " * 9 + "the s2",)),
        planted_record(3, target_new="o99"),
    ]
    settings = CounterfactEdits(editors=["kn_e"], noise=2.0)
    assert [request.case for request in askable_requests(lm, records)] == ["1"]
    table = edit_records(lm, records, editors_of(lm, askable_requests(lm, records), settings), log=told.append)
    by_case = table.groupby("case")[["is_left_out", "is_too_long"]].agg(["min", "max"]).to_numpy().tolist()
    assert by_case == [[False] * 4, [True] * 4, [True, True, False, False]]
    left_out = table[table["is_left_out"]]
    assert left_out[["nll_true", "nll_new", "nll_true_before", "nll_new_before"]].isna().all(axis=None)
    assert len(told) == 2 and "record 2 is left out" in told[0] and "record 3 is left out" in told[1]


def test_when_no_record_can_be_asked_there_is_a_sentence():
    with pytest.raises(AtlasError, match="none of the 1 records can be asked; record 1 is left out"):
        edit_records(planted(), [planted_record(target_new="o99")], {})


def test_an_edit_without_neurons_leaves_the_numbers_of_before():
    table = edit_records(planted(), [planted_record()], {"empty": lambda lm, request: Edit((), 0, None)})
    empty = table[table["editor"] == "empty"]
    assert (empty["nll_true"] == empty["nll_true_before"]).all() and (empty["n_neurons"] == 0).all()


def test_an_editor_that_fails_leaves_the_model_as_it_was():
    lm = planted()
    before = kept(lm)

    def broken(current, original):
        raise AtlasError("no such change")

    values = (ValueEdit(np.array([0, 0]), np.array([1, 2]), broken),)
    with pytest.raises(AtlasError, match="no such change"):
        edit_records(lm, [planted_record()], {"broken": lambda lm, request: Edit(values, 2, 0)})
    assert is_untouched(lm, before)


@pytest.mark.parametrize("model_type", KINDS)
def test_every_editor_works_on_every_kind_of_model_that_it_is_for(model_type):
    lm = tiny_model(model_type)
    before, n_editors = kept(lm), 4 if model_type == "bert" else 6
    record = planted_record(prompt=REQUEST.prompt, subject="France", target_true="Paris", target_new="Helsinki")
    statistics = measure_key_statistics(lm, ["The capital of France is Paris."] * 8, [1])
    settings = CounterfactEdits(editors=list(EDITORS), steps=3, samples=2, rome={"steps": 3})
    editors = editors_of(lm, askable_requests(lm, [record]), settings, statistics)
    table = edit_records(lm, [record], editors)
    assert table["editor"].nunique() == n_editors and is_untouched(lm, before)
    assert np.isfinite(table[["nll_true", "nll_new"]].to_numpy()).all()
    moved = table[table["editor"] != "none"].groupby("editor")[["nll_new", "nll_new_before"]].first()
    assert (moved["nll_new"] != moved["nll_new_before"]).all()
