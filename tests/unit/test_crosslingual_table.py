"""AMIG's Table 2 from edits with a formula: by hand, in every reading, with facts without common neurons."""

import numpy as np
import pandas as pd
import pytest

from knatlas.errors import AtlasError
from knatlas.experiments.crosslingual import edit_across
from knatlas.statistics.crosslingual import likn_sizes, summarise_crosslingual
from knatlas.statistics.printed import beside_paper
from knatlas.statistics.success_rate import READINGS, RESULT_COLUMNS, Reading, success_rates
from tests.edits_across_languages import THREE, Formula, edit, only, prompts, rows_of, sets_of

SETTINGS = {"facts": "common"}


def summarise(pairs=(("en", "zh"),), rows=None, **settings):
    return summarise_crosslingual(edit(pairs)[0] if rows is None else rows, {**SETTINGS, **settings}, resamples=100)


def pick(table, method, language="en", reading="default", statistic="sr", pair="en-zh"):
    keys = {"method": method, "language": language, "reading": reading, "statistic": statistic, "pair": pair}
    return only(table, **keys)


def test_table_2_has_a_row_for_each_pair_language_method_reading_and_statistic():
    table = summarise(THREE)
    sizes = ["n_facts", "n_likn_empty", "mean_likn_size", "n_left_out"]
    assert table.columns.tolist() == ["model", "pair", "language", "method", *RESULT_COLUMNS, *sizes]
    keys = ["pair", "language", "method", "reading"]
    assert len(table[keys].drop_duplicates()) == 3 * 2 * 3 * 3
    assert table.groupby(keys)["statistic"].nunique().nunique() == 1


@pytest.mark.parametrize(
    ("method", "language", "expected"),
    [
        # own and other changes of the facts a and e: suppress -1, -0.1 and -1, -0.19; enhance 1, 0.1 and 3, 0.21
        ("likn", "en", 1 / 0.145 + 2 / 0.155),
        # Chinese neurons: two of each fact
        ("mono", "en", 1 / 0.19 + 3 / 0.21),
        # English neurons: three of a, two of e
        ("mono", "zh", 1 / ((1 - 0.9**3 + 0.19) / 2) + 5 / ((1.1**3 - 1 + 0.21) / 2)),
        # all four of a, one of them twice, and both of e twice
        ("seq", "zh", 1 / ((1 - 0.9**4 + 0.19) / 2) + 23 / ((1.1**3 * 1.3 - 1 + 1.3**2 - 1) / 2)),
    ],
)
def test_success_rates_by_hand(method, language, expected):
    row = pick(summarise(), method, language)
    assert row["value"] == pytest.approx(expected)
    assert (row["n"], row["n_empty"], row["n_excluded"]) == (2, 0, 0)


def test_pairs_say_how_many_facts_have_common_neurons():
    table = summarise(THREE).drop_duplicates("pair").set_index("pair")
    sizes = table[["n_facts", "n_likn_empty", "n_left_out", "mean_likn_size"]]
    assert sizes.loc["en-zh"].tolist() == [4, 2, 1, 0.75]
    assert sizes.loc["en-fi"].tolist() == [5, 2, 0, 0.6]
    assert sizes.loc["zh-fi"].tolist() == [4, 1, 1, 0.75]


@pytest.mark.parametrize(("facts", "mono"), [("common", {"en": 2, "zh": 2}), ("per_row", {"en": 4, "zh": 3})])
def test_fact_sets_of_the_default_reading_are_a_setting(facts, mono):
    table = summarise(facts=facts)
    n = {(name, language): pick(table, name, language)["n"] for name in ("likn", "mono", "seq") for language in mono}
    assert [n["likn", "en"], n["seq", "en"], n["likn", "zh"], n["seq", "zh"]] == [2] * 4
    assert {language: n["mono", language] for language in mono} == mono


@pytest.mark.parametrize("facts", ["common", "per_row"])
def test_fact_sets_of_paper_and_code_are_fixed(facts):
    table = summarise(facts=facts)
    assert [pick(table, "mono", "en", reading)["n"] for reading in ("paper", "code")] == [2, 4]


def test_seq_of_the_code_is_the_second_languages_edit_in_both_languages():
    rows, _ = edit()
    table = summarise(rows=rows)
    second = rows[(rows["edit"] == "second") & (rows["n_likn"] > 0)]
    code = success_rates(second, ["language"], {"code": READINGS["code"]}, resamples=100).set_index("language")
    both = success_rates(
        rows[(rows["edit"] == "both") & (rows["n_likn"] > 0)], ["language"], {"default": Reading()}, resamples=100
    ).set_index("language")
    columns = [name for name in RESULT_COLUMNS if name != "reading"]
    for language in ("en", "zh"):
        seq = rows_of(table, method="seq", language=language, reading="code")[columns].reset_index(drop=True)
        pd.testing.assert_frame_equal(seq, code.loc[language, columns].reset_index(drop=True))
        of_default = pick(table, "seq", language)
        assert of_default["value"] == only(both.loc[[language]], statistic="sr")["value"] != seq["value"][0]


def test_methods_without_a_fact_are_empty_rows():
    apart = {"a": {"en": [1], "zh": [2]}, "b": {"en": [3], "zh": []}, "c": {"en": [4], "zh": [5]}}
    rows = edit_across(sets_of(apart), prompts(), [("en", "zh")], Formula())
    table = summarise(rows=rows)
    for method, reading in (("likn", "default"), ("mono", "paper"), ("seq", "code")):
        row = pick(table, method, reading=reading)
        assert np.isnan(row["value"]) and np.isnan(row["lo"])
        assert (row["n"], row["n_empty"], row["n_facts"], row["n_likn_empty"]) == (0, 0, 3, 3)
    assert pick(table, "mono", reading="code")["n"] == 2
    assert np.isfinite(pick(table, "mono", reading="code", statistic="sr_suppress")["value"])


def test_printed_numbers_stand_beside_every_reading_of_their_row():
    rows, _ = edit(THREE)
    table = beside_paper(summarise(rows=rows.assign(model="mbert")), "amig", 2)
    printed = table[table["paper"].notna()]
    assert len(printed) == 2 * 3 * 3 and set(printed["statistic"]) == {"sr"} and set(printed["pair"]) == {"en-zh"}
    chinese = pick(printed, "likn", "zh", "code")
    assert chinese["paper"] == 7.18 and chinese["difference"] == chinese["value"] - 7.18


def test_success_rate_settings_are_those_of_the_default_reading():
    absolute, relative = summarise(change="absolute"), summarise()
    means = [pick(part, "likn", "zh", statistic="mean_enhance_relevant")["value"] for part in (absolute, relative)]
    assert means == pytest.approx([2 * 0.005, 2.0])
    for reading in ("paper", "code"):
        pd.testing.assert_frame_equal(*(rows_of(part, reading=reading) for part in (absolute, relative)))


def test_unknown_settings_are_sentences():
    with pytest.raises(AtlasError, match=r"facts is 'comon'; .*\(common per_row\)\. Did you mean 'common'"):
        summarise(facts="comon")
    with pytest.raises(AtlasError, match="'chnage'"):
        summarise(chnage="relative")


def test_sizes_of_common_sets_are_counted_over_facts():
    sizes = likn_sizes(edit(THREE)[0])
    assert sizes.columns.tolist() == ["model", "pair", "size", "n", "share"]
    of_chinese = rows_of(sizes, pair="en-zh")[["size", "n", "share"]]
    assert of_chinese.values.tolist() == [[0, 2, 0.5], [1, 1, 0.25], [2, 1, 0.25]]
    assert rows_of(sizes, pair="en-fi")[["size", "n"]].values.tolist() == [[0, 2], [1, 3]]
    assert sizes.groupby("pair")["share"].sum().tolist() == [1.0, 1.0, 1.0]


def test_size_0_has_a_row_where_no_fact_is_without_common_neurons():
    rows, _ = edit()
    sizes = likn_sizes(rows[rows["n_likn"] > 0])
    assert sizes[["size", "n", "share"]].values.tolist() == [[0, 0, 0.0], [1, 1, 0.5], [2, 1, 0.5]]
