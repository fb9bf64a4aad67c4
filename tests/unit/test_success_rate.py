"""AMIG's success rate: by hand, in every reading, with extreme and undefined changes, empty sets and random draws."""

import numpy as np
import pandas as pd
import pytest

from knatlas.errors import AtlasError
from knatlas.statistics.edit_changes import CELLS, EditChanges
from knatlas.statistics.success_rate import (
    READINGS,
    RESULT_COLUMNS,
    STATISTICS,
    Reading,
    reading_of,
    readings_with,
    success_rates,
)

GROUP = ["model", "language", "selection"]
PROBES = {"own": "fact", "other": "other_relation", "same": "same_relation"}


def edits(fact, relation="P1", own=(0.5, 0.5, 0.5), other=(0.5, 0.5, 0.5), same=None, **changes):
    """Rows of one fact; of each probe P before, after suppression and after enhancement."""
    fixed = {"model": "tiny", "selection": "amig", "draw": 0, "language": "en", "query": 3, "n_neurons": 2}
    fixed |= {"fact": fact, "relation": relation, **changes}
    return [
        {**fixed, "probe": probe, "operation": operation, "p_before": values[0], "p_after": after}
        for probe, values in [("own", own), ("other_relation", other), ("same_relation", same)]
        if values is not None
        for operation, after in zip(("suppress", "enhance"), values[1:], strict=True)
    ]


def rates(rows, reading=None, **settings):
    return success_rates(pd.DataFrame(rows), GROUP, {"it": reading or Reading()}, resamples=200, **settings)


def pick(table, statistic="sr", **values):
    for column, value in {"statistic": statistic, **values}.items():
        table = table[table[column] == value]
    assert len(table) == 1
    return table.iloc[0]


def value(rows, statistic="sr", reading=None, **settings):
    return pick(rates(rows, reading, **settings), statistic)["value"]


# changes, relative:     suppress own, other; enhance own, other
# fact a (P 0.4 / 0.5):         -0.75,  -0.2;        0.5,  -0.1
# fact b (P 0.2 / 0.8):         -0.25,  -0.3;        1.5,   0.0
ROWS = [
    *edits("a", own=(0.4, 0.1, 0.6), other=(0.5, 0.4, 0.45)),
    *edits("b", own=(0.2, 0.15, 0.5), other=(0.8, 0.56, 0.8)),
]


@pytest.mark.parametrize(
    ("statistic", "expected"),
    [
        ("mean_suppress_relevant", -0.5),
        ("mean_suppress_irrelevant", -0.25),
        ("mean_enhance_relevant", 1.0),
        ("mean_enhance_irrelevant", -0.05),
        ("median_suppress_relevant", -0.5),
        ("sr_suppress", 2.0),
        ("sr_enhance", -20.0),
        ("sr", 22.0),
        ("sr_of_differences", (0.3 + 0.05) / (0.1 + 0.24) + (0.2 + 0.3) / (0.05 + 0.0)),
        ("share_excluded", 0.0),
    ],
)
def test_statistics_by_hand(statistic, expected):
    line = pick(rates(ROWS), statistic)
    assert line["value"] == pytest.approx(expected)
    assert (line["n"], line["n_empty"], line["n_excluded"]) == (2, 0, 0)


def test_every_statistic_is_given_once_in_every_reading():
    table = success_rates(pd.DataFrame(ROWS), GROUP, readings_with({}), resamples=50)
    assert table.columns.tolist() == [*GROUP, *RESULT_COLUMNS]
    assert table["reading"].drop_duplicates().tolist() == ["default", "paper", "code"]
    assert table["statistic"].tolist() == list(STATISTICS) * 3


def test_signed_rates_are_added_with_their_signs():
    assert value(ROWS, "sr", Reading(is_absolute=False)) == pytest.approx(2.0 - 20.0)
    assert value(ROWS, "sr_enhance", Reading(is_absolute=False)) == pytest.approx(-20.0)


def test_absolute_changes_are_differences_of_probability():
    reading = Reading(change="absolute")
    assert value(ROWS, "mean_suppress_relevant", reading) == pytest.approx((-0.3 - 0.05) / 2)
    assert value(ROWS, "sr_suppress", reading) == pytest.approx(0.35 / 0.34)
    assert value(ROWS, "sr_of_differences", reading) == pytest.approx(value(ROWS, "sr_of_differences"))


def test_the_paper_reading_is_a_signed_sum_over_differences():
    assert value(ROWS, "sr", READINGS["paper"]) == pytest.approx(0.35 / 0.34 + 0.5 / -0.05)


def test_only_the_first_own_query_counts():
    later = edits("a", own=(0.4, 0.4, 0.4), other=None, query=4)
    pd.testing.assert_frame_equal(rates(later + ROWS), rates(ROWS))


def test_a_suppression_change_is_kept_up_to_its_cut_and_an_enhancement_change_below_it():
    # P is a power of 2, so that the relative changes are exact: 20 and 250
    p = 2.0**-10
    at_suppress_cut = edits("c", own=(p, 21 * p, p))
    at_enhance_cut = edits("d", own=(p, p, 251 * p))
    assert pick(rates(ROWS + at_suppress_cut))["n_excluded"] == 0
    assert pick(rates(ROWS + at_enhance_cut))["n_excluded"] == 1
    above, below = edits("c", own=(p, 21.5 * p, p)), edits("d", own=(p, p, 250.5 * p))
    assert pick(rates(ROWS + above))["n_excluded"] == 1
    assert pick(rates(ROWS + below))["n_excluded"] == 0


def test_changes_far_below_are_never_extreme():
    assert pick(rates(ROWS + edits("c", own=(0.9, 0.0, 0.0))))["n_excluded"] == 0


def test_cuts_act_on_relative_changes_also_where_differences_are_taken():
    tiny = edits("c", own=(1e-6, 1e-4, 1e-6))
    assert pick(rates(ROWS + tiny, Reading(change="absolute")))["n_excluded"] == 1
    assert pick(rates(ROWS + tiny, Reading(change="absolute", suppress_cut=100.0)))["n_excluded"] == 0


EXTREME = edits("c", own=(0.01, 0.5, 0.02), other=(0.5, 0.25, 1.0))  # changes 49, -0.5; 1, 1


def test_a_fact_with_an_extreme_change_leaves_all_cells():
    table = rates(ROWS + EXTREME)
    assert pick(table)["value"] == pytest.approx(22.0)
    for cell in CELLS:
        line = pick(table, f"mean_{cell}")
        assert (line["n"], line["n_excluded"]) == (2, 1)
    line = pick(table, "share_excluded")
    assert line["value"] == pytest.approx(1 / 3) and (line["n"], line["n_excluded"]) == (3, 1)


def test_or_only_the_cell_where_it_is_extreme():
    table = rates(ROWS + EXTREME, Reading(exclusion="per_cell"))
    expected = {
        "mean_suppress_relevant": (-0.5, 2, 1),
        "mean_suppress_irrelevant": (-1 / 3, 3, 0),
        "mean_enhance_relevant": (1.0, 3, 0),
        "mean_enhance_irrelevant": (0.3, 3, 0),
        "sr_suppress": (1.5, 3, 1),
        "sr_enhance": (1.0 / 0.3, 3, 0),
        "sr": (1.5 + 1.0 / 0.3, 3, 1),
        "share_excluded": (1 / 3, 3, 1),
    }
    for statistic, numbers in expected.items():
        line = pick(table, statistic)
        assert (line["value"], line["n"], line["n_excluded"]) == pytest.approx(numbers)


@pytest.mark.parametrize(("exclusion", "n_irrelevant"), [("per_fact", 2), ("per_cell", 3)])
def test_changes_from_zero_are_excluded_and_counted(exclusion, n_irrelevant):
    table = rates(ROWS + edits("c", own=(0.0, 0.0, 0.1)), Reading(exclusion=exclusion))
    for operation in ("suppress", "enhance"):
        assert pick(table, f"mean_{operation}_relevant")[["n", "n_excluded"]].tolist() == [2, 1]
        assert pick(table, f"mean_{operation}_irrelevant")["n"] == n_irrelevant


def test_a_fact_without_an_irrelevant_one_is_excluded_and_counted():
    table = rates(ROWS + edits("c", own=(0.5, 0.1, 0.9), other=None))
    assert pick(table)[["n", "n_excluded"]].tolist() == [2, 1] and pick(table)["value"] == pytest.approx(22.0)


def test_empty_sets_are_kept_or_dropped_and_always_counted():
    rows = ROWS + edits("c", n_neurons=0)
    kept, dropped = (pick(rates(rows, Reading(empty_sets=word)), "mean_enhance_relevant") for word in ("keep", "drop"))
    assert kept["value"] == pytest.approx(2 / 3) and kept[["n", "n_empty"]].tolist() == [3, 1]
    assert dropped["value"] == pytest.approx(1.0) and dropped[["n", "n_empty"]].tolist() == [2, 1]


def test_a_fact_is_empty_only_when_no_draw_has_neurons():
    draws = edits("c", n_neurons=0) + edits("c", draw=1, n_neurons=1)
    assert pick(rates(ROWS + draws))["n_empty"] == 0


UNTOUCHED = [*edits("a", own=(0.5, 0.25, 0.5)), *edits("b", own=(0.5, 0.25, 0.5))]  # the irrelevant facts don't change


def test_a_rate_over_unchanged_facts_is_infinite_and_nothing_over_nothing_is_unknown():
    table = rates(UNTOUCHED)
    assert pick(table, "sr_suppress")["value"] == -np.inf and np.isnan(pick(table, "sr_enhance")["value"])
    assert np.isnan(pick(table)["value"])
    changed = edits("a", own=(0.5, 0.25, 0.75))
    assert value(changed) == np.inf and np.isnan(value(changed, "sr", Reading(is_absolute=False)))
    assert value(changed, "sr_enhance") == np.inf


def test_or_it_is_zero():
    table = rates(UNTOUCHED, Reading(zero="zero"))
    for statistic in ("sr", "sr_suppress", "sr_enhance", "sr_of_differences"):
        assert pick(table, statistic)[["value", "lo", "hi"]].tolist() == [0.0, 0.0, 0.0]


def test_without_relevant_facts_no_rate_is_zero():
    rows = [row for name in "ab" for row in edits(name, own=(0.0, 0.0, 0.0))]
    assert np.isnan(value(rows, "sr_suppress", Reading(exclusion="per_cell", zero="zero")))


def test_draws_of_a_fact_are_averaged_first():
    draws = [
        *edits("a", own=(0.5, 0.25, 1.0), other=(0.5, 0.4, 0.75)),
        *edits("a", own=(0.5, 0.5, 1.5), other=(0.5, 0.6, 0.75), draw=1),
    ]
    table = rates(draws)
    assert pick(table, "mean_suppress_relevant")["value"] == pytest.approx(-0.25)
    assert pick(table, "mean_suppress_irrelevant")["value"] == pytest.approx(0.0)
    assert pick(table, "sr_enhance")["value"] == pytest.approx(1.5 / 0.5)
    assert pick(table, "sr_of_differences")["value"] == pytest.approx(0.125 / 0.1 + 0.75 / 0.25)  # of |difference|
    assert pick(table)["n"] == 1


def test_a_draw_without_a_value_leaves_those_that_have_one():
    draws = edits("a", own=(0.5, 0.25, 1.0)) + edits("a", own=(0.0, 0.0, 0.1), draw=1)
    assert value(draws, "mean_suppress_relevant") == -0.5 and value(draws, "mean_enhance_relevant") == 1.0


def test_facts_that_change_alike_have_an_interval_of_one_point():
    rows = [row for name in "abcdefg" for row in edits(name, own=(0.3, 0.1, 0.7), other=(0.7, 0.6, 0.9))]
    table = rates(rows)
    ratios = table["statistic"].str.startswith(("mean", "sr"))
    np.testing.assert_allclose(table.loc[ratios, "lo"], table.loc[ratios, "value"], rtol=1e-12)
    np.testing.assert_allclose(table.loc[ratios, "hi"], table.loc[ratios, "value"], rtol=1e-12)


def many_facts(n=80, n_relations=4, seed=0):
    random = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        own, other, same = (p * random.uniform([1, *low], [1, *high]) for p, low, high in [
            (random.uniform(0.1, 0.4), (0.1, 1.2), (0.6, 2.0)),
            (random.uniform(0.1, 0.4), (0.8, 1.0), (1.0, 1.2)),
            (random.uniform(0.1, 0.4), (0.6, 1.2), (0.8, 1.4)),
        ])  # fmt: skip
        rows += edits(f"f{i:03d}", f"P{i % n_relations}", own, other, same)
    return rows


@pytest.mark.parametrize("exclusion", ["per_fact", "per_cell"])
def test_intervals_hold_their_values_and_have_a_width(exclusion):
    table = rates(many_facts(), Reading(exclusion=exclusion))
    table = table[table["statistic"] != "share_excluded"]
    assert ((table["lo"] < table["value"]) & (table["value"] < table["hi"])).all()


def test_a_resample_is_the_mean_of_the_facts_it_has_in_the_cell():
    # the first fact changes by -0.1, 19 by -0.5, and 20 have no change that is defined
    changed = [row for i in range(20) for row in edits(f"f{i:02d}", own=(0.5, 0.25 if i else 0.45, 0.5))]
    undefined = [row for i in range(20) for row in edits(f"g{i:02d}", own=(0.0, 0.0, 0.0))]
    line = pick(rates(changed + undefined, Reading(exclusion="per_cell")), "mean_suppress_relevant")
    assert line["value"] == pytest.approx(-0.48) and -0.5 - 1e-12 <= line["lo"] < -0.48 < line["hi"] < -0.4


def test_the_facts_of_both_ratios_are_drawn_together():
    # irrelevant changes are -0.25 and 0.25, relevant ones s and s + 1.5: SR_suppress + SR_enhance = -4 s + 4 s + 6
    rows = [
        row
        for i, s in enumerate((-0.5, 0.0, -0.75))
        for row in edits(f"f{i}", own=(0.25, 0.25 * (1 + s), 0.25 * (2.5 + s)), other=(0.5, 0.375, 0.625))
    ]
    table = rates(rows, Reading(is_absolute=False))
    assert pick(table)[["value", "lo", "hi"]].tolist() == pytest.approx([6.0] * 3)
    assert pick(table, "sr_suppress")["lo"] < pick(table, "sr_suppress")["hi"]


def drawn_relations(rows, seed):
    """For each fact whether the same relation's fact was drawn, read off the changes."""
    cells = EditChanges.of(pd.DataFrame(rows)).cells(is_any_fact=True, seed=seed)
    return cells[:, 1, 0] == -1


def labelled_facts(relations):
    """Suppression leaves nothing of the fact of the same relation, and all of the other."""
    return [
        row
        for i, relation in enumerate(relations)
        for row in edits(f"f{i:03d}", relation, other=(0.5, 0.5, 0.5), same=(0.5, 0.0, 0.5))
    ]


def test_any_fact_is_of_the_same_relation_as_often_as_one_drawn_among_all_others():
    relations = ["large"] * 60 + ["small"] * 20 + ["single"]
    rows = labelled_facts(relations)
    shares = np.mean([drawn_relations(rows, seed) for seed in range(60)], axis=0)
    # of 80 others 59 and 19; standard errors 0.007 and 0.012
    assert shares[:60].mean() == pytest.approx(59 / 80, abs=0.03)
    assert shares[60:80].mean() == pytest.approx(19 / 80, abs=0.05)
    assert shares[80] == 0


def test_facts_of_one_relation_take_the_same_relation_always():
    assert drawn_relations(labelled_facts(["P1"] * 20), seed=1).all()


def test_a_mean_over_draws_does_not_depend_on_their_order():
    shares = [0.2, 0.94, 0.09, 0.0]  # their sum does, in the last digit
    rows = [row for draw, share in enumerate(shares) for row in edits("a", own=(1.0, share, share), draw=draw)]
    assert len({value(rows[4 * i :] + rows[: 4 * i], "mean_enhance_relevant") for i in range(4)}) == 1


def test_any_fact_depends_on_the_seed_and_not_on_the_order_of_rows():
    rows = many_facts()
    reading = {"reading": READINGS["code"]}
    one, again, other = (
        rates(rows, **reading, seed=1),
        rates(rows[::-1], **reading, seed=1),
        rates(rows, seed=2, **reading),
    )
    pd.testing.assert_frame_equal(one, again)
    assert pick(one, "mean_suppress_irrelevant")["value"] != pick(other, "mean_suppress_irrelevant")["value"]


def test_any_fact_is_the_same_in_both_operations_and_all_selections():
    rows = many_facts()
    cells = EditChanges.of(pd.DataFrame(rows)).cells(is_any_fact=True, seed=3)
    is_same = cells[:, 1, 0] < -0.2  # ranges of the probes don't overlap
    assert 0 < is_same.sum() < len(is_same)
    np.testing.assert_array_equal(cells[:, 3, 0] > 0.2, is_same)
    others = [row | {"selection": "bkn"} for row in rows]
    table = rates(rows + others, READINGS["code"])
    assert pick(table, selection="amig")["value"] == pick(table, selection="bkn")["value"]


def test_a_probe_that_was_not_measured_is_replaced_by_the_other():
    rows = [row for name in "abc" for row in edits(name, own=(0.5, 0.25, 0.75), other=(0.5, 0.4, 0.6))]
    line = pick(rates(rows, Reading(irrelevant="any")))  # all of one relation, without a probe of it
    assert line["n"] == 3 and line["value"] == pytest.approx(5.0)


def test_a_probe_with_p_zero_is_not_replaced():
    rows = [row for name in "abc" for row in edits(name, own=(0.5, 0.25, 0.75), same=(0.0, 0.0, 0.0))]
    line = pick(rates(rows, Reading(irrelevant="any")))
    assert (line["n"], line["n_excluded"]) == (0, 3)


def test_p_zero_in_every_fact_leaves_nothing():
    table = rates(edits("a", own=(0.0, 0.0, 0.0)))
    line = pick(table)
    assert line[["value", "lo", "hi"]].isna().all() and line[["n", "n_excluded"]].tolist() == [0, 1]
    assert pick(table, "share_excluded")["value"] == 1.0


def test_one_fact_has_an_interval_of_one_point():
    line = pick(rates(ROWS[:4]))
    assert line[["value", "lo", "hi"]].tolist() == pytest.approx([3.75 + 5.0] * 3) and line["n"] == 1


def test_no_fact_gives_no_rows_and_only_empty_facts_no_value():
    assert rates(pd.DataFrame(ROWS).iloc[:0]).columns.tolist() == [*GROUP, *RESULT_COLUMNS]
    assert len(rates(pd.DataFrame(ROWS).iloc[:0])) == 0
    table = rates(edits("a", n_neurons=0), Reading(empty_sets="drop"))
    assert table[["value", "lo", "hi"]].isna().all(axis=None)
    assert (table["n"] == 0).all() and (table["n_empty"] == 1).all()


def test_groups_stay_apart_and_keep_the_order_of_the_rows():
    rows = [row | {"language": "zh"} for row in ROWS[:4]] + ROWS
    table = rates(rows)
    assert table["language"].drop_duplicates().tolist() == ["zh", "en"]
    assert pick(table, language="en")["value"] == pytest.approx(22.0)
    assert pick(table, language="zh")["value"] == pytest.approx(8.75)


def test_other_columns_can_identify_a_group():
    rows = pd.DataFrame(ROWS).assign(pair="en-zh", method="likn")
    table = success_rates(rows, ["pair", "method"], {"it": Reading()}, resamples=50)
    assert table[["pair", "method"]].drop_duplicates().to_numpy().tolist() == [["en-zh", "likn"]]


def test_the_default_reading_is_that_of_the_studys_settings():
    settings = {"change": "absolute", "exclusion": "per_cell", "suppress_cut": 5.0, "empty_sets": "drop"}
    readings = readings_with(settings)
    assert readings == {"default": Reading(**settings), **READINGS} and readings_with({})["default"] == Reading()


def test_mistakes_are_sentences():
    with pytest.raises(AtlasError, match=r"change is 'absolut'; expected .*Did you mean 'absolute'\?"):
        reading_of({"change": "absolut"})
    with pytest.raises(AtlasError, match=r"setting is 'supress_cut'; .*Did you mean 'suppress_cut'\?"):
        reading_of({"supress_cut": 20})
