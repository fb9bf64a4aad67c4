"""The pass without paths: packed sentences, keys and values, against full sentences through the unmodified model."""

from dataclasses import replace

import pytest
import torch

from knatlas.attribution import AttributionMethod
from knatlas.attribution.capture import capture_causal, capture_masked, see
from knatlas.attribution.groups import ReadoutGroup
from knatlas.attribution.sweep import CausalSweep
from knatlas.models.blocks import network_of
from knatlas.models.encoding import EncodedQuery
from tests.naive_attribution import MODULES, ONE_TOKEN, SEVERAL_TOKENS, example, hooked, neurons, relative_error
from tests.tiny_models import FLOAT32_NORMS, MODEL_TYPES, tiny_model

CAUSAL = [name for name in MODEL_TYPES if "bert" not in name and "roberta" not in name]
FLOAT64 = {name: 1e-5 if name in FLOAT32_NORMS else 1e-12 for name in MODEL_TYPES}
SITES = ["down_input", "pre_activation"]
PER_TOKEN = AttributionMethod("x")
EVERYTHING = AttributionMethod("x", replace_special=True)


def queries_of(lm):
    """Queries of several lengths where the model can take them together."""
    if lm.kind == "masked":
        return [example(lm, SEVERAL_TOKENS), example(lm, SEVERAL_TOKENS, fact="another")]
    return [example(lm, answer, query) for query in (1, 0) for answer in (SEVERAL_TOKENS, ONE_TOKEN)]


def captured(lm, queries, site="down_input", method=PER_TOKEN):
    group = ReadoutGroup(queries, [method], lm.replacement_id, lm.device)
    capture = capture_causal if lm.kind == "causal" else capture_masked
    return group, capture(network_of(lm), group.group, site)


@pytest.mark.parametrize("method", [PER_TOKEN, EVERYTHING], ids=["own tokens", "all tokens"])
@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_neurons_are_those_of_full_sentences_run_through_the_unmodified_model(model_type, site, method):
    lm = tiny_model(model_type, "float64")
    group, layers = captured(lm, queries_of(lm), site, method)
    chosen = group.chosen(method)
    for number, readout in enumerate(group.readouts):
        ids, replaceable = readout.input_ids, readout.replaceable
        replaced = range(len(ids)) if method.replace_special else replaceable
        assert chosen[number].sum() == len(replaced)
        sentences = [ids, *((*ids[:i], lm.replacement_id, *ids[i + 1 :]) for i in replaced)]
        for layer, found in enumerate(layers):
            own = torch.cat([found.clean[number][None], found.baselines[number][chosen[number]]])
            for sentence, values in zip(sentences, own, strict=True):
                expected = neurons(lm, sentence, readout.positions, layer, site != "down_input")
                assert relative_error(values, expected) <= FLOAT64[model_type]


@pytest.mark.parametrize("model_type", ["gpt2", "gpt_neox", "llama", "qwen3", "bloom", "opt"])
def test_keys_and_values_are_those_of_the_models_own_cache(model_type):
    lm = (
        tiny_model(model_type, "float64", use_sliding_window=False)
        if model_type == "qwen3"
        else tiny_model(model_type, "float64")
    )
    group, layers = captured(lm, queries_of(lm))
    for number, readout in enumerate(group.readouts):
        ids = torch.tensor([readout.input_ids])
        cache = lm.body(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=True).past_key_values
        for found, kept in zip(layers, cache.layers, strict=True):
            for own, expected in ((found.keys, kept.keys), (found.values, kept.values)):
                own = own[number, : ids.shape[1]].transpose(0, 1)
                assert relative_error(own, expected[0]) <= FLOAT64[model_type]


@pytest.mark.parametrize("model_type", ["gpt2", "bert"])
def test_residuals_and_inputs_are_what_the_models_layers_compute_with(model_type):
    lm = tiny_model(model_type, "float64")
    group, layers = captured(lm, queries_of(lm))
    module = {"gpt2": "ln_2", "bert": "intermediate"}[model_type]
    for number, readout in enumerate(group.readouts):
        for layer, found in enumerate(layers):
            block, seen = lm.model.get_submodule(MODULES[model_type][0])[layer], []
            handles = [
                block.get_submodule(module).register_forward_pre_hook(lambda _, given: seen.append(given[0][0])),  # noqa: B023
                block.register_forward_pre_hook(lambda _, given: seen.append(given[0][0])),  # noqa: B023
            ]
            lm.model(torch.tensor([readout.input_ids]))
            for handle in handles:
                handle.remove()
            inputs, residual = seen
            assert relative_error(found.residual[number], residual[list(readout.positions)]) <= 1e-12
            if lm.kind == "masked":
                assert relative_error(found.inputs[number], inputs) <= 1e-12


@pytest.mark.parametrize("model_type", CAUSAL)
def test_a_causal_sentence_is_run_from_the_token_where_it_differs(model_type):
    lm = tiny_model(model_type, "float64")
    query = example(lm, SEVERAL_TOKENS)
    group, _ = captured(lm, [query])
    seen, network = [], network_of(lm)

    def embed(ids, places):
        seen.append((ids, places))
        return network.embed(ids, places)

    capture_causal(replace(network, embed=embed), group.group, "down_input")
    ((ids, places),) = seen
    n_tokens = len(query.input_ids)
    assert len(ids) == n_tokens + sum(n_tokens - start for start in query.replaceable)
    assert places.tolist() == [i for start in (0, *query.replaceable) for i in range(start, n_tokens)]


def test_a_window_sees_itself_and_the_tokens_right_before():
    assert see(4, None, torch.device("cpu")).int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]
    assert see(4, 2, torch.device("cpu")).int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]


def log_p_of_end(lm, group, layers):
    """log P at the end of every layer's paths, (layers, readouts)."""
    network = network_of(lm)
    sweep = CausalSweep(network, layers, group.group.positions, group.group.targets)
    points = [block.feed.down(layer.clean)[:, None] for block, layer in zip(network.blocks, layers, strict=True)]
    return torch.stack(sweep.run(points, False, False).log_p)[..., 0]


@pytest.mark.parametrize("model_type", ["gpt2", "gpt_neox", "llama", "bloom", "gemma2"])
@pytest.mark.parametrize("part", ["keys", "values"])
def test_the_sweep_uses_the_prefix_and_neither_the_rows_own_token_nor_what_comes_after(model_type, part):
    lm = tiny_model(model_type, "float64")
    query = example(lm, SEVERAL_TOKENS)  # several readouts: of all but the last, tokens come after
    group, layers = captured(lm, [query])
    before = log_p_of_end(lm, group, layers)
    for number, (position,) in enumerate(group.group.positions.tolist()):
        own = getattr(layers[-1], part)
        kept = own.clone()
        own[number, position:] += 5.0
        assert torch.equal(log_p_of_end(lm, group, layers), before)
        own.copy_(kept)
        own[number, position - 1] += 5.0
        changed = log_p_of_end(lm, group, layers) != before
        own.copy_(kept)
        # rows of the layers below pass the last one; a point of the last layer has its attention behind it
        assert changed[:-1, number].all() and changed.sum() == len(layers) - 1


def test_no_gradient_goes_through_the_prefix():
    lm = tiny_model("gpt2", "float64")
    _, layers = captured(lm, [example(lm)])
    assert not any(part.requires_grad for layer in layers for part in (layer.keys, layer.values, layer.residual))
    # nor is one missing: neurons at the read position change no key that a token before it has
    seen = {}
    for factor in (1.0, 3.0):
        with hooked(lm, 0, False, lambda value: torch.cat([value[:, :-1], factor * value[:, -1:]], 1)):  # noqa: B023
            ids = torch.tensor([example(lm).input_ids])
            seen[factor] = lm.body(input_ids=ids, use_cache=True).past_key_values.layers[2].keys
    assert torch.equal(seen[1.0][:, :, :-1], seen[3.0][:, :, :-1])
    assert not torch.equal(seen[1.0][:, :, -1], seen[3.0][:, :, -1])


def test_shorter_queries_of_a_group_are_padded_without_being_changed():
    lm = tiny_model("gpt2", "float64")
    long = EncodedQuery("f", "en", 0, "causal", tuple(range(60, 72)), (11,), (71,), (0, 3))
    short = EncodedQuery("f", "en", 1, "causal", (70, 65), (1,), (71,), (0, 1))
    _, together = captured(lm, [long, short])
    _, alone = captured(lm, [short])
    for mine, other in zip(together, alone, strict=True):
        torch.testing.assert_close(mine.clean[1:], other.clean, rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(mine.baselines[1:], other.baselines, rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(mine.keys[1:, :2], other.keys, rtol=1e-12, atol=1e-13)
