"""Tests of what the figures show: which differences are taken, and what p they have."""

import numpy as np
import pandas as pd
import pytest

from knatlas.errors import AtlasError
from knatlas.statistics.significance import (
    SIGNIFICANCE_COLUMNS,
    contrast_pairs,
    figure_values,
    significance_table,
)

FACTS = ["a", "b", "c", "d"]
FOUND = [0.3, 0.1, 0.5, 0.2]  # P after, from 0.5, of each fact's first query


def measurement(fact, p_after, probe="own", selection="matrice", draw=0, query=0, **others):
    row = {"model": "m", "selection": selection, "draw": draw, "language": "en", "fact": fact, "relation": "P1"}
    row |= {"probe": probe, "probed_fact": fact if probe == "own" else "z", "query": query, "operation": "suppress"}
    row |= {"n_neurons": 2, "p_before": 0.5, "p_after": p_after, "is_right_before": True}
    return row | {"is_right_after": p_after >= 0.35} | others


def measured():
    """Four facts, two draws of random neurons, and other facts that stay as they are."""
    rows = [measurement(fact, p) for fact, p in zip(FACTS, FOUND, strict=True)]
    for fact in FACTS:
        rows += [measurement(fact, p, selection="random_layer_matched", draw=i) for i, p in enumerate((0.375, 0.625))]
        rows += [measurement(fact, 0.5, probe="other_relation"), measurement(fact, 0.4, selection="amig")]
    return pd.DataFrame(rows)


def lines_from(figure, rows, selections=("matrice",)):
    table = significance_table({figure: contrast_pairs(figure_values(figure, rows), list(selections), "matrice")})
    return table.set_index(["selection", "language", "statistic", "contrast"]), table


def test_figure_5_is_tested_fact_by_fact_against_the_mean_of_the_draws():
    by_key, table = lines_from("matrice_figure5", measured())
    assert list(table.columns) == SIGNIFICANCE_COLUMNS
    line = by_key.loc["matrice", "en", "relative_change", "random_layer_matched"]
    # changes -0.4 -0.8 0 -0.6, those of the draws -0.25 and 0.25: three differences, all of one sign
    assert line["value"] == pytest.approx(-0.45)
    assert (line["n"], line["n_nonzero"], line["p"], line["method"]) == (4, 3, 2 / 8, "exact 8")
    assert line["lo"] <= line["value"] <= line["hi"]
    same = by_key.loc["matrice", "en", "relative_change", "other_relation"]
    assert (same["value"], same["p"]) == (pytest.approx(-0.45), 2 / 8)


def test_lost_answers_are_tested_beside_the_change_of_probability():
    by_key, _ = lines_from("matrice_figure5", measured())
    lost = by_key.loc["matrice", "en", "is_lost", "random_layer_matched"]
    assert (lost["value"], lost["n_nonzero"], lost["p"]) == (0.75, 3, 2 / 8)
    assert by_key.loc["matrice", "en", "is_gained", "random_layer_matched"]["p"] == 1.0


def test_families_are_the_tests_of_one_figure_and_statistic():
    _, table = lines_from("matrice_figure5", measured())
    change = table[table["statistic"] == "relative_change"]
    assert set(change["n_tests"]) == {len(change)} == {4}  # two languages, en and all, and two contrasts
    assert change["p_holm"].tolist() == [1.0] * 4


def test_a_selection_that_is_the_control_itself_is_not_significant():
    rows = measured()
    twin = rows[(rows["selection"] == "random_layer_matched") & (rows["draw"] == 0)]
    rows = pd.concat([rows[rows["selection"] != "matrice"], twin.assign(selection="matrice"), twin.assign(draw=1)])
    rows = rows[~((rows["selection"] == "random_layer_matched") & (rows["p_after"] > 0.5))]
    by_key, _ = lines_from("matrice_figure5", rows)
    line = by_key.loc["matrice", "en", "relative_change", "random_layer_matched"]
    assert (line["value"], line["n_nonzero"], line["p"]) == (0.0, 0, 1.0)


def test_random_neurons_of_another_number_are_named_so():
    _, table = lines_from("matrice_figure5", measured(), ["matrice", "amig"])
    assert set(table.loc[table["selection"] == "amig", "contrast"]) == {"random_unmatched"}


def test_rank_is_the_share_of_draws_exceeded_less_a_half_and_p_needs_19_draws():
    by_key, table = lines_from("matrice_figure5", measured())
    # sizes 0.4 0.8 0 0.6 against 0.25 and 0.25: all but one fact lie above both draws
    assert by_key.loc["matrice", "en", "size_rank", "random_layer_matched"]["value"] == pytest.approx(0.25)
    assert "size_extreme" not in set(table["statistic"])
    rows = measured()
    draws = [rows] + [
        rows[(rows["selection"] == "random_layer_matched") & (rows["draw"] == 0)].assign(draw=i) for i in range(2, 19)
    ]
    by_key, _ = lines_from("matrice_figure5", pd.concat(draws))
    extreme = by_key.loc["matrice", "en", "size_extreme", "random_layer_matched"]
    assert extreme["value"] == pytest.approx(0.75 - 0.05)


def test_table_1_takes_first_queries_and_both_changes():
    rows = pd.concat([measured(), pd.DataFrame([measurement(fact, 5.0, query=3) for fact in FACTS])])
    rows = pd.concat([rows, pd.DataFrame([measurement("e", 0.1, p_before=0.0)])])  # no relative change is defined
    by_key, _ = lines_from("amig_table1", rows)
    relative, absolute = (
        by_key.loc["matrice", "en", name, "other_relation"] for name in ("relative_change", "absolute_change")
    )
    assert (relative["value"], absolute["value"]) == (pytest.approx(-0.45), pytest.approx(-0.225))
    assert relative["n"] == 4


def test_localization_leaves_out_empty_sets_and_is_in_percentage_points():
    rows = measured()
    rows.loc[rows["fact"] == "d", "n_neurons"] = 0
    rows = pd.concat([rows, rows.assign(operation="enhance", p_after=0.5)])
    by_key, _ = lines_from("localization_figure3", rows)
    line = by_key.loc["matrice", "en", "difference", "unrelated"]
    assert (line["value"], line["n"]) == (pytest.approx(-20.0), 3)  # -20 -40 0, the fact without neurons left out


def test_figure_6_counts_answers_among_queries_that_were_wrong():
    rows = pd.DataFrame(
        [
            measurement(fact, 0.5, selection=name, query=query, is_right_before=query == 0, is_right_after=is_right)
            for fact in FACTS
            for name, answers in (("matrice", (True, True, False)), ("random", (True, False, False)))
            for query, is_right in enumerate(answers)
        ]
    ).drop(columns="probe")
    by_key, _ = lines_from("matrice_figure6", rows)
    line = by_key.loc["matrice", "en", "accuracy_on_wrong", "random"]
    assert (line["value"], line["p"]) == (0.5, 2 / 16)
    assert by_key.loc["matrice", "all", "lost_on_right", "random"]["value"] == 0.0


def test_a_figure_without_tests_is_a_sentence():
    with pytest.raises(AtlasError, match="matrice_figure5"):
        figure_values("matrice_figure55", measured())


def test_no_controls_give_an_empty_table():
    rows = measured()
    rows = rows[(rows["selection"] == "matrice") & (rows["probe"] == "own")]
    _, table = lines_from("matrice_figure5", rows)
    assert table.empty
    assert list(table.columns) == SIGNIFICANCE_COLUMNS
    assert np.isnan(table["p"].mean())


def edit(fact, probe, is_lost, selection="matrice", **others):
    """A query that was answered rightly before an erasure; for locality: whether the answer is another one."""
    row = {"model": "m", "selection": selection, "draw": 0, "operation": "erase", "scope": "single", "fact": fact}
    row |= {"language": "en", "probe": probe, "n_neurons": 1, "n_edited": 1, "object": "o", "is_in_sample": False}
    row |= dict.fromkeys(("p_old_before", "p_old_after", "p_new_before", "p_new_after"), 0.5)
    row |= {"is_same_as_english": True, "is_old_before": True, "is_old_after": not is_lost}
    return row | {"is_new_before": False, "is_new_after": False, "is_unchanged": not is_lost} | others


def edited():
    """Four facts: found neurons lose each answer, random ones of the same layers one of two draws; the rest stays."""
    rows = [edit(fact, "reliability", True) for fact in FACTS] + [edit(fact, "locality", False) for fact in FACTS]
    for draw in (0, 1):
        for fact in FACTS:
            rows.append(edit(fact, "reliability", draw == 0, "random_layer_matched", draw=draw))
            rows.append(edit(fact, "locality", False, "random_layer_matched", draw=draw))
    return pd.DataFrame(rows)


def test_erasures_are_tested_against_the_mean_of_the_random_draws():
    by_key, table = lines_from("matrice_table3", edited())
    lost = by_key.loc["matrice", "en", "reliability", "random_layer_matched"]
    assert (lost["value"], lost["n"], lost["p"]) == (50.0, 4, 2 / 16)
    kept = by_key.loc["matrice", "all", "locality", "random_layer_matched"]
    assert (kept["value"], kept["n_nonzero"], kept["p"]) == (0.0, 0, 1.0)
    assert set(table["operation"]) == {"erase"}
    assert "generality" not in set(table["statistic"])  # no such query was asked


def test_updates_count_the_new_object_and_facts_edited_together_are_apart():
    rows = edited().assign(operation="update")
    rows["is_new_after"] = (rows["selection"] == "matrice") & (rows["fact"] != "a")
    rows = pd.concat([rows, rows.assign(scope="batch", is_new_after=False), edited()])
    _, table = lines_from("matrice_table4", rows)
    values = table[table["statistic"] == "reliability"].set_index(["operation", "language"])["value"]
    assert values["update", "en"] == 75.0
    assert values["update_batch", "en"] == 0.0
    assert set(table["operation"]) == {"update", "update_batch"}


def test_edits_of_one_table_and_statistic_are_a_family():
    rows = edited()
    likn = rows[rows["selection"] == "matrice"].assign(selection="likn")
    _, table = lines_from("matrice_table3", pd.concat([rows, likn]), ["matrice", "likn"])
    lost = table[table["statistic"] == "reliability"]
    assert set(lost["contrast"]) == {"random_layer_matched", "random_unmatched"}
    assert (lost["n_tests"] == 4).all()  # two selections, in en and in all languages
    assert lost["p_holm"].tolist() == [4 * 2 / 16] * 4
