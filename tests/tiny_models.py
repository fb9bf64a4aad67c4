"""Tiny random models of each architecture with tokenizers trained here: no download, a few milliseconds each."""

from collections.abc import Callable
from functools import cache

import pandas as pd
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from knatlas.facts.table import PROMPT_COLUMNS
from knatlas.models.architectures import architecture_of
from knatlas.models.language_model import LanguageModel, as_language_model

CORPUS = [
    "The capital of France is Paris.",
    "The capital of Finland is Helsinki.",
    "The currency of Hungary is Hungarian Forint.",
    "La capitale de la France est Paris.",
    "Suomen pääkaupunki on Helsinki.",
    "Magyarország fővárosa Budapest.",
    "法国的首都是巴黎。",
    "芬兰的首都是赫尔辛基。",
    "フランスの首都はパリです。",
    "フィンランドの首都はヘルシンキです。",
    "프랑스의 수도는 파리입니다.",
    "핀란드의 수도는 헬싱키입니다.",
]
TEXTS = [  # fact, language, before, separator, answer, after: of several lengths, answers of one and of more tokens
    ("P36:FR>Paris", "en", "The capital of France is", " ", "Paris", "."),
    ("P36:FI>Helsinki", "en", "The capital of Finland is", " ", "Helsinki", "."),
    ("P36:HU>Budapest", "en", "Hungary: the capital is", " ", "Budapest", ""),
    ("P36:FR>Paris", "zh", "法国的首都是", "", "巴黎", "。"),
    ("P36:FI>Helsinki", "zh", "芬兰的首都是", "", "赫尔辛基", "。"),
    ("P36:FR>Paris", "ja", "フランスの首都は", "", "パリ", "です。"),
]
# whole words and pieces of the WordPiece vocabulary, beside single characters; "はパ" reaches into an answer "パリ"
WORDS = ["The", "capital", "of", "France", "Finland", "is", "Paris", "Hels", "##inki", "currency", "Hungary", "はパ"]
KINDS = {"masked": "bert", "causal": "gpt2"}
CHARACTERS = sorted({character for sentence in CORPUS for character in sentence if not character.isspace()})
# the special tokens of the family of RoBERTa, the first with ids from 0
MARKED = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
MARKS = dict(zip(("bos_token", "pad_token", "eos_token", "unk_token", "mask_token"), MARKED, strict=True))
MARKS |= {"cls_token": "<s>", "sep_token": "</s>"}
HIDDEN, LAYERS, HEADS, NEURONS = 16, 3, 2, 24


@cache
def wordpiece() -> PreTrainedTokenizerFast:
    """WordPiece with [CLS] and [SEP], cased, as multilingual BERT has it."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*special, *CHARACTERS, *("##" + character for character in CHARACTERS), *WORDS]
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), special, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


@cache
def byte_bpe(n_vocabulary: int = 340) -> PreTrainedTokenizerFast:
    """Byte-level BPE without a token at the beginning, as GPT-2 has it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=n_vocabulary,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>", bos_token="<|endoftext|>")


@cache
def metaspace_bpe() -> PreTrainedTokenizerFast:
    """BPE over words that begin with a visible blank, byte fallback, <s> in front, as Llama 2 has it."""
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Sequence([decoders.Metaspace(), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=440, special_tokens=special, show_progress=False)
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


@cache
def marked_byte_bpe() -> PreTrainedTokenizerFast:
    """Byte-level BPE with <s> and </s> around a sentence and the padding token's id 1, as RoBERTa has it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=344, special_tokens=MARKED, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=False, add_prefix_space=False
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **MARKS)


@cache
def unigram() -> PreTrainedTokenizerFast:
    """Unigram over words that all begin with a visible blank, <s> and </s> around, as XLM-RoBERTa has it."""
    words = [f"▁{word}" if word[0].isupper() or word[0].islower() else word.removeprefix("##") for word in WORDS]
    scores = dict.fromkeys(MARKED, 0.0) | dict.fromkeys(["▁", *CHARACTERS], -10.0) | dict.fromkeys(words, -5.0)
    tokenizer = Tokenizer(models.Unigram(list(scores.items()), unk_id=MARKED.index("<unk>")))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **MARKS)


TOKENIZERS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "bert": wordpiece,
    "roberta": marked_byte_bpe,
    "xlm-roberta": unigram,
    "gpt2": byte_bpe,
    "gpt_neox": byte_bpe,
    "llama": metaspace_bpe,
    "mistral": metaspace_bpe,
    "qwen2": byte_bpe,
    "qwen3": byte_bpe,
}
MODEL_TYPES = tuple(TOKENIZERS)
# transformers takes the norms and rotations of these in float32 whatever the model's dtype
FLOAT32_NORMS = ("llama", "mistral", "qwen2", "qwen3")
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
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
}


def tiny_config(model_type: str, n_vocabulary: int) -> PreTrainedConfig:
    """The configuration of a model with 3 layers, hidden size 16, 24 neurons per layer, no dropout."""
    tokenizer = TOKENIZERS[model_type]()
    sizes = {
        "vocab_size": n_vocabulary,
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "max_position_embeddings": 64,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "attn_implementation": "sdpa",
    }
    if model_type != "gpt2":
        sizes["intermediate_size"] = NEURONS
    return AutoConfig.for_model(model_type, **sizes, **SETTINGS[model_type])


def random_model(
    model_type: str, n_vocabulary: int, dtype: torch.dtype, seed: int = 0, scale: float = 0.3
) -> PreTrainedModel:
    """A model with seeded normal weights of standard deviation `scale`, large enough that every part of it matters."""
    loader = AutoModelForMaskedLM if architecture_of(model_type).kind == "masked" else AutoModelForCausalLM
    model = loader.from_config(tiny_config(model_type, n_vocabulary))
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        offset = 1.0 if parameter.dim() == 1 and bool((parameter == 1).all()) else 0.0
        parameter.data = offset + scale * torch.randn(parameter.shape, generator=generator)
    model.tie_weights()
    return model.to(dtype)


def tiny_model(kind_or_model_type: str, dtype: str = "float32", seed: int = 0, scale: float = 0.3) -> LanguageModel:
    """A random LanguageModel of a kind ("masked", "causal") or model type (`MODEL_TYPES`)."""
    model_type = KINDS.get(kind_or_model_type, kind_or_model_type)
    tokenizer = TOKENIZERS[model_type]()
    model = random_model(model_type, len(tokenizer), getattr(torch, dtype), seed, scale)
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
