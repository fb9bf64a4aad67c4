"""Labels and patterns are mended, twins merged, and every step is counted."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from knatlas.facts.cleaning import (
    clean,
    keep_parallel,
    merge_near_duplicates,
    relations_in_all,
    repair_label,
    repair_pattern,
    twin_key,
)
from knatlas.facts.steps import Steps
from knatlas.facts.table import STEP_COLUMNS, TEMPLATE_COLUMNS


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("Vienne\u200e", "Vienne"),
        ("イタリア\u3000共和国", "イタリア 共和国"),
        ("  Paris \u3000", "Paris"),
        ("Cafe\u0301", "Café"),
        ("リッチモンド (テキサス州)", "リッチモンド (テキサス州)"),
    ],
)
def test_a_label_is_repaired(label, expected):
    assert repair_label(label) == expected


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("[X] on [Y]ssa] nyt", "[X] on [Y]ssa nyt"),
        ("[Y] n] [X]", "[Y] n [X]"),
        ("[ [X] ]는 [ [Y] ]에 있다", "[X]는 [Y]에 있다"),
        ("[ [X] ], [Y]의 물건,", "[X], [Y]의 물건"),
        ("[X], made by [Y],", "[X], made by [Y]"),
        ("[X]、[Y]の物、", "[X]、[Y]の物"),
        ("[X]，[Y] 的产品 ，", "[X]，[Y] 的产品"),
        ("[X] lies in [Y].", "[X] lies in [Y]."),
    ],
)
def test_a_pattern_is_repaired(pattern, expected):
    assert repair_pattern(pattern) == expected


@given(st.lists(st.sampled_from(["[X]", "[Y]", "[", "]", " ", ",", "n", "。", "は"]), max_size=12).map("".join))
def test_a_repair_keeps_the_slots_and_is_done_once(text):
    repaired = repair_pattern(text)
    assert [repaired.count(slot) for slot in ("[X]", "[Y]")] == [text.count(slot) for slot in ("[X]", "[Y]")]
    assert repaired.replace("[X]", "").replace("[Y]", "").count("[") == 0
    assert repair_pattern(repaired) == repaired


def test_twins_are_equal_but_for_blanks_and_punctuation():
    assert twin_key("[X] ，[Y] 的 首都。") == twin_key("[X],[Y]的首都")
    assert twin_key("c’est [Y] à [X] .") == twin_key("c'est [Y] à [X]")
    assert twin_key("[X] is in [Y]") != twin_key("[Y] is in [X]")
    assert twin_key("is [X] in [Y]?") != twin_key("is [X] in [Y]")


def templates(*rows):
    return pd.DataFrame([("P1", language, 7, *row) for language, *row in rows], columns=TEMPLATE_COLUMNS)


def kept(table):
    return list(table[["language", "template", "pattern"]].itertuples(index=False, name=None))


def test_the_twin_without_blanks_stays_where_nothing_is_written_with_blanks():
    table = templates(
        ("zh", "[X] 在 [Y]", False),
        ("zh", "[X]在[Y]", False),
        ("zh", "[Y]有[X]", False),
        ("fi", "[X] , [Y]", False),
        ("fi", "[X],[Y]", False),
    )
    expected = [("zh", 0, "[X]在[Y]"), ("zh", 1, "[Y]有[X]"), ("fi", 0, "[X] , [Y]")]
    assert kept(merge_near_duplicates(table, ["zh"])) == expected


def test_among_equal_twins_the_checked_one_stays():
    table = templates(("fr", "[X] [Y]", False), ("fr", "[X] [Y].", True), ("fr", "[X] [Y] .", True))
    assert kept(merge_near_duplicates(table, ["zh"])) == [("fr", 0, "[X] [Y].")]


def test_templates_taken_as_published_are_merged_only_when_they_are_equal():
    comma = [("hu", "[X], [Y]", False), ("hu", "[X] [Y]", False), ("hu", "[X] [Y]", False)]
    table = templates(*comma, ("fr", "[X], [Y]", False), ("fr", "[X] [Y]", False))
    merged = merge_near_duplicates(table, [], published=["hu"])
    assert kept(merged) == [("hu", 0, "[X], [Y]"), ("hu", 1, "[X] [Y]"), ("fr", 0, "[X], [Y]")]


def test_equal_patterns_of_two_languages_or_relations_are_no_twins():
    table = templates(("en", "[X] [Y]", False), ("fr", "[X] [Y]", False))
    both = pd.concat([table, table.assign(relation="P2")], ignore_index=True)
    assert len(merge_near_duplicates(both, [])) == 4


def labelled(*rows):
    columns = ["fact", "relation", "subject", "object", "language", "subject_label", "object_label"]
    return pd.DataFrame(
        [(f"{relation}:s>o", relation, "s", "o", language, "S\u200e", "O") for relation, language in rows],
        columns=columns,
    )


def test_only_facts_and_relations_of_all_languages_stay():
    facts = labelled(("P1", "en"), ("P1", "fr"), ("P2", "en"))
    assert set(keep_parallel(facts, ["en", "fr"])["relation"]) == {"P1"}
    table = templates(("en", "[X] [Y]", False), ("fr", "[X] [Y]", False))
    assert relations_in_all(pd.concat([table, table.head(1).assign(relation="P2")]), ["en", "fr"]) == {"P1"}


def test_every_step_of_the_cleaning_is_counted():
    facts = labelled(("P1", "en"), ("P1", "fr"), ("P2", "en"), ("P2", "fr"), ("P3", "en"))
    table = templates(("en", "[X] in [Y],", False), ("en", "[X] in [Y].", False), ("fr", "[X] à [Y]]", False))
    steps = Steps()
    facts, table = clean(facts, table, ["en", "fr"], [], steps)
    record = steps.table()
    totals = record[record["language"] == "all"]
    assert totals["name"].tolist() == ["labels", "patterns", "twins", "parallel", "templates"]
    assert totals["facts"].tolist() == [3, 3, 3, 2, 1]
    assert totals["templates"].dropna().tolist() == [3, 2, 2, 2]
    assert record["sentence"][0].startswith("5 labels mended") and record["sentence"][1].startswith("2 patterns mended")
    assert record["sentence"].iloc[-1].endswith("dropped: P2")
    assert facts["subject_label"].tolist() == ["S", "S"]
    assert kept(table) == [("en", 0, "[X] in [Y]"), ("fr", 0, "[X] à [Y]")]


def test_steps_keep_the_counts_that_a_step_leaves_alone():
    steps = Steps()
    steps.add("read", "read", facts=5, templates=3)
    steps.add("shorter", "fewer facts", facts=4)
    record = Steps.continued(steps.table())
    record.add("prompts", "prompts built", prompts=9)
    table = record.table()
    assert list(table.columns) == STEP_COLUMNS
    assert table["step"].tolist() == [1, 2, 3]
    assert table["facts"].tolist() == [5, 4, 4] and table["templates"].tolist() == [3, 3, 3]
    assert table["prompts"].isna().tolist() == [True, True, False]


def test_steps_count_facts_once_and_per_language_on_demand():
    steps = Steps()
    facts = labelled(("P1", "en"), ("P1", "fr"), ("P2", "en"))
    steps.add("read", "read", facts, languages=["en", "fr"])
    table = steps.table()
    assert list(table[["step", "language", "facts"]].itertuples(index=False, name=None)) == [
        (1, "all", 2),
        (1, "en", 2),
        (1, "fr", 1),
    ]
    assert table["templates"].isna().all()
