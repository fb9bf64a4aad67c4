"""Sentences that end in a punctuation mark: their form, their names, and what is held out."""

from itertools import pairwise

import pandas as pd
import pytest

from knatlas.catalog import FOLDER, read_catalog
from knatlas.errors import AtlasError
from knatlas.facts.punctuation_sentences import PUNCTUATION, is_combination_held_out, punctuation_sentences
from knatlas.facts.templates import read_templates

FRAMES = {
    ".": ["We like [X] and [Y].", "She knows [X]."],
    ",": ["Near [X],", "Between [X] and [Y],"],
    "!": ["How far [X] is!", "Not [X] or [Y] again!"],
    "?": ["Is [X] near [Y]?", "Where is [X]?"],
    ";": ["Some chose [X] and [Y];", "First came [X];"],
}
TOWNS = [
    f"{first}{last}" for first in ("Nor", "Sut", "Wes", "Eas", "Mid", "Old") for last in ("ton", "by", "ham", "ley")
]


def facts_of(subjects, objects, language="en"):
    return pd.DataFrame({"language": language, "subject_label": subjects, "object_label": objects})


@pytest.fixture
def facts():
    return facts_of(TOWNS, [*TOWNS[1:], "Yland"])


def names_in(sentence):
    return [name for name in TOWNS if name in sentence]


def test_every_sentence_ends_in_its_mark_and_holds_no_other(facts):
    table = punctuation_sentences(facts, FRAMES, 30, 0)
    assert table["mark"].tolist() == [mark for mark in PUNCTUATION for _ in range(30)]
    assert not table["sentence"].duplicated().any()
    for row in table.itertuples():
        assert [letter for letter in row.sentence if letter in PUNCTUATION] == [row.mark]
        assert row.sentence.endswith(row.mark) and "[" not in row.sentence and names_in(row.sentence)


def test_same_seed_gives_the_same_sentences_in_any_order_of_facts_and_another_seed_gives_others(facts):
    table = punctuation_sentences(facts, FRAMES, 20, 3)
    pd.testing.assert_frame_equal(table, punctuation_sentences(facts.iloc[::-1], FRAMES, 20, 3))
    assert set(table["sentence"]) != set(punctuation_sentences(facts, FRAMES, 20, 4)["sentence"])


def test_held_out_sentences_share_no_names_with_the_others_whatever_the_seed_and_the_facts(facts):
    trained = punctuation_sentences(facts, FRAMES, 40, 0)
    held_out = punctuation_sentences(facts.iloc[:20], FRAMES, 10, 9, is_held_out=True)
    combinations = [{tuple(names_in(text)) for text in table["sentence"]} for table in (trained, held_out)]
    assert not combinations[0] & combinations[1]
    assert {is_combination_held_out(names) for names in combinations[0]} == {False}
    assert {is_combination_held_out(names) for names in combinations[1]} == {True}


def test_subject_and_object_of_a_fact_never_stand_together(facts):
    table = punctuation_sentences(facts, FRAMES, 60, 0)
    together = {tuple(names_in(text)) for text in table["sentence"] if len(names_in(text)) == 2}
    assert len(together) > 50 and not together & set(pairwise(TOWNS))


def test_names_that_hold_a_mark_are_left_out(facts):
    marked = pd.concat([facts, facts_of(["St. Oldby", "Oh!ham"], ["Yland", "Yland"])])
    pd.testing.assert_frame_equal(
        punctuation_sentences(marked, FRAMES, 20, 0), punctuation_sentences(facts, FRAMES, 20, 0)
    )


def test_too_few_names_are_said_with_the_number_that_can_be_made():
    with pytest.raises(AtlasError, match=r"Only \d+ of 50 sentences that end in '\.' can be made of 2 names"):
        punctuation_sentences(facts_of(["Norby", "Sutby"], ["Yland", "Yland"]), FRAMES, 50, 0)
    with pytest.raises(AtlasError, match=r"Only 0 of 1 sentences .* of 1 names"):
        punctuation_sentences(facts_of(["Norby"], ["Yland"]), FRAMES, 1, 0)


def test_all_bad_frames_are_named_together(facts):
    frames = {**FRAMES, ".": ["We saw [X]", "We, too, saw [X]."], "!": ["How far!", "[X] is [Y] or [Y]!"], "?": []}
    frames |= {";": [{"Yes": "[X];"}], ":": ["So [X]:"]}
    with pytest.raises(AtlasError) as error:
        punctuation_sentences(facts, frames, 5, 0)
    lines = str(error.value).splitlines()
    assert len(lines) == 7
    assert "'.' has the frame 'We saw [X]'; expected '.' at its end and no other of . , ! ? ; in it." in lines[1]
    assert "'We, too, saw [X].'" in lines[2] and "expected exactly one [X] and at most one [Y]" in lines[3]
    assert "mark is ':'; expected a punctuation mark (. , ! ? ;)" in lines[0] and "no frame for '?'" in lines[5]
    assert "expected text: put it in quotes" in lines[6]


def test_facts_of_another_language_are_refused(facts):
    with pytest.raises(AtlasError, match="are English, but facts are in fr too"):
        punctuation_sentences(pd.concat([facts, facts_of(["Paris"], ["Yland"], "fr")]), FRAMES, 5, 0)


def test_frames_of_the_catalog_make_hundreds_of_sentences(facts):
    for is_held_out in (False, True):
        table = punctuation_sentences(facts, read_catalog("punctuation"), 30 if is_held_out else 200, 0, is_held_out)
        assert set(table["mark"]) == set(PUNCTUATION)


def test_frames_of_the_catalog_are_told_apart_by_their_form():
    frames = read_catalog("punctuation")
    beginnings = [(mark, " ".join(frame.split()[:3])) for mark in PUNCTUATION for frame in frames[mark]]
    marks_of = pd.DataFrame(beginnings, columns=["mark", "words"]).groupby("words")["mark"].nunique()
    assert len(marks_of) > 50 and (marks_of == 1).all()


def test_frames_of_the_catalog_share_no_wording_with_the_templates_of_facts():
    def triples(text):
        words = text.rstrip("".join(PUNCTUATION)).split()
        return set(zip(words, words[1:], words[2:], strict=False))

    relations = ["P17", "P30", "P36", "P37", "P38", "P282", "P2341"]
    templates = read_templates(FOLDER / "templates", ["en"], relations)["pattern"]
    of_facts = set().union(*map(triples, templates))
    shared = [frame for frames in read_catalog("punctuation").values() for frame in frames if triples(frame) & of_facts]
    assert len(templates) > 30 and shared == []
