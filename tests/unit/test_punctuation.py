"""Neurons of punctuation marks: the sentences, the search in a network written by hand, the shares and their levels."""

from dataclasses import replace
from functools import cache
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import binomtest
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.nn.functional import gelu
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from knatlas.attribution.methods import preset
from knatlas.catalog import read_catalog
from knatlas.errors import AtlasError
from knatlas.experiments.punctuation import (
    ANSWER_COLUMNS,
    NEURON_COLUMNS,
    Punctuation,
    find_punctuation_neurons,
)
from knatlas.experiments.punctuation_prompts import control_words, encode_or_reason, punctuation_prompts
from knatlas.facts.punctuation_corpus import CORPUS_COLUMNS, MARKS, from_sentences, read_punctuation_corpus
from knatlas.facts.punctuation_sentences import punctuation_sentences
from knatlas.models.language_model import as_language_model
from knatlas.statistics.printed import beside_paper, printed_neurons, printed_values
from knatlas.statistics.punctuation import (
    SUMMARY_COLUMNS,
    TABLE_COLUMNS,
    PunctuationSummary,
    highest_level,
    p_permuted,
    punctuation_table,
    share_difference,
    share_interval,
    summarise_punctuation,
)
from knatlas.storage import read_table, write_table
from tests.naive_attribution import naive_scores
from tests.tiny_models import tiny_model

LINES = Path(__file__).parents[1] / "data" / "punctuation" / "lines.txt"
B_KN = preset("bkn")


def texts(corpus, mark):
    return corpus.sentences.query("mark == @mark")["sentence"].tolist()


# ---- the sentences


def test_the_first_lines_of_each_mark_are_taken_in_file_order():
    corpus = read_punctuation_corpus(LINES, per_mark=2)
    assert corpus.sentences["mark"].tolist() == [mark for mark in MARKS for _ in range(2)]
    assert corpus.sentences["number"].tolist() == [0, 1] * 5
    assert texts(corpus, ".") == ["It was raining when we left", ".."]
    assert texts(corpus, "?") == ["Where did you put the keys", "Why not"]
    assert corpus.sentences.query("mark == ','")["line"].tolist() == [5, 14]


def test_blanks_line_ends_and_a_byte_order_mark_are_no_part_of_a_sentence():
    sentences = read_punctuation_corpus(LINES).sentences["sentence"]
    assert (sentences == sentences.str.strip()).all() and not sentences.str.contains("\ufeff").any()
    assert "Nobody answered. Été was long over" in set(sentences)
    assert "You cannot mean it?" in set(sentences)  # the last character alone is the mark


def test_every_line_that_is_passed_over_is_counted():
    counts = read_punctuation_corpus(LINES).counts
    lines = {"n_lines": 18, "n_blank": 2, "n_bare": 1, "n_other": 2, "n_further": 0}
    assert counts == lines | {"sentences .": 5, "sentences ,": 2, "sentences !": 2, "sentences ?": 2, "sentences ;": 2}
    fewer = read_punctuation_corpus(LINES, per_mark=1).counts
    assert fewer["n_lines"] == 11 and sum(fewer[f"sentences {mark}"] for mark in MARKS) == 5
    assert fewer["n_lines"] == 5 + fewer["n_blank"] + fewer["n_bare"] + fewer["n_other"] + fewer["n_further"]


def test_no_line_is_read_after_the_last_one_that_is_needed(tmp_path):
    path = tmp_path / "lines.txt"
    path.write_bytes(b"".join(f"A sentence{mark}\n".encode() for mark in MARKS) + b"\xff\xfe\n" * 3)
    assert read_punctuation_corpus(path, per_mark=1).n_lines == 5
    with pytest.raises(AtlasError, match=r"lines.txt, line 6 is not UTF-8 text \(byte 0 of the line\)"):
        read_punctuation_corpus(path, per_mark=2)


def test_files_that_cannot_be_used_are_refused_with_a_sentence(tmp_path):
    path = tmp_path / "lines.txt"
    with pytest.raises(AtlasError, match=r"lines\.txt is not there; expected a text file with one sentence per line"):
        read_punctuation_corpus(path)
    path.write_text("One.\nTwo!\n;\n", encoding="utf-8")
    with pytest.raises(AtlasError, match=r"no sentence that ends in , \? ; \(3 lines read\); expected at least one"):
        read_punctuation_corpus(path)
    with pytest.raises(AtlasError, match="per_mark is 0; expected at least 1"):
        read_punctuation_corpus(LINES, per_mark=0)


def test_a_table_of_sentences_is_read_as_a_file_of_them_is(tmp_path):
    rows = [(mark, f"{word} sentence{mark}") for word in ("One", "Another") for mark in reversed(MARKS)]
    path = tmp_path / "lines.txt"
    path.write_text("\n".join(sentence for _, sentence in rows), encoding="utf-8")
    made, read = (part.table("facts") for part in (from_sentences(as_rows(rows)), read_punctuation_corpus(path)))
    pd.testing.assert_frame_equal(made, read)
    assert made.columns.tolist() == CORPUS_COLUMNS and len(made) == 10
    assert from_sentences(as_rows(rows), per_mark=1).n_lines == 5


def as_rows(rows):
    return pd.DataFrame(rows, columns=["mark", "sentence"])


def test_a_table_whose_sentences_do_not_end_in_their_marks_is_refused():
    with pytest.raises(AtlasError, match=r"Sentence 0 is 'Really\?'; expected one that ends in its mark '!'"):
        from_sentences(as_rows([("!", "Really?")]))
    with pytest.raises(AtlasError, match="The mark of sentence 0 is ':'; expected one of"):
        from_sentences(as_rows([(":", "So:")]))


def test_sentences_made_of_facts_have_every_mark():
    names = pd.DataFrame({"subject_label": [f"Place {i}" for i in range(12)], "object_label": "x", "language": "en"})
    made = punctuation_sentences(names, read_catalog("punctuation"), 3, seed=1, is_held_out=True)
    corpus = from_sentences(made, per_mark=3)
    assert corpus.sentences.groupby("mark", sort=False).size().to_dict() == dict.fromkeys(MARKS, 3)


# ---- a network in which every mark has a neuron, all marks share one, and words have another

CUES, WORDS, BRACKET = [f"cue{i}" for i in range(5)], ["red", "blue", "green", "grey"], "]"
SHARED, OF_WORDS, OF_BRACKET, N_NEURONS = 5, 6, 7, 9
HIDDEN, LARGE = 26, 1e4
PLACES = {name: 2 + 2 * i for i, name in enumerate([*CUES, *MARKS, "word", BRACKET])}


def couple(name, size=1.0):
    """A direction of the residual stream: a coordinate and its opposite, so that a layer norm subtracts no mean."""
    direction = torch.zeros(HIDDEN, dtype=torch.float64)
    direction[PLACES[name]], direction[PLACES[name] + 1] = size, -size
    return direction


@cache
def planted():
    """A GPT-2 that is asked for a mark after cue i: neuron i writes mark i there, SHARED writes all marks everywhere.

    OF_WORDS writes the words everywhere, OF_BRACKET writes all marks after a bracket; the last neuron writes nothing.
    """
    names = ["[UNK]", "[END]", "[", "MASK", BRACKET, *CUES, *MARKS, *WORDS]
    tokenizer = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", eos_token="[END]")
    sizes = {"n_embd": HIDDEN, "n_layer": 1, "n_head": 1, "n_inner": N_NEURONS, "n_positions": 16}
    drops = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    model = GPT2LMHeadModel(
        GPT2Config(**sizes, **drops, vocab_size=len(names), bos_token_id=1, eos_token_id=1)
    ).double()
    for parameter in model.parameters():
        parameter.data.zero_()
    body, mlp = model.transformer, model.transformer.h[0].mlp
    # large constants: a layer norm then divides by a known number
    body.wte.weight.data[:, 0], body.wte.weight.data[:, 1] = LARGE, -LARGE
    body.h[0].ln_2.weight.data[2:] = body.ln_f.weight.data[2:] = LARGE * (2 / HIDDEN) ** 0.5
    for name in [*CUES, *MARKS, BRACKET]:
        body.wte.weight.data[names.index(name)] += couple(name)
    for word in WORDS:
        body.wte.weight.data[names.index(word)] += couple("word")
    for neuron, name in [*enumerate(CUES), (OF_BRACKET, BRACKET)]:
        mlp.c_fc.weight.data[:, neuron], mlp.c_fc.bias.data[neuron] = couple(name, 10.0), -10.0
    mlp.c_fc.bias.data[SHARED] = mlp.c_fc.bias.data[OF_WORDS] = 10.0
    all_marks = sum(couple(mark) for mark in MARKS)
    written = {**{i: 2 * couple(mark) for i, mark in enumerate(MARKS)}, OF_WORDS: couple("word", 0.5)}
    written |= {SHARED: 1.5 * all_marks, OF_BRACKET: 3 * all_marks}
    for neuron, direction in written.items():
        mlp.c_proj.weight.data[neuron] = direction / gelu(torch.tensor(10.0))
    return as_language_model("planted", model, fast, revision="by hand")


def planted_sentences(n=20):
    """Sentences of a few words and the cue of their mark."""
    words = [f"{WORDS[i % 4]} {WORDS[i // 4 % 4]} {WORDS[i % 3]}" for i in range(n)]
    rows = [(mark, f"{words[i]} {cue}", i) for mark, cue in zip(MARKS, CUES, strict=True) for i in range(n)]
    return pd.DataFrame(rows, columns=["mark", "sentence", "number"])


def find(lm=None, sentences=None, method=B_KN, watched=(), seed=0, **settings):
    sentences = planted_sentences() if sentences is None else sentences
    return find_punctuation_neurons(lm or planted(), sentences, Punctuation(**settings), method, seed, watched, 8)


def counts_of(found, **values):
    """{(mark or group, index): n_sets} of the neurons that are in any set."""
    rows = rows_of(found.neurons, **values)
    rows = rows[rows["n_sets"] > 0]
    return {(row.mark or row.group, row.index): row.n_sets for row in rows.itertuples(index=False)}


def rows_of(table, **values):
    for column, value in values.items():
        table = table[table[column] == value]
    return table


def test_the_neurons_of_the_network_are_found_with_their_marks():
    found = find(n_control=30)
    expected = {(mark, i): 20 for i, mark in enumerate(MARKS)} | {(mark, SHARED): 20 for mark in MARKS}
    assert counts_of(found) == expected | {("control", OF_WORDS): 30}
    assert found.neurons.columns.tolist() == NEURON_COLUMNS and found.answers.columns.tolist() == ANSWER_COLUMNS
    assert rows_of(found.neurons, group="mark")["n_sentences"].eq(20).all()
    assert rows_of(found.neurons, group="control")["n_sentences"].eq(30).all()
    # every kept neuron has a row for each mark and the control, also where it is in no set
    assert found.neurons.groupby("index").size().to_dict() == dict.fromkeys([0, 1, 2, 3, 4, SHARED, OF_WORDS], 6)
    marks = rows_of(found.answers, group="mark")
    assert marks["is_right"].all() and marks["n_neurons"].eq(2).all() and marks["p"].between(0.5, 1).all()
    assert set(zip(marks["mark"], marks["answer"], strict=True)) == {(mark, mark) for mark in MARKS}


def test_the_literal_text_of_the_mask_makes_a_neuron_that_all_marks_share():
    found = find(readings=["default", "code"], n_control=10)
    assert OF_BRACKET not in {index for _, index in counts_of(found, reading="default")}
    code = counts_of(found, reading="code")
    assert {mark: code[mark, OF_BRACKET] for mark in MARKS} == dict.fromkeys(MARKS, 20)
    assert not {index for _, index in code} & set(range(5))  # the cue is not the last word any more
    table = punctuation_table(found.neurons)
    shared = rows_of(table, reading="code", index=OF_BRACKET, statistic="share")
    assert len(shared) == 5 and shared["n_marks_shared"].eq(5).all() and shared["value"].eq(1).all()
    summary = summarise_punctuation(found.neurons, found.answers).set_index(["reading", "mark", "statistic"])["value"]
    assert summary["default", "all", "n_shared_by_all_marks"] == 1  # SHARED
    assert summary["code", "all", "n_shared_by_all_marks"] == 2
    assert summary["default", "control", "n_passing"] == 1  # OF_WORDS
    assert [summary["default", mark, "n_own"] for mark in MARKS] == [1] * 5
    assert [summary["code", mark, "n_own"] for mark in MARKS] == [0] * 5


def test_a_neuron_in_exactly_the_share_is_dropped_and_counted():
    sentences = planted_sentences()
    sentences.loc[0, "sentence"] = sentences.loc[0, "sentence"].replace("cue0", BRACKET)  # one of twenty
    only = rows_of(sentences, mark=".")
    strict, loose = find(sentences=only, n_control=0), find(sentences=only, n_control=0, kept_share=0.04)
    assert counts_of(strict) == {(".", 0): 19, (".", SHARED): 20}
    assert strict.n_dropped == {"default": 1}
    assert loose.n_dropped == {"default": 0} and counts_of(loose)[".", OF_BRACKET] == 1
    seen = find(sentences=only, n_control=0, watched=[(0, OF_BRACKET), (0, 8), (7, 0)])
    assert seen.n_dropped == {"default": 0} and counts_of(seen) == counts_of(loose)
    assert rows_of(seen.neurons, index=8)[["n_sets", "n_sentences"]].values.tolist() == [[0, 20]]


def test_ranks_count_the_neurons_of_the_model_that_are_in_more_sets():
    sentences = planted_sentences()
    sentences.loc[:4, "sentence"] = sentences.loc[:4, "sentence"].str.replace("cue0", "red")
    found = find(sentences=rows_of(sentences, mark="."), n_control=0, watched=[(0, 8)])
    ranks = found.neurons.set_index("index")["rank"].to_dict()
    sets = found.neurons.set_index("index")["n_sets"].to_dict()
    assert sets[SHARED] == 20 and sets[0] == 15 and sets[8] == 0
    assert ranks == {index: 1 + sum(other > n for other in sets.values()) for index, n in sets.items()}


def test_a_larger_ratio_leaves_the_strongest_neuron_and_none_remains_without_a_positive_score():
    assert set(counts_of(find(n_control=0, ratio=0.99))) < set(counts_of(find(n_control=0)))
    reversed_sign = planted().model.transformer.h[0].mlp.c_proj.weight
    kept = reversed_sign.data.clone()
    try:
        reversed_sign.data = torch.zeros_like(kept)
        found = find(n_control=3)
    finally:
        reversed_sign.data = kept
    assert found.neurons.empty and found.neurons.columns.tolist() == NEURON_COLUMNS
    assert found.answers["n_neurons"].eq(0).all() and len(found.answers) == 103
    table, summary = punctuation_table(found.neurons), summarise_punctuation(found.neurons, found.answers)
    assert table.empty and table.columns.tolist() == TABLE_COLUMNS
    assert rows_of(summary, statistic="empty")["value"].eq(1).all() and len(rows_of(summary, statistic="empty")) == 6


# ---- what is asked


@pytest.mark.parametrize("model_type", ["gpt2", "llama"])
def test_causal_models_read_the_sentence_and_in_the_other_reading_the_text_of_the_mask_behind_it(model_type):
    lm = tiny_model(model_type)
    sentences = pd.DataFrame([(".", "The capital of France is Paris", 0)], columns=["mark", "sentence", "number"])
    settings = Punctuation(readings=["default", "code"], n_control=1)
    prompts = punctuation_prompts(lm.kind, sentences, settings, seed=0)
    queries = [encode_or_reason(lm, row) for row in prompts.itertuples(index=False)]
    texts_of = {
        reading: "The capital of France is Paris" + end for reading, end in {"default": "", "code": " [MASK]"}.items()
    }
    assert prompts[["reading", "group"]].values.tolist() == [[r, g] for r in texts_of for g in ("mark", "control")]
    for query, text in zip(queries[::2], texts_of.values(), strict=True):
        assert query.input_ids == tuple(lm.tokenizer(text)["input_ids"])
    words, words_before_mask = queries[1::2]
    suffix = queries[2].input_ids[len(queries[0].input_ids) :]
    assert suffix and words_before_mask.input_ids == words.input_ids + suffix
    if model_type == "gpt2":
        assert lm.tokenizer.decode(suffix) == " [MASK]" and "[" not in lm.tokenizer.decode(words.input_ids)
    for query in queries:
        assert query.positions == (len(query.input_ids) - 1,) and len(query.targets) == 1
    dot = [lm.tokenizer.decode([query.targets[0]]).strip() for query in (queries[0], queries[2])]
    assert dot == [".", "."]


def test_masked_models_have_one_mask_at_the_end_and_one_reading():
    lm = tiny_model("bert")
    sentences = pd.DataFrame([(".", "The capital Helsinki is Paris", 0)], columns=["mark", "sentence", "number"])
    settings = Punctuation(readings=["default", "code"], n_control=1)
    for seed in range(8):  # whatever word is drawn: "capital" is one token, "Helsinki" two, "is" one
        prompts = punctuation_prompts(lm.kind, sentences, settings, seed)
        assert set(prompts["reading"]) == {"default"} and len(prompts) == 2
        for row in prompts.itertuples(index=False):
            query = encode_or_reason(lm, row)
            tokens = lm.tokenizer.convert_ids_to_tokens(query.input_ids)
            assert tokens[-2:] == ["[MASK]", "[SEP]"] and tokens.count("[MASK]") == 1
            assert query.positions == (len(tokens) - 2,) and len(query.targets) == 1
            assert query.replaceable == tuple(range(1, len(tokens) - 2))
            first = lm.tokenizer.convert_ids_to_tokens(query.targets)[0]
            assert row.answer.startswith(first)


def test_control_words_stand_inside_a_sentence_and_their_text_before_them():
    long = "one two, (three) 4th five six"
    sentences = pd.DataFrame({"sentence": [long, "two words", "- a -", *(f"{i} b{i} c" for i in range(50))]})
    cuts = control_words(sentences, 200, seed=3)
    assert len(cuts) == 52  # "two words" has none inside
    assert {word for _, word in cuts} <= {"two,", "4th", "five", "a", *(f"b{i}" for i in range(50))}
    assert all(f"{text} {word}" in " | ".join(sentences["sentence"]) for text, word in cuts)
    drawn = control_words(sentences, 10, seed=3)
    assert len(drawn) == 10 and set(drawn) < set(cuts) and drawn != control_words(sentences, 10, seed=4)
    # a sentence's own word does not depend on its place
    assert set(control_words(sentences[::-1], 200, seed=3)) == set(cuts)
    assert {control_words(sentences[:1], 1, seed)[0][1] for seed in range(40)} == {"two,", "4th", "five"}


def test_no_more_sentences_are_asked_than_the_settings_say():
    prompts = punctuation_prompts("causal", planted_sentences(9), Punctuation(sentences=3, n_control=2), 0)
    assert rows_of(prompts, group="mark").groupby("mark").size().eq(3).all() and len(prompts) == 17


def test_settings_that_cannot_be_meant_are_refused():
    with pytest.raises(AtlasError, match=r"readings is 'cod'; expected one of .* Did you mean 'code'"):
        Punctuation(readings=["cod"])
    with pytest.raises(AtlasError, match="ratio is 1"):
        Punctuation(ratio=1)
    with pytest.raises(AtlasError, match="sentences is 0"):
        Punctuation(sentences=0)
    with pytest.raises(AtlasError, match="levels are"):
        PunctuationSummary(levels=[0.9, 0.6])


# ---- random models of each shape


@pytest.mark.parametrize("model_type", ["bert", "gpt2", "llama"])
def test_models_of_every_shape_are_searched_and_what_they_cannot_read_is_counted(model_type, tmp_path):
    lm = tiny_model(model_type)
    sentences = read_punctuation_corpus(LINES, 2).sentences
    long = pd.DataFrame([(".", "Paris " * 70, 2)], columns=["mark", "sentence", "number"])
    found = find(lm, pd.concat([sentences, long]), readings=["default", "code"], n_control=3)
    left_out = found.answers.set_index(["reading", "mark", "number"])["left_out"]
    assert left_out["default", ".", 2] == "too_long"
    # the tiny WordPiece has no other mark than the full stop
    lacking = {"bert": {"?", "!", ",", ";"}}.get(model_type, set())
    assert set(rows_of(found.answers, left_out="unknown", group="mark")["mark"]) == lacking
    asked = rows_of(found.answers, left_out="")
    assert asked["p"].between(0, 1).all() and asked["n_neurons"].notna().all()
    rest = found.answers[found.answers["left_out"] != ""]
    assert rest[["p", "is_right", "n_neurons"]].isna().all(axis=None)
    sizes = asked.groupby(["reading", "mark"])["n_neurons"].agg(["size", "sum"])
    for key, rows in found.neurons.groupby(["reading", "mark"]):
        expected = sizes.loc[key] if key in sizes.index else {"size": 0, "sum": 0}
        assert rows["n_sentences"].eq(expected["size"]).all() and rows["n_sets"].sum() == expected["sum"]
    write_table(found.answers, tmp_path / "answers.parquet")
    again = read_table(tmp_path / "answers.parquet")
    pd.testing.assert_frame_equal(
        summarise_punctuation(found.neurons, again, resamples=50),
        summarise_punctuation(found.neurons, found.answers, resamples=50),
    )


@pytest.mark.parametrize("model_type", ["bert", "gpt2", "llama"])
def test_the_coarse_set_of_a_sentence_is_that_of_scores_written_down_naively(model_type):
    lm = tiny_model(model_type, "float64")
    sentences = pd.DataFrame([(".", "The capital of France is Paris", 0)], columns=["mark", "sentence", "number"])
    settings = {"readings": ["default", "code"], "n_control": 1, "steps": 5, "ratio": 0.2}
    found = find(lm, sentences, kept_share=0.0, **settings)
    prompts = punctuation_prompts(lm.kind, sentences, Punctuation(**settings), seed=0)
    for row in prompts.itertuples(index=False):
        scores = naive_scores(lm, encode_or_reason(lm, row), "zero", "right", 5)["full"]
        expected = set(zip(*np.nonzero(scores > 0.2 * scores.max()), strict=True))
        rows = rows_of(found.neurons, reading=row.reading, group=row.group, n_sets=1)
        assert set(zip(rows["layer"], rows["index"], strict=True)) == expected and expected
        answer = rows_of(found.answers, reading=row.reading, group=row.group)
        assert answer["n_neurons"].item() == len(expected)


def test_the_checked_quadrature_finds_the_same_sets_from_fewer_points():
    full, checked = find(n_control=5), find(method=replace(B_KN, quadrature="checked"), n_control=5)
    pd.testing.assert_frame_equal(full.neurons, checked.neurons)


# ---- the tables


@pytest.mark.parametrize(
    ("n_sets", "n", "level"),
    [
        (120, 200, None),
        (121, 200, 0.6),
        (140, 200, 0.6),
        (180, 200, 0.8),
        (181, 200, 0.9),
        (200, 200, 0.9),
        (0, 0, None),
        (7, 10, 0.6),
        (24, 40, None),
        (25, 40, 0.6),
        (28, 40, 0.6),
        (40, 40, 0.9),
    ],
)
def test_a_level_is_passed_by_more_sets_than_its_share(n_sets, n, level):
    found = highest_level(n_sets, n, PunctuationSummary().levels)
    assert np.isnan(found) if level is None else found == level


def test_shares_have_exact_intervals():
    for n_events, n in [(0, 40), (1, 40), (24, 40), (39, 40), (40, 40), (3, 7)]:
        exact = binomtest(n_events, n).proportion_ci(0.95, method="exact")
        assert share_interval(n_events, n) == pytest.approx((n_events / n, exact.low, exact.high))
    assert np.isnan(share_interval(0, 0)).all()


def test_a_difference_of_shares_has_an_interval_of_the_shares_own():
    value, lo, hi = share_difference((30, 40), (10, 40))
    assert value == 0.5 and -1 < lo < value < hi < 1
    back = share_difference((10, 40), (30, 40))
    assert back == pytest.approx((-value, -hi, -lo))
    alone, against_certain = share_interval(30, 40), share_difference((30, 40), (0, 10**9))
    assert against_certain == pytest.approx(alone, abs=1e-6)
    assert np.isnan(share_difference((30, 40), (0, 0))).all()


def test_the_permuted_probability_counts_all_deals_of_the_marks():
    in_set = [1, 1, 1, 0, 0, 1, 0]  # the first three sentences are the mark's
    deals = [sum(in_set[place] for place in deal) for deal in combinations(range(7), 3)]
    assert p_permuted((3, 3), (4, 7)) == pytest.approx(np.mean([n >= 3 for n in deals]))
    assert p_permuted((2, 3), (4, 7)) == pytest.approx(np.mean([n >= 2 for n in deals]))
    assert p_permuted((0, 3), (4, 7)) == 1
    assert np.isnan(p_permuted((0, 0), (4, 7))) and np.isnan(p_permuted((4, 7), (4, 7)))


def neuron_rows(counts, n=200, control=None, model="gpt2", n_control=100):
    """Rows of NEURON_COLUMNS from {(layer, index): sets of each of the first marks}."""
    rows = []
    for (layer, index), of_marks in counts.items():
        cells = [("mark", mark, k, n) for mark, k in zip(MARKS, of_marks, strict=False)]
        cells.append(("control", "", (control or {}).get((layer, index), 0), n_control))
        rows += [(model, "en", "default", group, mark, layer, index, k, of) for group, mark, k, of in cells]
    table = pd.DataFrame(rows, columns=NEURON_COLUMNS[:-1])
    return table.assign(rank=table.groupby("mark")["n_sets"].rank(ascending=False, method="min").astype(int))


def cell(table, mark, layer, index, statistic):
    row = rows_of(table, mark=mark, layer=layer, index=index, statistic=statistic)
    return row.iloc[0]


def test_the_table_shows_what_passes_else_the_top_and_what_the_paper_prints():
    counts = {(9, 831): (190, 110, 10), (3, 5): (130, 90, 0), (0, 1): (100, 100, 0), (0, 2): (10, 120, 0)}
    table = punctuation_table(neuron_rows(counts))
    shown = table.drop_duplicates(["mark", "layer", "index"])[["mark", "layer", "index", "rank", "shown_as"]]
    assert shown.values.tolist() == [
        [".", 9, 831, 1, "passes"],
        [".", 3, 5, 2, "passes"],
        [",", 0, 2, 1, "top"],  # 120 of 200 do not pass 0.6
        [",", 9, 831, 2, "printed"],
        ["!", 9, 831, 1, "top"],
    ]
    assert table.columns.tolist() == TABLE_COLUMNS
    other = punctuation_table(neuron_rows(counts, model="m"))
    assert len(other.drop_duplicates(["mark", "layer", "index"])) == 4
    assert cell(table, ".", 9, 831, "level")["value"] == 0.9 and np.isnan(cell(table, ",", 0, 2, "level")["value"])
    share = cell(table, ".", 9, 831, "share")
    assert (share["value"], share["n"], share["n_marks_shared"]) == (0.95, 200, 1) and share["lo"] < 0.95 < share["hi"]


def test_printed_levels_stand_beside_ours_in_the_same_unit():
    table = beside_paper(punctuation_table(neuron_rows({(9, 831): (190, 110, 10)})), "localization", 2)
    beside = table[table["paper"].notna()]
    assert beside["statistic"].eq("level").all() and beside["mark"].tolist() == [".", ",", "!"]
    assert beside["value"].iat[0] == beside["paper"].iat[0] == 0.9 and np.isnan(beside["difference"].iat[1])
    for model in ("gpt2", "bert-uncased"):
        entries = {(row["layer"], row["index"]) for row in printed_values("localization", 2) if row["model"] == model}
        assert entries == set(printed_neurons(model)) and entries
    assert printed_neurons("tiny-gpt2-en") == []


def test_controls_tell_a_marks_own_neuron_from_one_of_every_prediction():
    counts = {(0, 0): (180, 0, 0, 0, 0), (0, 1): (180, 180, 180, 180, 180)}
    table = punctuation_table(neuron_rows(counts, control={(0, 1): 90}))
    own, every = (table[(table["mark"] == ".") & (table["index"] == index)].set_index("statistic") for index in (0, 1))
    assert own["value"]["share_others"] == own["value"]["share_control"] == 0
    assert own["lo"]["over_others"] > 0.8 and own["lo"]["over_control"] > 0.8 and own["value"]["p_permuted"] < 1e-6
    assert every["value"]["share_control"] == 0.9 and every["value"]["share_others"] == 0.9
    assert every["lo"]["over_control"] < 0 < every["hi"]["over_control"] and every["value"]["p_permuted"] > 0.4
    assert (own["n_marks_shared"] == 1).all() and (every["n_marks_shared"] == 5).all()
    assert every["n"]["share_others"] == 800 and every["n"]["share_control"] == 100


def answer_rows(**columns):
    rows = {"model": "gpt2", "language": "en", "reading": "default", "group": "mark", "mark": ".", "answer": "."}
    table = pd.DataFrame({**rows, "number": range(4), "p": [0.2, 0.4, 0.0, np.nan], **columns})
    table["is_right"] = pd.array([True, False, False, None], dtype="boolean")
    table["n_neurons"] = pd.array([3, 1, 0, None], dtype="Int64")
    return table.assign(left_out=["", "", "", "too_long"])[ANSWER_COLUMNS]


def test_the_summary_says_what_is_answered_and_how_many_neurons_are_a_marks_own():
    counts = {(0, 0): (3, 0), (0, 1): (3, 3), (0, 2): (1, 3)}
    neurons = neuron_rows(counts, n=3, control={(0, 1): 50, (0, 2): 10})
    answers = pd.concat([answer_rows(), answer_rows(mark=","), answer_rows(group="control", mark="")])
    table = summarise_punctuation(neurons, answers, resamples=50)
    assert table.columns.tolist() == SUMMARY_COLUMNS
    values = table.set_index(["mark", "statistic"])["value"]
    for mark in (".", ",", "control"):
        assert values[mark, "p"] == pytest.approx(0.2) and values[mark, "right"] == pytest.approx(1 / 3)
        assert values[mark, "set_size"] == pytest.approx(4 / 3) and values[mark, "empty"] == pytest.approx(1 / 3)
        assert values[mark, "left_out"] == 1
    assert (values[".", "n_passing"], values[",", "n_passing"]) == (2, 2)
    assert (values[".", "n_specific"], values[",", "n_specific"]) == (1, 1)
    assert values["all", "n_shared_by_all_marks"] == 1 and values["control", "n_passing"] == 0
    assert table["mark"].drop_duplicates().tolist() == [".", ",", "control", "all"]
    strict = summarise_punctuation(neurons, answers, PunctuationSummary(control_level=0.1), resamples=50)
    assert strict.set_index(["mark", "statistic"])["value"][",", "n_specific"] == 0  # 10 of 100 are not fewer than 10 %


def test_a_mark_without_sentences_is_in_the_summary_and_shows_no_neuron():
    neurons = neuron_rows({(0, 0): (3, 0)}, n=3)
    neurons.loc[neurons["mark"] == ",", "n_sentences"] = 0
    lacking = answer_rows(mark=",").assign(left_out="unknown")
    summary = summarise_punctuation(neurons, pd.concat([answer_rows(), lacking]), resamples=50)
    values = summary.set_index(["mark", "statistic"])
    assert values["value"][",", "left_out"] == 4 and np.isnan(values["value"][",", "p"]) and values["n"][",", "p"] == 0
    assert values["value"]["all", "n_shared_by_all_marks"] == 1  # of the marks that were asked
    assert set(punctuation_table(neurons)["mark"]) == {"."}


def test_no_measurements_give_empty_tables():
    nothing = punctuation_table(pd.DataFrame(columns=NEURON_COLUMNS))
    assert nothing.empty and nothing.columns.tolist() == TABLE_COLUMNS
    empty = summarise_punctuation(pd.DataFrame(columns=NEURON_COLUMNS), pd.DataFrame(columns=ANSWER_COLUMNS))
    assert empty.empty and empty.columns.tolist() == SUMMARY_COLUMNS
