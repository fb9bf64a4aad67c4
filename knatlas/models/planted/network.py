"""Empty transformers of three families: random weights, and two heads that bring to the read position what is asked.

With random weights alone the subject does not reach the read position, and no linear detector can tell the facts apart.
In layer 0, head 0 therefore attends from every token but a subject's to the subject, and copies it; head 1 does so with
the word that tells one paraphrase from another. Embeddings are
aligned over languages: a token is its concept + 0.4 its language + 0.5 noise. Everything else is random.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from torch import Tensor, nn
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

from knatlas.models.architectures import architecture_of, module_at
from knatlas.models.planted.design import Design, PlantedFact, words_of

SPECIAL = {
    "bert": {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"},
    "gpt2": {"eos_token": "<|endoftext|>", "bos_token": "<|endoftext|>"},
    "llama": {"bos_token": "<s>", "eos_token": "</s>"},
}
UNKNOWN, STOP = "[UNK]", "."
HEADS = 2
LANGUAGE_WEIGHT, NOISE_WEIGHT = 0.7, 0.4  # beside a concept of length 1
# what tells subjects, paraphrases' words and others apart; what all tokens share (a bias, where none is)
MARK_WEIGHT, COMMON_WEIGHT = 0.7, 0.5
FUNCTION_SCALE = 0.3  # length of tokens that are no names, in names: a tied head answers with the token that it reads
ROW_SCALE = 0.25  # of one coordinate of an embedding; smaller ones keep P small, since the last norm caps the logits
# length of what the subject's head writes, in lengths of the residual stream; a mask's own state is as long as a name's
FETCHED = {"bert": 2.0, "gpt2": 1.0, "llama": 1.0}
PARAPHRASE_SHARE = 0.5  # of that length, written by the paraphrase's head
FETCH_SCORE = 12.0  # of what is fetched in a head's softmax
LINEAR_BIAS = 4.0  # moves states to where GELU is the identity, in BERT's head; its norm takes it away again


def stream_scale(family: str) -> float:
    """Length of the residual stream in embeddings: BERT norms its embeddings, and what every part adds to them."""
    return 1 / ROW_SCALE if family == "bert" else 1.0


def vocabulary(design: Design, facts: Sequence[PlantedFact], family: str) -> list[str]:
    """All words of a planted language, special tokens first."""
    words = dict.fromkeys([*SPECIAL[family].values(), UNKNOWN, STOP])
    for fact in facts:
        for language in design.language_names:
            for query in design.queries:
                own, answer = words_of(fact, language, query)
                words |= dict.fromkeys([*own, answer])
    return list(words)


def planted_tokenizer(words: Sequence[str], family: str) -> PreTrainedTokenizerFast:
    """A tokenizer with one token for each word, and the family's tokens around a sentence."""
    numbers = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(numbers, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.Fuse()
    around = {"bert": ("[CLS] $A [SEP]", ["[CLS]", "[SEP]"]), "llama": ("<s> $A", ["<s>"])}
    if family in around:
        single, added = around[family]
        tokens = [(token, numbers[token]) for token in added]
        tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=tokens)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token=UNKNOWN, **SPECIAL[family])


def empty_network(design: Design, family: str, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """A model of a family that answers nothing, drawn by the design's seed."""
    generator = torch.Generator().manual_seed(design.seed)
    model = {"bert": _bert, "gpt2": _gpt2, "llama": _llama}[family](design, len(tokenizer))
    embeddings, marks = _embeddings(design, tokenizer)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            _draw(name, parameter, design, stream_scale(family) * ROW_SCALE, generator)
        model.get_input_embeddings().weight.copy_(embeddings)
        model.tie_weights()
        _write_fetching_heads(model, family, marks, generator)
        if family == "bert":
            transform = model.cls.predictions.transform.dense
            nn.init.eye_(transform.weight)
            nn.init.constant_(transform.bias, LINEAR_BIAS)
    return model


def _bert(design: Design, n_tokens: int) -> PreTrainedModel:
    drops = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    sizes = {"hidden_size": design.width, "num_hidden_layers": design.layers, "intermediate_size": design.neurons}
    return BertForMaskedLM(
        BertConfig(
            vocab_size=n_tokens, num_attention_heads=HEADS, max_position_embeddings=16, pad_token_id=0, **sizes, **drops
        )
    )


def _gpt2(design: Design, n_tokens: int) -> PreTrainedModel:
    drops = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    sizes = {"n_embd": design.width, "n_layer": design.layers, "n_inner": design.neurons}
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=n_tokens, n_head=HEADS, n_positions=16, bos_token_id=0, eos_token_id=0, **sizes, **drops)
    )


def _llama(design: Design, n_tokens: int) -> PreTrainedModel:
    sizes = {"hidden_size": design.width, "num_hidden_layers": design.layers, "intermediate_size": design.neurons}
    rest = {"max_position_embeddings": 16, "tie_word_embeddings": True, "bos_token_id": 0, "eos_token_id": 1}
    return LlamaForCausalLM(LlamaConfig(vocab_size=n_tokens, num_attention_heads=HEADS, **sizes, **rest))


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def _embeddings(design: Design, tokenizer: PreTrainedTokenizerFast) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Token rows (words, width), and the directions (width,) that mark others than subjects, subjects, paraphrases."""
    random = np.random.default_rng([design.seed, 2])
    common, other, subject, paraphrase = np.linalg.qr(random.standard_normal((design.width, 4)))[0].T
    concepts: dict[str, np.ndarray] = {}
    rows, lengths = np.zeros((len(tokenizer), design.width)), np.ones(len(tokenizer))
    for word, i in sorted(tokenizer.get_vocab().items(), key=lambda pair: pair[1]):
        concept, _, language = word.rpartition(".")
        for name in (concept or word, f"language {language}"):
            concepts.setdefault(name, _unit(random.standard_normal(design.width)))
        parts = concepts[concept or word] + LANGUAGE_WEIGHT * concepts[f"language {language}"] * bool(concept)
        mark = subject if concept.startswith("s") else other + paraphrase * (".q" in concept)
        noise = NOISE_WEIGHT * _unit(random.standard_normal(design.width))
        rows[i] = parts + noise + MARK_WEIGHT * mark + COMMON_WEIGHT * common
        lengths[i] = 1.0 if concept[:1] in ("s", "o") else FUNCTION_SCALE
    rows = _unit(rows) * lengths[:, None] * ROW_SCALE * math.sqrt(design.width)
    return torch.from_numpy(rows).float(), tuple(
        torch.from_numpy(mark).float() for mark in (other, subject, paraphrase)
    )


def _draw(name: str, parameter: Tensor, design: Design, length: float, generator: torch.Generator) -> None:
    """Norms as they are, biases zero, positions small; a layer adds `noise` of the stream, of coordinates `length`."""
    is_norm = "norm" in name.lower() or "ln_" in name
    if is_norm:
        return
    if parameter.dim() == 1:
        parameter.zero_()
        return
    scale = 1 / math.sqrt(design.width)
    if any(part in name for part in ("mlp.c_proj", "down_proj", "output.dense")) and "attention" not in name:
        scale = design.noise * length * math.sqrt(2 / design.neurons)
    elif any(part in name for part in ("c_proj", "o_proj", "attention.output.dense")):
        scale = design.noise * length / math.sqrt(design.width)
    elif any(part in name for part in ("wpe", "position_embeddings", "token_type")):
        scale = 0.05 * ROW_SCALE
    parameter.normal_(0.0, scale, generator=generator)


def _write_fetching_heads(
    model: PreTrainedModel, family: str, marks: tuple[Tensor, ...], generator: torch.Generator
) -> None:
    """Heads 0 and 1 of layer 0: for the subject, and for the word of the paraphrase."""
    architecture = architecture_of(model.config.model_type)
    module_at(module_at(model, architecture.layers)[0], architecture.attention_output).weight.zero_()
    for number, (mark, share) in enumerate(zip(marks[1:], (1.0, PARAPHRASE_SHARE), strict=True)):
        length = share * FETCHED[family] * stream_scale(family)
        _put_head(model, family, number, _fetching_head(model.config.hidden_size, (marks[0], mark), length, generator))


def _fetching_head(
    width: int, marks: tuple[Tensor, Tensor], length: float, generator: torch.Generator
) -> tuple[Tensor, ...]:
    """Queries of tokens with one mark meet keys of those with the other; values are copied through orthonormal pairs.

    length: of what it writes, in embeddings. Returns: query, key, value, output, each (width, size of a head).
    """
    size = width // HEADS
    query, key, value, output = (torch.zeros(width, size) for _ in range(4))
    # the slowest pair of a rotary embedding hardly turns with the position
    place = size // 2 - 1
    marked = MARK_WEIGHT / math.sqrt(1 + LANGUAGE_WEIGHT**2 + NOISE_WEIGHT**2 + MARK_WEIGHT**2 + COMMON_WEIGHT**2)
    gain = math.sqrt(FETCH_SCORE * math.sqrt(size)) / (marked * math.sqrt(width))
    query[:, place], key[:, place] = gain * marks[0], gain * marks[1]
    value.copy_(torch.linalg.qr(torch.randn(width, size, generator=generator))[0])
    # a normed state has length sqrt(width), of which the head sees the share size / width
    scale = length * ROW_SCALE * math.sqrt(width) / math.sqrt(size)
    output.copy_(torch.linalg.qr(torch.randn(width, size, generator=generator))[0] * scale)
    return query, key, value, output


def _put_head(model: PreTrainedModel, family: str, number: int, head: tuple[Tensor, ...]) -> None:
    """Write query, key, value (width, size) and output (width, size) of a head of layer 0."""
    architecture = architecture_of(model.config.model_type)
    layer, size, width = module_at(model, architecture.layers)[0], head[0].shape[1], head[0].shape[0]
    own = slice(number * size, (number + 1) * size)
    query, key, value, output = head
    if family == "gpt2":
        for part, weight in enumerate((query, key, value)):
            layer.attn.c_attn.weight[:, part * width : (part + 1) * width][:, own] = weight
        layer.attn.c_proj.weight[own] = output.T
        return
    attention = layer.attention.self if family == "bert" else layer.self_attn
    names = ("query", "key", "value") if family == "bert" else ("q_proj", "k_proj", "v_proj")
    for name, weight in zip(names, (query, key, value), strict=True):
        getattr(attention, name).weight[own] = weight.T
    module_at(layer, architecture.attention_output).weight[:, own] = output
