"""What a build consists of: counts, lengths and shares by hand, and beside Table I."""

import numpy as np
import pandas as pd
import pytest

from knatlas.catalog import read_catalog
from knatlas.facts.composition import (
    COLUMNS,
    as_printed,
    compose,
    counts_characters,
    measure,
    n_named_facts,
    query_texts,
)
from knatlas.facts.steps import Steps
from knatlas.statistics.printed import beside_paper, printed_values

LANGUAGES = {code: read_catalog("languages")[code] for code in ("en", "ko", "zh")}


def prompt(fact, language, before, after="", kind="masked", mode="mask", separator=" "):
    relation = fact.split(":")[0]
    fixed = {"fact": fact, "relation": relation, "language": language, "kind": kind, "mode": mode}
    return {**fixed, "before": before, "separator": separator, "after": after}


def hand_made():
    """Two facts with queries in three languages; one more fact that has names but too few queries."""
    rows = [
        prompt("P1:a>b", "en", "Ann has", "."),
        prompt("P1:a>b", "en", "What Ann has is", " ."),
        prompt("P2:c>d", "en", "", " is where Bob lives"),
        prompt("P1:a>b", "ko", "앤은", " 가 있다."),
        prompt("P2:c>d", "ko", "밥은", "에 산다"),
        prompt("P1:a>b", "zh", "安有", "", separator=""),
        prompt("P2:c>d", "zh", "鲍勃 住在", " 。", separator=""),
        prompt("P1:a>b", "en", "Ann has", kind="causal", mode="final"),
        prompt("P2:c>d", "en", "___ is where Bob lives\nAnswer:", kind="causal", mode="cued"),
        prompt("P1:a>b", "ko", "앤은 있다", kind="causal", mode="erased"),
        prompt("P2:c>d", "ko", "밥은", kind="causal", mode="prefix"),
        prompt("P1:a>b", "zh", "安有", kind="causal", mode="final", separator=""),
        prompt("P2:c>d", "zh", "鲍勃住在", kind="causal", mode="final", separator=""),
    ]
    facts = pd.DataFrame([{"fact": f, "language": c} for f in ("P1:a>b", "P1:e>f", "P2:c>d") for c in LANGUAGES])
    return facts, pd.DataFrame(rows)


def tokens(model, kind, language, **numbers):
    """Rows of what a model knows, with the numbers of tokens of each fact's queries."""
    fixed = {"model": model, "kind": kind, "language": language}
    return [{**fixed, "fact": fact, "query": i, "n_tokens": n} for fact in numbers for i, n in enumerate(numbers[fact])]


KNOWN = pd.DataFrame(
    [
        *tokens("tiny", "masked", "en", a=[1, 1], b=[1, 2], c=[3], d=[1]),
        *tokens("tiny", "masked", "zh", a=[1]),
        *tokens("small", "causal", "en", a=[2]),
    ]
)


@pytest.fixture(scope="module")
def table():
    return compose(*hand_made(), LANGUAGES, KNOWN)


def pick(table, language, statistic, kind="masked", model=""):
    wanted = {"language": language, "statistic": statistic, "kind": kind, "model": model}
    rows = table[np.logical_and.reduce([table[column] == value for column, value in wanted.items()])]
    assert len(rows) == 1
    return rows.iloc[0]


def test_columns_and_a_census_without_intervals(table):
    assert table.columns.tolist() == COLUMNS
    assert table["lo"].isna().all() and table["hi"].isna().all()
    assert not table.duplicated(["language", "model", "kind", "statistic"]).any()


def test_counts_are_of_facts_with_queries(table):
    assert pick(table, "en", "facts")["value"] == 2 and pick(table, "en", "facts_named", kind="")["value"] == 3
    assert pick(table, "en", "relations")["value"] == 2
    assert pick(table, "en", "queries")["value"] == 3 and pick(table, "ko", "queries")["value"] == 2
    assert pick(table, "en", "queries_per_fact")["value"] == 1.5 and pick(table, "en", "queries_per_fact")["n"] == 2


def test_all_languages_together_count_a_fact_once_and_every_query(table):
    assert pick(table, "all", "languages", kind="")["value"] == 3
    assert pick(table, "all", "families", kind="")["value"] == 3
    assert pick(table, "all", "facts")["value"] == 2 and pick(table, "all", "relations")["value"] == 2
    assert pick(table, "all", "queries")["value"] == 7 and pick(table, "all", "queries", kind="causal")["value"] == 6
    assert pick(table, "all", "facts_named", kind="")["value"] == 3


def test_families_are_those_of_the_catalog(table):
    assert table.drop_duplicates("language").set_index("language")["family"].to_dict() == {
        "all": "",
        "en": "Indo-European",
        "ko": "Koreanic",
        "zh": "Sino-Tibetan",
    }
    families = {row["family"] for row in read_catalog("languages").values()}
    assert families == {"Indo-European", "Sino-Tibetan", "Uralic", "Japonic", "Koreanic"}


def test_lengths_are_of_the_query_without_its_answer(table):
    # "Ann has ." is three words, "What Ann has is ." is five, "is where Bob lives" is four
    assert pick(table, "en", "mean_length")[["value", "unit", "n"]].tolist() == [4, "words", 3]
    # 앤은가있다. is six characters, 밥은에산다 is five; 安有 is two, 鲍勃住在。 is five
    assert pick(table, "ko", "mean_length")[["value", "unit"]].tolist() == [5.5, "characters"]
    assert pick(table, "zh", "mean_length")[["value", "unit"]].tolist() == [3.5, "characters"]
    # a causal model reads nothing behind `before`: "Ann has"; "___ is where Bob lives Answer:"
    assert pick(table, "en", "mean_length", kind="causal")["value"] == 4


def test_texts_are_the_templates_with_the_object_deleted():
    texts = query_texts(hand_made()[1])
    assert texts[:4].tolist() == ["Ann has .", "What Ann has is  .", "  is where Bob lives", "앤은  가 있다."]
    assert texts[7:9].tolist() == ["Ann has", "___ is where Bob lives\nAnswer:"]


def test_measure_counts_words_or_characters():
    texts = pd.Series(["two words .", "", "二 字"])
    assert measure(texts, in_characters=False).tolist() == [3, 0, 2]
    assert measure(texts, in_characters=True).tolist() == [9, 0, 2]


def test_characters_are_counted_in_chinese_japanese_and_korean_only():
    languages = read_catalog("languages")
    assert [code for code in languages if counts_characters(languages[code])] == ["zh", "ja", "ko"]


def test_mode_shares_sum_to_one_and_name_also_unused_modes(table):
    shares = table[table["statistic"].str.startswith("share_") & (table["model"] == "")]
    assert (shares.groupby(["language", "kind"])["value"].sum() == 1).all()
    assert pick(table, "en", "share_mask")["value"] == 1
    causal = [pick(table, "ko", f"share_{mode}", kind="causal")["value"] for mode in ("final", "prefix", "erased")]
    assert causal == [0, 0.5, 0.5]
    assert pick(table, "en", "share_cued", kind="causal")[["value", "n"]].tolist() == [0.5, 2]


def test_an_object_has_several_tokens_when_it_has_them_in_some_query(table):
    found = pick(table, "en", "share_several_tokens", model="tiny")
    assert found[["value", "n"]].tolist() == [0.5, 4]
    assert pick(table, "zh", "share_several_tokens", model="tiny")["value"] == 0
    assert pick(table, "en", "share_several_tokens", kind="causal", model="small")["value"] == 1
    # a model that is not studied in a language has no row there
    assert not ((table["language"] == "ko") & (table["model"] != "")).any()


def test_a_language_without_queries_passes_through():
    facts, prompts = hand_made()
    table = compose(facts, prompts[prompts["language"] != "zh"], LANGUAGES)
    assert pick(table, "zh", "queries")[["value", "n"]].tolist() == [0, 0]
    assert np.isnan(pick(table, "zh", "mean_length")["value"]) and np.isnan(pick(table, "zh", "share_mask")["value"])
    assert as_printed(table).set_index(["language", "kind"]).loc[("zh", "masked"), "mean_length"] == "none"


def steps_of(*counts):
    steps = Steps()
    for name, n_facts in counts:
        steps.add(name, "", facts=n_facts)
    return steps.table()


def test_facts_of_relations_without_templates_count_as_in_table_1():
    cleaning = steps_of(("read", 9), ("parallel", 6), ("templates", 4), ("exclude_marks", 4), ("sample", 4))
    assert n_named_facts(cleaning) == 6
    table = compose(*hand_made(), LANGUAGES, cleaning=cleaning)
    assert pick(table, "en", "queries_per_named_fact")[["value", "n"]].tolist() == [0.5, 6]
    assert pick(table, "en", "queries_per_fact")["value"] == 1.5


def test_facts_without_queries_are_not_counted_where_facts_were_left_out_later():
    assert n_named_facts(steps_of(("parallel", 6), ("templates", 4), ("sample", 3))) is None
    assert n_named_facts(steps_of(("read", 6), ("named", 4))) is None
    assert n_named_facts(None) is None


def test_printed_numbers_of_table_1_stand_beside_ours(table):
    beside = beside_paper(table, "matrice", 1)
    assert pick(beside, "en", "queries")[["paper", "difference"]].tolist() == [31669, 3 - 31669]
    assert pick(beside, "ko", "mean_length", kind="causal")["paper"] == 17.4
    assert pick(beside, "all", "families", kind="")["paper"] == 4
    assert np.isnan(pick(beside, "en", "share_mask")["paper"])
    shown = as_printed(beside).set_index(["language", "kind"])
    assert shown.loc[("en", "masked"), "queries"] == "3 (paper: 31,669)"
    assert shown.loc[("zh", "masked"), "mean_length"] == "3.5 characters (paper: 11.2)"
    assert shown.loc[("en", "masked"), "several tokens: tiny"] == "0.5"
    assert shown.loc[("en", "causal"), "several tokens: tiny"] == ""


def test_printed_table_1_is_that_of_seven_languages_and_171741_queries():
    entries = pd.DataFrame(printed_values("matrice", 1))
    each = entries[entries["language"] != "all"].pivot(index="language", columns="statistic", values="value")
    assert set(each.index) == set(read_catalog("languages")) and not each.isna().any().any()
    assert each["queries"].sum() == 171741  # "more than 170,000"
    assert round(each.loc["en", "queries"] / each.loc["en", "facts"], 2) == 4.03
