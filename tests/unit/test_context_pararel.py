"""context-PARAREL: which patterns and facts are taken, its errors, and the counts that the paper prints."""

import json
import shutil

import pytest

from knatlas.catalog import read_catalog
from knatlas.errors import AtlasError
from knatlas.facts.context_pararel import RELATIONS, close, read_context_pararel
from knatlas.facts.prompts import build_prompts
from knatlas.facts.sources import read_source
from knatlas.facts.table import FACT_COLUMNS, STEP_COLUMNS, TEMPLATE_COLUMNS

ENGLISH = {"en": read_catalog("languages")["en"]}
SMALL = ["P36", "P19"]


@pytest.fixture
def folder(root, tmp_path):
    """A copy of the small data set."""
    return shutil.copytree(root / "tests" / "data" / "context_pararel", tmp_path / "pararel")


@pytest.fixture(scope="module")
def real(shared_data):
    """The tables that PARAREL gives."""
    return read_context_pararel(shared_data / "pararel", ["en"])


def totals(steps):
    return steps[steps["language"] == "all"].set_index("name")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("The capital of [X] is [Y] .", "The capital of [X] is [Y]."),
        (" [X]'s capital, [Y],", "[X]'s capital, [Y]."),
        ("[X],  a type of [Y]", "[X],  a type of [Y]."),
        ("Where is [X], [Y]?", "Where is [X], [Y]?"),
        ("[X] is the [Y]s.", "[X] is the [Y]s."),  # one character short of the end
        ("[Y] is the capital of [X].", ""),
        ("[X] is a [Y]-born person.", ""),
        ("as a citizen of [Y], [X]", ""),
    ],
)
def test_patterns_that_end_in_the_object_get_one_mark_at_the_end(pattern, expected):
    assert close(pattern) == expected


def test_facts_and_templates_are_those_of_the_files_in_their_order(folder):
    facts, templates, steps = read_context_pararel(folder, ["en"], SMALL)
    assert facts.columns.tolist() == FACT_COLUMNS and templates.columns.tolist() == TEMPLATE_COLUMNS
    assert steps.columns.tolist() == STEP_COLUMNS
    assert facts["fact"].tolist() == ["P36:c1", "P36:c2", "P36:c3", "P36:c4", "P19:b1", "P19:b2", "P19:b3"]
    assert facts.iloc[0][["subject", "object", "language", "subject_label", "object_label"]].tolist() == [
        *("France", "Paris", "en", "France", "Paris")
    ]
    assert templates[templates["relation"] == "P36"]["pattern"].tolist() == [
        "The capital of [X] is [Y].",
        "[X]'s capital, [Y].",
        "The seat of [X] lies in [Y].",
        "[X] is ruled from where, [Y]?",
    ]
    assert templates["template"].tolist() == [0, 1, 2, 3, 0, 1] and not templates["is_checked"].any()


def test_facts_with_the_labels_of_another_and_templates_alike_but_for_blanks_stay(folder):
    facts, templates, steps = read_context_pararel(folder, ["en"], SMALL)
    assert facts["fact"].is_unique and facts.duplicated(["relation", "subject", "object"]).sum() == 1
    assert templates[templates["relation"] == "P19"]["pattern"].tolist() == [
        "[X] was born in [Y].",
        "[X] was  born in [Y].",
    ]
    assert totals(steps).loc["first", "sentence"].endswith("; 1 repeat the labels of another and stay")


def test_every_step_is_counted_and_a_relation_without_templates_is_named(folder):
    facts, _, steps = read_context_pararel(folder, ["en"], [*SMALL, "P27"])
    assert totals(steps)["facts"].to_dict() == {"read": 8, "final": 8, "templates": 7, "first": 7}
    assert totals(steps)["templates"].to_dict() == {"read": 9, "final": 6, "templates": 6, "first": 6}
    assert totals(steps).loc["templates", "sentence"].endswith("dropped: P27")
    assert set(facts["relation"]) == set(SMALL)
    with pytest.raises(AtlasError, match="no fact has labels and patterns"):
        read_context_pararel(folder, ["en"], ["P27"])


def test_a_relation_has_its_first_hundred_facts_marked_by_all(folder):
    path = folder / "trex_lms_vocab" / "P19.jsonl"
    rows = [{"sub_label": f"s{i}", "obj_label": f"o{i}", "uuid": f"u{i}"} for i in range(100)]
    rows.append({"sub_label": "s7", "obj_label": "another", "uuid": "u100"})
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    facts, _, _ = read_context_pararel(folder, ["en"], ["P19"])
    assert facts["fact"].tolist() == [f"P19:u{i}" for i in range(100)]
    assert facts.loc[facts["several_objects"], "subject"].tolist() == ["s7"]


def test_what_is_missing_or_broken_is_told(folder):
    with pytest.raises(AtlasError, match=r"are en fr; the source context_pararel is in English alone\. Set languages"):
        read_context_pararel(folder, ["en", "fr"])
    with pytest.raises(AtlasError, match="are none"):
        read_context_pararel(folder, [])
    with pytest.raises(AtlasError, match=r"one is 'P91'; expected a relation of .* with facts and patterns"):
        read_context_pararel(folder, ["en"], ["P36", "P91"])
    path = folder / "trex_lms_vocab" / "P19.jsonl"
    path.write_text(path.read_text() + '{"sub_label": "Bea", "obj_label": "Oslo", "uuid": "b1"}\n')
    with pytest.raises(AtlasError, match=r"P19.jsonl, line 4 repeats the uuid b1"):
        read_context_pararel(folder, ["en"], SMALL)
    shutil.rmtree(folder / "graphs_json")
    with pytest.raises(AtlasError, match="graphs_json is not there; expected PARAREL"):
        read_context_pararel(folder, ["en"], SMALL)


def test_it_is_a_source_of_a_study(folder):
    settings = {"source": "context_pararel", "relations": SMALL, "exclude_marks": [], "facts_per_relation": 2}
    facts, templates, steps = read_source(settings | {"cap_answers": False}, ["en"], 1, [str(folder)])
    assert facts.groupby("relation").size().to_dict() == {"P19": 2, "P36": 2} and len(templates) == 6
    assert totals(steps).loc["sample", "facts"] == 4


def test_counts_are_those_of_the_paper(real):
    facts, templates, steps = real
    n_facts, n_templates = facts["relation"].value_counts(), templates["relation"].value_counts()
    assert list(facts["relation"].unique()) == list(RELATIONS) and len(RELATIONS) == 22
    assert (len(facts), facts["fact"].nunique(), len(templates)) == (2153, 2153, 177)
    assert int((n_facts * n_templates).sum()) == 17042
    assert n_facts["P264"] == 53 and set(n_facts.drop("P264")) == {100} and n_templates["P131"] == 3
    assert totals(steps).loc["first", "facts"] == 2153


@pytest.mark.parametrize("ar_prompt", ["final", "auto"])
def test_prompts_of_both_kinds_are_as_many_as_in_the_paper(real, ar_prompt):
    facts, templates, _ = real
    prompts, _ = build_prompts(facts, templates, ENGLISH, ar_prompt, 3)
    assert prompts.groupby("kind").size().to_dict() == {"causal": 17042, "masked": 17042}
    assert set(prompts["mode"]) == {"mask", "final"} and prompts["fact"].nunique() == 2153
    fewer, _ = build_prompts(facts, templates, ENGLISH, ar_prompt, 4)  # without P131, which has three
    assert (fewer["fact"].nunique(), fewer["relation"].nunique()) == (2053, 21)


def test_facts_and_templates_are_those_of_the_released_file(real, shared_data):
    path = shared_data / "context_pararel" / "para_expand.json"
    if not path.exists():
        pytest.skip(f"the released prompts are not at hand: {path}")
    released = json.loads(path.read_text(encoding="utf-8"))
    facts, templates, _ = real
    expected = {f"{entry['relation_name']}:{uuid}": entry["obj_label"].strip() for uuid, entry in released.items()}
    assert dict(zip(facts["fact"], facts["object_label"], strict=True)) == expected
    # both kinds of prompts have the released queries before their answer, down to the comma
    prompts, _ = build_prompts(facts, templates, ENGLISH, "final", 1)
    queries = {
        f"{entry['relation_name']}:{uuid}": [sentence.split("\n")[-1] for sentence in entry["sentences"]]
        for uuid, entry in released.items()
    }
    for _, of_kind in prompts.groupby("kind"):
        assert of_kind.groupby("fact")["before"].agg(list).to_dict() == queries


def test_completed_examples_of_the_released_file_are_its_filled_templates(real, shared_data):
    path = shared_data / "context_pararel" / "para_expand.json"
    if not path.exists():
        pytest.skip(f"the released prompts are not at hand: {path}")
    patterns = real[1].groupby("relation")["pattern"].agg(list)
    for entry in json.loads(path.read_text(encoding="utf-8")).values():
        for pattern, sentence in zip(patterns[entry["relation_name"]], entry["sentences"], strict=True):
            front, middle = pattern.split("[Y]")[0].split("[X]")
            examples = sentence.split("\n")[:-1]
            assert len(examples) == 4
            assert all(line.startswith(front) and middle in line and line.endswith(".") for line in examples)
