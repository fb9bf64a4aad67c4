"""The blocks are the model: every type, and every setting of its configuration that blocks are built for."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import gelu
from transformers.models.bloom.modeling_bloom import bloom_gelu_forward

from knatlas.attribution import AttributionMethod
from knatlas.attribution.engine import attribute_queries
from knatlas.errors import AtlasError
from knatlas.models.architectures import ARCHITECTURES
from knatlas.models.blocks import Network, network_of
from knatlas.models.blocks.block import Block
from knatlas.models.blocks.builders import BUILDERS
from knatlas.models.blocks.network import NoFastPath
from knatlas.models.language_model import LanguageModel
from tests.naive_attribution import EXACT, ONE_TOKEN, SEVERAL_TOKENS, example, naive_scores, relative_error
from tests.tiny_models import FLOAT32_NORMS, MODEL_TYPES, tiny_model
from tests.unit.test_architecture_settings import VARIANTS

ALTERNATING = ["sliding_attention", "full_attention", "sliding_attention"]
# what else a configuration can switch on that the blocks read
MORE = {
    "bert with another activation": ("bert", {"hidden_act": "gelu_new"}),
    "roberta with relu": ("roberta", {"hidden_act": "relu"}),
    "distilbert with relu": ("distilbert", {"activation": "relu"}),
    "gpt2 with scores by layer": ("gpt2", {"scale_attn_by_inverse_layer_idx": True}),
    "gpt2 without scale": ("gpt2", {"scale_attn_weights": False, "reorder_and_upcast_attn": True}),
    "gpt_neox one after the other": ("gpt_neox", {"use_parallel_residual": False, "attention_bias": False}),
    "gpt_neox rotated wholly": ("gpt_neox", {"rotary_pct": 1.0}),
    "opt with gelu": ("opt", {"activation_function": "gelu"}),
    "opt without last norm": ("opt", {"_remove_final_layer_norm": True}),
    "opt with narrow words": ("opt", {"word_embed_proj_dim": 8}),
    "bloom of 6 heads, first draft": (
        "bloom",
        {"num_attention_heads": 6, "apply_residual_connection_post_layernorm": True},
    ),
    "llama with biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama sees past a window it does not have": ("llama", {"sliding_window": 2}),
    "llama with wide heads": ("llama", {"head_dim": 12, "num_key_value_heads": 2, "tie_word_embeddings": True}),
    "llama with scaled angles": ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}),
    "mistral without window": ("mistral", {"sliding_window": None}),
    "mistral has one window": ("mistral", {"layer_types": ALTERNATING}),
    "qwen2 without windows": ("qwen2", {"use_sliding_window": False}),
    "qwen3 with windows": ("qwen3", {"use_sliding_window": True, "sliding_window": 3, "layer_types": ALTERNATING}),
    "phi3 rotated in part": ("phi3", {"partial_rotary_factor": 0.5, "sliding_window": None}),
    "gemma2 with biases": ("gemma2", {"attention_bias": True, "num_key_value_heads": 2}),
    "gemma3 with biases": ("gemma3_text", {"attention_bias": True, "layer_types": ALTERNATING}),
}
# the model reads neither setting, but the cache of transformers makes windows of them
ODD_CACHE = ("llama sees past a window it does not have", "mistral has one window")
# angles of this type change beyond the longest sentence only
NO_CHANGE = (*ODD_CACHE, "llama with scaled angles")
CASES = {name: (name, {}) for name in MODEL_TYPES} | VARIANTS | MORE
PATHS = [AttributionMethod("zero", path="zero", steps=2), AttributionMethod("token", path="per_token", steps=2)]
BEFORE = [replace(method, neuron_site="pre_activation") for method in PATHS]
# the name that each type's configuration has for its non-linearity
NON_LINEARITY = {
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "gpt_neox"), "hidden_act"),
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "phi3"), "hidden_act"),
    **dict.fromkeys(("gpt2", "opt"), "activation_function"),
    **dict.fromkeys(("gemma2", "gemma3_text"), "hidden_activation"),
    "distilbert": "activation",
}


def model_of(case: str, dtype: str = "float64") -> LanguageModel:
    model_type, settings = CASES[case]
    return tiny_model(model_type, dtype, **settings)


def attend(block: Block, query: Tensor, key: Tensor, value: Tensor, is_causal: bool) -> Tensor:
    """Attention written out, (sentences, tokens, heads, dim) in and out."""
    attention, n_tokens = block.attention, query.shape[1]
    key, value = (part.repeat_interleave(attention.n_heads // attention.n_kv_heads, 2) for part in (key, value))
    scores = torch.einsum("sqhd,skhd->shqk", query, key) * attention.scale
    if attention.cap is not None:
        scores = attention.cap * torch.tanh(scores / attention.cap)
    distance = torch.arange(n_tokens)[:, None] - torch.arange(n_tokens)
    if attention.slopes is not None:
        scores = scores - attention.slopes[:, None, None] * distance
    if is_causal:
        hidden = (distance < 0) | (distance >= (attention.window or n_tokens))
        scores = scores.masked_fill(hidden, -torch.inf)
    return torch.einsum("shqk,skhd->sqhd", scores.softmax(-1), value)


def logits_of(network: Network, ids: Tensor) -> Tensor:
    """Logits (sentences, tokens, words) of the network, by its definition."""
    places = torch.arange(ids.shape[1]).expand_as(ids)
    x = network.embed(ids, places)
    for block, rotation in zip(network.blocks, network.rotations(places), strict=True):
        residual = block.residual(x, attend(block, *block.project(x, rotation), network.is_causal))
        x = block.leave(residual, block.feed_forward(x, residual))
    logits = network.final(x) @ network.vocabulary.t()
    logits = logits if network.bias is None else logits + network.bias
    cap = network.logit_cap
    return logits if cap is None else cap * torch.tanh(logits / cap)


@pytest.mark.parametrize("case", CASES)
def test_a_network_has_the_logits_of_its_model(case: str) -> None:
    lm = model_of(case)
    ids = torch.randint(6, 40, (2, 7), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, found = lm.model(ids).logits, logits_of(network_of(lm), ids)
    limit = 1e-6 if lm.architecture.model_type in FLOAT32_NORMS else 1e-12
    assert float((found - expected).norm() / expected.norm()) <= limit


@pytest.mark.parametrize("case", MORE)
def test_a_setting_makes_another_model(case: str) -> None:
    ids = torch.arange(6, 13)[None]
    lm, plain = model_of(case), tiny_model(CASES[case][0], "float64")
    with torch.no_grad():
        is_same = torch.equal(lm.model(ids).logits, plain.model(ids).logits)
    assert is_same == (case in NO_CHANGE)


def both(lm: LanguageModel, methods: list[AttributionMethod], answer: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Scores of each method on the fast and on the general path."""
    query = example(lm, answer)
    fast, general = (attribute_queries(lm, [query], methods, path=path)[0].scores for path in ("fast", "general"))
    return [(fast[method.name], general[method.name]) for method in methods]


@pytest.mark.parametrize("answer", [ONE_TOKEN, SEVERAL_TOKENS])
@pytest.mark.parametrize("case", [case for case in CASES if case not in ODD_CACHE])
def test_the_fast_path_has_the_scores_of_the_general_one(case: str, answer: str) -> None:
    lm = model_of(case)
    for fast, general in both(lm, PATHS, answer):
        assert relative_error(fast, general) <= EXACT[lm.architecture.model_type]


@pytest.mark.parametrize("case", ODD_CACHE)
def test_the_fast_path_has_the_scores_of_the_explicit_loop_where_the_cache_of_transformers_fails(case: str) -> None:
    lm = model_of(case)
    query = example(lm, SEVERAL_TOKENS)
    found = attribute_queries(lm, [query], PATHS, path="fast")[0].scores["token"]
    expected = naive_scores(lm, query, "per_token", "right", 2)["delta"]
    assert relative_error(found, expected) <= EXACT[lm.architecture.model_type]


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_the_fast_path_has_the_scores_of_the_general_one_before_the_non_linearity(model_type: str) -> None:
    for fast, general in both(model_of(model_type), BEFORE, SEVERAL_TOKENS):
        assert relative_error(fast, general) <= EXACT[model_type]


def test_queries_of_several_lengths_in_one_sweep_have_caps_and_slopes_of_their_own_positions() -> None:
    for model_type in ("gemma2", "bloom"):
        lm = model_of(model_type)
        queries = [example(lm, answer, number) for number, answer in enumerate((ONE_TOKEN, SEVERAL_TOKENS, ONE_TOKEN))]
        together = attribute_queries(lm, queries, PATHS, path="fast", batch_queries=3)
        for query, found in zip(queries, together, strict=True):
            alone = attribute_queries(lm, [query], PATHS, path="general")[0]
            for name, expected in alone.scores.items():
                assert relative_error(found.scores[name], expected) <= EXACT[model_type]


def test_every_known_type_has_blocks() -> None:
    assert set(BUILDERS) == set(ARCHITECTURES)


def test_a_type_without_blocks_says_so_and_takes_the_general_path() -> None:
    lm = model_of("gpt2")
    unheard = replace(lm, architecture=replace(lm.architecture, model_type="unheard"))
    with pytest.raises(NoFastPath, match=r"^model type 'unheard' has no blocks$"):
        network_of(unheard)
    query = example(lm)
    with pytest.raises(
        AtlasError, match=r"tiny-gpt2 has no fast path: model type 'unheard' has no blocks\. Use 'auto'"
    ):
        attribute_queries(unheard, [query], PATHS, path="fast")
    found, expected = (attribute_queries(unheard, [query], PATHS, path=path)[0] for path in ("auto", "general"))
    assert all(np.array_equal(found.scores[name], expected.scores[name]) for name in found.scores)


@pytest.mark.parametrize("model_type", NON_LINEARITY)
def test_an_unknown_non_linearity_is_named_and_takes_the_general_path(model_type: str) -> None:
    setting = NON_LINEARITY[model_type]
    lm = tiny_model(model_type, "float64", **{setting: "quick_gelu"})
    with pytest.raises(NoFastPath, match=f"^{setting} is 'quick_gelu'$"):
        network_of(lm)
    query, method = example(lm), PATHS[:1]
    found, expected = (attribute_queries(lm, [query], method, path=path)[0] for path in ("auto", "general"))
    assert np.array_equal(found.scores["zero"], expected.scores["zero"])


@pytest.mark.parametrize(
    ("model_type", "setting", "value", "reason"),
    [
        ("bert", "is_decoder", True, "is_decoder or add_cross_attention is set"),
        ("bert", "position_embedding_type", "relative_key", "position_embedding_type is 'relative_key'"),
        ("gpt2", "add_cross_attention", True, "add_cross_attention is set"),
        ("bloom", "slow_but_exact", True, "slow_but_exact is set"),
        ("gemma2", "use_bidirectional_attention", True, "use_bidirectional_attention is set"),
        ("gemma3_text", "attn_logit_softcapping", 50.0, "attn_logit_softcapping is 50.0"),
    ],
)
def test_a_switch_that_blocks_do_not_have_is_named(model_type: str, setting: str, value: object, reason: str) -> None:
    lm = tiny_model(model_type)
    setattr(lm.model.config, setting, value)
    with pytest.raises(NoFastPath, match=f"^{reason}$"):
        network_of(lm)


def test_angles_of_long_sentences_are_those_of_the_model_up_to_the_longest() -> None:
    lm = model_of("phi3 with long angles")
    network, n_tokens = network_of(lm), lm.n_positions
    ids = torch.randint(6, 40, (1, n_tokens), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, found = lm.model(ids).logits, logits_of(network, ids)
        last = network.rotations(torch.tensor([n_tokens - 1]))[0]
        whole = network.rotations(torch.arange(n_tokens))[0]
    assert float((found - expected).norm() / expected.norm()) <= 1e-6
    assert torch.equal(last.cos, whole.cos[-1:]) and torch.equal(last.sin, whole.sin[-1:])


def test_the_gelu_of_bloom_is_the_tanh_form_up_to_the_digits_of_its_constant() -> None:
    assert np.float32(0.79788456) == np.float32(np.sqrt(2 / np.pi))
    x = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    torch.testing.assert_close(gelu(x, approximate="tanh"), bloom_gelu_forward(x), rtol=0, atol=1e-9)
