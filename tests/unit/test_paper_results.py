"""Printed numbers: typed once, judged by checks that know rounding, and beside ours without inventing any."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from knatlas.catalog import read_catalog
from knatlas.errors import AtlasError
from knatlas.statistics import printed_cells
from knatlas.statistics.paper_comparison import COMPARISON_COLUMNS, compare_paper, for_reading
from knatlas.statistics.printed_cells import PAPERS, PrintedCell, compared_tables, paper_results, read_cells
from knatlas.statistics.printed_checks import FORMULAS, JUDGES, check_cells, check_paper

SIZES = {"amig": 121, "matrice": 1041, "localization": 157}
TABLES = {
    *("amig_table1", "amig_table2", "amig_table3", "matrice_table1", "matrice_table2", "matrice_table3"),
    *("matrice_table4", "matrice_table5", "matrice_enhancement", "localization_table2", "localization_table3"),
    *("localization_relations", "localization_perturbation", "localization_context_gain"),
}


# What is typed.


@pytest.mark.parametrize("paper", PAPERS)
def test_every_number_is_typed_once_and_has_a_table_and_a_place_in_it(paper):
    cells = read_cells(paper)
    spots = [(cell.table, cell.where, cell.row, cell.column, tuple(cell.keys.values())) for cell in cells]
    assert len(cells) == len(set(spots)) == SIZES[paper]
    assert all(cell.table and cell.unit and (cell.row or cell.column) for cell in cells)
    keys = [(cell.place, *cell.keys.items()) for cell in cells]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("paper", PAPERS)
def test_models_and_languages_are_those_of_the_catalog_and_every_model_has_a_family(paper):
    cells, families = read_cells(paper), paper_results(paper)["models"]
    assert (
        {cell.keys["model"] for cell in cells if "model" in cell.keys} <= set(families) <= set(read_catalog("models"))
    )
    assert {cell.keys["language"] for cell in cells if "language" in cell.keys} <= {"all", *read_catalog("languages")}


@pytest.mark.parametrize("paper", PAPERS)
def test_every_place_says_which_table_of_ours_it_stands_beside_or_why_none(paper):
    for name, place in paper_results(paper)["places"].items():
        assert ("ours" in place) != ("why_not" in place), name


def test_numbers_stand_beside_fourteen_tables_of_ours():
    assert compared_tables() == sorted(TABLES)


def test_what_can_not_be_read_shows_the_text_and_has_no_number():
    illegible = [cell for paper in PAPERS for cell in read_cells(paper) if not cell.is_legible]
    assert {cell.table for cell in illegible} == {"Table V"} and len(illegible) == 119
    assert all(cell.text == "" for cell in illegible)
    shown = {cell.shows for cell in illegible if cell.keys["language"] == "en" and cell.keys["model"] == "mgpt"}
    assert shown == {"75.26 94.37", "76.43 87.21", "76.35 91.29 (†14.94)"}
    assert all(cell.shows == "" for paper in PAPERS for cell in read_cells(paper) if cell.is_legible)


def test_a_number_keeps_the_decimals_that_are_printed():
    texts = {cell.text for place in ("table3", "table3_text") for cell in read_cells("amig", place)}
    assert {"0.010", "1.000", "0.97", "0.0002", "167150"} <= texts
    assert {"6.91e-14", "-0.93"} <= {cell.text for cell in read_cells("localization", "figure3")}
    assert "4.80e-15" in {cell.text for cell in read_cells("localization", "figure4")}
    assert "1031725" in {cell.text for cell in read_cells("localization", "sentences")}
    full = next(cell for cell in read_cells("matrice", "table5") if cell.value == 100)
    assert full.text == "100" and full.bounds == (99.5, 100.5)


def test_a_line_that_is_too_short_is_a_sentence(monkeypatch):
    place = {
        "table": "T",
        "unit": "count",
        "rows": ["model"],
        "columns": {"language": ["en", "zh"]},
        "cells": [["a", 1]],
    }
    monkeypatch.setattr(printed_cells, "read_catalog", lambda name: {"labels": {}, "places": {"short": place}})
    with pytest.raises(AtlasError, match=r"the line \['a', 1\] has 2 entries; expected 1 for its row \(model\) and 2"):
        read_cells("amig", "short")


# What the papers' own numbers say of each other.


def judged(paper, **keys):
    """The verdicts on the numbers of a place with these keys."""
    wanted = keys.items()
    return [
        (cell, verdict)
        for cell, verdict in check_paper(paper).items()
        if wanted <= {"place": cell.place, **cell.keys}.items()
    ]


def test_labels_of_fact_checking_can_not_be_right_for_the_baseline():
    for place in ("table3", "table3_two_decimals"):
        found = judged("amig", place=place, detector="argmax", statistic="precision")
        assert len(found) == 6
        for _, (verdict, why) in found:
            assert verdict == "inconsistent" and why.endswith("with P and R exchanged both are possible")


def test_editing_in_sequence_beats_common_neurons_in_english():
    verdicts = {cell.keys["language"]: verdict for cell, verdict in judged("amig", place="table2", method="likn")}
    assert verdicts["en"].verdict == "inconsistent" and verdicts["en"].why.endswith("English, Seq-KN has 4.29")
    assert verdicts["zh"].verdict == "consistent"


def test_gains_that_come_from_numbers_before_rounding_are_not_called_wrong():
    for place in (
        "table1_gains",
        "table1_text",
        "table2_text_gains",
        "table2_text_losses",
        "table3_gains",
        "table3_text",
    ):
        found = judged("amig", place=place)
        assert found and {verdict.verdict for _, verdict in found} == {"consistent"}, place


def test_one_printed_gain_of_erasure_is_not_the_difference_of_its_averages():
    found = {cell.row: verdict for cell, verdict in judged("matrice", place="table3_gains")}
    assert found.pop("mBERT, Gen.") == ("inconsistent", "the difference of its parts is 12.11")
    assert len(found) == 11 and {verdict.verdict for verdict in found.values()} == {"consistent"}
    for place, size in (("table4_gains", 12), ("table3_text", 1), ("table4_text", 1), ("table5_text", 2)):
        verdicts = [verdict.verdict for _, verdict in judged("matrice", place=place)]
        assert verdicts == ["consistent"] * size


def test_averages_over_languages_hold_and_three_are_repeated_from_another_experiment():
    for place in ("table3", "table4"):
        averages = [(cell, verdict) for cell, verdict in judged("matrice", place=place, language="all")]
        assert len(averages) == 36 and not any(verdict.verdict == "inconsistent" for _, verdict in averages)
    repeated = [cell for cell, verdict in averages if "although all 7 numbers" in verdict.why]
    assert [(cell.keys["model"], cell.keys["selection"], cell.value) for cell in repeated] == [
        ("llama-2-7b", "likn", 47.40),
        ("llama-3-8b", "likn", 50.29),
        ("mbert", "likn", 35.86),
    ]


def test_half_of_the_averages_of_injection_are_half_a_point_too_high():
    cells = {(cell.place, *map(str, cell.keys.values())): cell for cell in read_cells("matrice")}
    excesses = []
    for cell, verdict in judged("matrice", place="table5_averages"):
        names = [cell.keys[name] for name in ("language", "selection", "model")]
        parts = [cells["table5", *names, statistic] for statistic in ("q_new", "q_old")]
        if not all(each.is_legible for each in [cell, *parts]):
            # a gain over AMIG may hold all the same
            assert verdict.verdict != "inconsistent"
            continue
        excesses.append(cell.value - np.mean([part.value for part in parts]))
        assert (verdict.verdict == "inconsistent") == (excesses[-1] > 0.4)
        assert min(abs(excesses[-1]), abs(excesses[-1] - 0.5)) < 0.0051
    assert len(excesses) == 68 and sum(excess > 0.4 for excess in excesses) == 34


def test_locality_and_relations_are_doubtful():
    found = [
        *judged("matrice", place="table3", statistic="locality"),
        *judged("matrice", place="table1", statistic="relations"),
    ]
    assert len(found) == 96 + 8 and {verdict.verdict for _, verdict in found} == {"doubtful"}
    assert [verdict.verdict for _, verdict in judged("matrice", place="table1_text")] == ["consistent"]


def test_s_is_the_harmonic_mean_but_in_four_rows_and_the_typed_doubts_say_the_same():
    found = judged("localization", place="table3", statistic="S")
    wrong = {(cell.row, verdict.why[-4:]) for cell, verdict in found if verdict.verdict == "inconsistent"}
    assert wrong == {("GPT-2, ROME", "83.8"), ("GPT-2, CN", "36.3"), ("GPT-2 Medium, ROME", "68.0")} | {
        ("GPT-2 Medium, ROME Last", "32.9")
    }
    for cell, verdict in found:
        assert (verdict.verdict == "inconsistent") == ("harmonic mean" in cell.doubt)
        assert "harmonic mean" not in cell.doubt or verdict.why == cell.doubt


def test_parentheses_called_intervals_are_standard_deviations_but_in_two_rows():
    found = [
        (cell, verdict)
        for cell, verdict in judged("localization", place="table3_parentheses", statistic="ES")
        if cell.value > 0
    ]
    assert {verdict.verdict for _, verdict in found} == {"inconsistent"}
    is_deviation = {cell.row: verdict.why.endswith(f"(the standard deviation: {cell.text})") for cell, verdict in found}
    assert Counter(is_deviation.values()) == {True: 5, False: 2}
    assert not is_deviation["GPT-2 Medium, the model"] and not is_deviation["GPT-2 Medium, ROME Last"]


def test_sentences_of_the_five_marks_are_not_all():
    ((_, verdict),) = judged("localization", place="sentences", mark="all")
    assert verdict == ("doubtful", "its parts sum to 869807; 161918 are not accounted for")


def test_an_editor_that_is_said_to_change_nothing_changes_the_neighbours():
    found = {cell.keys["statistic"]: verdict for cell, verdict in judged("localization", place="table3", editor="cne")}
    assert [name for name, verdict in found.items() if verdict.verdict == "inconsistent"] == ["S", "NS"]
    assert found["NS"].why == "CN leaves every probability as it was, but GPT-2, the model has 70.8"


# The checks themselves, on hand-made numbers.


def cell(name, value, decimals=1, place="made", shows=""):
    return PrintedCell("amig", place, "Table", "", name, "", "ratio", decimals, value, shows, keys={"name": name})


def verdict_on(value, parts, kind, decimals=1, **settings):
    cells = [cell("whole", value, decimals), *(cell(f"part{i}", part, decimals) for i, part in enumerate(parts))]
    named = [{"name": f"part{i}"} for i in range(len(parts))]
    check = {
        "kind": kind,
        "cells": {"name": "whole"},
        "parts": named,
        "claim": "it is so",
        "why": "it is odd",
        **settings,
    }
    if kind in FORMULAS:
        check.pop("claim")
    return check_cells(cells, [check])[cells[0]]


@pytest.mark.parametrize(
    ("kind", "right", "wrong", "parts"),
    [
        ("mean", 1.6, 1.7, (1.0, 2.0)),  # 1.55 rounds from 1.05 and 2.05; 1.65 from nothing
        ("harmonic_mean", 1.4, 1.5, (1.0, 2.0)),
        ("difference", 0.9, 0.8, (2.0, 1.0)),
        ("gain", 1.2, 1.5, (2.0, 1.0)),
        ("percent_gain", 110.0, 120.0, (2.0, 1.0)),
        ("percent_loss", 46.5, 46.0, (2.0, 1.0)),
        ("percent_of", 83.0, 86.0, (0.8,)),
        ("f1", 0.5, 0.3, (0.5, 0.5)),
        ("same", 0.6, 0.7, (0.5,)),
        ("above", 0.6, 0.5, (0.5,)),
        ("precision", 0.5, 0.4, (0.9,)),
        ("exceeded", 2.0, 3.0, (1.0, 2.0)),
    ],
)
def test_a_check_allows_for_rounding_and_no_more(kind, right, wrong, parts):
    assert verdict_on(right, parts, kind).verdict == "consistent"
    assert verdict_on(wrong, parts, kind).verdict == "inconsistent" and verdict_on(wrong, parts, kind).why


def test_every_kind_of_check_is_tried_or_used():
    used = {check["kind"] for paper in PAPERS for check in paper_results(paper)["checks"]}
    assert used == {*FORMULAS, *JUDGES, "repeated"}


def test_a_sum_may_lack_a_part_but_not_exceed_the_whole():
    verdicts = [verdict_on(value, (1, 2), "whole", decimals=0).verdict for value in (3, 4, 2)]
    assert verdicts == ["consistent", "doubtful", "inconsistent"]


@pytest.mark.parametrize(("half", "verdict"), [(3.1, "consistent"), (50.0, "inconsistent"), (1.0, "inconsistent")])
def test_the_interval_of_a_share_is_known(half, verdict):
    assert verdict_on(half, (50.0,), "interval", records=1000, least=0, is_binary=True).verdict == verdict


@pytest.mark.parametrize(("half", "verdict"), [(1.0, "not checkable"), (3.1, "not checkable"), (3.3, "inconsistent")])
def test_of_other_means_only_the_largest_interval_is_known(half, verdict):
    assert verdict_on(half, (50.0,), "interval", records=1000, least=0).verdict == verdict


def test_a_check_that_holds_speaks_for_the_parts_and_one_that_fails_does_not():
    check = {"kind": "same", "cells": {"name": "one"}, "parts": [{"name": "two"}]}
    for value, expected in ((1.0, ["consistent", "consistent"]), (2.0, ["inconsistent", "not checkable"])):
        found = check_cells([cell("one", 1.0), cell("two", value)], [check])
        assert [verdict.verdict for verdict in found.values()] == expected


def test_the_worst_verdict_stays_and_equal_ones_keep_both_reasons():
    cells = [cell("one", 1.0), cell("two", 1.0), cell("three", 3.0)]
    checks = [
        {"kind": "same", "cells": {"name": "one"}, "parts": [{"name": "three"}]},
        {"kind": "above", "cells": {"name": "one"}, "parts": [{"name": "two"}], "claim": "one is more"},
        {"kind": "same", "cells": {"name": "one"}, "parts": [{"name": "two"}]},
    ]
    found = check_cells(cells, checks)[cells[0]]
    assert found == ("inconsistent", "the same number elsewhere is 3.0; one is more, but two has 1.0")


def test_what_can_not_be_read_is_not_checked():
    check = {"kind": "same", "cells": {"name": "one"}, "parts": [{"name": "two"}]}
    found = check_cells([cell("one", 1.0), cell("two", None, shows="1 2")], [check])
    assert {verdict.verdict for verdict in found.values()} == {"not checkable"}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"parts": [{"name": "three"}]}, r"names the part \{'name': 'three'\}; made has no such cell"),
        ({"kind": "means"}, r"a check's kind is 'means'; .*Did you mean 'mean'\?"),
    ],
)
def test_mistakes_in_checks_are_sentences(change, sentence):
    check = {"kind": "same", "cells": {"name": "one"}, "parts": [{"name": "two"}], **change}
    with pytest.raises(AtlasError, match=sentence):
        check_cells([cell("one", 1.0), cell("two", 1.0)], [check])


# Ours beside them.


def success_rates(**values):
    """A table like amig_table1.csv: values[model] = (of bkn, of amig), in English, intervals of 1 to both sides."""
    rows = [
        {
            "model": model.replace("_", "-"),
            "language": "en",
            "selection": selection,
            "reading": reading,
            "statistic": "sr",
        }
        | {"value": value, "lo": value - 1, "hi": value + 1, "n": 24}
        for model, pair in values.items()
        for selection, value in zip(("bkn", "amig"), pair, strict=True)
        for reading in ("default", "code")
    ]
    return pd.DataFrame(rows)


def beside(paper, name, frame, /, **keys):
    compared = compare_paper(paper, {name: frame}, "mine")
    for column, value in keys.items():
        compared = compared[compared[column] == value]
    return compared


def test_the_papers_own_model_stands_alone_beside_its_numbers():
    frame = success_rates(mbert=(3.0, 5.0), tiny_bert=(1.0, 9.0))
    found = beside("amig", "amig_table1", frame, model="mbert", language="en", table="Table 1", where="")
    assert found["our_model"].tolist() == ["mbert"] * 2 and found["is_same_model"].tolist() == [True] * 2
    assert found[["printed", "ours", "lo", "hi", "n"]].values.tolist() == [
        ["3.94", 3.0, 2.0, 4.0, 24],
        ["4.04", 5.0, 4.0, 6.0, 24],
    ]
    np.testing.assert_allclose(found["difference"], [-0.94, 0.96])
    assert found["agrees_in_direction"].tolist() == ["", "yes"]
    assert set(found["source"]) == {"amig_table1.csv reading=default"} and set(found["study"]) == {"mine"}
    assert set(found["why_not"]) == {""}


@pytest.mark.parametrize(("amig", "direction"), [(9.0, "yes"), (1.0, "no"), (3.5, "unclear"), (2.5, "unclear")])
def test_embedded_models_of_the_family_stand_in_and_say_so(amig, direction):
    frame = success_rates(tiny_bert=(3.0, amig), smoke_bert=(3.0, amig), tiny_gpt2=(1.0, 1.0), tiny_bert_en=(1.0, 1.0))
    found = beside("amig", "amig_table1", frame, model="mbert", row="English, AMIG (Ours)", where="")
    assert found["our_model"].tolist() == ["tiny-bert", "smoke-bert"]
    assert found["is_same_model"].tolist() == [False, False]
    assert found["agrees_in_direction"].tolist() == [direction] * 2


@pytest.mark.parametrize("paper", PAPERS)
def test_a_missing_table_is_said_and_nothing_is_invented(paper):
    found = compare_paper(paper, {}, "mine")
    assert found.columns.tolist() == COMPARISON_COLUMNS and len(found) == SIZES[paper]
    assert found[["ours", "lo", "hi", "n", "difference"]].isna().all(axis=None)
    places = paper_results(paper)["places"]
    expected = [
        places[cell.place].get("why_not")
        or f"{places[cell.place]['ours']['table']}.csv is not among this study's tables"
        for cell in read_cells(paper)
    ]
    assert found["why_not"].tolist() == expected


def test_a_missing_row_model_or_value_is_said():
    frame = success_rates(tiny_bert=(3.0, np.nan))
    found = beside("amig", "amig_table1", frame, table="Table 1", where="").set_index(["model", "row"])
    assert found["why_not"].to_dict() == {
        ("mbert", "English, B-KN"): "",
        ("mbert", "English, AMIG (Ours)"): "amig_table1.csv has the row, but nothing could be measured",
        ("mbert", "Chinese, B-KN"): "amig_table1.csv has no row with language=zh",
        ("mbert", "Chinese, AMIG (Ours)"): "amig_table1.csv has no row with language=zh",
    } | {
        ("mgpt", row): "this study has neither mgpt nor an embedded model of its family"
        for row in ("English, B-KN", "English, AMIG (Ours)", "Chinese, B-KN", "Chinese, AMIG (Ours)")
    }
    assert found["ours"].notna().sum() == 1 and set(found["agrees_in_direction"]) <= {"", np.nan}


def test_several_rows_are_no_counterpart_unless_the_catalog_takes_the_first():
    frame = success_rates(tiny_bert=(3.0, 4.0))
    found = beside("amig", "amig_table1", pd.concat([frame, frame]), model="mbert", language="en", where="")
    assert set(found["why_not"][:2]) == {"amig_table1.csv has 2 rows for it"} and found["ours"].isna().all()
    row = {
        "model": "tiny-gpt2",
        "selection": "random",
        "language": "en",
        "statistic": "q_old",
        "lo": 1,
        "hi": 9,
        "n": 5,
    }
    rates = pd.DataFrame([{**row, "learning_rate": rate, "value": value} for rate, value in ((0.001, 7), (0.01, 8))])
    found = beside("matrice", "matrice_table5", rates, row="en, Random", column="mGPT, Qold", model="mgpt")
    assert found[["printed", "ours", "n"]].values.tolist() == [["64.27", 7.0, 5.0]]


def test_a_number_that_can_not_be_read_has_ours_but_no_difference():
    row = {
        "model": "mgpt",
        "selection": "matrice",
        "language": "en",
        "statistic": "q_new",
        "value": 7,
        "lo": 1,
        "hi": 9,
    }
    found = beside("matrice", "matrice_table5", pd.DataFrame([{**row, "n": 5}]), row="en, MATRICE (Ours)", model="mgpt")
    first = found.iloc[0]
    assert (first["printed"], first["shows"], first["ours"]) == ("", "75.26 94.37", 7)
    assert np.isnan(first["difference"]) and first["agrees_in_direction"] == ""
    assert for_reading(found).empty


def test_a_stand_in_has_its_own_neurons_and_the_papers_model_those_that_are_printed():
    rows = [
        {"model": model, "reading": "default", "mark": ".", "layer": layer, "index": index, "rank": rank}
        | {"statistic": "level", "value": level, "lo": np.nan, "hi": np.nan, "n": 40}
        for model, layer, index, rank, level in [
            *(("tiny-bert-en", 1, 425, 1, 0.7), ("tiny-bert-en", 0, 122, 2, 0.6)),
            *(("gpt2", 9, 831, 3, 0.8), ("gpt2", 2, 5, 1, 1.0)),
        ]
    ]
    found = beside("localization", "localization_table2", pd.DataFrame(rows), table="Table 2")
    found = found[found["ours"].notna()]
    assert found[["our_model", "printed", "ours"]].values.tolist() == [
        ["tiny-bert-en", "0.90", 0.7],
        ["gpt2", "0.90", 0.8],
    ]
    assert found["source"].iat[0] == "localization_table2.csv reading=default rank=1"


def test_standard_deviations_stand_beside_the_parentheses_without_an_interval():
    row = {"model": "gpt2", "editor": "rome", "statistic": "PM", "value": 70.0, "lo": 60, "hi": 80, "sd": 30.0, "n": 24}
    found = beside("localization", "localization_table3", pd.DataFrame([row]), row="GPT-2, ROME", column="PM")
    assert found["measure"].tolist() == ["PM", "PM (standard deviation)"]
    assert found["ours"].tolist() == [70.0, 30.0] and found["lo"].isna().tolist() == [False, True]
    assert found["source"].tolist() == ["localization_table3.csv", "localization_table3.csv sd"]


def test_shares_of_ours_become_the_percent_of_the_print():
    row = {"model": "tiny-gpt2-en", "language": "en", "relation": "all", "statistic": "relative_change", "value": -0.1}
    frame = pd.DataFrame([{**row, "lo": -0.2, "hi": -0.05, "n": 24}])
    found = beside("localization", "localization_context_gain", frame, table="Section 3.2").iloc[0]
    assert [found[name] for name in ("printed", "ours", "lo", "hi", "n")] == ["50", -10.0, -20.0, -5.0, 24]
    assert found["agrees_in_direction"] == "no"


def test_people_read_the_rows_with_both_numbers():
    shown = for_reading(beside("amig", "amig_table1", success_rates(tiny_bert=(3.0, 4.0))))
    assert shown["ours"].tolist() == ["3 (2 to 4)", "4 (3 to 5)"]
    assert shown["our_model"].tolist() == ["tiny-bert"] * 2 and shown["verdict"].tolist() == ["consistent"] * 2


def test_a_column_that_our_table_lacks_is_a_sentence():
    frame = success_rates(tiny_bert=(3.0, 4.0)).drop(columns="reading")
    with pytest.raises(AtlasError, match="a key is 'reading'; expected a column of the table"):
        compare_paper("amig", {"amig_table1": frame}, "mine")
