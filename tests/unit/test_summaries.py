"""Summaries of manipulation rows: by hand, over draws and languages, with empty sets and tiny probabilities."""

import numpy as np
import pandas as pd
import pytest

from knatlas.statistics.separation import SEPARATION_COLUMNS, separate_controls
from knatlas.statistics.summaries import SENSITIVITY, SUMMARY_COLUMNS, summarise_by_relation, summarise_manipulation


def row(fact, p_before, p_after, **changes):
    return {
        "model": "tiny",
        "selection": "matrice",
        "draw": 0,
        "language": "en",
        "fact": fact,
        "relation": "P1",
        "probe": "own",
        "probed_fact": fact,
        "query": 0,
        "operation": "suppress",
        "n_neurons": 2,
        "p_before": p_before,
        "p_after": p_after,
        "is_right_before": p_before > 0.3,
        "is_right_after": p_after > 0.3,
        **changes,
    }


# fact a: changes -.5 and -1, fact b: +1
ROWS = [row("a", 0.8, 0.4), row("a", 0.4, 0.0, query=1), row("b", 0.2, 0.4)]


def summary(rows, **settings):
    return summarise_manipulation(pd.DataFrame(rows), resamples=200, **settings)


def pick(table, statistic="mean_relative_change", language="en", subset="all", min_p_before=0.0, **values):
    fixed = {"statistic": statistic, "language": language, "subset": subset, "min_p_before": min_p_before, **values}
    for column, value in fixed.items():
        table = table[table[column] == value]
    assert len(table) == 1
    return table.iloc[0]


@pytest.mark.parametrize(
    ("statistic", "value"),
    [
        ("mean_relative_change", 0.125),  # (-.75 + 1) / 2
        ("median_relative_change", 0.125),
        ("ratio_of_means", (-0.4 + 0.2) / 2 / ((0.6 + 0.2) / 2)),
        ("argmax_flips", 0.75),  # a: one of two, b: one of one
        ("argmax_lost", 0.25),
        ("argmax_gained", 0.5),
    ],
)
def test_statistics_by_hand(statistic, value):
    line = pick(summary(ROWS), statistic)
    assert line["value"] == pytest.approx(value)
    assert line["lo"] <= line["value"] <= line["hi"]
    assert (line["n"], line["n_empty"], line["n_neurons"], line["n_excluded"]) == (2, 0, 2.0, 0)


def test_log_ratio_by_hand():
    rows = [row("a", 0.8, 0.4), row("a", 0.4, 0.1, query=1), row("b", 0.2, 0.4)]
    assert pick(summary(rows), "mean_log_ratio")["value"] == pytest.approx((-1.5 * np.log(2) + np.log(2)) / 2)


def test_a_probability_that_vanishes_has_a_finite_logarithm():
    of_a = (np.log(0.5) + np.log(np.finfo(np.float32).tiny / 0.4)) / 2
    assert pick(summary(ROWS), "mean_log_ratio")["value"] == pytest.approx((of_a + np.log(2)) / 2)


def test_columns_and_rows_without_a_second_thought():
    table = summary(ROWS)
    assert table.columns.tolist() == SUMMARY_COLUMNS
    assert not table.duplicated(SUMMARY_COLUMNS[:8]).any()


def test_median_forgets_an_outlier_which_the_mean_does_not():
    rows = [row(f"f{i}", 0.5, 0.4) for i in range(4)] + [row("f4", 1e-3, 1.0)]
    table = summary(rows)
    assert pick(table, "median_relative_change")["value"] == pytest.approx(-0.2)
    assert pick(table)["value"] == pytest.approx((4 * -0.2 + 999) / 5)


def test_tiny_probabilities_are_shown_as_sensitivity():
    rows = [row("a", 0.5, 0.4), row("b", 1e-9, 1.0), row("c", 0.0, 0.5)]
    table = summary(rows)
    everything, without = pick(table), pick(table, min_p_before=SENSITIVITY)
    assert everything["value"] == pytest.approx((1e9 - 1 - 0.2) / 2) and without["value"] == pytest.approx(-0.2)
    assert (everything["n"], everything["n_excluded"]) == (2, 1)  # nothing can be divided by a P of 0
    assert (without["n"], without["n_excluded"]) == (1, 2)
    stricter = pick(summary(rows, min_p_before=(0.6,)), min_p_before=0.6)
    assert np.isnan(stricter["value"]) and (stricter["n"], stricter["n_excluded"]) == (0, 3)


def test_all_languages_weigh_the_same_for_a_fact():
    rows = [row("a", 0.5, 0.25), row("a", 0.5, 0.25, query=1), row("a", 0.5, 1.0, language="fi"), row("b", 0.5, 0.5)]
    table = summary(rows)
    assert pick(table, language="all")["value"] == pytest.approx(0.125)  # a: (-.5 + 1) / 2, b: 0
    assert pick(table, language="fi")["n"] == 1 and pick(table, language="all")["n"] == 2


def test_empty_sets_count_and_can_be_left_out():
    rows = [row("a", 0.5, 0.25), row("b", 0.5, 0.5, n_neurons=0), row("b", 0.5, 0.25, language="fi")]
    table = summary(rows)
    everything, filled = pick(table), pick(table, subset="non_empty")
    assert (everything["value"], everything["n"], everything["n_empty"], everything["n_neurons"]) == (-0.25, 2, 1, 1.0)
    assert (filled["value"], filled["n"], filled["n_empty"], filled["n_neurons"]) == (-0.5, 1, 0, 2.0)
    assert pick(table, language="all")["n_empty"] == 0


def test_when_every_set_is_empty_nothing_is_left():
    filled = pick(summary([row("a", 0.5, 0.5, n_neurons=0)]), subset="non_empty")
    assert filled[["value", "lo", "hi", "n_neurons", "draw_min", "draw_max"]].isna().all() and filled["n"] == 0


def test_draws_are_averaged_and_their_range_is_given():
    rows = [row("a", 0.5, p_after, draw=draw, selection="random") for draw, p_after in enumerate([0.25, 0.5, 0.75])]
    line = pick(summary(rows + [row("b", 0.5, 0.5, draw=draw, selection="random") for draw in range(3)]))
    assert (line["value"], line["draw_min"], line["draw_max"], line["n"]) == (0.0, -0.25, 0.25, 2)
    assert line["lo"] == line["hi"] == 0.0  # draws of a fact don't count as facts


def test_one_draw_has_no_range():
    line = pick(summary(ROWS))
    assert line["draw_min"] == line["draw_max"] == line["value"]


def test_groups_stay_apart():
    rows = [
        row("a", 0.5, p_after, operation=operation, probe=probe, model=model)
        for model, scale in [("one", 1.0), ("two", 0.5)]
        for operation, probe, p_after in [
            ("suppress", "own", 0.1 * scale),
            ("enhance", "own", 0.9 * scale),
            ("suppress", "same_relation", 0.4 * scale),
        ]
    ]
    table = summary(rows)
    assert pick(table, model="one", operation="enhance", probe="own")["value"] == pytest.approx(0.8)
    assert pick(table, model="two", operation="suppress", probe="same_relation")["value"] == pytest.approx(-0.6)


def test_the_order_of_rows_does_not_matter():
    keys = SUMMARY_COLUMNS[:8]
    tables = [summary(rows).sort_values(keys, ignore_index=True) for rows in (ROWS, ROWS[::-1])]
    pd.testing.assert_frame_equal(*tables)


def found_and_controls(control_change, n_facts=20):
    """Found neurons halve P (with little spread); controls change it by `control_change`."""
    random = np.random.default_rng(0)
    rows = []
    for i in range(n_facts):
        rows.append(row(f"f{i}", 0.5, 0.25 + random.normal(0, 0.01)))
        rows.append(row(f"f{i}", 0.5, 0.48, probe="same_relation"))
        for draw in range(2):
            p_after = 0.5 * (1 + control_change) + random.normal(0, 0.001)
            rows.append(row(f"f{i}", 0.5, p_after, selection="random_layer_matched", draw=draw))
    return pd.DataFrame(rows)


def test_found_neurons_far_above_their_control_are_separated():
    table = separate_controls(found_and_controls(-0.01), resamples=500)
    assert table.columns.tolist() == SEPARATION_COLUMNS
    line = table[(table["control"] == "random_layer_matched") & (table["language"] == "all")].iloc[0]
    assert line["value"] == pytest.approx(-0.5, abs=0.01) and line["control_value"] == pytest.approx(-0.01, abs=0.001)
    assert line["ratio"] == pytest.approx(line["value"] / line["control_value"])
    assert line["ratio_lo"] < line["ratio"] < line["ratio_hi"] and (line["n"], line["control_n"]) == (20, 20)
    assert line["is_separated"]


def test_the_direction_of_the_control_does_not_matter():
    table = separate_controls(found_and_controls(+0.01), resamples=200)
    line = table[table["control"] == "random_layer_matched"].iloc[0]
    assert line["ratio"] == pytest.approx(50, rel=0.1) and line["is_separated"]


def test_a_ratio_below_ten_is_no_separation():
    table = separate_controls(found_and_controls(-0.1), resamples=200)
    assert not table[table["control"] == "random_layer_matched"]["is_separated"].any()


def test_random_changes_that_cancel_in_the_mean_are_no_separation():
    rows = [row(f"f{i}", 0.5, 0.25 + 0.001 * i) for i in range(20)]
    for draw, sign in enumerate((-1, 1)):
        rows += [
            row(f"f{i}", 0.5, 0.5 + sign * 0.05 + 1e-4, selection="random_layer_matched", draw=draw) for i in range(20)
        ]
    line = separate_controls(pd.DataFrame(rows), resamples=200).iloc[0]
    assert line["ratio"] > 1000 and not line["is_separated"]
    # found: -0.5 + 0.002 i, mean -0.481; random: -0.0998 and +0.1002, mean of absolute values 0.1
    assert line["size_ratio"] == pytest.approx(4.81, rel=1e-3)


def test_overlapping_intervals_are_no_separation():
    random = np.random.default_rng(3)
    rows = [row(f"f{i}", 0.5, 0.5 + random.normal(0.02, 0.3)) for i in range(12)]
    rows += [row(f"f{i}", 0.5, 0.5 + 1e-6, selection="random_layer_matched") for i in range(12)]
    line = separate_controls(pd.DataFrame(rows), resamples=200).iloc[0]
    assert line["ratio"] > 10 and line["lo"] < line["control_hi"] and not line["is_separated"]


def test_other_facts_are_a_control_and_missing_controls_are_left_out():
    table = separate_controls(found_and_controls(-0.01), resamples=200)
    assert sorted(set(table["control"])) == ["random_layer_matched", "same_relation"]
    line = table[(table["control"] == "same_relation") & (table["language"] == "en")].iloc[0]
    assert line["control_value"] == pytest.approx(-0.04) and line["ratio"] == pytest.approx(12.5, rel=0.02)


def test_flips_of_found_neurons_stand_beside_those_of_their_controls():
    # rightness, P above 0.3: a loses one of two answers and b its own; of random draws a gains one of four
    rows = [row("a", 0.5, 0.1), row("a", 0.5, 0.4, query=1), row("b", 0.5, 0.1), row("c", 0.0, 0.5)]
    for draw, p_after in enumerate((0.2, 0.4)):
        rows += [row("a", 0.1, p_after + 0.05, selection="random", draw=draw), row("b", 0.5, 0.4, selection="random")]
        rows += [row("a", 0.4, 0.4, selection="random", draw=draw, query=1)]
    line = separate_controls(pd.DataFrame(rows), resamples=200).iloc[0]
    assert (line["flips"], line["n"]) == (0.75, 2)  # c had P = 0 before
    assert (line["control_flips"], line["control_n"]) == (0.125, 2)
    assert (line["flips_lo"], line["flips_hi"]) == (0.5, 1.0)
    assert (line["control_flips_lo"], line["control_flips_hi"]) == (0.0, 0.25)


def test_flips_are_the_argmax_flips_of_the_same_rows():
    rows = found_and_controls(-0.5)
    shown = summary(rows)
    for line in separate_controls(rows, resamples=200).itertuples():
        name = line.control if line.control.startswith("random") else "matrice"
        probe = "own" if line.control.startswith("random") else line.control
        found = pick(shown, "argmax_flips", line.language, selection="matrice", probe="own")
        control = pick(shown, "argmax_flips", line.language, selection=name, probe=probe)
        assert [line.flips, line.flips_lo, line.flips_hi] == found[["value", "lo", "hi"]].tolist()
        flips = [line.control_flips, line.control_flips_lo, line.control_flips_hi]
        assert flips == control[["value", "lo", "hi"]].tolist()


def test_without_any_change_there_is_no_ratio():
    rows = [row("a", 0.5, 0.5), row("a", 0.5, 0.5, selection="random_layer_matched")]
    line = separate_controls(pd.DataFrame(rows), resamples=100).iloc[0]
    assert np.isnan(line["ratio"]) and not line["is_separated"]


def test_relations_are_summarised_each_for_itself():
    rows = pd.DataFrame([*ROWS, row("c", 0.5, 0.25, relation="P2"), row("d", 0.0, 0.1, relation="P2")])
    table = summarise_by_relation(rows, resamples=200)
    assert list(table.columns) == ["relation", *SUMMARY_COLUMNS]
    found = {relation: pick(table[table["relation"] == relation]) for relation in ("P1", "P2")}
    assert found["P1"]["value"] == pytest.approx(0.125) and found["P1"]["n"] == 2
    assert found["P2"]["value"] == -0.5 and found["P2"]["n"] == 1 and found["P2"]["n_excluded"] == 1
    assert set(table["statistic"]) == {"mean_relative_change", "argmax_flips"}


def test_no_rows_give_an_empty_table_by_relation():
    assert summarise_by_relation(pd.DataFrame(ROWS).iloc[:0]).empty
