"""Prompts as token ids: the answer's span, masks, prefixes and what belongs to the query, per kind of tokenizer."""

from collections.abc import Sequence

import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from knatlas.errors import AtlasError
from knatlas.facts.table import PROMPT_COLUMNS
from knatlas.models.encoding import EncodedQuery, encode_prompts, readouts
from knatlas.models.language_model import LanguageModel, as_language_model
from tests.tiny_models import MODEL_TYPES, random_model, tiny_model


def prompts_of(kind: str, *texts: tuple[str, str, str, str], language: str = "en") -> pd.DataFrame:
    """A table of prompts from (before, separator, answer, after)."""
    identity = ("P36:FR>Paris", "P36", language, kind)
    rows = [(*identity, query, 0, "mask", *text) for query, text in enumerate(texts)]
    return pd.DataFrame(rows, columns=PROMPT_COLUMNS)


def encode(lm: LanguageModel, before: str, separator: str, answer: str, after: str = "") -> EncodedQuery:
    return encode_prompts(lm, prompts_of(lm.kind, (before, separator, answer, after)))[0]


def tokens(lm: LanguageModel, ids: Sequence[int]) -> list[str]:
    return lm.tokenizer.convert_ids_to_tokens(list(ids))


def test_wordpiece_one_token() -> None:
    lm = tiny_model("bert")
    query = encode(lm, "The capital of France is", " ", "Paris", ".")
    assert tokens(lm, query.input_ids) == ["[CLS]", "The", "capital", "of", "France", "is", "[MASK]", ".", "[SEP]"]
    assert query.positions == (6,)
    assert tokens(lm, query.targets) == ["Paris"]
    assert query.replaceable == (1, 2, 3, 4, 5, 7)
    assert (query.fact, query.language, query.query, query.kind) == ("P36:FR>Paris", "en", 0, "masked")


def test_wordpiece_one_mask_per_piece_of_the_answer() -> None:
    lm = tiny_model("bert")
    query = encode(lm, "The capital of Finland is", " ", "Helsinki", ".")
    assert tokens(lm, query.input_ids) == [
        "[CLS]",
        "The",
        "capital",
        "of",
        "Finland",
        "is",
        "[MASK]",
        "[MASK]",
        ".",
        "[SEP]",
    ]
    assert query.positions == (6, 7)
    assert tokens(lm, query.targets) == ["Hels", "##inki"]
    assert query.replaceable == (1, 2, 3, 4, 5, 8)


def test_wordpiece_answer_in_the_middle_of_a_chinese_sentence_without_blanks() -> None:
    lm = tiny_model("bert")
    query = encode(lm, "法国的首都是", "", "巴黎", "。")
    assert tokens(lm, query.input_ids) == [
        *["[CLS]", "法", "国", "的", "首", "都", "是"],
        "[MASK]",
        "[MASK]",
        "。",
        "[SEP]",
    ]
    assert tokens(lm, query.targets) == ["巴", "黎"]
    assert query.positions == (7, 8)


def test_wordpiece_piece_over_the_edge_is_taken_apart() -> None:
    lm = tiny_model("bert")
    assert lm.tokenizer.tokenize("都はパリ") == ["都", "はパ", "##リ"]
    query = encode(lm, "都は", "", "パリ", "です。")
    assert tokens(lm, query.input_ids) == ["[CLS]", "都", "は", "[MASK]", "[MASK]", "で", "##す", "。", "[SEP]"]
    assert tokens(lm, query.targets) == ["パ", "##リ"]
    assert query.replaceable == (1, 2, 5, 6, 7)


def test_byte_bpe_takes_the_blank_into_the_first_token_of_the_answer() -> None:
    lm = tiny_model("gpt2")
    query = encode(lm, "The capital of France is", " ", "Paris")
    assert tokens(lm, query.input_ids) == ["The", "Ġcapital", "Ġof", "ĠFran", "ce", "Ġis"]
    assert tokens(lm, query.targets) == ["ĠParis"]
    assert query.positions == (5,)
    assert query.replaceable == (0, 1, 2, 3, 4, 5)


def test_byte_bpe_characters_of_several_tokens() -> None:
    lm = tiny_model("gpt2")
    query = encode(lm, "法国的首都是", "", "巴黎")
    text = lm.tokenizer("法国的首都是巴黎")["input_ids"]
    assert query.targets == tuple(text[-6:])
    assert query.input_ids == tuple(text[:-1])
    assert query.positions == tuple(range(len(text) - 7, len(text) - 1))
    assert query.replaceable == tuple(range(len(text) - 6))


def test_byte_bpe_token_over_the_edge_is_taken_apart() -> None:
    lm = tiny_model("gpt2")
    assert len(lm.tokenizer("的首都")["input_ids"]) == 1
    query = encode(lm, "法国的", "", "首都")
    own, alone = lm.tokenizer("法国的")["input_ids"], lm.tokenizer("首都")["input_ids"]
    assert query.input_ids == (*own, *alone[:-1])
    assert query.targets == tuple(alone)
    assert query.replaceable == tuple(range(len(own)))


def test_a_blank_that_is_a_token_belongs_to_the_query() -> None:
    lm = tiny_model("llama")
    query = encode(lm, "法国的首都是", " ", "巴黎")
    assert tokens(lm, query.input_ids)[-2:] == ["▁", "巴"]
    assert tokens(lm, query.targets) == ["巴", "黎"]
    assert query.replaceable[-1] == query.positions[0]


def test_metaspace_keeps_the_first_token_in_front_and_out_of_the_answer() -> None:
    lm = tiny_model("llama")
    query = encode(lm, "The capital of France is", " ", "Paris")
    assert tokens(lm, query.input_ids) == ["<s>", "▁The", "▁capital", "▁of", "▁France", "▁is", "▁Par"]
    assert tokens(lm, query.targets) == ["▁Par", "is"]
    assert query.positions == (5, 6)
    assert query.replaceable == (1, 2, 3, 4, 5)


def test_metaspace_answer_taken_apart_has_no_blank_of_its_own() -> None:
    lm = tiny_model("llama")
    query = encode(lm, "首都", "", "是巴黎")
    assert tokens(lm, query.input_ids) == ["<s>", "▁", "首都", "是", "巴"]
    assert tokens(lm, query.targets) == ["是", "巴", "黎"]
    straddling = encode(lm, "フランスの", "", "首都")
    assert tokens(lm, straddling.targets) == ["首都"]
    assert tokens(lm, straddling.input_ids)[0] == "<s>"


@pytest.mark.parametrize("model_type", MODEL_TYPES)
@pytest.mark.parametrize(
    ("before", "separator", "answer", "after"),
    [
        ("The capital of Finland is", " ", "Helsinki", "."),
        ("フランスの首都は", "", "パリ", "です。"),
        ("法国的", "", "首都", "是巴黎。"),
        ("프랑스의 수도는", " ", "파리", "입니다."),
        ("Suomen pääkaupunki on", " ", "Helsinki", ""),
    ],
)
def test_targets_are_the_answer_and_readouts_read_them(
    model_type: str, before: str, separator: str, answer: str, after: str
) -> None:
    lm = tiny_model(model_type)
    query = encode(lm, before, separator, answer, after if lm.kind == "masked" else "")
    assert lm.tokenizer.decode(list(query.targets)).replace(" ", "") == answer.replace(" ", "")
    assert len(query.positions) == len(query.targets) and lm.tokenizer.decode(query.targets[:1]).strip()
    own = [query.input_ids[i] for i in query.replaceable]
    assert not set(own) & {lm.tokenizer.bos_token_id, lm.tokenizer.mask_token_id, lm.tokenizer.cls_token_id}
    if lm.kind == "masked":
        assert [query.input_ids[i] for i in query.positions] == [lm.mask_id] * len(query.targets)
    else:
        assert query.input_ids[query.positions[0] + 1 :] == query.targets[:-1]


def test_masked_readout_holds_all_masks() -> None:
    query = encode(tiny_model("bert"), "The capital of Finland is", " ", "Helsinki", ".")
    (readout,) = readouts(query)
    assert (readout.input_ids, readout.positions, readout.targets) == (query.input_ids, query.positions, query.targets)
    assert (readout.replaceable, readout.kind) == (query.replaceable, "masked")


def test_causal_readouts_grow_by_the_right_tokens() -> None:
    query = encode(tiny_model("llama"), "The capital of France is", " ", "Paris")
    first, second = readouts(query)
    assert (first.input_ids, first.positions, first.targets) == (query.input_ids[:6], (5,), query.targets[:1])
    assert (second.input_ids, second.positions, second.targets) == (query.input_ids, (6,), query.targets[1:])
    assert first.replaceable == second.replaceable == query.replaceable


def test_prompts_of_the_other_kind_are_left_out_and_order_is_kept() -> None:
    lm = tiny_model("bert")
    masked = prompts_of("masked", ("The capital of France is", " ", "Paris", "."), ("France", " ", "Paris", ""))
    causal = prompts_of("causal", ("The capital of France is", " ", "Paris", ""))
    queries = encode_prompts(lm, pd.concat([causal, masked]))
    assert [(query.kind, query.query) for query in queries] == [("masked", 0), ("masked", 1)]
    assert encode_prompts(lm, causal) == []


def test_answers_that_the_tokenizer_does_not_know_are_a_sentence() -> None:
    lm = tiny_model("bert")
    with pytest.raises(AtlasError, match=r"fact P36:FR>Paris, language en, answer 'Ω'.*only unknown tokens"):
        encode(lm, "The capital of France is", " ", "Ω", ".")
    with pytest.raises(AtlasError, match=r"tiny-bert \(.*Tokenizer.*\): fact .*has no tokens"):
        encode(lm, "The capital of France is", " ", "\u200b", ".")


def test_a_causal_answer_with_nothing_before_it_is_a_sentence() -> None:
    with pytest.raises(AtlasError, match="nothing stands before the answer"):
        encode(tiny_model("gpt2"), "", "", "Paris")
    query = encode(tiny_model("llama"), "", "", "Paris")
    assert query.positions[0] == 0
    assert query.replaceable == ()


def test_a_sentence_longer_than_the_model_reads_is_a_sentence() -> None:
    with pytest.raises(AtlasError, match="the sentence has 66 tokens; the model reads at most 64"):
        encode(tiny_model("gpt2"), "The" + " of" * 65, " ", "Paris")


def test_a_tokenizer_of_another_model_is_a_sentence() -> None:
    tokenizer = tiny_model("gpt2").tokenizer
    lm = as_language_model("tiny", random_model("gpt2", 100, torch.float32), tokenizer, "random")
    with pytest.raises(AtlasError, match="outside the model's 100 entries"):
        encode(lm, "The capital of France is", " ", "Paris")


def test_a_token_after_the_text_is_in_no_part_of_a_causal_query() -> None:
    lm = tiny_model("gpt2")
    plain = encode(lm, "The capital of France is", " ", "Paris")
    backend = Tokenizer.from_str(lm.tokenizer.backend_tokenizer.to_str())
    backend.post_processor = processors.TemplateProcessing(
        single="$A <|endoftext|>", special_tokens=[("<|endoftext|>", 0)]
    )
    ending = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>")
    assert ending("Paris")["input_ids"][-1] == 0
    assert (
        encode(as_language_model("tiny", lm.model, ending, "random"), "The capital of France is", " ", "Paris") == plain
    )


def test_case_is_only_changed_by_the_tokenizer_itself() -> None:
    vocabulary = {"[UNK]": 0, "paris": 1, "Paris": 2, "is": 3, "[MASK]": 4}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]", mask_token="[MASK]")
    lm = as_language_model("tiny", random_model("bert", 5, torch.float32), tokenizer, "random")
    assert encode(lm, "is", " ", "Paris").targets == (2,)


def test_offsets_that_leave_blanks_out_give_the_same_query() -> None:
    lm = tiny_model("gpt2")
    backend = Tokenizer.from_str(lm.tokenizer.backend_tokenizer.to_str())
    backend.post_processor = processors.ByteLevel(trim_offsets=True)
    trimmed = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>")
    other = as_language_model("tiny-gpt2", lm.model, trimmed, "random")
    for text in (("The capital of France is", " ", "Paris"), ("法国的首都是", " ", "巴黎"), ("法国的", "", "首都")):
        assert encode(other, *text) == encode(lm, *text)
