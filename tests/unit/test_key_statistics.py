"""The second moment of keys: that of a plain loop, whatever the batches, without padding and added tokens."""

import numpy as np
import pytest
import torch

from knatlas.errors import AtlasError
from knatlas.interventions.key_statistics import (
    KeyText,
    completed_sentences,
    measure_key_statistics,
    read_documents,
    read_key_statistics,
    write_key_statistics,
)
from knatlas.models.neuron_hooks import tapped_layer
from tests.tiny_models import tiny_model, tiny_prompts

TYPES = ["gpt2", "llama", "opt", "bert"]
TEXTS = ["The capital of France is Paris.", "Paris", "", "Helsinki and Paris and Helsinki are capitals of Hungary."]


def keys_by_loop(lm, texts, layer):
    """The keys (tokens, neurons) of each text alone, in float64, without those of tokens that the tokenizer added."""
    found = []
    for text in texts:
        coded = lm.tokenizer(text, return_special_tokens_mask=True)
        own = [place for place, mark in enumerate(coded["special_tokens_mask"]) if not mark]
        if own:
            with tapped_layer(lm, layer, "down_input", lambda keys, own=own: found.append(keys[0, own]) or keys):
                lm.model(input_ids=torch.tensor([coded["input_ids"]]))
    return torch.cat(found).double().numpy()


@pytest.mark.parametrize("model_type", TYPES)
def test_the_moment_is_that_of_a_loop_over_tokens_whatever_the_batches(model_type):
    lm = tiny_model(model_type, "float64")
    for batch_rows in (1, 2, 8):
        statistics = measure_key_statistics(lm, TEXTS, [1, 0], batch_rows=batch_rows)
        for layer in (0, 1):
            keys = keys_by_loop(lm, TEXTS, layer)
            expected = sum(np.outer(key, key) for key in keys) / len(keys)
            # a norm or rotation in float32 is the only difference between batches
            np.testing.assert_allclose(statistics.moments[layer], expected, rtol=1e-5, atol=1e-7 * abs(expected).max())
        assert (statistics.n_tokens, statistics.n_documents) == (len(keys), 3)
        assert sorted(statistics.moments) == [0, 1] and statistics.moments[0].dtype == np.float64


def test_in_float64_the_loop_is_met_to_the_last_digits():
    lm = tiny_model("gpt2", "float64")
    keys = keys_by_loop(lm, TEXTS, 2)
    for batch_rows in (1, 3):
        moment = measure_key_statistics(lm, TEXTS, [2], batch_rows=batch_rows).moments[2]
        np.testing.assert_allclose(moment, keys.T @ keys / len(keys), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_moments_of_other_models_are_float32_and_symmetric(dtype):
    lm = tiny_model("llama", dtype)
    moment = measure_key_statistics(lm, TEXTS, [0]).moments[0]
    keys = keys_by_loop(lm, TEXTS, 0)
    assert moment.dtype == np.float32 and np.array_equal(moment, moment.T)
    error = {"float32": 1e-5, "bfloat16": 0.05}[dtype]
    np.testing.assert_allclose(moment, keys.T @ keys / len(keys), atol=error * np.abs(moment).max())


def test_layers_above_the_last_one_are_not_run():
    lm, ran = tiny_model("gpt2"), []
    handles = [layer.register_forward_hook(lambda *_, i=i: ran.append(i)) for i, layer in enumerate(lm.layers())]
    measure_key_statistics(lm, TEXTS[:1], [1])
    assert ran == [0]
    for handle in handles:
        handle.remove()
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in lm.model.modules())


@pytest.mark.parametrize("batch_rows", [1, 4])
def test_counting_stops_at_max_tokens(batch_rows):
    lm = tiny_model("gpt2", "float64")
    n = 9
    keys = keys_by_loop(lm, TEXTS, 0)[:n]
    statistics = measure_key_statistics(lm, TEXTS, [0], KeyText(max_tokens=n), batch_rows=batch_rows)
    assert statistics.n_tokens == n < len(keys_by_loop(lm, TEXTS, 0))
    np.testing.assert_allclose(statistics.moments[0], keys.T @ keys / n, rtol=1e-10, atol=1e-13)


def test_documents_are_cut_to_what_the_model_reads():
    lm = tiny_model("gpt2", "float64", max_position_embeddings=6)
    assert lm.n_positions == 6
    assert measure_key_statistics(lm, ["Paris " * 50], [0]).n_tokens == 6
    assert measure_key_statistics(lm, ["Paris " * 50], [0], KeyText(max_length=4)).n_tokens == 4


def test_the_studys_text_is_its_prompts_with_their_answers_each_once():
    prompts = tiny_prompts("causal", 2)
    sentences = completed_sentences(prompts)
    assert sentences[0] == "The capital of France is Paris" and "1 法国的首都是巴黎" in sentences
    assert len(sentences) == len(set(sentences)) == len(prompts)
    assert completed_sentences(prompts.iloc[[0, 0]]) == sentences[:1]


def test_documents_are_the_lines_of_a_file_or_a_seeded_choice_of_them(tmp_path):
    path = tmp_path / "corpus.txt"
    lines = [f"document {i}" for i in range(50)]
    path.write_text("\n\n".join(lines) + "\n", encoding="utf-8")
    assert read_documents(path, 100, 0) == lines
    chosen = read_documents(path, 10, 0)
    assert len(chosen) == 10 and chosen == [line for line in lines if line in chosen]
    assert chosen == read_documents(path, 10, 0) != read_documents(path, 10, 1)
    path.write_text("\n \n", encoding="utf-8")
    with pytest.raises(AtlasError, match="has no text"):
        read_documents(path, 10, 0)
    with pytest.raises(AtlasError, match=r"missing\.txt' is not there"):
        read_documents(tmp_path / "missing.txt", 10, 0)


def test_statistics_come_back_from_their_file(tmp_path):
    lm = tiny_model("gpt2")
    statistics = measure_key_statistics(lm, TEXTS, [0, 2], source="some text")
    path = tmp_path / "statistics.safetensors"
    write_key_statistics(statistics, path)
    first = path.read_bytes()
    back = read_key_statistics(path)
    for layer in (0, 2):
        assert np.array_equal(back.of(lm, layer), statistics.moments[layer])
    names = ("n_tokens", "n_documents", "model", "revision", "source")
    assert all(getattr(back, name) == getattr(statistics, name) for name in names)
    write_key_statistics(back, path)
    assert path.read_bytes() == first


def test_what_cannot_be_measured_or_used_is_a_sentence():
    lm = tiny_model("gpt2")
    statistics = measure_key_statistics(lm, TEXTS, [0])
    with pytest.raises(AtlasError, match=r"hold layers \[0\], layer 1 was asked for"):
        statistics.of(lm, 1)
    with pytest.raises(AtlasError, match="these key statistics are of tiny-gpt2"):
        statistics.of(tiny_model("llama"), 0)
    for layers, words in (([3], "layer 3"), ([-1], "layer -1"), ([], "no layer")):
        with pytest.raises(AtlasError, match=f"of {words} were asked for; expected some of 0 to 2"):
            measure_key_statistics(lm, TEXTS, layers)
    with pytest.raises(AtlasError, match="has no token"):
        measure_key_statistics(lm, ["", ""], [0])
    with pytest.raises(AtlasError, match="max_tokens is 0"):
        KeyText(max_tokens=0)
