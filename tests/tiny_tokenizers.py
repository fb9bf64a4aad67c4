"""Tokenizers of each family in the format that it is published in, trained here on a dozen sentences."""

from collections.abc import Callable
from functools import cache

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

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
# whole words and pieces of the WordPiece vocabulary, beside single characters; "はパ" reaches into an answer "パリ"
WORDS = ["The", "capital", "of", "France", "Finland", "is", "Paris", "Hels", "##inki", "currency", "Hungary", "はパ"]
CHARACTERS = sorted({character for sentence in CORPUS for character in sentence if not character.isspace()})
# the special tokens of the family of RoBERTa, the first with ids from 0
MARKED = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
MARKS = dict(zip(("bos_token", "pad_token", "eos_token", "unk_token", "mask_token"), MARKED, strict=True))
MARKS |= {"cls_token": "<s>", "sep_token": "</s>"}


def byte_level(special: list[str], n_vocabulary: int = 344, pattern: str | None = None) -> Tokenizer:
    """A trained byte-level BPE that cuts a text by GPT-2's pattern or by one of its own."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if pattern is not None:
        cut = pre_tokenizers.Split(Regex(pattern), "isolated")
        inside = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut, inside])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=n_vocabulary, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def blank_bpe(special: list[str]) -> Tokenizer:
    """A trained BPE with byte fallback over words that begin with a visible blank, the first one too."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    pieces = [*special, *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=440, special_tokens=pieces, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


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
    tokenizer = byte_level(["<|endoftext|>"], n_vocabulary)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>", bos_token="<|endoftext|>")


@cache
def metaspace_bpe() -> PreTrainedTokenizerFast:
    """BPE over words that begin with a visible blank, byte fallback, <s> in front, as Llama 2 has it."""
    tokenizer = blank_bpe(["<unk>", "<s>", "</s>"])
    tokenizer.decoder = decoders.Sequence([decoders.Metaspace(), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


@cache
def marked_byte_bpe() -> PreTrainedTokenizerFast:
    """Byte-level BPE with <s> and </s> around a sentence and the padding token's id 1, as RoBERTa has it."""
    tokenizer = byte_level(MARKED)
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


@cache
def phi3_bpe() -> PreTrainedTokenizerFast:
    """Llama 2's tokens by a normaliser, no token in front, an end-of-text token of its own, as Phi-3 has it."""
    tokenizer = blank_bpe(["<unk>", "<s>", "</s>"])
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = None
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    names = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


@cache
def gemma_bpe() -> PreTrainedTokenizerFast:
    """Blanks made visible and none added, byte fallback, <bos> in front, as Gemma has it."""
    tokenizer = blank_bpe(["<pad>", "<eos>", "<bos>", "<unk>"])
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    names = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


@cache
def opt_bpe() -> PreTrainedTokenizerFast:
    """Byte-level BPE with </s> in front, which is also the end of a text, as OPT has it."""
    tokenizer = byte_level(["<s>", "<pad>", "</s>", "<unk>"])
    tokenizer.post_processor = processors.TemplateProcessing(single="</s> $A", special_tokens=[("</s>", 2)])
    names = {"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>", "pad_token": "<pad>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


@cache
def bloom_bpe() -> PreTrainedTokenizerFast:
    """Byte-level BPE that cuts at punctuation of many scripts, without a token in front, as BLOOM has it."""
    tokenizer = byte_level(["<unk>", "<s>", "</s>", "<pad>"], pattern=r" ?[^(\s|[.,!?…。，、।۔،])]+")
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    names = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


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
    "distilbert": wordpiece,
    "opt": opt_bpe,
    "bloom": bloom_bpe,
    "phi3": phi3_bpe,
    "gemma2": gemma_bpe,
    "gemma3_text": gemma_bpe,
}
