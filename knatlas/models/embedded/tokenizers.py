"""Tokenizers of the embedded models, with a vocabulary whose order depends on nothing but the sentences.

The three kinds are those of the families that the models stand for: WordPiece (BERT), byte-level BPE (GPT-2) and
Metaspace BPE with byte fallback (LLaMA). The library's WordPiece trainer meets its continuation pieces in the order of
a hash table, so the WordPiece vocabulary is built here: special tokens, characters, whole words, in fixed order.
"""

from collections import Counter
from collections.abc import Iterable

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from knatlas.models.embedded.recipe import Recipe

SPECIAL_TOKENS = {
    "bert": {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    },
    "gpt2": {"pad_token": "<|pad|>", "bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"},
    "llama": {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"},
}


def build_tokenizer(recipe: Recipe, texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """The tokenizer of a family, fitted to texts; the same texts in any order give the same tokenizer.

    Args: recipe (family, vocabulary: largest number of entries but for WordPiece's characters); texts, each once.
    """
    texts = sorted(set(texts))
    special = SPECIAL_TOKENS[recipe.family]
    tokenizer = {"bert": _word_piece, "gpt2": _byte_bpe, "llama": _metaspace_bpe}[recipe.family](
        texts, recipe.vocabulary, list(dict.fromkeys(special.values()))
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=recipe.longest,
        clean_up_tokenization_spaces=False,
        padding_side="right",
        **special,
    )


def _word_piece(texts: list[str], size: int, special: list[str]) -> Tokenizer:
    splitter = pre_tokenizers.BertPreTokenizer()
    words = Counter(word for text in texts for word, _ in splitter.pre_tokenize_str(text))
    characters = sorted({character for word in words for character in word})
    entries = dict.fromkeys([*special, *characters, *(f"##{character}" for character in characters)])
    frequent = sorted((word for word, count in words.items() if count > 1), key=lambda word: (-words[word], word))
    for word in frequent[: max(0, size - len(entries))]:
        entries[word] = None
    vocabulary = {entry: index for index, entry in enumerate(entries)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.WordPiece()
    ends = [(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    return tokenizer


def _byte_bpe(texts: list[str], size: int, special: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=size, min_frequency=2, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _metaspace_bpe(texts: list[str], size: int, special: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    first = [*special, *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=size, min_frequency=2, special_tokens=first, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    return tokenizer
