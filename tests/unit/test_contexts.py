"""Examples before prompts: which facts they are, their texts in every mode, and what does not change them."""

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knatlas.catalog import read_catalog
from knatlas.errors import AtlasError
from knatlas.facts.context_pararel import read_context_pararel
from knatlas.facts.contexts import PromptForm, choose_examples, form_prompts, with_contexts, without_contexts
from knatlas.facts.prompts import build_prompts
from knatlas.facts.table import PROMPT_COLUMNS
from knatlas.models.encoding import encode_prompt
from tests.tiny_models import tiny_model

LANGUAGES = {
    "en": {"blank": "___", "cue": "Answer:", "separator": " "},
    "ja": {"blank": "___", "cue": "答え：", "separator": ""},
}
CAPITALS = [("France", "Paris"), ("Italy", "Rome"), ("Japan", "Tokyo"), ("Peru", "Lima"), ("Cuba", "Havana")]
CITIES = ["The capital of [X] is [Y].", "[X] has the capital [Y]"]


def build(pairs=CAPITALS, patterns=tuple(CITIES), ar_prompt="auto", kinds=("masked", "causal"), language="en"):
    """Prompts of one relation, whose facts are numbered f0, f1, ..., its templates, and the steps."""
    rows = [(f"f{i}", "P36", f"s{i}", obj, language, subject, obj) for i, (subject, obj) in enumerate(pairs)]
    columns = ["fact", "relation", "subject", "object", "language", "subject_label", "object_label"]
    templates = pd.DataFrame(
        [("P36", language, number, pattern, False) for number, pattern in enumerate(patterns)],
        columns=["relation", "language", "template", "pattern", "is_checked"],
    )
    facts = pd.DataFrame(rows, columns=columns)
    prompts, steps = build_prompts(facts, templates, {language: LANGUAGES[language]}, ar_prompt, 1, kinds)
    return prompts, templates, steps


def examples_of(prompts, row, n_examples=4, seed=0):
    """Fact and object of a row's examples."""
    lines = prompts.iloc[choose_examples(prompts, n_examples, seed)[row]]
    return list(zip(lines["fact"], lines["answer"], strict=True))


def test_four_examples_of_the_same_template_precede_the_query_on_lines_of_their_own():
    prompts, templates, _ = build(kinds=("masked",))
    told = with_contexts(prompts, 4, 0)
    assert told.columns.tolist() == PROMPT_COLUMNS
    pd.testing.assert_frame_equal(told.drop(columns="before"), prompts.drop(columns="before"))
    for row, (before, own) in enumerate(zip(told["before"], prompts["before"], strict=True)):
        *examples, query = before.split("\n")
        assert query == own and len(examples) == 4
        pattern = templates["pattern"][prompts["template"][row]]
        filled = {pattern.replace("[X]", subject).replace("[Y]", obj) for subject, obj in CAPITALS}
        assert set(examples) == filled - {own + " " + prompts["answer"][row] + prompts["after"][row]}


FIRST_LINES = {
    ("mask", "The capital of [X] is [Y] ."): "The capital of France is Paris .",
    ("mask", "[Y] is the capital of [X]"): "Paris is the capital of France",
    ("final", "The capital of [X] is [Y]."): "The capital of France is Paris.",
    ("final", "The capital of [X] is [Y]"): "The capital of France is Paris",
    ("prefix", "[X] has [Y] as its capital."): "France has Paris as its capital.",
    ("cued", "[Y] is the capital of [X]."): "___ is the capital of France.\nAnswer: Paris",
    ("erased", "[X] has [Y] as its capital"): "France has as its capital Paris",
}


@pytest.mark.parametrize(("mode", "pattern"), FIRST_LINES)
def test_an_example_is_the_completed_prompt_in_every_mode(mode, pattern):
    kinds, ar_prompt = (("masked",), "auto") if mode == "mask" else (("causal",), mode)
    prompts, templates, _ = build(CAPITALS[:2], [pattern], ar_prompt, kinds)
    told = with_contexts(prompts, 4, 0, templates)
    assert set(told["mode"]) == {mode}
    assert told["before"][1] == f"{FIRST_LINES[mode, pattern]}\n{prompts['before'][1]}"
    assert without_contexts(told)["before"].tolist() == prompts["before"].tolist()


def test_without_templates_a_causal_example_ends_in_its_answer():
    prompts, _, _ = build(CAPITALS[:2], CITIES[:1], kinds=("causal",))
    assert with_contexts(prompts)["before"][1].split("\n")[0] == "The capital of France is Paris"


def test_japanese_examples_have_no_blank():
    prompts, templates, _ = build([("フランス", "パリ"), ("日本", "東京")], ["[X]の首都は[Y]。"], language="ja")
    causal = with_contexts(prompts, 4, 0, templates).query("kind == 'causal'")
    assert causal["before"].tolist()[1] == "フランスの首都はパリ。\n日本の首都は"


def test_objects_differ_from_each_other_and_from_the_gold_one_without_regard_to_capitals():
    pairs = [("Ann", "poet"), ("Bob", "Poet"), ("Cid", "pope"), ("Dan", "POPE"), ("Eve", "king"), ("Flo", "KING")]
    prompts, _, _ = build(pairs, ["[X] is a [Y]"], kinds=("masked",))
    for seed in range(20):
        found = [answer.lower() for _, answer in examples_of(prompts, 0, seed=seed)]
        assert sorted(found) == ["king", "pope"]


def test_no_example_holds_the_object_or_is_about_the_subject():
    pairs = [
        *(("Rome", "Italy"), ("Air ITALY", "Milan"), ("Vatican", "Little Italy"), ("rome", "Europe")),
        *(("New Rome", "Turkey"), ("Peru", "Lima"), ("Oslo", "Norway")),
    ]
    prompts, _, _ = build(pairs, ["[X] lies in [Y]", "[Y] has [X]"], kinds=("masked",))
    for row in (0, 1):  # both templates of the first fact
        found = {fact for seed in range(20) for fact, _ in examples_of(prompts, row, 6, seed)}
        assert found == {"f5", "f6"}


def test_a_fact_of_the_same_subject_is_no_example_even_where_subjects_share_letters():
    prompts, _, _ = build([("Paris FC", "blue"), ("Paris FC", "red"), ("Paris SG", "green")], ["[X] wears [Y]"])
    assert examples_of(prompts, 0) == [("f2", "green")]


def test_fewer_distinct_objects_give_fewer_examples_and_are_counted():
    pairs = [("a1", "Asia"), ("b2", "Asia"), ("c3", "Europe"), ("d4", "Africa")]
    prompts, templates, steps = build(pairs, ["[X] lies in [Y]"], kinds=("masked",))
    assert [len(chosen) for chosen in choose_examples(prompts, 2, 0)] == [2, 2, 2, 2]
    assert [len(chosen) for chosen in choose_examples(prompts, 4, 0)] == [2, 2, 2, 2]
    _, told = form_prompts(prompts, steps, templates, PromptForm(context=4), 0)
    last = told[told["name"] == "context"].iloc[0]
    assert last["sentence"].startswith("4 completed examples before each prompt; 4 prompts have fewer (at least 2)")
    assert (last["facts"], last["prompts"], last["step"]) == (4, 4, steps["step"].max() + 1)


def test_a_relation_of_one_fact_has_no_examples():
    prompts, _, _ = build(CAPITALS[:1])
    assert with_contexts(prompts).equals(prompts)


def test_examples_depend_on_the_seed_the_fact_and_the_template_alone():
    pairs = [(f"{letter}{i}", f"o{i}") for i, letter in enumerate("abcdefghijklmnopqrst")]
    prompts, _, _ = build(pairs)
    told = with_contexts(prompts, 4, 3).set_index(["fact", "kind", "template"])["before"]
    shuffled = with_contexts(prompts.sample(frac=1.0, random_state=1), 4, 3)
    again = shuffled.set_index(["fact", "kind", "template"])["before"]
    assert again.reindex(told.index).equals(told)
    # masked prompts alone, and causal ones, get the same facts as both together
    for kind in ("masked", "causal"):
        of_kind = prompts[prompts["kind"] == kind]
        alone = with_contexts(of_kind, 4, 3).set_index(["fact", "kind", "template"])["before"]
        assert alone.equals(told[alone.index])
    others = {seed: [fact for fact, _ in examples_of(prompts, 0, seed=seed)] for seed in range(5)}
    assert len({tuple(facts) for facts in others.values()}) == 5
    by_template = prompts[prompts["fact"] == "f0"].index[:2]
    assert examples_of(prompts, by_template[0]) != examples_of(prompts, by_template[1])


def test_masked_and_causal_prompts_have_the_same_examples():
    prompts, _, _ = build([(f"{letter}{i}", f"o{i}") for i, letter in enumerate("abcdefghij")])
    chosen = choose_examples(prompts, 4, 0)
    half = len(prompts) // 2
    masked, causal = ([prompts["fact"].iloc[rows].tolist() for rows in part] for part in (chosen[:half], chosen[half:]))
    assert masked == causal


def test_fewer_examples_are_the_first_of_more():
    prompts, _, _ = build([(f"{letter}{i}", f"o{i}") for i, letter in enumerate("abcdefghij")])
    two, four = choose_examples(prompts, 2, 0), choose_examples(prompts, 4, 0)
    assert two == [rows[:2] for rows in four]


labels = st.text(st.sampled_from("abAB "), min_size=1, max_size=4).map(lambda text: text.strip() or "z")


@settings(deadline=None, max_examples=60)  # a busy machine is no mistake
@given(st.lists(st.tuples(labels, labels), min_size=1, max_size=8), st.integers(0, 4), st.integers(0, 3))
def test_any_facts_give_examples_that_tell_nothing_of_the_query(pairs, n_examples, seed):
    prompts, _, _ = build(pairs, ["<[X]> [Y]"], kinds=("masked",))
    for row, rows in enumerate(choose_examples(prompts, n_examples, seed)):
        objects = [prompts["answer"][other].casefold() for other in rows]
        gold = prompts["answer"][row].casefold()
        assert len(rows) <= n_examples and len({*objects, gold}) == len(rows) + 1
        assert all(gold not in obj for obj in objects)
        assert all(prompts["before"][other].casefold() != prompts["before"][row].casefold() for other in rows)


def test_no_context_and_kept_case_leave_prompts_and_steps_as_they_are():
    prompts, templates, steps = build()
    same, told = form_prompts(prompts, steps, templates, PromptForm(), 0)
    assert same.equals(prompts) and told.equals(steps)


def test_lower_case_is_for_the_answers_of_causal_prompts_and_not_for_examples():
    prompts, templates, steps = build(CAPITALS[:2], CITIES[:1])
    lowered, told = form_prompts(prompts, steps, templates, PromptForm(context=1, answer_case="lower"), 0)
    by_kind = lowered.groupby("kind")["answer"].agg(list).to_dict()
    assert by_kind == {"causal": ["paris", "rome"], "masked": ["Paris", "Rome"]}
    assert lowered.query("kind == 'causal'")["before"].tolist()[1].startswith("The capital of France is Paris.\n")
    last = told.iloc[-1]
    assert last["name"] == "answer_case" and last["sentence"].endswith("; 2 changed") and last["prompts"] == 4


def test_wrong_settings_are_told():
    with pytest.raises(AtlasError, match="prompts: context is -1; expected 0"):
        PromptForm(context=-1)
    with pytest.raises(AtlasError, match=r"prompts: answer_case is 'low'; expected one of two \(keep lower\)"):
        PromptForm(answer_case="low")
    with pytest.raises(AtlasError, match="context is -2"):
        with_contexts(build()[0], -2)


@pytest.mark.parametrize("model_type", ["bert", "gpt2", "llama"])
def test_a_model_reads_examples_before_the_query_and_predicts_the_same_tokens(model_type):
    lm = tiny_model(model_type)
    prompts, templates, _ = build([("France", "Paris"), ("Finland", "Helsinki")], CITIES[:1], kinds=(lm.kind,))
    for bare, told in zip(prompts.itertuples(), with_contexts(prompts, 1, 0, templates).itertuples(), strict=True):
        short, long = encode_prompt(lm, bare), encode_prompt(lm, told)
        n_before = len(long.input_ids) - len(short.input_ids)
        assert n_before > 4 and long.targets == short.targets
        assert long.positions == tuple(place + n_before for place in short.positions)
        assert long.input_ids[-3:] == short.input_ids[-3:]


def test_the_released_set_can_be_built_with_four_examples_but_for_one_relation(shared_data):
    facts, patterns, _ = read_context_pararel(shared_data / "pararel", ["en"])
    languages = {"en": read_catalog("languages")["en"]}
    prompts, steps = build_prompts(facts, patterns, languages, "final", 1)
    told, steps = form_prompts(prompts, steps, patterns, PromptForm(context=4), 0)
    n_lines = told["before"].str.count("\n")
    assert set(n_lines[told["relation"] != "P30"]) == {4} and set(n_lines) == {3, 4}
    # the first hundred facts of P30 have four objects
    assert int((n_lines < 4).sum()) == 800
    assert told["before"].str.rsplit("\n", n=1).str[1].tolist() == prompts["before"].tolist()
    assert "; 800 prompts have fewer (at least 3)" in steps[steps["name"] == "context"]["sentence"].iloc[0]
