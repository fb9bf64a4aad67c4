"""Where a prompt names its subject: positions of the tokens that hold a character of it, for every tokenizer."""

from types import SimpleNamespace

import pytest

from knatlas.errors import AtlasError
from knatlas.models.encoding import encode_prompt
from knatlas.models.subjects import read_position, subject_positions
from tests.tiny_models import MODEL_TYPES, TEXTS, tiny_model

SUBJECTS = {"P36:FR>Paris": {"en": "France", "zh": "法国", "ja": "フランス"}}
SUBJECTS |= {"P36:FI>Helsinki": {"en": "Finland", "zh": "芬兰"}, "P36:HU>Budapest": {"en": "Hungary"}}


def row(before, answer="Paris", after=".", separator=" "):
    texts = {"before": before, "separator": separator, "answer": answer, "after": after}
    return SimpleNamespace(**texts, fact="P36:FR>Paris", language="en", query=0)


def text_at(lm, prompt, positions):
    ids = encode_prompt(lm, prompt).input_ids
    return lm.tokenizer.decode([ids[i] for i in positions]).strip()


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_the_tokens_found_are_the_subject_and_the_query_s_own(model_type):
    lm = tiny_model(model_type)
    for fact, language, before, separator, answer, after in TEXTS:
        prompt, subject = row(before, answer, after, separator), SUBJECTS[fact][language]
        query, found = encode_prompt(lm, prompt), subject_positions(lm, prompt, subject)
        assert set(found) <= set(query.replaceable) and list(found) == sorted(set(found))
        # the text of the tokens, which may be cut elsewhere than the subject, holds the subject
        text = text_at(lm, prompt, found).replace(" ", "")
        assert subject in text or lm.tokenizer.unk_token_id in [query.input_ids[i] for i in found]
        for i in (found[0], found[-1]):
            without = text_at(lm, prompt, [place for place in found if place != i]).replace(" ", "")
            assert subject not in without


@pytest.mark.parametrize("kind", ["masked", "causal"])
def test_the_last_occurrence_counts(kind):
    lm = tiny_model(kind)
    once = row("The capital of Finland is, as France is")
    twice = row("The capital of France is, as France is")
    assert text_at(lm, twice, subject_positions(lm, twice, "France")) == "France"
    assert subject_positions(lm, twice, "France")[0] > read_position(encode_prompt(lm, row("The capital of France")))
    assert len(subject_positions(lm, once, "France")) == len(subject_positions(lm, twice, "France"))


def test_an_overlapping_occurrence_is_the_last_one_in_any_capitals():
    lm = tiny_model("causal")  # each letter is one token
    assert subject_positions(lm, row("aaa is"), "aa") == subject_positions(lm, row("aAa is"), "AA") == (1, 2)


@pytest.mark.parametrize("kind", ["masked", "causal"])
def test_capitals_matter_only_where_the_subject_is_nowhere_written_so(kind):
    lm = tiny_model(kind)
    prompt = row("The capital of France is not france, it is")
    exact, other = (subject_positions(lm, prompt, subject) for subject in ("France", "FRANCE"))
    assert text_at(lm, prompt, exact) == "France" and text_at(lm, prompt, other).replace(" ##", "") == "france"


def test_a_masked_subject_may_follow_the_mask_and_a_causal_one_may_not():
    prompt = row("The capital is", answer="Paris", after=" of France.")
    lm = tiny_model("masked")
    found = subject_positions(lm, prompt, "France")
    assert found[0] > read_position(encode_prompt(lm, prompt)) and text_at(lm, prompt, found) == "France"
    with pytest.raises(AtlasError, match="does not hold the subject 'France'"):
        subject_positions(tiny_model("causal"), prompt, "France")


def test_what_stands_before_the_mask_comes_first_even_if_the_subject_also_follows():
    lm = tiny_model("masked")
    prompt = row("France has the capital", after=" of France.")
    assert subject_positions(lm, prompt, "France") == (1,)


def test_a_token_over_the_edge_of_the_answer_moves_no_subject():
    lm = tiny_model("masked")  # its WordPiece has "はパ", which reaches into パリ
    prompt = row("フランスの首都は", "パリ", "フランスです。", "")
    before = subject_positions(lm, prompt, "フランス")
    assert text_at(lm, prompt, before).replace(" ##", "").replace(" ", "") == "フランス"
    after = subject_positions(lm, prompt, "です")
    assert text_at(lm, prompt, after).replace("##", "").replace(" ", "") == "です"
    assert before[-1] < read_position(encode_prompt(lm, prompt)) < after[0]


@pytest.mark.parametrize("subject", ["Spain", "", " "])
def test_a_subject_that_is_not_there_is_a_sentence(subject):
    with pytest.raises(AtlasError, match=r"fact P36:FR>Paris, language en: the prompt .* does not hold the subject"):
        subject_positions(tiny_model("masked"), row("The capital of France is"), subject)


@pytest.mark.parametrize("kind", ["masked", "causal"])
def test_the_read_position_predicts_the_answer_s_first_token(kind):
    lm = tiny_model(kind)
    query = encode_prompt(lm, row("The capital of France is"))
    assert read_position(query) == query.positions[0]
    if kind == "masked":
        assert query.input_ids[read_position(query)] == lm.mask_id
    else:
        assert text_at(lm, row("The capital of France is"), [read_position(query)]).endswith("s")
