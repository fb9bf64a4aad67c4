"""ROME: the update is the least-squares one for its key, and it works where facts are recalled at the subject."""

from functools import cache

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.nn.functional import gelu
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from knatlas.errors import AtlasError
from knatlas.interventions.editing import EditRequest, edited, prompt_of
from knatlas.interventions.key_statistics import KeyStatistics, measure_key_statistics
from knatlas.interventions.rome import Rome, layer_number, rome_editor
from knatlas.interventions.rome_prefixes import essence_of, sample_prefixes, templates_of
from knatlas.interventions.rome_value import find_value, keys_and_values
from knatlas.models.answers import answer_probabilities
from knatlas.models.encoding import encode_prompt
from knatlas.models.language_model import as_language_model
from tests.tiny_models import tiny_model
from tests.trained_models import memorised

TYPES = ["gpt2", "llama"]
REQUEST = EditRequest("The capital of {} is", "France", "Paris", "Helsinki", "7")
AT_END = EditRequest("The capital is that of {}", "France", "Paris", "Helsinki")
TEXTS = [
    "The capital of Finland is Helsinki, the currency of Hungary is Hungarian Forint.",
    "Magyarország fővárosa Budapest.",
    "Suomen pääkaupunki on Helsinki and La capitale de la France est Paris.",
]
RELATIVE = {"float64": 1e-12, "float32": 1e-5}
N_FACTS, N_NEURONS, ACTIVE, WRITTEN = 6, 12, 10.0, 3.0
HIDDEN = 2 * (3 * N_FACTS + 1)


def statistics_of(lm, texts=TEXTS):
    return measure_key_statistics(lm, texts, range(lm.n_layers))


def editor_of(lm, seed=0, **settings):
    return rome_editor(lm, Rome(**settings), statistics_of(lm), seed)


def weight_of(lm, layer):
    """(neurons, hidden), as float64."""
    return lm.down_projections()[layer].weight.detach().clone().double().movedim(lm.architecture.neuron_axis, 0)


def update_of(lm, edit):
    """What an edit adds to its layer's value vectors (neurons, hidden)."""
    before = weight_of(lm, edit.layer)
    with edited(lm, edit):
        return (weight_of(lm, edit.layer) - before).numpy()


def bits(lm):
    kinds = {4: torch.int32, 8: torch.int64}
    return {name: tensor.clone().view(kinds[tensor.element_size()]) for name, tensor in lm.model.state_dict().items()}


def answers(lm, request, answer):
    return answer_probabilities(lm, [encode_prompt(lm, prompt_of(request, answer, "causal"))])


def logits_of(lm, request):
    ids = torch.tensor([encode_prompt(lm, prompt_of(request, request.target_new, "causal")).input_ids])
    return lm.model(input_ids=ids).logits[0, -1]


def assert_near(found, expected, relative):
    found, expected = np.asarray(found), np.asarray(expected)
    assert np.linalg.norm(found - expected) <= relative * np.linalg.norm(expected)


def direction(place):
    """A couple of coordinates of opposite sign, so that a layer norm has no mean to subtract."""
    vector = torch.zeros(HIDDEN, dtype=torch.float64)
    vector[2 * place], vector[2 * place + 1] = 1.0, -1.0
    return vector


@cache
def recalling():
    """A GPT-2 of two layers that recalls at the subject, and the requests that swap its facts.

    In the first layer neuron i is active at subject s{i} alone and writes a mark of it; the attention of the second
    layer is uniform and carries the marks to the end of the prompt, where mark i makes the object o{i} probable.
    """
    names = ["[UNK]", "[END]", *(f"q{i}" for i in range(5)), *(f"{c}{i}" for c in "so" for i in range(N_FACTS))]
    tokenizer = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", eos_token="[END]")
    sizes = {"n_embd": HIDDEN, "n_layer": 2, "n_head": 1, "n_inner": N_NEURONS, "n_positions": 32}
    drops = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    special = {"bos_token_id": 1, "eos_token_id": 1, "tie_word_embeddings": False}
    model = GPT2LMHeadModel(GPT2Config(**sizes, **drops, **special, vocab_size=len(names))).double()
    for parameter in model.parameters():
        parameter.data.zero_()
    body, (first, second) = model.transformer, model.transformer.h
    first.ln_2.weight.data[:] = (2 / HIDDEN) ** 0.5
    second.ln_1.weight.data[:] = body.ln_f.weight.data[:] = 1.0
    second.attn.c_proj.weight.data += torch.eye(HIDDEN)
    for i in range(5):
        body.wte.weight.data[names.index(f"q{i}")] = direction(3 * N_FACTS)
    for i in range(N_FACTS):
        subject, mark, shown = (direction(i + part * N_FACTS) for part in range(3))
        body.wte.weight.data[names.index(f"s{i}")] = subject
        first.mlp.c_fc.weight.data[:, i], first.mlp.c_fc.bias.data[i] = ACTIVE * subject, -ACTIVE
        first.mlp.c_proj.weight.data[i] = WRITTEN / gelu(torch.tensor(ACTIVE)) * mark
        second.attn.c_attn.weight.data[:, 2 * HIDDEN :] += torch.outer(mark, shown)
        model.lm_head.weight.data[names.index(f"o{i}")] = 2 * shown
    lm = as_language_model("recalling", model, fast, revision="by hand")
    facts = [EditRequest("q0 {} q1", f"s{i}", f"o{i}", f"o{(i + 1) % N_FACTS}") for i in range(N_FACTS)]
    return lm, facts


def recalling_statistics():
    lm, facts = recalling()
    return measure_key_statistics(lm, [f"{fact.text} {fact.target_true}" for fact in facts], [0])


# ---- the update


@pytest.mark.parametrize("model_type", TYPES)
@pytest.mark.parametrize("dtype", RELATIVE)
@pytest.mark.parametrize("rome_key", ["bare", "mean"])
def test_the_new_value_is_reached_at_the_key_it_is_written_for(model_type, dtype, rome_key):
    lm = tiny_model(model_type, dtype)
    editor = editor_of(lm, layer=1, rome_key=rome_key)
    templates = templates_of(lm, REQUEST, editor.prefixes)
    keys, values = keys_and_values(lm, 1, templates)
    change = find_value(lm, 1, templates, essence_of(lm, REQUEST), values[0], editor.settings).change
    edit = editor(lm, REQUEST)
    assert float(change.norm()) == pytest.approx(edit.details["change_norm"], rel=1e-6) and float(change.norm()) > 0.1
    with edited(lm, edit):
        keys_after, values_after = keys_and_values(lm, 1, templates)
    torch.testing.assert_close(keys_after, keys, rtol=0, atol=0)
    reached = values_after[0] if rome_key == "bare" else values_after.mean(dim=0)
    assert_near(reached, values[0] + change.double(), RELATIVE[dtype])


@pytest.mark.parametrize("model_type", TYPES)
def test_keys_without_a_share_in_the_direction_keep_their_value(model_type):
    lm = tiny_model(model_type, "float64")
    editor = editor_of(lm, layer=1)
    mean_key = keys_and_values(lm, 1, templates_of(lm, REQUEST, editor.prefixes))[0].mean(dim=0).numpy()
    moment = statistics_of(lm).moments[1]
    moment = moment + editor.settings.ridge * moment.trace() / 24 * np.eye(24)
    u = np.linalg.solve(moment, mean_key)
    others = np.random.default_rng(0).normal(size=(50, 24))
    others -= np.outer(others @ u, u) / (u @ u)
    update = update_of(lm, editor(lm, REQUEST))
    assert np.abs(others @ update).max() < 1e-10 * np.abs(mean_key @ update).max()
    assert np.linalg.matrix_rank(update, tol=1e-10 * np.abs(update).max()) == 1


@pytest.mark.parametrize("model_type", TYPES)
@pytest.mark.parametrize("settings", [{"rome_key": "mean"}, {"rome_key": "bare", "prefix_lengths": ()}])
def test_the_update_is_the_constrained_least_squares_solution(model_type, settings):
    lm = tiny_model(model_type, "float64")
    editor = editor_of(lm, layer=1, ridge=0.01, **settings)
    templates = templates_of(lm, REQUEST, editor.prefixes)
    keys, values = (part.numpy() for part in keys_and_values(lm, 1, templates))
    moment = statistics_of(lm).moments[1]
    moment = moment + 0.01 * moment.trace() / 24 * np.eye(24)
    update = update_of(lm, editor(lm, REQUEST))
    change = find_value(lm, 1, templates, essence_of(lm, REQUEST), torch.tensor(values[0]), editor.settings).change
    key, gap = keys.mean(axis=0), values[0] + change.numpy() - values.mean(axis=0)
    # for each output: the least d' C d under d . key = gap, by its Lagrange conditions
    conditions = np.block([[2 * moment, key[:, None]], [key[None, :], np.zeros((1, 1))]])
    solution = np.linalg.solve(conditions, np.concatenate([np.zeros((24, len(gap))), gap[None, :]]))[:24]
    assert_near(update, solution, 1e-9)


@pytest.mark.parametrize("model_type", TYPES)
@pytest.mark.parametrize("dtype", RELATIVE)
def test_only_one_matrix_changes_and_every_weight_has_its_bits_again(model_type, dtype):
    lm = tiny_model(model_type, dtype)
    before = bits(lm)
    edit = editor_of(lm, layer=1)(lm, REQUEST)
    assert all(torch.equal(tensor, before[name]) for name, tensor in bits(lm).items())
    assert edit.n_neurons == lm.n_neurons and edit.layer == 1
    with edited(lm, edit):
        changed = [name for name, tensor in bits(lm).items() if not torch.equal(tensor, before[name])]
    assert len(changed) == 1 and changed[0].endswith(f"1.{lm.architecture.down_projection}.weight")
    assert all(torch.equal(tensor, before[name]) for name, tensor in bits(lm).items())
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in lm.model.modules())


def test_without_a_ridge_the_direction_is_that_of_the_moment_itself():
    lm = tiny_model("gpt2", "float64")
    texts = [f"{text} {number}" for text in TEXTS for number in "1234567"]
    statistics = measure_key_statistics(lm, texts, [1])
    editor = rome_editor(lm, Rome(layer=1, ridge=0.0), statistics, 0)
    key = keys_and_values(lm, 1, templates_of(lm, REQUEST, editor.prefixes))[0].mean(dim=0).numpy()
    u = np.linalg.solve(statistics.moments[1], key)
    update = update_of(lm, editor(lm, REQUEST))
    found = update[:, 0] / np.linalg.norm(update[:, 0])
    assert abs(found @ u) / np.linalg.norm(u) == pytest.approx(1, abs=1e-8)


# ---- the value


@pytest.mark.parametrize("model_type", TYPES)
def test_the_loss_before_is_the_mean_over_templates_of_the_objects_log_probability(model_type):
    lm = tiny_model(model_type, "float64")
    prefixes = sample_prefixes(lm, ((5, 4), (10, 3)), 5, 0)
    templates = templates_of(lm, REQUEST, prefixes)
    old = keys_and_values(lm, 1, templates)[1][0]
    value = find_value(lm, 1, templates, essence_of(lm, REQUEST), old, Rome(steps=1))
    answer = answer_probabilities(lm, [template.query for template in templates])
    expected = (-np.log(answer["p"]) / answer["n_tokens"]).mean()
    assert len(templates) == 8 and value.details["nll"] == pytest.approx(expected, rel=1e-6)
    assert value.details["kl"] == 0 and value.details["loss"] == value.details["nll_before"] == value.details["nll"]
    assert not value.change.any() and value.details["evaluations"] == 1


def test_the_terms_of_the_loss_are_those_of_the_changed_model():
    lm = tiny_model("gpt2", "float64")
    templates, essence = templates_of(lm, AT_END, ()), essence_of(lm, AT_END)
    old = keys_and_values(lm, 2, templates)[1][0]
    settings = Rome(steps=2, learning_rate=0.1, kl_factor=0.5, decay=0.3, clamp=100)
    value = find_value(lm, 2, templates, essence, old, settings)
    # one step of Adam has the length of the learning rate in every coordinate
    np.testing.assert_allclose(value.change.abs(), 0.1, rtol=1e-5)

    def last(template, position, change):
        def add(_module, _inputs, output):
            output = output.clone()
            output[0, template.place] += change
            return output

        handle = lm.down_projections()[2].register_forward_hook(add)
        logits = lm.model(input_ids=torch.tensor([template.query.input_ids])).logits[0]
        handle.remove()
        return logits[list(position)].log_softmax(dim=-1)

    change, query = value.change, templates[0].query
    log_p = last(templates[0], query.positions, change)
    nll = -log_p[range(len(query.targets)), query.targets].mean()
    before, now = (last(essence, [essence.place], part)[0] for part in (0 * change, change))
    kl = (now.exp() * (now - before)).sum()
    assert value.details["nll"] == pytest.approx(float(nll), rel=1e-9)
    assert value.details["kl"] == pytest.approx(float(kl), rel=1e-6)
    loss = nll + 0.5 * kl + 0.3 * change.norm() / old.norm() ** 2
    assert value.details["loss"] == pytest.approx(float(loss), rel=1e-9)


def test_the_change_is_clamped_and_the_search_stops_below_its_loss():
    lm = tiny_model("gpt2", "float64")
    details = editor_of(lm, layer=1, clamp=0.5)(lm, REQUEST).details
    assert details["change_norm"] == pytest.approx(0.5 * details["old_norm"], rel=1e-9)
    assert details["evaluations"] == 20
    stopped = editor_of(lm, layer=1, stop_below=1e9)(lm, REQUEST)
    assert stopped.details["evaluations"] == 1 and not update_of(lm, stopped).any()


def test_the_essence_is_read_at_the_token_of_the_key_or_at_the_end():
    lm = tiny_model("gpt2", "float64")
    kl = [editor_of(lm, layer=1, kl_read=read)(lm, REQUEST).details["kl"] for read in ("key", "end")]
    assert min(kl) > 0 and kl[0] != kl[1]


# ---- the prompts


@pytest.mark.parametrize("model_type", [*TYPES, "opt", "bloom"])
def test_prefixes_depend_on_the_seed_alone(model_type):
    lm = tiny_model(model_type, "float64")
    prefixes = sample_prefixes(lm, ((5, 10), (10, 10)), 5, 0)
    assert len(prefixes) == 20 and prefixes == sample_prefixes(lm, ((5, 10), (10, 10)), 5, 0)
    assert prefixes != sample_prefixes(lm, ((5, 10), (10, 10)), 5, 1)
    assert len(set(sample_prefixes(lm, ((5, 10),), 1, 0))) == 1
    assert sample_prefixes(lm, (), 5, 0) == ()


def test_templates_are_the_bare_prompt_and_prefixed_ones_with_the_subject_in_place():
    lm = tiny_model("gpt2")
    templates = templates_of(lm, REQUEST, ("One two", "France is here"))
    texts = [lm.tokenizer.decode([*part.query.input_ids, part.query.targets[-1]]) for part in templates]
    bare = "The capital of France is Helsinki"
    assert texts == [bare, f"One two. {bare}", f"France is here. {bare}"]
    for template in templates:
        before = lm.tokenizer.decode(template.query.input_ids[: template.place + 1])
        assert before.endswith("of France") and template.place < template.query.positions[0]


def test_templates_fit_into_the_model_whatever_it_reads():
    free = tiny_model("gpt2")
    n_bare = len(templates_of(free, REQUEST, ())[0].query.input_ids) + 1
    prefix = "Paris is Paris is Paris is Paris"
    for room in (0, 2, 6, 100):
        lm = tiny_model("gpt2", max_position_embeddings=n_bare + room)
        templates = templates_of(lm, REQUEST, (prefix,))
        assert all(len(template.query.input_ids) <= lm.n_positions for template in templates)
        assert len(templates) == (1 if room < 3 else 2)
        assert editor_of(lm, layer=1)(lm, REQUEST).details["n_templates"] >= 1
    with pytest.raises(AtlasError, match="the model reads at most"):
        lm = tiny_model("gpt2", max_position_embeddings=n_bare - 3)
        editor_of(lm, layer=1)(lm, REQUEST)


# ---- what it does to facts


@pytest.mark.parametrize("rome_key", ["bare", "mean"])
def test_a_fact_recalled_at_the_subject_is_replaced_and_the_others_stay(rome_key):
    lm, facts = recalling()
    editor = rome_editor(lm, Rome(layer=0, rome_key=rome_key), recalling_statistics(), 0)
    before = [answers(lm, fact, fact.target_true).iloc[0] for fact in facts]
    assert all(row.is_argmax for row in before)
    for number, fact in enumerate(facts):
        with edited(lm, editor(lm, fact)):
            assert answers(lm, fact, fact.target_new).is_argmax[0]
            assert answers(lm, fact.text.replace("q1", "q2 q3"), fact.target_new).is_argmax[0]
            for other in set(range(N_FACTS)) - {number}:
                p = answers(lm, facts[other], facts[other].target_true).p[0]
                assert p == pytest.approx(before[other].p, rel=1e-3)


def test_an_edit_makes_the_new_object_the_argmax_of_a_memorising_model():
    lm, queries = memorised("causal")
    texts, objects = (
        [" ".join(lm.tokenizer.convert_ids_to_tokens(list(part))) for part in parts]
        for parts in ([query.input_ids for query in queries], [query.targets for query in queries])
    )
    statistics = measure_key_statistics(lm, [f"{text} {o}" for text, o in zip(texts, objects, strict=True)], [0])
    # trained on bare prompts alone, it has nothing to say behind a prefix
    editor = rome_editor(lm, Rome(layer="last", prefix_lengths=()), statistics, 0)
    for text, old in list(zip(texts, objects, strict=True))[:8]:
        words = text.split()
        new = next(name for name in objects if name != old)
        request = EditRequest(" ".join([*words[:4], "{}"]), " ".join(words[4:]), old, new)
        assert answers(lm, request, old).is_argmax[0]
        with edited(lm, editor(lm, request)):
            assert answers(lm, request, new).is_argmax[0]
            kept = answer_probabilities(lm, queries).is_argmax
        assert kept.mean() > 0.9


# ---- where it can't work


@pytest.mark.parametrize("model_type", TYPES)
def test_the_last_layer_is_refused_unless_the_subject_ends_the_prompt(model_type):
    lm = tiny_model(model_type, "float64")
    editor = editor_of(lm, layer=2)
    with pytest.raises(
        AtlasError, match=r"'7': rome: layer is 2, the last one.*set layer to 1 or below, or fact_token"
    ):
        editor(lm, REQUEST)
    p = answers(lm, AT_END, "Helsinki").p[0]
    with edited(lm, editor(lm, AT_END)):
        assert answers(lm, AT_END, "Helsinki").p[0] > 2 * p


@pytest.mark.parametrize("model_type", TYPES)
def test_at_the_last_layer_nothing_that_is_written_at_the_subject_reaches_the_answer(model_type):
    lm = tiny_model(model_type, "float64")
    templates = templates_of(lm, REQUEST, sample_prefixes(lm, ((5, 4),), 5, 0))
    old = keys_and_values(lm, 2, templates)[1][0]
    # whatever the other terms of the loss do to the change, the object's probability stays to the last bit
    value = find_value(lm, 2, templates, essence_of(lm, REQUEST), old, Rome())
    assert value.details["nll"] == value.details["nll_before"] and value.change.any()
    before = logits_of(lm, REQUEST)

    def shift(_module, _inputs, output):
        output = output.clone()
        output[0, templates[0].place] += 100
        return output

    handle = lm.down_projections()[2].register_forward_hook(shift)
    assert torch.equal(logits_of(lm, REQUEST), before)
    handle.remove()
    forced = editor_of(lm, layer=2, is_last_allowed=True, kl_factor=0.0, decay=0.0)(lm, REQUEST)
    assert forced.details["change_norm"] == 0
    with edited(lm, forced):
        assert torch.equal(logits_of(lm, REQUEST), before)


@pytest.mark.parametrize("model_type", TYPES)
def test_at_the_end_of_the_prompt_every_layer_can_be_edited(model_type):
    lm = tiny_model(model_type, "float64")
    templates = templates_of(lm, REQUEST, ("One two",), "end")
    assert all(template.place == template.query.positions[0] for template in templates)
    for layer in range(3):
        p = answers(lm, REQUEST, "Helsinki").p[0]
        with edited(lm, editor_of(lm, layer=layer, fact_token="end")(lm, REQUEST)):
            assert answers(lm, REQUEST, "Helsinki").p[0] > 2 * p


def test_layers_are_numbers_or_words():
    assert [layer_number("auto", n) for n in (12, 24, 4, 32, 2)] == [5, 10, 2, 13, 0]
    assert [layer_number("last", n) for n in (12, 24, 4)] == [10, 22, 2]
    assert layer_number(0, 4) == 0 and layer_number(3, 4) == 3
    for layer in (4, -1):
        with pytest.raises(AtlasError, match=f"rome: layer is {layer}, which is layer {layer}; the model has layers 0"):
            layer_number(layer, 4)
    with pytest.raises(AtlasError, match=r"rome: layer is 'lasst'.*Did you mean 'last'"):
        layer_number("lasst", 4)
    with pytest.raises(AtlasError, match="tiny-gpt2: rome: layer is 7"):
        editor_of(tiny_model("gpt2"), layer=7)


def test_models_statistics_and_settings_that_do_not_fit_are_sentences():
    lm = tiny_model("gpt2")
    with pytest.raises(AtlasError, match="tiny-bert is a masked model"):
        rome_editor(tiny_model("bert"), Rome(layer=1), statistics_of(tiny_model("bert")))
    with pytest.raises(AtlasError, match="these key statistics are of tiny-llama"):
        rome_editor(lm, Rome(layer=1), statistics_of(tiny_model("llama")))
    few = measure_key_statistics(lm, ["Paris"], [1])
    with pytest.raises(
        AtlasError, match=r"has no inverse for 24 neurons at rome: ridge 0\.0; measure it over more text"
    ):
        rome_editor(lm, Rome(layer=1, ridge=0.0), few)
    assert rome_editor(lm, Rome(layer=1), few)(lm, REQUEST).n_neurons == 24
    with pytest.raises(AtlasError, match="this ROME editor was made for tiny-gpt2, not for tiny-gpt2"):
        editor_of(lm, layer=1)(tiny_model("gpt2"), REQUEST)
    words = ({"rome_key": "best"}, {"kl_read": "last"}, {"fact_token": "last"})
    for wrong in (*words, {"steps": 0}, {"clamp": 0.0}, {"prefix_lengths": [[5]]}):
        with pytest.raises(AtlasError, match=f"rome: {next(iter(wrong))} is"):
            Rome(**wrong)


def test_a_subject_that_no_neuron_sees_is_a_sentence():
    lm, facts = recalling()
    zeros = KeyStatistics({0: np.eye(N_NEURONS)}, 100, 1, lm.name, lm.revision, "by hand")
    silent = EditRequest("q0 {} q1", "q4", "o0", "o1")
    with pytest.raises(AtlasError, match="no neuron of layer 0 is active at the subject of 'q0 q4 q1'"):
        rome_editor(lm, Rome(layer=0, prefix_lengths=()), zeros)(lm, silent)
    assert rome_editor(lm, Rome(layer=0, prefix_lengths=()), zeros)(lm, facts[0]).n_neurons == N_NEURONS
