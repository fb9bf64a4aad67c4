"""Facts erased and updated in the weights: Eq. 15, what it does to a network written by hand, and nothing remains."""

from copy import deepcopy
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.nn.functional import gelu
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from knatlas.errors import AtlasError
from knatlas.experiments import edit_answers
from knatlas.experiments.edit_targets import new_objects, plan_edit_probes
from knatlas.experiments.weight_edits import COLUMNS, RANKED_COLUMNS, WeightEdits, edit_facts
from knatlas.facts.table import PROMPT_COLUMNS
from knatlas.interventions import weights
from knatlas.interventions.weights import (
    ValueEdit,
    edited_values,
    erase,
    object_embedding,
    token_embedding,
    update,
)
from knatlas.models.answers import answer_details, answer_probabilities, known_facts
from knatlas.models.encoding import encode_prompt, encode_prompts
from knatlas.models.language_model import as_language_model
from knatlas.selection.neuron_set import FoundSet, NeuronSets, as_table
from knatlas.statistics.weight_edits import TABLE_COLUMNS, EditSummary, summarise_edits
from tests.tiny_models import tiny_model, tiny_prompts

SHAPES = [("bert", True), ("bert", False), ("gpt2", True), ("gpt2", False), ("llama", True), ("llama", False)]
NEURONS = (np.array([2, 0, 2]), np.array([5, 7, 23]))
# the network: facts of two relations, each held by the neuron of its number in the only layer, and two plain neurons
RELATIONS = {"P1": [0, 1, 2, 3], "P2": [4, 5]}
FACTS = {f"{relation}:s{i}>o{i}": i for relation, numbers in RELATIONS.items() for i in numbers}
SAME_LABEL = 3  # the object with one label in both languages
N_FACTS, N_NEURONS, HIDDEN, ACTIVE, WRITTEN = 6, 8, 28, 10.0, 3.0


def label(number, language):
    return f"o{number}" if language == "en" or number == SAME_LABEL else f"p{number}"


def direction(place):
    """One of 14 couples of coordinates of opposite sign, so that a layer norm has no mean to subtract."""
    vector = torch.zeros(HIDDEN)
    vector[2 * place], vector[2 * place + 1] = 1.0, -1.0
    return vector


@cache
def planted():
    """A GPT-2 whose neuron i is active after the subject s{i}, in either language, and writes the object i.

    Subjects and objects hold, beside a direction of their own, one of their language; the query's other word is not
    read. Right answers have the largest logit by far.
    """
    places = {f"s{i}{language}": (i, language) for i in range(N_FACTS) for language in ("en", "fi")}
    places |= {label(i, language): (N_FACTS + i, language) for i in range(N_FACTS) for language in ("fi", "en")}
    names = ["[UNK]", "[END]", "q0", "q1", "q2", *places]
    tokenizer = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", eos_token="[END]")
    sizes = {"n_embd": HIDDEN, "n_layer": 1, "n_head": 1, "n_inner": N_NEURONS, "n_positions": 8}
    drops = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    model = GPT2LMHeadModel(GPT2Config(**sizes, **drops, vocab_size=len(names), bos_token_id=1, eos_token_id=1))
    for parameter in model.parameters():
        parameter.data.zero_()
    body, mlp = model.transformer, model.transformer.h[0].mlp
    for name, (place, language) in places.items():
        body.wte.weight.data[names.index(name)] = direction(place) + direction({"en": 12, "fi": 13}[language])
    body.h[0].ln_2.weight.data[:] = body.ln_f.weight.data[:] = (4 / HIDDEN) ** 0.5
    for i in range(N_FACTS):
        # 2 of the input's own direction in the subject's place, 0 elsewhere
        mlp.c_fc.weight.data[:, i], mlp.c_fc.bias.data[i] = ACTIVE * direction(i), -ACTIVE
        mlp.c_proj.weight.data[i] = WRITTEN / gelu(torch.tensor(ACTIVE)) * direction(N_FACTS + i)
    mlp.c_proj.weight.data[6:] = direction(0)
    return as_language_model("planted", model, fast, revision="by hand")


def planted_prompts(n_queries=2):
    rows = [
        (
            *(fact, fact[:2], language, "causal", query, query, "final"),
            *(f"q{query} s{i}{language}", " ", label(i, language), ""),
        )
        for language in ("en", "fi")
        for fact, i in FACTS.items()
        for query in range(n_queries)
    ]
    return pd.DataFrame(rows, columns=PROMPT_COLUMNS)


def sets_of(neurons, selection="matrice", languages=("all",), n_draws=1, shape=(1, N_NEURONS)):
    """Sets from {(fact, language, draw): [(layer, index), ...]}; all facts were searched."""
    rows = []
    for (fact, language, draw), found in neurons.items():
        layers, indices = np.array(found, dtype=int).reshape(-1, 2).T
        rows.append(FoundSet(fact, language, draw, layers, indices, np.ones(len(found))))
    origin = {"model": {"name": "planted"}}
    return NeuronSets(
        as_table(selection, rows), selection, list(FACTS), list(languages), *shape, n_draws, origin=origin
    )


OWN = {(fact, "all", 0): [(0, i)] for fact, i in FACTS.items()}


def measure(sets=None, seed=0, n_queries=2, progress=lambda *told: None, **settings):
    sets = sets or [sets_of(OWN)]
    return edit_facts(planted(), sets, planted_prompts(n_queries), WeightEdits(**settings), seed, progress, 5)


def rows_of(table, **values):
    for column, value in values.items():
        table = table[table[column] == value]
    return table


def bits(lm):
    """A copy of every parameter, as integers: 0.0 and -0.0 are not the same."""
    kinds = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    tensors = lm.model.state_dict().items()
    return {name: tensor.clone().view(kinds[tensor.element_size()]) for name, tensor in tensors}


def assert_same(before, after):
    assert before.keys() == after.keys() and len(before) > 5
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]), name


def random_embeddings(lm, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, lm.model.config.hidden_size, generator=generator)


def shaped(model_type, is_tied, dtype="float32"):
    lm = tiny_model(model_type, dtype, tie_word_embeddings=is_tied)
    tables = lm.model.get_input_embeddings().weight, lm.model.get_output_embeddings().weight
    assert (tables[0] is tables[1]) == is_tied
    return lm


# ---- the weights


@pytest.mark.parametrize(("model_type", "is_tied"), SHAPES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_parameter_has_its_bits_again(model_type, is_tied, dtype):
    lm = shaped(model_type, is_tied, dtype)
    lm.value_vector(2, 5)[0] = -0.0
    before = bits(lm)
    with edited_values(lm, [erase(NEURONS), update(NEURONS, *random_embeddings(lm))]):
        changed = bits(lm)
    assert any(not torch.equal(before[name], changed[name]) for name in before)
    assert_same(before, bits(lm))


@pytest.mark.parametrize(("model_type", "is_tied"), SHAPES)
def test_every_parameter_has_its_bits_again_after_an_exception(model_type, is_tied):
    lm = shaped(model_type, is_tied)
    before = bits(lm)
    with pytest.raises(KeyError, match="inside"), edited_values(lm, [erase(NEURONS)]):
        raise KeyError("inside")
    assert_same(before, bits(lm))
    wrong = update((np.array([2]), np.array([1])), torch.ones(3), torch.ones(3))
    with (
        pytest.raises(AtlasError, match="has 3 numbers, a value vector 16"),
        edited_values(lm, [erase(NEURONS), wrong]),
    ):
        pytest.fail("the block must not be entered")
    assert_same(before, bits(lm))


@pytest.mark.parametrize(("model_type", "is_tied"), SHAPES)
def test_only_the_named_value_vectors_change(model_type, is_tied):
    lm = shaped(model_type, is_tied)
    named = set(zip(*(part.tolist() for part in NEURONS), strict=True))
    before = bits(lm)
    with edited_values(lm, [erase(NEURONS)]):
        for layer, index in named:
            assert not lm.value_vector(layer, index).any()
        for layer, index in named:
            lm.value_vector(layer, index).fill_(1.0)
        for layer in range(lm.n_layers):
            for index in set(range(lm.n_neurons)) - {i for at, i in named if at == layer}:
                assert lm.value_vector(layer, index).any()
    assert_same(before, bits(lm))


@pytest.mark.parametrize("model_type", ["bert", "gpt2", "llama"])
def test_an_update_is_eq_15_with_each_embedding_at_the_norm_of_the_value_vector(model_type):
    lm = tiny_model(model_type)
    old, new = random_embeddings(lm)
    before = [lm.value_vector(*place).clone().double().numpy() for place in zip(*NEURONS, strict=True)]
    with edited_values(lm, [update(NEURONS, old, new, 1.5, 4.0)]):
        after = [lm.value_vector(*place).clone().double().numpy() for place in zip(*NEURONS, strict=True)]
    unit = [embedding.double().numpy() / np.linalg.norm(embedding.double().numpy()) for embedding in (old, new)]
    for was, now in zip(before, after, strict=True):
        size = np.linalg.norm(was)
        np.testing.assert_allclose(now, was - 1.5 * size * unit[0] + 4.0 * size * unit[1], rtol=1e-5, atol=1e-6)
    only_new = update(NEURONS, old, new, 0.0, 8.0)
    with edited_values(lm, [only_new]):
        added = [
            lm.value_vector(*place).double().numpy() - was
            for place, was in zip(zip(*NEURONS, strict=True), before, strict=True)
        ]
    sizes = [np.linalg.norm(vector) for vector in added]
    np.testing.assert_allclose(sizes, [8 * np.linalg.norm(was) for was in before], rtol=1e-5)


def test_a_raw_update_adds_the_embeddings_as_they_are():
    lm = tiny_model("gpt2")
    old, new = random_embeddings(lm)
    was = lm.value_vector(0, 7).clone()
    with edited_values(lm, [update(NEURONS, old, new, 2.0, 3.0, "raw")]):
        torch.testing.assert_close(lm.value_vector(0, 7), was - 2 * old + 3 * new)


@pytest.mark.parametrize("model_type", ["bert", "gpt2", "llama"])
def test_in_half_precision_an_update_is_computed_in_float32_and_cast_once(model_type):
    lm, (old, new) = tiny_model(model_type, "bfloat16"), random_embeddings(tiny_model(model_type))
    edits = [update(NEURONS, old, new), update(NEURONS, new, old, 0.3, 0.1)]
    was = lm.value_vector(2, 5).float()
    size, (one, other) = was.norm(), (old / old.norm(), new / new.norm())
    expected = was - size * one + 8 * (size * other) - 0.3 * (size * other) + 0.1 * (size * one)
    with edited_values(lm, edits):
        assert torch.equal(lm.value_vector(2, 5), expected.to(torch.bfloat16))


def test_edits_of_one_neuron_add_up_whatever_their_order_and_erasing_twice_is_erasing():
    lm = tiny_model("llama", "float64")
    embeddings = random_embeddings(lm).double()
    edits = [update(NEURONS, *embeddings), update(([0], [7]), *embeddings.flip(0))]
    found = []
    for order in (edits, edits[::-1]):
        with edited_values(lm, order):
            found.append(lm.value_vector(0, 7).clone())
    torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=1e-12)
    size = lm.value_vector(0, 7).norm()
    directions = embeddings / embeddings.norm(dim=1, keepdim=True)
    torch.testing.assert_close(found[0], lm.value_vector(0, 7) + 7 * size * directions.sum(dim=0))
    with edited_values(lm, [erase(NEURONS), erase(([0], [7]))]):
        assert not lm.value_vector(0, 7).any()


def test_new_vectors_can_be_given_and_a_neuron_named_twice_is_edited_once():
    lm = tiny_model("gpt2")
    vectors = torch.arange(3 * 16).reshape(3, 16).float()
    with edited_values(lm, [ValueEdit(np.array([1, 0, 1]), np.array([4, 9, 4]), vectors)]):
        assert torch.equal(lm.value_vector(1, 4), vectors[0]) and torch.equal(lm.value_vector(0, 9), vectors[1])
    was = lm.value_vector(1, 4).clone()
    with edited_values(lm, [ValueEdit(np.array([1, 1]), np.array([4, 4]), lambda current, original: current + 1)]):
        assert torch.equal(lm.value_vector(1, 4), was + 1)


def test_no_edits_and_empty_edits_change_nothing():
    lm = tiny_model("bert")
    before = bits(lm)
    with edited_values(lm, []), edited_values(lm, [erase((np.zeros(0, int), np.zeros(0, int)))]):
        assert_same(before, bits(lm))


def test_vectors_that_do_not_come_back_are_an_error(monkeypatch):
    lm, write = tiny_model("gpt2"), weights._write
    with (
        pytest.raises(AtlasError, match="layer 2 were not restored bit for bit"),
        edited_values(lm, [erase(([2], [5]))]),
    ):
        monkeypatch.setattr(
            weights, "_write", lambda weight, axis, places, new: write(weight, axis, places, new + 1e-3)
        )


def test_unknown_neurons_and_words_are_sentences():
    lm = tiny_model("gpt2")
    for layer, index in ((3, 0), (-1, 0), (0, 24)):
        wrong = erase(([layer], [index]))
        with (
            pytest.raises(AtlasError, match=rf"no neuron \(layer {layer}, index {index}\)"),
            edited_values(lm, [wrong]),
        ):
            pytest.fail("the block must not be entered")
    with pytest.raises(AtlasError, match=r"scaling is 'norms'.*Did you mean 'norm'"):
        update(NEURONS, torch.ones(16), torch.ones(16), scaling="norms")
    with pytest.raises(AtlasError, match="embedding is 'outputs'"):
        object_embedding(lm, "Paris", "outputs")
    for setting in ({"operations": ["delete"]}, {"scopes": ["all"]}, {"subtract": "argmax"}, {"embedding": "position"}):
        with pytest.raises(AtlasError, match=f"weight_edits: {next(iter(setting))} is"):
            WeightEdits(**setting)


@pytest.mark.parametrize(("model_type", "is_tied"), SHAPES)
def test_an_objects_embedding_is_the_mean_over_its_tokens_in_a_sentence(model_type, is_tied):
    lm = shaped(model_type, is_tied)
    prompts = tiny_prompts(lm.kind)
    english = prompts[prompts["language"] == "en"]
    for query, answer in zip(encode_prompts(lm, english), english["answer"], strict=True):
        for which, matrix in (("output", lm.model.get_output_embeddings()), ("input", lm.model.get_input_embeddings())):
            expected = torch.stack([matrix.weight[token] for token in query.targets]).mean(dim=0)
            torch.testing.assert_close(object_embedding(lm, answer, which), expected)
    output, tied = (object_embedding(lm, "Budapest", which) for which in ("output", "input"))
    assert torch.equal(output, tied) == is_tied
    assert max(len(query.targets) for query in encode_prompts(lm, english)) > 1


def test_embeddings_of_half_precision_models_are_float32():
    assert token_embedding(tiny_model("gpt2", "bfloat16"), (3, 4)).dtype == torch.float32


# ---- what the model says


@pytest.mark.parametrize("model_type", ["bert", "gpt2", "llama"])
def test_details_of_answers_are_those_of_an_explicit_loop(model_type):
    lm = tiny_model(model_type)
    queries = encode_prompts(lm, tiny_prompts(lm.kind))
    for query, row in zip(queries, answer_details(lm, queries, 4).itertuples(index=False), strict=True):
        logits = lm.model(torch.tensor([query.input_ids])).logits[0, list(query.positions)]
        predicted = tuple(logits.argmax(dim=1).tolist())
        p = logits.softmax(dim=1)[range(len(query.targets)), query.targets].double().prod()
        assert row.predicted == predicted and row.p == pytest.approx(float(p), rel=1e-4)
        assert row.is_argmax == (predicted == query.targets)
        assert row.is_first_argmax == (predicted[0] == query.targets[0])


# ---- facts of the network


def answers():
    """Fact and language of every query that the network answers rightly at this moment."""
    prompts = planted_prompts()
    details = answer_details(planted(), encode_prompts(planted(), prompts))
    return set(prompts.loc[details["is_argmax"], ["fact", "language"]].itertuples(index=False, name=None))


def test_erasing_the_planted_neuron_loses_its_fact_and_keeps_the_others():
    every = {(fact, language) for fact in FACTS for language in ("en", "fi")}
    assert answers() == every
    with edited_values(planted(), [erase(([0], [1]))]):
        assert answers() == {(fact, language) for fact, language in every if fact != "P1:s1>o1"}
    assert answers() == every


def test_an_update_switches_the_answer_also_in_the_other_language_where_the_label_is_the_same():
    lm = planted()
    embeddings = [object_embedding(lm, name) for name in ("o1", "o3", "o2")]
    prompts = planted_prompts(1).query("fact == 'P1:s1>o1'")
    names = {}
    for number, new in ((3, embeddings[1]), (2, embeddings[2])):
        with edited_values(lm, [update(([0], [1]), embeddings[0], new)]):
            predicted = answer_details(lm, encode_prompts(lm, prompts))["predicted"]
        names[number] = [lm.tokenizer.convert_ids_to_tokens(tokens[0]) for tokens in predicted]
    # English embeddings: in Finnish the English label appears
    assert names == {3: ["o3", "o3"], 2: ["o2", "o2"]}


def test_the_columns_are_the_agreed_ones_and_erasure_is_seen_in_every_language():
    before = bits(planted())
    table = measure(operations=["erase"])
    assert_same(before, bits(planted()))
    assert table.columns.tolist() == COLUMNS and set(table["model"]) == {"planted"}
    own = table[table["probe"] != "locality"]
    assert len(own) == 6 * 2 * 2 and own["is_old_before"].all() and not own["is_old_after"].any()
    assert not own["is_unchanged"].any() and not own["is_old_first_after"].any()
    # logits without the neuron: 4 of the subject itself, 2 of 12 words of its language or meaning, 0 of 15 others
    expected = np.exp(2) / (np.exp(4) + 12 * np.exp(2) + 15)
    np.testing.assert_allclose(rows_of(own, language="en")["p_old_after"], expected, rtol=1e-3)
    unrelated = rows_of(table, probe="locality")
    assert unrelated["is_unchanged"].all() and unrelated["is_first_unchanged"].all()
    np.testing.assert_allclose(unrelated["p_old_after"], unrelated["p_old_before"], rtol=1e-6)
    # facts of P1 have two unrelated facts, those of P2 four
    assert unrelated.groupby("fact").size().tolist() == [4] * 4 + [8] * 2
    assert (unrelated["fact"].str[:2] != unrelated["probed_fact"].str[:2]).all() and set(unrelated["query"]) == {0}
    assert own["query"].tolist() == [int(probe == "generality") for probe in own["probe"]]
    assert table[["p_new_before", "p_new_after"]].isna().all(axis=None)
    assert not table[["is_new_before", "is_new_after"]].any(axis=None)


def test_an_update_is_measured_with_the_new_object_in_every_language():
    table = measure(operations=["update"])
    own = table[table["probe"] != "locality"]
    objects = new_objects(planted_prompts(), list(FACTS), 0)
    assert own["object"].tolist() == [objects[fact][at] for fact, at in zip(own["fact"], own["language"], strict=True)]
    assert (own["object"].str[1:] != own["fact"].str[-1]).all()
    assert (own["is_same_as_english"] == own["object"].str.startswith("o")).all()
    assert not own["is_new_before"].any() and not own["is_old_after"].any()
    # only where the label is the English one
    assert (own["is_new_after"] == own["is_same_as_english"]).all()
    assert set(own.loc[own["language"] == "fi", "is_same_as_english"]) == {True, False}
    assert (own["p_new_after"] > own["p_new_before"])[own["is_same_as_english"]].all()
    assert rows_of(table, probe="locality")["is_unchanged"].all()


def test_empty_sets_are_not_run_and_stay_in_the_table():
    told = []
    neurons = {key: found for key, found in OWN.items() if key[0] != "P1:s2>o2"}
    table = measure([sets_of(neurons)], progress=lambda *step: told.append(step))
    assert told[-1] == (10, 10, "matrice update single") and len(told) == 10
    empty = rows_of(table, fact="P1:s2>o2")
    assert len(empty) == 2 * (2 * 2 + 2 * 2) and empty["n_neurons"].eq(0).all() and empty["n_edited"].eq(0).all()
    assert empty["p_old_after"].equals(empty["p_old_before"]) and empty["is_unchanged"].all()
    assert rows_of(empty, operation="update")["p_new_after"].equals(rows_of(empty, operation="update")["p_new_before"])
    assert (table["n_neurons"] == (table["fact"] != "P1:s2>o2")).all()


def test_clean_answers_are_asked_once_and_each_edit_asks_only_its_own(monkeypatch):
    asked = []

    def note(lm, queries, batch_rows):
        asked.append([(query.fact, query.language, query.query, query.targets) for query in queries])
        return answer_details(lm, queries, batch_rows)

    monkeypatch.setattr(edit_answers, "answer_details", note)
    random = sets_of({(fact, "all", draw): [(0, 6 + draw)] for fact in FACTS for draw in (0, 1)}, "random", n_draws=2)
    table = measure([sets_of(OWN), random], n_unrelated=1)
    clean, *edits = asked
    assert len(clean) == len(set(clean)) and len(edits) == 3 * 2 * 6
    # own queries in two languages, with either object in an update, and one unrelated fact
    assert sorted({len(edit) for edit in edits}) == [4 + 2, 8 + 2]
    assert all(set(edit) <= set(clean) for edit in edits)
    assert table.groupby(["selection", "draw"]).size().tolist() == [2 * 6 * 6] * 3
    assert rows_of(table, selection="random")["is_unchanged"].mean() > 0.4


def test_rows_of_a_forward_pass_change_nothing_and_facts_depend_on_the_seed():
    settings, sets = WeightEdits(n_unrelated=1), [sets_of(OWN)]
    one, many = (edit_facts(planted(), sets, planted_prompts(), settings, batch_rows=rows) for rows in (1, 64))
    pd.testing.assert_frame_equal(one, many, rtol=1e-5)
    other = edit_facts(planted(), sets, planted_prompts(), settings, seed=1)
    assert (other["probed_fact"] != one["probed_fact"]).any() and (other["object"] != one["object"]).any()


@cache
def biased():
    """The planted network, where the fact 0 is held too weakly to be said, and o1 is written a little everywhere."""
    base = planted()
    model = deepcopy(base.model)
    project = model.transformer.h[0].mlp.c_proj
    project.weight.data[0] *= 0.1
    project.bias.data += 0.1 * direction(N_FACTS + 1)
    return as_language_model("biased", model, base.tokenizer, revision="by hand")


def ranked_edits(**settings):
    settings = WeightEdits(**{"is_ranked": True, **settings})
    return edit_facts(biased(), [sets_of(OWN)], planted_prompts(), settings, batch_rows=5)


def test_an_object_can_have_the_largest_p_of_its_relation_without_being_said():
    own = ranked_edits(operations=["erase"]).query("probe != 'locality' and language == 'en'")
    exact, ranked = (own[[f"is_old_{part}before", f"is_old_{part}after"]] for part in ("", "ranked_"))
    by_number = own["fact"].map(FACTS)
    # the subject itself is said in place of o0, which is the best object all the same, until its neuron is erased
    assert exact[by_number == 0].values.tolist() == [[False, False]] * 2
    assert ranked[by_number == 0].values.tolist() == [[True, False]] * 2
    # o1 is no longer said when its neuron is erased, and no other object of the relation comes before it
    assert exact[by_number == 1].values.tolist() == [[True, False]] * 2
    assert ranked[by_number == 1].values.tolist() == [[True, True]] * 2
    assert own.loc[by_number == 1, "is_ranked_unchanged"].all() and not own.loc[by_number == 1, "is_unchanged"].any()
    assert not own.loc[by_number == 0, "is_ranked_unchanged"].any() and own.loc[by_number == 0, "is_unchanged"].all()


def test_ranks_are_those_of_known_facts_before_and_after_an_edit():
    lm, prompts, key = biased(), planted_prompts(), ["fact", "language", "query"]
    table = ranked_edits(operations=["erase"], n_unrelated=2)
    for when in ("before", "after"):
        for fact, number in FACTS.items():
            edits = [erase((np.array([0]), np.array([number])))] if when == "after" else []
            with edited_values(lm, edits):
                known = known_facts(lm, prompts, ranked_queries=2).set_index(key)
            rows = rows_of(table, fact=fact)
            asked = pd.MultiIndex.from_frame(rows[["probed_fact", "language", "query"]])
            assert rows[f"is_old_ranked_{when}"].tolist() == (known.loc[asked, "rank"] == 1).tolist()
    assert not table[["is_new_ranked_before", "is_new_ranked_after"]].any(axis=None)


def test_the_new_object_is_ranked_among_those_of_the_relation():
    lm, prompts = biased(), planted_prompts()
    own = ranked_edits(operations=["update"]).query("probe != 'locality'")
    objects = prompts.groupby(["relation", "language"])["answer"].agg(lambda answers: list(dict.fromkeys(answers)))
    before = []
    asked = own[["fact", "language", "query", "object"]]
    for fact, language, query, new in asked.itertuples(index=False, name=None):
        prompt = next(rows_of(prompts, fact=fact, language=language, query=query).itertuples(index=False))
        labels = objects[prompt.relation, language]
        assert new in labels
        p = answer_probabilities(lm, [encode_prompt(lm, prompt._replace(answer=label)) for label in labels])["p"]
        before.append(p[labels.index(new)] == p.max())
    assert own["is_new_ranked_before"].tolist() == before
    english = rows_of(own, language="en")
    assert english["is_new_ranked_after"].all() and not english["is_old_ranked_after"].any()
    assert not english["is_ranked_unchanged"].any()


def test_ranks_are_measured_where_they_are_asked_for_and_change_nothing_else():
    with_ranks, without = ranked_edits(), ranked_edits(is_ranked=False)
    assert with_ranks.columns.tolist() == [*COLUMNS, *RANKED_COLUMNS] and without.columns.tolist() == COLUMNS
    assert with_ranks[RANKED_COLUMNS].dtypes.eq(bool).all()
    pd.testing.assert_frame_equal(with_ranks[COLUMNS], without, rtol=1e-5)
    assert set(summarise_edits(without, resamples=20).erase["notion"]) == {"exact", "first_token"}
    table = summarise_edits(rows_of(with_ranks, relation="P1"), resamples=20).erase
    # three of four objects are said; erased, o1 stays the best, and the others are lost to it
    assert value(table, "reliability", "en", notion="exact") == (100.0, 3)
    assert value(table, "reliability", "en", notion="ranked") == (75.0, 4)
    with pytest.raises(AtlasError, match="notions are ranked, which were not measured; set is_ranked"):
        summarise_edits(without, EditSummary(notions=["ranked"]))


def test_only_the_first_draws_are_edited():
    random = sets_of({(fact, "all", draw): [(0, 6)] for fact in FACTS for draw in range(3)}, "random", n_draws=3)
    assert sorted(set(measure([random], draws=2)["draw"])) == [0, 1]


def test_in_scope_batch_all_facts_of_a_relation_are_edited_together():
    neurons = {**OWN, ("P1:s2>o2", "all", 0): [], ("P1:s3>o3", "all", 0): [(0, 3), (0, 0)]}
    table = measure([sets_of(neurons)], scopes=["single", "batch"], operations=["erase"])
    single, batch = (rows_of(table, scope=scope) for scope in ("single", "batch"))
    assert single["fact"].tolist() == batch["fact"].tolist()
    edited = batch.groupby("fact")[["n_neurons", "n_edited"]].first()
    # neuron 0 is shared; the fact without a neuron is measured with those of the others erased
    assert edited.loc["P1:s2>o2"].tolist() == [0, 3] and edited.loc["P1:s3>o3"].tolist() == [2, 3]
    assert edited.loc["P2:s4>o4"].tolist() == [1, 2]
    own = batch[batch["probe"] == "reliability"].set_index(["fact", "language"])["is_old_after"]
    assert own[own].index.tolist() == [("P1:s2>o2", "en"), ("P1:s2>o2", "fi")]
    assert rows_of(batch, probe="locality")["is_unchanged"].all()
    assert (single["n_edited"] == single["n_neurons"]).all()


def test_a_batch_of_updates_gives_every_fact_its_new_object():
    table = rows_of(measure(scopes=["batch"], operations=["update"]), probe="reliability", language="en")
    assert len(table) == 6 and table["is_new_after"].all()


def test_held_out_queries_alone_are_paraphrases_where_there_are_any():
    table = measure(n_queries=3, holdout_queries=[2], operations=["erase"])
    own = table[table["probe"] != "locality"].groupby("probe")[["query", "is_in_sample"]].agg(set)
    assert own.loc["generality"].tolist() == [{2}, {False}] and own.loc["reliability"].tolist() == [{0}, {True}]
    default = rows_of(measure(n_queries=3, operations=["erase"]), probe="generality")
    assert set(default["query"]) == {1, 2} and default["is_in_sample"].all()


def test_sets_per_language_are_edited_with_those_of_the_source_language():
    both = {(fact, "en", 0): [(0, i)] for fact, i in FACTS.items()} | {(fact, "fi", 0): [(0, 6)] for fact in FACTS}
    refined = sets_of(both, "refined", ["en", "fi"])
    pd.testing.assert_frame_equal(measure([refined]).assign(selection="matrice"), measure())
    finnish = rows_of(measure([refined], source_language="fi", operations=["erase"]), probe="reliability")
    assert finnish["is_old_after"].all() and finnish["n_neurons"].eq(1).all()
    with pytest.raises(AtlasError, match="source_language is 'en'; expected a language of selection refined"):
        measure([sets_of({}, "refined", ["fi"])])
    with pytest.raises(AtlasError, match="source_language is 'sv'; expected a language of planted's prompts"):
        measure(source_language="sv")


def test_neurons_common_to_the_relations_facts_are_not_updated():
    neurons = {key: [*found, (0, 6)] if key[0][:2] == "P1" else found for key, found in OWN.items()}
    neurons["P1:s0>o0", "all", 0] += [(0, 1)]
    table = measure([sets_of(neurons)], common_share=0.5).groupby(["operation", "fact"])["n_neurons"].first()
    # neuron 6 is in four of four facts, neuron 1 in two of four, and an erasure takes all
    assert table["erase"].tolist() == [3, 2, 2, 2, 1, 1]
    assert table["update"].tolist() == [2, 1, 1, 1, 1, 1]
    none = measure([sets_of(neurons)], common_share=0.0).groupby(["operation", "fact"])["n_neurons"].first()
    # one fact alone has nothing in common
    assert none["update"].tolist() == [1, 0, 1, 1, 1, 1]


def test_the_models_prediction_can_be_subtracted_in_place_of_the_object():
    by_object, by_prediction = measure(operations=["update"]), measure(operations=["update"], subtract="prediction")
    pd.testing.assert_frame_equal(by_object, by_prediction)  # what is said is right
    weight = planted().down_projections()[0].weight
    kept = weight[1].clone()
    try:
        weight[1] = -kept  # now fact 1 is answered with its subject
        # a negative lambda1 adds what else is subtracted
        settings = {"operations": ["update"], "lambda1": -4.0, "lambda2": 0.0}
        tables = [measure(subtract=what, **settings) for what in ("object", "prediction")]
    finally:
        weight[1] = kept
    edited = [rows_of(part, fact="P1:s1>o1", language="en", probe="reliability") for part in tables]
    assert [part["is_old_before"].tolist() for part in edited] == [[False], [False]]
    assert [part["is_old_after"].tolist() for part in edited] == [[True], [False]]


@pytest.mark.parametrize(("model_type", "is_tied"), SHAPES)
def test_models_of_every_shape_are_edited_and_left_as_they_were(model_type, is_tied):
    lm = shaped(model_type, is_tied)
    prompts = tiny_prompts(lm.kind, 2)
    prompts = prompts[prompts["language"].isin(["en", "zh"]) & ~prompts["fact"].str.contains("HU")]
    other = prompts.assign(fact=prompts["fact"].str.replace("P36", "P1376"), relation="P1376")
    facts, before = sorted(set(prompts["fact"])), bits(lm)
    found = [FoundSet(fact, "all", 0, *NEURONS, np.ones(3)) for fact in facts]
    sets = NeuronSets(as_table("likn", found), "likn", facts, ["all"], 3, 24, origin={"model": {"name": lm.name}})
    settings = WeightEdits(scopes=["single", "batch"])
    table = edit_facts(lm, [sets], pd.concat([prompts, other]), settings, batch_rows=4)
    assert_same(before, bits(lm))
    assert table["n_edited"].eq(3).all() and (table["p_old_after"] / table["p_old_before"] - 1).abs().max() > 0.01
    update_rows = rows_of(table, operation="update", probe="reliability", scope="single")
    assert update_rows["object"].tolist() == ["Paris", "巴黎", "Helsinki", "赫尔辛基"]
    assert update_rows["is_same_as_english"].tolist() == [True, False, True, False]


def test_an_exception_between_edits_leaves_the_model_as_it_was():
    before = bits(planted())

    def stop(done, total, message):
        raise KeyError("stopped")

    with pytest.raises(KeyError, match="stopped"):
        measure(progress=stop)
    assert_same(before, bits(planted()))


# ---- what is aimed at


def named(*facts, languages=("en", "fi"), labels=None):
    """Prompts of facts whose object's label is its id, or another one by (object, language)."""
    rows = [
        {"fact": fact, "relation": fact[:2], "language": language, "query": 0, "kind": "causal"}
        | {"answer": (labels or {}).get((fact.split(">")[1], language), fact.split(">")[1])}
        for fact in facts
        for language in languages
    ]
    return pd.DataFrame(rows)


def test_a_new_object_is_not_true_of_the_subject_and_has_a_label_in_every_language():
    prompts = named("P1:a>x", "P1:a>y", "P1:b>X1", "P1:c>z", "P2:d>w", labels={("X1", "fi"): "X"})
    only_english = named("P1:e>v", languages=["en"])
    table = pd.concat([prompts, only_english])
    for seed in range(20):
        # y is true of a too, v has no Finnish label, X is a true label but for the case, w is of another relation
        assert new_objects(table, ["P1:a>x"], seed) == {"P1:a>x": {"en": "z", "fi": "z"}}
    assert new_objects(table, ["P2:d>w"], 0) == {"P2:d>w": {}}


def test_a_new_object_depends_on_the_seed_and_not_on_the_order_of_rows():
    facts = [f"P1:s{i}>o{i}" for i in range(12)]
    prompts = named(*facts)
    first = new_objects(prompts, facts, 1)
    assert new_objects(prompts[::-1], facts[::-1], 1) == first
    others = new_objects(prompts, facts, 2)
    assert sum(first[fact] != others[fact] for fact in facts) > 6


def test_a_fact_without_another_object_is_not_updated_and_stays_in_the_table():
    neurons = {("P1:s1>o1", "all", 0): [(0, 1)]}
    sets = NeuronSets(sets_of(neurons).table, "matrice", ["P1:s1>o1"], ["all"], 1, 8, origin={"model": "planted"})
    prompts = planted_prompts().query("fact in ['P1:s1>o1', 'P2:s4>o4']")
    table = edit_facts(planted(), [sets], prompts, WeightEdits())
    alone = rows_of(table, operation="update")
    assert len(alone) == 2 * 2 + 2 and alone["object"].eq("").all() and not alone["is_same_as_english"].any()
    assert alone["p_old_after"].equals(alone["p_old_before"]) and alone["n_edited"].eq(0).all()
    tables = summarise_edits(table, resamples=20)
    assert set(tables.update["n"]) == {0} and rows_of(tables.update, subset="all")["n_no_object"].eq(1).all()
    assert set(tables.erase["n_no_object"]) == {0}


def test_unrelated_facts_are_of_other_relations_and_as_many_as_asked_for():
    facts = [f"P{relation}:s{i}>o{i}" for relation in (1, 2, 3) for i in range(10)]
    prompts = named(*facts)
    probes = rows_of(plan_edit_probes(prompts, facts[:5], 7, [], 0), probe="locality")
    assert probes.groupby(["fact", "language"]).size().eq(7).all() and probes["fact"].nunique() == 5
    assert (probes["probed_fact"].str[:2] != "P1").all()
    by_language = probes.groupby(["fact", "language"])["probed_fact"].agg(frozenset).unstack()
    assert (by_language["en"] == by_language["fi"]).all() and by_language["en"].nunique() == 5
    pd.testing.assert_frame_equal(
        rows_of(plan_edit_probes(prompts[::-1], facts[:5], 7, [], 0), probe="locality").sort_values(
            ["fact", "probed_fact", "language"], ignore_index=True
        ),
        probes.sort_values(["fact", "probed_fact", "language"], ignore_index=True),
    )


# ---- the tables


def edit_row(fact, operation="erase", probe="reliability", language="en", selection="matrice", **values):
    row = {"model": "m", "selection": selection, "draw": 0, "operation": operation, "scope": "single", "fact": fact}
    row |= {"relation": "P1", "language": language, "probe": probe, "probed_fact": fact, "query": 0}
    row |= {"is_in_sample": probe != "locality", "n_neurons": 2, "n_edited": 2, "object": "o"}
    row |= {"is_same_as_english": language == "en"}
    row |= dict.fromkeys(["p_old_before", "p_old_after", "p_new_before", "p_new_after"], 0.5)
    row |= dict.fromkeys([column for column in COLUMNS if column.startswith("is_") and column not in row], False)
    return {**row, **values}


def right(after, **values):
    """A row of a query that was answered rightly before; `after`, whether it still is."""
    return {"is_old_before": True, "is_old_after": after, "is_unchanged": after, **values}


def summary(rows, operation="erase", settings=None):
    table = getattr(summarise_edits(pd.DataFrame(rows, columns=COLUMNS), settings, 0, 50), operation)
    assert table.columns.tolist() == TABLE_COLUMNS
    return table


def value(table, statistic, language="all", subset="all", notion="exact", selection="matrice"):
    found = rows_of(table, statistic=statistic, language=language, subset=subset, notion=notion, selection=selection)
    return found["value"].item(), found["n"].item()


def test_an_erasure_succeeds_where_a_right_answer_is_lost():
    rows = [
        edit_row("a", **right(False)),
        edit_row("b", **right(True)),
        edit_row("c"),  # never right
        edit_row("a", probe="generality", **right(False)),
        edit_row("a", probe="generality", **right(True)),
        edit_row("b", probe="generality", **right(True)),
        edit_row("a", probe="locality", is_unchanged=True, is_old_before=True, is_old_after=True),
        edit_row("a", probe="locality", is_unchanged=False),
        edit_row("b", probe="locality", is_unchanged=True),
    ]
    table = summary(rows)
    assert value(table, "reliability", "en") == (50.0, 2)
    assert value(table, "reliability_all") == (pytest.approx(200 / 3), 3)
    assert value(table, "reliability_before") == (pytest.approx(100 / 3), 3)
    assert value(table, "generality") == (25.0, 2)
    assert value(table, "locality") == (75.0, 2) and value(table, "changed_share") == (25.0, 2)
    assert value(table, "locality_right") == (100.0, 1)
    sample = table.drop_duplicates("statistic").set_index("statistic")["is_in_sample"]
    assert sample["reliability"] and sample["generality"] and not sample["locality"] and not sample["changed_share"]


def test_an_update_succeeds_where_the_new_object_is_said():
    rows = [
        edit_row("a", "update", **right(False), is_new_after=True, p_new_after=0.75, p_old_after=0.25),
        edit_row("b", "update", is_new_before=True, is_new_after=True),
        edit_row("c", "update", **right(True)),
        edit_row("d", "update", object="", **right(True)),  # there was no new object
    ]
    table = summary(rows, "update")
    assert value(table, "reliability") == (pytest.approx(200 / 3), 3)
    assert value(table, "reliability_right") == (50.0, 2) and value(table, "old_lost") == (50.0, 2)
    assert value(table, "reliability_before") == (pytest.approx(100 / 3), 3)
    assert value(table, "p_new_change") == (pytest.approx(25 / 3), 3)
    assert value(table, "p_old_change") == (pytest.approx(-25 / 3), 3)
    assert rows_of(table, subset="all")["n_no_object"].eq(1).all()
    assert np.isnan(value(table, "generality")[0]) and value(table, "generality")[1] == 0


def test_languages_are_averaged_within_a_fact_and_split_by_their_label():
    rows = [
        edit_row("a", "update", language=language, is_new_after=language == "en") for language in ("en", "fi", "hu")
    ]
    rows += [edit_row("b", "update", language=language, is_new_after=True) for language in ("en", "fi")]
    table = summary(rows, "update")
    assert value(table, "reliability") == (pytest.approx(200 / 3), 2)
    assert value(table, "reliability", "fi") == (50.0, 2)
    assert value(table, "reliability", subset="same_as_english") == (100.0, 2)
    assert value(table, "reliability", subset="other_than_english") == (50.0, 2)


def test_the_excess_over_random_is_paired_by_fact_and_draws_are_averaged():
    rows = [edit_row("a", **right(False)), edit_row("b", **right(True)), edit_row("c", **right(False))]
    rows += [edit_row("a", selection="random", draw=draw, **right(draw == 0)) for draw in (0, 1)]
    rows += [edit_row("b", selection="random", draw=draw, **right(True)) for draw in (0, 1)]
    table = summary(rows)
    assert value(table, "reliability", selection="random") == (25.0, 2)
    assert value(table, "excess_reliability") == (25.0, 2)
    assert rows_of(table, selection="random")["statistic"].str.startswith("excess").sum() == 0
    other = summary(rows, settings=EditSummary(control="matrice"))
    assert value(other, "excess_reliability", selection="random") == (-25.0, 2)


def test_empty_sets_count_and_are_left_out_of_a_subset():
    rows = [edit_row("a", **right(False)), edit_row("b", n_neurons=0, n_edited=0, **right(True))]
    table = summary(rows)
    assert value(table, "reliability") == (50.0, 2) and value(table, "reliability", subset="non_empty") == (100.0, 1)
    sizes = rows_of(table, subset="all", statistic="reliability", language="en")
    assert sizes[["n_empty", "n_neurons", "n_edited"]].values.tolist() == [[1, 1.0, 1.0]] * len(sizes)


def test_the_first_token_alone_can_be_what_counts():
    first = {"is_old_first_before": True, "is_old_first_after": False, "is_first_unchanged": True}
    rows = [edit_row("a", **right(True), **first), edit_row("a", probe="locality", **first)]
    table = summary(rows)
    assert value(table, "reliability") == (0.0, 1)
    assert value(table, "reliability", notion="first_token") == (100.0, 1)
    assert value(table, "locality") == (0.0, 1) and value(table, "locality", notion="first_token") == (100.0, 1)
    assert set(rows_of(table, notion="first_token")["statistic"]) == {"reliability", "generality", "locality"}
    with pytest.raises(AtlasError, match="notions is 'rank'; expected"):
        EditSummary(notions=["rank"])


def test_the_best_object_of_the_relation_can_be_what_counts():
    lost = {"is_old_ranked_before": True, "is_old_ranked_after": False, "is_ranked_unchanged": True}
    made = {"is_new_ranked_before": False, "is_new_ranked_after": True}
    none = dict.fromkeys(RANKED_COLUMNS, False)
    rows = [
        edit_row("a", **none | lost, **right(True)),
        edit_row("a", probe="locality", **none | lost),
        edit_row("b", **none, **right(True)),
        edit_row("a", "update", **none | lost | made),
        edit_row("b", "update", **none),
    ]
    tables = summarise_edits(pd.DataFrame(rows), resamples=20)
    assert value(tables.erase, "reliability") == (0.0, 2)
    assert value(tables.erase, "reliability", notion="ranked") == (100.0, 1)
    assert value(tables.erase, "locality") == (0.0, 1) and value(tables.erase, "locality", notion="ranked") == (
        100.0,
        1,
    )
    assert value(tables.update, "reliability", notion="ranked") == (50.0, 2)
    first = summarise_edits(pd.DataFrame(rows), EditSummary(notions=["ranked"]), resamples=20)
    assert value(first.update, "old_lost", notion="ranked") == (100.0, 1)
    # a table where some rows were not ranked has no such notion
    mixed = pd.DataFrame([*rows, edit_row("c")])
    assert set(summarise_edits(mixed, resamples=20).erase["notion"]) == {"exact", "first_token"}


def test_tables_of_the_network_show_what_was_planted():
    tables = summarise_edits(measure(), seed=1, resamples=50)
    for name in ("reliability", "generality", "locality"):
        assert value(tables.erase, name) == (100.0, 6)
    english = rows_of(tables.update, statistic="reliability", subset="all", notion="exact")
    assert english.set_index("language")["value"]["en"] == 100.0
    assert value(tables.update, "reliability", subset="same_as_english") == (100.0, 6)
    assert value(tables.update, "reliability", subset="other_than_english")[0] == 0.0
    assert value(tables.update, "locality") == (100.0, 6)
    assert set(tables.erase["operation"]) == {"erase"} and set(tables.update["operation"]) == {"update"}


def test_the_rows_of_a_model_and_selection_stand_together_with_all_languages_last():
    rows = [
        edit_row("a", language=language, selection=selection, model=model, **right(False))
        for language in ("fi", "en")
        for model in ("m2", "m1")
        for selection in ("matrice", "random")
    ]
    keys = summary(rows)[["model", "selection", "language"]].drop_duplicates()
    expected = [(m, s, at) for m in ("m2", "m1") for s in ("matrice", "random") for at in ("fi", "en", "all")]
    assert list(keys.itertuples(index=False, name=None)) == expected


def test_no_measurements_give_empty_tables():
    for table in summarise_edits(pd.DataFrame(columns=COLUMNS)):
        assert table.empty and table.columns.tolist() == TABLE_COLUMNS
