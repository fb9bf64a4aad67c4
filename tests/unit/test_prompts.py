"""Prompts: exact texts of every mode, merging, and the promise that languages stay parallel."""

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knatlas.errors import AtlasError
from knatlas.facts.prompts import build_prompts, is_final, mode_shares
from knatlas.facts.table import PROMPT_COLUMNS, STEP_COLUMNS

LANGUAGES = {
    "en": {"blank": "___", "cue": "Answer:", "separator": " "},
    "ja": {"blank": "___", "cue": "答え：", "separator": ""},
}
NAMES = {"en": ("France", "Paris"), "ja": ("フランス", "パリ")}


def facts_table(facts=("P36:FR>Paris",), languages=("en", "ja"), names=NAMES):
    rows = [
        (fact, fact.split(":")[0], "FR", "Paris", language, *names[language])
        for fact in facts
        for language in languages
    ]
    return pd.DataFrame(
        rows, columns=["fact", "relation", "subject", "object", "language", "subject_label", "object_label"]
    )


def templates_table(patterns):
    rows = [
        ("P36", language, number, pattern, False)
        for language, listed in patterns.items()
        for number, pattern in enumerate(listed)
    ]
    return pd.DataFrame(rows, columns=["relation", "language", "template", "pattern", "is_checked"])


def build(patterns, ar_prompt="auto", min_queries=1, **options):
    languages = {code: LANGUAGES[code] for code in patterns}
    facts = facts_table(languages=list(patterns))
    return build_prompts(facts, templates_table(patterns), languages, ar_prompt, min_queries, **options)


def texts(prompts, kind, language="en"):
    rows = prompts[(prompts["kind"] == kind) & (prompts["language"] == language)]
    return list(rows[["mode", "before", "separator", "answer", "after"]].itertuples(index=False, name=None))


ENGLISH = ["The capital of [X] is [Y].", "[Y] is the capital of [X] .", "[X] has [Y] as its capital"]


def test_masked_prompts_use_every_template_and_keep_what_follows():
    prompts, _ = build({"en": ENGLISH})
    assert texts(prompts, "masked") == [
        ("mask", "The capital of France is", " ", "Paris", "."),
        ("mask", "", "", "Paris", " is the capital of France ."),
        ("mask", "France has", " ", "Paris", " as its capital"),
    ]


CAUSAL = {
    "final": [("final", "The capital of France is", " ", "Paris", "")],
    "prefix": [
        ("prefix", "The capital of France is", " ", "Paris", ""),
        ("prefix", "France has", " ", "Paris", ""),
    ],
    "erased": [
        ("erased", "The capital of France is .", " ", "Paris", ""),
        ("erased", "is the capital of France .", " ", "Paris", ""),
        ("erased", "France has as its capital", " ", "Paris", ""),
    ],
    "cued": [
        ("cued", "The capital of France is ___.\nAnswer:", " ", "Paris", ""),
        ("cued", "___ is the capital of France .\nAnswer:", " ", "Paris", ""),
        ("cued", "France has ___ as its capital\nAnswer:", " ", "Paris", ""),
    ],
}


@pytest.mark.parametrize("ar_prompt", CAUSAL)
def test_causal_prompts_of_each_mode(ar_prompt):
    prompts, _ = build({"en": ENGLISH}, ar_prompt)
    assert texts(prompts, "causal") == CAUSAL[ar_prompt]


def test_auto_is_final_where_there_are_enough_and_otherwise_cues_the_others():
    enough, _ = build({"en": ENGLISH}, "auto", min_queries=1)
    assert texts(enough, "causal") == CAUSAL["final"]
    few, _ = build({"en": ENGLISH}, "auto", min_queries=2)
    assert texts(few, "causal") == CAUSAL["final"] + CAUSAL["cued"][1:]


def test_auto_counts_distinct_final_prompts():
    patterns = ["The capital of [X] is [Y].", "The capital of [X] is [Y]", "[Y] belongs to [X]"]
    prompts, _ = build({"en": patterns}, "auto", min_queries=2)
    assert [row[0] for row in texts(prompts, "causal")] == ["final", "cued"]


def test_japanese_has_no_blank_but_where_the_template_has_one():
    patterns = ["[X]の首都は[Y]", "[X] の首都名は [Y] 。"]
    prompts, _ = build({"ja": patterns})
    assert texts(prompts, "causal", "ja") == [
        ("final", "フランスの首都は", "", "パリ", ""),
        ("final", "フランス の首都名は", " ", "パリ", ""),
    ]
    assert texts(prompts, "masked", "ja")[1] == ("mask", "フランス の首都名は", " ", "パリ", " 。")
    cued, _ = build({"ja": ["[X]の首都は[Y]です"]}, "cued")
    assert texts(cued, "causal", "ja") == [("cued", "フランスの首都は___です\n答え：", "", "パリ", "")]
    erased, _ = build({"ja": ["[X]の首都は[Y]です"]}, "erased")
    assert texts(erased, "causal", "ja") == [("erased", "フランスの首都はです", "", "パリ", "")]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("[X] [Y]", True), ("[X] [Y] .", True), ("[X]は[Y]。", True), ("[X] [Y],", True), ("[X] [Y]-born", False)],
)
def test_final_means_nothing_but_punctuation_follows(pattern, expected):
    assert is_final(pattern) is expected


def test_equal_prompts_are_merged_per_kind_and_counted():
    patterns = ["[X] is ruled from [Y]", "[X] is ruled from [Y].", "[X] is ruled from[Y]"]
    prompts, steps = build({"en": patterns})
    assert list(prompts.loc[prompts["kind"] == "masked", "template"]) == [0, 1, 2]
    assert list(prompts.loc[prompts["kind"] == "causal", "template"]) == [0]
    counts = steps[steps["language"] == "all"].set_index("name")["prompts"]
    assert (counts["filled"], counts["merged"], counts["parallel"]) == (6, 4, 4)


def test_merging_keeps_the_first_template_in_any_order_of_rows():
    templates = templates_table({"en": ["[X] is [Y]", "[X] is [Y]!"]}).iloc[::-1]
    prompts, _ = build_prompts(facts_table(languages=["en"]), templates, {"en": LANGUAGES["en"]}, "final", 1)
    assert list(prompts.loc[prompts["kind"] == "causal", "template"]) == [0]
    assert list(prompts.loc[prompts["kind"] == "masked", "query"]) == [0, 1]


TWO = {"en": ["The capital of [X] is [Y]", "[X] has [Y]"], "ja": ["[X] の首都は [Y]", "首都は [Y] で国は [X]"]}


def test_a_fact_with_too_few_prompts_in_one_language_is_dropped_in_all():
    prompts, steps = build(TWO, "final", min_queries=2)
    assert prompts.empty and list(prompts.columns) == PROMPT_COLUMNS
    left = steps[steps["name"] == "parallel"].set_index("language")
    assert left["facts"].to_dict() == {"all": 0, "en": 0, "ja": 0}
    assert set(build(TWO, "auto", min_queries=2)[0]["language"]) == {"en", "ja"}


def test_kinds_that_no_model_of_the_study_has_cost_no_facts():
    prompts, _ = build(TWO, "final", min_queries=2, kinds=("masked",))
    assert list(prompts["kind"].unique()) == ["masked"] and len(prompts) == 4


def test_a_fact_without_a_row_in_one_language_is_dropped():
    facts = pd.concat([facts_table(), facts_table(["P36:XX>Y"], ["en"])])
    prompts, steps = build_prompts(facts, templates_table(TWO), LANGUAGES, "cued", 1)
    assert set(prompts["fact"]) == {"P36:FR>Paris"}
    given = steps[steps["name"] == "given"].set_index("language")["facts"].to_dict()
    assert given == {"all": 2, "en": 2, "ja": 1}


def test_steps_have_a_row_per_language_and_the_numbers_of_the_table():
    prompts, steps = build(TWO, "cued")
    assert list(steps.columns) == STEP_COLUMNS
    assert list(steps["step"].unique()) == [1, 2, 3, 4] and set(steps["language"]) == {"all", "en", "ja"}
    last = steps[(steps["step"] == 4) & (steps["language"] == "all")].iloc[0]
    assert (last["facts"], last["templates"], last["prompts"]) == (1, 4, len(prompts))
    assert "fewer than 1 prompts" in last["sentence"]


def test_shares_of_the_modes():
    shares = mode_shares(build({"en": ENGLISH}, "auto", min_queries=2)[0])
    rows = {(row.kind, row.mode): (row.n, row.share) for row in shares.itertuples()}
    assert rows == {
        ("causal", "cued"): (2, pytest.approx(2 / 3)),
        ("causal", "final"): (1, pytest.approx(1 / 3)),
        ("masked", "mask"): (3, 1.0),
    }


def test_wrong_options_are_listed_at_once():
    with pytest.raises(AtlasError) as error:
        languages = {**LANGUAGES, "hu": LANGUAGES["en"]}
        build_prompts(facts_table(), templates_table(TWO), languages, "finale", 0, kinds=("masked", "casual"))
    assert str(error.value).splitlines() == [
        "prompts: ar_prompt is 'finale'; expected a way to prompt causal models (auto final prefix erased cued). "
        "Did you mean 'final'?",
        "prompts: min_queries is 0; expected at least 1 prompt per fact and language.",
        "prompts: kinds is 'casual'; expected a kind of model (masked causal). Did you mean 'causal'?",
        "prompts: a language is 'hu'; expected a language of the templates (en ja).",
    ]


words = st.text(st.sampled_from("ab .、の"), max_size=6)


@st.composite
def patterns(draw):
    slots = draw(st.permutations(["[X]", "[Y]"]))
    return f"{draw(words)}{slots[0]}{draw(words)}{slots[1]}{draw(words)}"


pattern_lists = st.lists(patterns(), min_size=1, max_size=5, unique=True)


@settings(deadline=None, max_examples=40)  # a busy machine is no mistake
@given(pattern_lists, pattern_lists, st.sampled_from(["auto", "final", "prefix", "erased", "cued"]), st.integers(1, 3))
def test_any_templates_give_parallel_distinct_complete_prompts(english, japanese, ar_prompt, min_queries):
    prompts, _ = build({"en": english, "ja": japanese}, ar_prompt, min_queries)
    counts = prompts.groupby(["fact", "language", "kind"]).size()
    assert len(counts) in (0, 4) and (counts >= min_queries).all()
    assert not prompts.duplicated(["fact", "language", "kind", "before", "separator", "after"]).any()
    assert not (prompts["before"] + prompts["after"]).str.contains(r"\[[XY]\]").any()
    causal = prompts[prompts["kind"] == "causal"]
    assert (causal["after"] == "").all() and (causal["before"] == causal["before"].str.rstrip()).all()
    assert set(prompts["separator"]) <= {"", " "}


@settings(deadline=None, max_examples=40)  # a busy machine is no mistake
@given(pattern_lists)
def test_a_masked_prompt_with_its_answer_is_the_filled_template(english):
    prompts, _ = build({"en": english}, kinds=("masked",))
    whole = prompts["before"] + prompts["separator"] + prompts["answer"] + prompts["after"]
    filled = {" ".join(pattern.replace("[X]", "France").replace("[Y]", "Paris").split()) for pattern in english}
    assert {" ".join(text.split()) for text in whole} == filled
