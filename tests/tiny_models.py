"""Tiny random models of each architecture, with tiny tokenizers: no download, a few milliseconds each."""

import pandas as pd
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    PreTrainedConfig,
    PreTrainedModel,
)

from knatlas.facts.table import PROMPT_COLUMNS
from knatlas.models.architectures import architecture_of
from knatlas.models.language_model import LanguageModel, as_language_model
from tests.tiny_tokenizers import TOKENIZERS

TEXTS = [  # fact, language, before, separator, answer, after: of several lengths, answers of one and of more tokens
    ("P36:FR>Paris", "en", "The capital of France is", " ", "Paris", "."),
    ("P36:FI>Helsinki", "en", "The capital of Finland is", " ", "Helsinki", "."),
    ("P36:HU>Budapest", "en", "Hungary: the capital is", " ", "Budapest", ""),
    ("P36:FR>Paris", "zh", "法国的首都是", "", "巴黎", "。"),
    ("P36:FI>Helsinki", "zh", "芬兰的首都是", "", "赫尔辛基", "。"),
    ("P36:FR>Paris", "ja", "フランスの首都は", "", "パリ", "です。"),
]
KINDS = {"masked": "bert", "causal": "gpt2"}
HIDDEN, LAYERS, HEADS, NEURONS = 16, 3, 2, 24
MODEL_TYPES = tuple(TOKENIZERS)
# transformers takes norms and rotations of these, or the softmax, in float32 whatever the model's dtype
FLOAT32_NORMS = ("llama", "mistral", "qwen2", "qwen3", "phi3", "gemma2", "gemma3_text", "bloom")
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
GEMMA = {"num_key_value_heads": 1, "head_dim": 8, "query_pre_attn_scalar": 4, "sliding_window": 2}
# what a configuration holds beside the common sizes; windows of 2 are shorter than the sentences
SETTINGS = {
    "bert": {"pad_token_id": 0, **NO_DROPOUT},
    "roberta": {"pad_token_id": 1, "type_vocab_size": 1, **NO_DROPOUT},
    "xlm-roberta": {"pad_token_id": 1, "type_vocab_size": 1, **NO_DROPOUT},
    "gpt2": {"n_inner": NEURONS, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
    "gpt_neox": {"use_parallel_residual": True},
    "llama": {"num_key_value_heads": 1},
    "mistral": {"num_key_value_heads": 1, "sliding_window": 2},
    "qwen2": {"num_key_value_heads": 1, "use_sliding_window": True, "sliding_window": 2, "max_window_layers": 1},
    "qwen3": {"num_key_value_heads": 1, "head_dim": 8},
    "distilbert": {"hidden_dim": NEURONS, "dropout": 0.0, "attention_dropout": 0.0},
    "opt": {"ffn_dim": NEURONS, "dropout": 0.0, "pad_token_id": 1},
    "bloom": {"hidden_size": NEURONS // 4},
    "phi3": {"num_key_value_heads": 1, "sliding_window": 2, "pad_token_id": 2},
    "gemma2": {**GEMMA, "attn_logit_softcapping": 1.0, "final_logit_softcapping": 5.0},
    "gemma3_text": {**GEMMA, "sliding_window_pattern": 3},
}


def tiny_config(model_type: str, n_vocabulary: int, **settings: object) -> PreTrainedConfig:
    """The configuration of a model with 3 layers, 24 neurons per layer, no dropout, and further settings.

    The hidden size is 16, in BLOOM 6, whose layers have four times as many neurons.
    """
    tokenizer = TOKENIZERS[model_type]()
    sizes = {
        "vocab_size": n_vocabulary,
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "max_position_embeddings": 64,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "attn_implementation": architecture_of(model_type).attention,
    }
    if architecture_of(model_type).inner_size == "intermediate_size":
        sizes["intermediate_size"] = NEURONS
    return AutoConfig.for_model(model_type, **{**sizes, **SETTINGS[model_type], **settings})


def random_model(
    model_type: str, n_vocabulary: int, dtype: torch.dtype, seed: int = 0, scale: float = 0.3, **settings: object
) -> PreTrainedModel:
    """A model with seeded normal weights of standard deviation `scale`, large enough that every part of it matters."""
    loader = AutoModelForMaskedLM if architecture_of(model_type).kind == "masked" else AutoModelForCausalLM
    model = loader.from_config(tiny_config(model_type, n_vocabulary, **settings))
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        offset = 1.0 if parameter.dim() == 1 and bool((parameter == 1).all()) else 0.0
        parameter.data = offset + scale * torch.randn(parameter.shape, generator=generator)
    model.tie_weights()
    return model.to(dtype)


def tiny_model(
    kind_or_model_type: str, dtype: str = "float32", seed: int = 0, scale: float = 0.3, **settings: object
) -> LanguageModel:
    """A random LanguageModel of a kind ("masked", "causal") or model type (`MODEL_TYPES`), with further settings."""
    model_type = KINDS.get(kind_or_model_type, kind_or_model_type)
    tokenizer = TOKENIZERS[model_type]()
    model = random_model(model_type, len(tokenizer), getattr(torch, dtype), seed, scale, **settings)
    return as_language_model(f"tiny-{model_type}", model, tokenizer, revision="random")


def tiny_prompts(kind: str, n_queries: int = 1) -> pd.DataFrame:
    """A table of prompts of one kind from TEXTS; query q > 0 has its number in front."""
    rows = []
    for fact, language, before, separator, answer, after in TEXTS:
        for query in range(n_queries):
            front = before if query == 0 else f"{query} {before}"
            text = (front, separator, answer, after if kind == "masked" else "")
            rows.append((fact, "P36", language, kind, query, query, "mask", *text))
    return pd.DataFrame(rows, columns=PROMPT_COLUMNS)
