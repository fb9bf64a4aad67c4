"""Causal tracing on tiny models: what a restoration must bring back exactly, and what it must leave alone."""

from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from knatlas.errors import AtlasError
from knatlas.interventions.restoring import (
    KINDS,
    NEURON,
    neuron_probabilities,
    outputs_of,
    restored_probabilities,
    run_with_noise,
)
from knatlas.interventions.tracing import (
    Noise,
    TraceSettings,
    draw_noise,
    neuron_effects,
    noise_sigma,
    trace,
    window_layers,
    window_of,
)
from knatlas.models.answers import token_probabilities
from knatlas.models.architectures import ARCHITECTURES, module_at
from knatlas.models.encoding import encode_prompt
from knatlas.models.subjects import read_position, subject_positions
from tests.tiny_models import LAYERS, MODEL_TYPES, NEURONS, tiny_model

PROMPT = SimpleNamespace(
    **{"before": "The capital of France is", "separator": " ", "answer": "Paris", "after": "."},
    **{"fact": "P36:FR>Paris", "language": "en", "query": 0},
)
SUBJECT = "France"
SETTINGS = TraceSettings(Noise(0.5, 3), window=1)
FEW = ["bert", "gpt2", "llama"]
CAUSAL = [name for name in MODEL_TYPES if ARCHITECTURES[name].kind == "causal"]
# of float64, in which the models compute; norms and rotations of some are in float32, whatever the model's format
EXACT = {"rtol": 1e-12, "atol": 1e-14}
CLOSE = {"rtol": 1e-5, "atol": 1e-8}


@pytest.fixture(params=MODEL_TYPES)
def lm(request):
    return tiny_model(request.param, "float64")


def runs_of(lm, kinds=(*KINDS, NEURON), n_samples=3):
    query = encode_prompt(lm, PROMPT)
    noisy = subject_positions(lm, PROMPT, SUBJECT)
    return run_with_noise(lm, query, noisy, draw_noise(lm, query, len(noisy), Noise(0.5, n_samples)), kinds)


def choice(runs, positions):
    """One restoration of the tokens at some positions."""
    marks = torch.zeros(1, len(runs.query.input_ids), dtype=torch.bool)
    marks[0, list(positions)] = True
    return marks


def p_of(lm, query):
    """P of the targets in a plain forward pass."""
    probabilities = token_probabilities(lm, [query])[0]
    return float(probabilities[torch.arange(len(query.targets)), list(query.targets)].prod())


def by_hand(lm, runs, restored):
    """P in each sample by full forward passes, one per sample, with hooks only; restored: (kind, layer, position)."""
    found = []
    for sample in range(runs.n_samples):
        handles = [lm.model.get_input_embeddings().register_forward_hook(_adding(runs, sample))]
        for kind, layer, position in restored:
            handles.append(outputs_of(lm, kind)[layer].register_forward_hook(_putting(runs, kind, layer, position)))
        try:
            found.append(p_of(lm, runs.query))
        finally:
            for handle in handles:
                handle.remove()
    return torch.tensor(found, dtype=torch.float64)


def _adding(runs, sample):
    def hook(_module, _inputs, output):
        output = output.clone()
        for number, position in enumerate(runs.positions):
            output[0, position] += runs.noise[sample, number]
        return output

    return hook


def _putting(runs, kind, layer, position):
    def hook(_module, _inputs, output):
        state = output[0].clone() if isinstance(output, tuple) else output.clone()
        # of one sentence: tokens lie along the last axis but one, whether there is an axis of rows or not
        state[..., position, :] = runs.clean[kind][layer, position]
        return (state, *output[1:]) if isinstance(output, tuple) else state

    return hook


def test_every_architecture_has_modules_that_add_to_the_residual_stream(lm):
    for layer in lm.layers():
        module_at(layer, lm.architecture.attention_output)
        module_at(layer, lm.architecture.mlp_output or lm.architecture.down_projection)


@pytest.mark.parametrize("model_type", CAUSAL)  # the masked ones norm the sum
def test_a_layer_adds_its_attention_and_its_mlp_to_its_input(model_type):
    lm, seen = tiny_model(model_type, "float64"), []
    handle = lm.layers()[1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    runs = runs_of(lm)
    handle.remove()
    parts = runs.clean["mlp"][1] + runs.clean["attention"][1]
    torch.testing.assert_close(seen[0][0] + parts, runs.clean["block"][1], **CLOSE)


def test_p_without_noise_is_that_of_a_plain_forward_pass(lm):
    runs = runs_of(lm)
    assert runs.p_clean == pytest.approx(p_of(lm, runs.query), rel=1e-5)
    torch.testing.assert_close(runs.p_corrupted, by_hand(lm, runs, []), **CLOSE)
    assert (runs.p_corrupted / runs.p_clean - 1).abs().min() > 1e-4


def test_restoring_all_positions_of_a_layer_gives_p_without_noise(lm):
    runs = runs_of(lm)
    for layer in range(LAYERS):
        everything = choice(runs, range(len(runs.query.input_ids)))
        p = restored_probabilities(runs, "block", range(layer, layer + 1), everything)
        torch.testing.assert_close(p, torch.full_like(p, runs.p_clean), **EXACT)


def test_restoring_nothing_gives_p_with_noise(lm):
    runs = runs_of(lm)
    for kind, layer in product(KINDS, range(LAYERS)):
        p = restored_probabilities(runs, kind, range(layer, layer + 1), choice(runs, []))
        torch.testing.assert_close(p[0], runs.p_corrupted, **EXACT)
    p = neuron_probabilities(runs, 1, 2, torch.zeros(1, 0, dtype=torch.long))
    torch.testing.assert_close(p[0], runs.p_corrupted, **EXACT)


def test_restorations_are_those_of_full_forward_passes(lm):
    runs = runs_of(lm)
    places = (runs.positions[-1], read_position(runs.query))
    for kind, layer, position in product(KINDS, range(LAYERS), places):
        p = restored_probabilities(runs, kind, range(layer, layer + 1), choice(runs, [position]))
        torch.testing.assert_close(p[0], by_hand(lm, runs, [(kind, layer, position)]), **CLOSE)
    for kind in ("mlp", "attention"):
        p = restored_probabilities(runs, kind, range(1, 3), choice(runs, places[:1]))
        expected = by_hand(lm, runs, [(kind, layer, places[0]) for layer in (1, 2)])
        torch.testing.assert_close(p[0], expected, **CLOSE)


def test_the_last_layer_at_the_read_position_gives_p_without_noise(lm):
    traced = trace(lm, PROMPT, SUBJECT, SETTINGS)
    last = traced.p_restored["block"][:, -1]
    read = read_position(traced.query)
    assert last[read] == pytest.approx(traced.p_clean, rel=1e-12)
    others = np.delete(last, read)
    assert (others == traced.p_corrupted).all()


@pytest.mark.parametrize("model_type", CAUSAL)
def test_states_left_of_the_subject_change_nothing_in_a_causal_model(model_type):
    lm = tiny_model(model_type, "float64")
    traced = trace(lm, PROMPT, SUBJECT, SETTINGS)
    assert traced.subject[0] > 0
    for kind in KINDS:
        assert (traced.effect(kind)[: traced.subject[0]] == 0.0).all()
    # what is not run: a forward pass with that state restored
    runs = runs_of(lm)
    for kind in KINDS:
        p = restored_probabilities(runs, kind, range(1, 2), choice(runs, range(traced.subject[0])))
        torch.testing.assert_close(p[0], runs.p_corrupted, **EXACT)


def embedding_outputs(lm, seen):
    """From now on, note what the input embedding gives after all hooks; returns what ends it."""

    def last(module, _inputs):
        # registered when the module is called, so that it comes after the hooks that are there by then
        def note(_module, _inputs, output):
            seen.append(output.clone())
            handle.remove()

        handle = module.register_forward_hook(note)

    return lm.model.get_input_embeddings().register_forward_pre_hook(last)


@pytest.mark.parametrize("model_type", FEW)
def test_noise_is_on_the_subject_s_embeddings_only_and_the_same_in_all_restorations(model_type):
    lm, seen = tiny_model(model_type, "float64"), []
    query, noisy = encode_prompt(lm, PROMPT), list(subject_positions(lm, PROMPT, SUBJECT))
    clean = lm.model.get_input_embeddings()(torch.tensor(query.input_ids))
    handle = embedding_outputs(lm, seen)
    trace(lm, PROMPT, SUBJECT, replace(SETTINGS, kinds=("mlp",)))
    handle.remove()
    # the run that is kept and that of each layer, in one batch; only layer 0 begins with the embeddings
    assert len(seen) == 1 + LAYERS
    changes = [output - clean[: output.shape[1]] for output in seen]
    drawn = changes[0][1:, noisy]
    assert (changes[0][0] == 0).all() and len(drawn) == 3 and drawn.std() > 0.2
    for change in changes[:2]:
        assert (np.delete(change.numpy(), noisy, axis=1) == 0).all()
    by_restoration = changes[1][:, noisy].unflatten(0, (-1, 3))
    torch.testing.assert_close(by_restoration, drawn.expand_as(by_restoration), **EXACT)


def test_noise_has_the_asked_deviation_and_differs_between_facts_but_not_between_calls():
    lm = tiny_model("gpt2")
    query, noise = encode_prompt(lm, PROMPT), Noise(0.7, 2000, seed=3)
    first, again = (draw_noise(lm, query, 2, noise) for _ in range(2))
    assert first.shape == (2000, 2, 16) and torch.equal(first, again)
    assert float(first.std()) == pytest.approx(0.7, rel=0.02) and abs(float(first.mean())) < 0.01
    for other in (draw_noise(lm, replace(query, fact="x"), 2, noise), draw_noise(lm, query, 2, Noise(0.7, 2000, 4))):
        correlation = np.corrcoef(first.flatten(), other.flatten())[0, 1]
        assert abs(correlation) < 0.02


@pytest.mark.parametrize("model_type", FEW)
def test_the_number_of_rows_in_a_batch_changes_nothing(model_type):
    lm = tiny_model(model_type, "float64")
    one, other = (trace(lm, PROMPT, SUBJECT, replace(SETTINGS, batch_rows=rows)) for rows in (1, 50))
    effects = [neuron_effects(lm, PROMPT, SUBJECT, replace(SETTINGS, batch_rows=rows), 1, 5) for rows in (4, 64)]
    for kind in KINDS:
        np.testing.assert_allclose(one.p_restored[kind], other.p_restored[kind], **EXACT)
    np.testing.assert_allclose(*effects, **EXACT)


def test_all_neurons_of_a_layer_are_its_mlp_s_output_in_a_window_of_one(lm):
    runs = runs_of(lm)
    everything = torch.arange(NEURONS)[None]
    for layer, position in product(range(LAYERS), (runs.positions[-1], read_position(runs.query))):
        p = neuron_probabilities(runs, layer, position, everything)
        mlp = restored_probabilities(runs, "mlp", range(layer, layer + 1), choice(runs, [position]))
        torch.testing.assert_close(p, mlp, **EXACT)


def test_neuron_effects_are_those_of_single_neurons_in_full_forward_passes(lm):
    position = subject_positions(lm, PROMPT, SUBJECT)[-1]
    effects = neuron_effects(lm, PROMPT, SUBJECT, replace(SETTINGS, target="answer"), 1, position)
    assert effects.shape == (NEURONS,) and (effects != 0).any()
    runs = runs_of(lm)
    clean = runs.clean[NEURON][1, position]
    for neuron in (0, 7, NEURONS - 1):

        def put_back(_module, inputs, neuron=neuron):
            values = inputs[0].clone()
            values[..., position, neuron] = clean[neuron]
            return (values, *inputs[1:])

        handle = lm.down_projections()[1].register_forward_pre_hook(put_back)
        expected = float((by_hand(lm, runs, []) - runs.p_corrupted).mean())
        handle.remove()
        assert effects[neuron] == pytest.approx(expected, rel=1e-4, abs=1e-9)


def test_neuron_effects_of_states_that_are_not_read_are_zero():
    lm = tiny_model("gpt2")
    assert not neuron_effects(lm, PROMPT, SUBJECT, SETTINGS, 1, 0).any()
    assert not neuron_effects(lm, PROMPT, SUBJECT, SETTINGS, LAYERS - 1, 4).any()
    for layer, position in ((LAYERS, 1), (0, 6), (-1, 1)):
        with pytest.raises(AtlasError, match="there is no layer"):
            neuron_effects(lm, PROMPT, SUBJECT, SETTINGS, layer, position)


@pytest.mark.parametrize("model_type", FEW)
def test_the_model_is_as_before_also_after_an_exception(model_type, monkeypatch):
    lm = tiny_model(model_type, "float64")
    runs = runs_of(lm)

    def stop(*_):
        raise KeyError("stopped")

    with monkeypatch.context() as patch:
        patch.setattr("knatlas.interventions.restoring.token_probabilities", stop)
        for kind in KINDS:
            with pytest.raises(KeyError, match="stopped"):
                restored_probabilities(runs, kind, range(1, 2), choice(runs, [1]))
    assert all("forward" not in vars(layer) for layer in lm.layers())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in lm.model.modules())
    assert p_of(lm, runs.query) == pytest.approx(runs.p_clean, rel=1e-12)


def test_the_target_is_the_prediction_or_the_whole_answer():
    lm, prompt = tiny_model("gpt2", "float64"), SimpleNamespace(**{**vars(PROMPT), "answer": "Paris Helsinki"})
    query = encode_prompt(lm, prompt)
    assert len(query.targets) > 1
    whole, first = (trace(lm, prompt, SUBJECT, replace(SETTINGS, target=name)) for name in ("answer", "prediction"))
    distribution = token_probabilities(lm, [query])[0][0]
    assert whole.query == query and whole.p_clean == pytest.approx(p_of(lm, query), rel=1e-12)
    assert first.query.input_ids == query.input_ids[: read_position(query) + 1]
    assert first.p_clean == pytest.approx(float(distribution.max()), rel=1e-12)
    assert first.query.targets == (int(distribution.argmax()),)
    assert whole.is_right == first.is_right == (first.query.targets[0] == query.targets[0])
    assert whole.p_restored["block"].shape == first.p_restored["block"].shape == (read_position(query) + 1, LAYERS)


@pytest.mark.parametrize(("layer", "expected"), [(0, (0, 5)), (5, (0, 10)), (6, (1, 11)), (11, (6, 12))])
def test_a_window_of_ten_is_the_paper_s(layer, expected):
    assert window_layers(layer, 10, 12) == range(*expected)


def test_a_window_of_one_is_the_layer_and_an_odd_one_lies_around_it():
    assert [window_layers(layer, 1, 3) for layer in range(3)] == [range(0, 1), range(1, 2), range(2, 3)]
    assert window_layers(2, 3, 5) == range(1, 4)
    assert [window_of("auto", n) for n in (1, 3, 12, 24, 48)] == [1, 1, 4, 8, 10] and window_of(7, 3) == 7


def test_the_deviation_of_the_noise_is_three_times_that_of_subject_embeddings():
    lm = tiny_model("gemma2", "float64")  # its embedding module scales what the matrix holds
    prompts = [(PROMPT, SUBJECT), (SimpleNamespace(**{**vars(PROMPT), "before": "Hungary: the capital is"}), "Hungary")]
    ids = [
        encode_prompt(lm, prompt).input_ids[i]
        for prompt, subject in prompts
        for i in subject_positions(lm, prompt, subject)
    ]
    states = lm.model.get_input_embeddings()(torch.tensor(ids)).numpy()
    assert noise_sigma(lm, prompts) == pytest.approx(3 * states.std(ddof=1), rel=1e-9)
    assert noise_sigma(lm, [], 0.1) == 0.1
    with pytest.raises(AtlasError, match="noise is 's4'; expected a number or"):
        noise_sigma(lm, prompts, "s4")
    with pytest.raises(AtlasError, match="there are no subjects"):
        noise_sigma(lm, [])


def test_settings_that_cannot_be_meant_are_refused():
    wrong = [({"kinds": ("mpl",)}, "Did you mean 'mlp'"), ({"target": "gold"}, "what P is of")]
    wrong += [({"window": 0}, "window is '0'"), ({"window": "all"}, "window is 'all'")]
    for settings, match in wrong:
        with pytest.raises(AtlasError, match=match):
            TraceSettings(Noise(1.0), **settings)
    for noise in ({"sigma": 0.0}, {"sigma": float("nan")}, {"sigma": 1.0, "n_samples": 0}):
        with pytest.raises(AtlasError, match="expected a number above 0"):
            Noise(**noise)
