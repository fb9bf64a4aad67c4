"""Tiny random models of each architecture with tokenizers trained here: no download, a few milliseconds each."""

from functools import cache

import pandas as pd
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from knatlas.facts.table import PROMPT_COLUMNS
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
MODEL_TYPES = ("bert", "gpt2", "llama")
HIDDEN, LAYERS, HEADS, NEURONS = 16, 3, 2, 24


@cache
def wordpiece() -> PreTrainedTokenizerFast:
    """WordPiece with [CLS] and [SEP], cased, as multilingual BERT has it."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    characters = sorted({character for sentence in CORPUS for character in sentence if not character.isspace()})
    pieces = [*special, *characters, *("##" + character for character in characters), *WORDS]
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


TOKENIZERS = {"bert": wordpiece, "gpt2": byte_bpe, "llama": metaspace_bpe}


def tiny_config(model_type: str, n_vocabulary: int) -> BertConfig | GPT2Config | LlamaConfig:
    """The configuration of a model with 3 layers, hidden size 16, 24 neurons per layer, no dropout."""
    sizes = {
        "vocab_size": n_vocabulary,
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "max_position_embeddings": 64,
        "attn_implementation": "sdpa",
    }
    if model_type == "bert":
        no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        return BertConfig(**sizes, **no_dropout, intermediate_size=NEURONS, pad_token_id=0)
    if model_type == "gpt2":
        ids = {"bos_token_id": 0, "eos_token_id": 0}
        return GPT2Config(**sizes, **ids, n_inner=NEURONS, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    return LlamaConfig(**sizes, intermediate_size=NEURONS, num_key_value_heads=1, bos_token_id=1, eos_token_id=2)


def random_model(
    model_type: str, n_vocabulary: int, dtype: torch.dtype, seed: int = 0, scale: float = 0.3
) -> PreTrainedModel:
    """A model with seeded normal weights of standard deviation `scale`, large enough that every part of it matters."""
    classes = {"bert": BertForMaskedLM, "gpt2": GPT2LMHeadModel, "llama": LlamaForCausalLM}
    model = classes[model_type](tiny_config(model_type, n_vocabulary))
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        offset = 1.0 if parameter.dim() == 1 and bool((parameter == 1).all()) else 0.0
        parameter.data = offset + scale * torch.randn(parameter.shape, generator=generator)
    model.tie_weights()
    return model.to(dtype)


def tiny_model(kind_or_model_type: str, dtype: str = "float32", seed: int = 0, scale: float = 0.3) -> LanguageModel:
    """A random LanguageModel of a kind ("masked", "causal") or model type ("bert", "gpt2", "llama")."""
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
