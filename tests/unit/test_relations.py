"""Changes of P(answer) by relation: hand-made measurements with known means, intervals, and the figures from them."""

import numpy as np
import pandas as pd
import pytest

from knatlas.catalog import read_catalog
from knatlas.errors import AtlasError
from knatlas.figures import relations as figures
from knatlas.figures.relations import FIGURES, plot_changes, plot_differences
from knatlas.statistics.edit_changes import CELLS, CHANGES, EditChanges
from knatlas.statistics.printed import printed_values
from knatlas.statistics.relations import TABLE_COLUMNS, beside_figures, changes_by_fact, summarise_relations
from knatlas.statistics.summaries import summarise_by_relation
from knatlas.storage import read_csv, write_csv

RESAMPLES = 200


def measured(fact, probe, p_before, p_after, probed=None, query=0, **changes):
    """One measurement under suppression; a fact's name begins with its relation."""
    return {
        **{"model": "gpt2", "selection": "refined", "draw": 0, "language": "en", "fact": fact},
        **{"relation": fact.split(":")[0], "probe": probe, "probed_fact": probed or fact, "query": query},
        **{"operation": "suppress", "n_neurons": 3, "p_before": p_before, "p_after": p_after},
        **{"is_right_before": True, "is_right_after": True, **changes},
    }


def table_of(rows, **settings):
    return summarise_relations(pd.DataFrame(rows), resamples=RESAMPLES, **settings)


def line(table, relation, statistic="difference", probe="related", **fixed):
    fixed = {"selection": "refined", "operation": "suppress", "empty_sets": "drop", **fixed}
    for name, value in {**fixed, "relation": relation, "statistic": statistic, "probe": probe}.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


@pytest.fixture
def rows():
    """P36 with one fact that falls by 10 and one by 30 points (two prompts), P17 with one that falls by 40."""
    return [
        measured("P36:a", "own", 0.5, 0.4),
        measured("P36:a", "other_relation", 0.9, 0.89, "P17:c"),
        measured("P36:b", "own", 0.5, 0.4),
        measured("P36:b", "own", 0.7, 0.2, query=1),
        measured("P36:b", "other_relation", 0.9, 0.86, "P17:c"),
        measured("P17:c", "own", 0.8, 0.4),
        measured("P17:c", "other_relation", 0.5, 0.52, "P36:a"),
    ]


@pytest.fixture
def facts():
    """Rows of twelve facts in three relations under both operations, with a random control of two draws."""
    random, rows = np.random.default_rng(0), []
    names = [f"P{number}:{i}" for number in (17, 106, 36) for i in range(4)]
    for operation, sign in (("suppress", -1), ("enhance", 1)):
        for place, fact in enumerate(names):
            for selection, n_draws, size in (("refined", 1, 0.3), ("random", 2, 0.01)):
                probed = {"own": fact, "same_relation": names[place - 1 + 4 * (place % 4 == 0)]}
                probed |= {"other_relation": names[place - 4]}
                for draw in range(n_draws):
                    for probe, other in probed.items():
                        before, fixed = random.uniform(0.1, 0.5), {"selection": selection, "draw": draw}
                        after = before * (1 + sign * size * random.uniform())
                        rows.append(measured(fact, probe, before, after, other, operation=operation, **fixed))
    return pd.DataFrame(rows)


def test_prompts_are_averaged_in_a_fact_facts_in_a_relation_and_relations_count_alike(rows):
    table = table_of(rows)
    assert list(table.columns) == TABLE_COLUMNS
    assert table["relation"].drop_duplicates().tolist() == ["P17", "P36", "all", "all_facts"]
    values = [line(table, name)["value"] for name in ("P17", "P36", "all", "all_facts")]
    np.testing.assert_allclose(values, [-40, -20, -30, -80 / 3])
    unrelated = [line(table, name, probe="unrelated")["value"] for name in ("P17", "P36", "all", "all_facts")]
    np.testing.assert_allclose(unrelated, [2, -2.5, -0.25, -1])
    assert [line(table, name)["n"] for name in ("P17", "P36", "all", "all_facts")] == [1, 2, 3, 3]
    assert [line(table, name)["n_relations"] for name in ("P17", "P36", "all", "all_facts")] == [1, 1, 2, 2]


def test_the_relative_change_is_a_ratio_of_means_in_percent(rows):
    table = table_of(rows)
    assert line(table, "P36", "relative_change")["value"] == pytest.approx(100 * -0.2 / 0.55)
    assert line(table, "P36", "relative_change", "unrelated")["value"] == pytest.approx(100 * -0.025 / 0.9)
    assert line(table, "all", "relative_change")["value"] == pytest.approx(100 * -0.3 / 0.675)


def test_related_and_unrelated_are_compared_fact_by_fact():
    rows = []
    for place, change in enumerate([0.0, 0.1, 0.2, 0.3, 0.4]):
        rows.append(measured(f"P36:{place}", "own", 0.9, 0.9 - change - 0.05))
        rows.append(measured(f"P36:{place}", "other_relation", 0.9, 0.9 - change, "P17:x"))
    table = table_of(rows)
    assert line(table, "P36")["hi"] - line(table, "P36")["lo"] > 5
    np.testing.assert_allclose(line(table, "P36", "related_minus_unrelated")[["value", "lo", "hi"]].tolist(), -5)


def test_intervals_of_the_mean_over_relations_draw_facts_within_them():
    changes = {"P17": 0.1, "P36": 0.3}
    table = table_of([measured(f"{name}:{i}", "own", 0.5, 0.5 - changes[name]) for name in changes for i in range(4)])
    np.testing.assert_allclose(line(table, "all")[["value", "lo", "hi"]].tolist(), -20)
    assert line(table, "all_facts")["lo"] < -25 and line(table, "all_facts")["hi"] > -15


def test_facts_without_neurons_and_those_whose_unrelated_fact_has_none_are_left_out_and_counted(rows):
    rows += [
        measured("P17:empty", "own", 0.6, 0.6, n_neurons=0),
        measured("P17:empty", "other_relation", 0.5, 0.5, "P36:a", n_neurons=0),
        measured("P17:beside", "own", 0.6, 0.5),
        measured("P17:beside", "other_relation", 0.6, 0.6, "P17:empty"),
    ]
    table = table_of(rows)
    dropped, kept = (line(table, "P17", empty_sets=name) for name in ("drop", "keep"))
    assert (dropped["value"], dropped["n"]) == (pytest.approx(-40), 1)
    assert (kept["value"], kept["n"]) == (pytest.approx(-50 / 3), 3)
    for one in (dropped, kept):
        assert (one["n_empty"], one["n_unrelated_empty"]) == (1, 1)
    assert (line(table, "P36")["n_empty"], line(table, "all")["n_empty"]) == (0, 1)
    assert (dropped["n_neurons"], kept["n_neurons"]) == (3, 2)


def test_a_relation_without_neurons_is_no_part_of_the_mean_over_relations(rows):
    table = table_of([*rows, measured("P30:empty", "own", 0.6, 0.6, n_neurons=0)])
    empty, together = line(table, "P30"), line(table, "all")
    assert np.isnan(empty[["value", "lo", "hi"]].astype(float)).all() and (empty["n"], empty["n_empty"]) == (0, 1)
    assert together["value"] == pytest.approx(-30) and together["n_relations"] == 2
    assert line(table, "all", empty_sets="keep")["value"] == pytest.approx(-20)


def test_without_any_neurons_there_is_no_value():
    table = table_of([measured("P36:a", "own", 0.6, 0.6, n_neurons=0)])
    dropped = table[table["empty_sets"] == "drop"]
    assert dropped["value"].isna().all() and (dropped["n"] == 0).all() and (dropped["n_empty"] == 1).all()
    assert line(table, "all", empty_sets="keep")["value"] == 0


def test_a_fact_without_unrelated_fact_counts_for_the_related_alone(rows):
    table = table_of([*rows, measured("P36:alone", "own", 0.5, 0.3)])
    assert (line(table, "P36")["n"], line(table, "P36", probe="unrelated")["n"]) == (3, 2)
    assert line(table, "P36", "related_minus_unrelated")["n"] == 2


def test_a_probability_of_zero_is_a_difference_like_any_other():
    table = table_of([measured("P36:a", "own", 0.0, 0.1), measured("P36:b", "own", 0.0, 0.0)])
    assert (line(table, "P36")["value"], line(table, "P36")["n"]) == (pytest.approx(5), 2)
    assert line(table, "P36", "relative_change")["value"] == np.inf


def test_the_unrelated_fact_is_the_any_fact_of_the_success_rate(facts):
    rows = facts[facts["selection"] == "refined"]
    by_fact, cells = changes_by_fact(rows, seed=5), EditChanges.of(rows).cells(True, 5)
    for cell, name in enumerate(CELLS):
        operation, role = name.split("_")
        ours = by_fact[operation][{"relevant": "related", "irrelevant": "unrelated"}[role]]
        np.testing.assert_allclose(ours, 100 * cells[:, cell, CHANGES.index("absolute")])
    other = changes_by_fact(rows, seed=6)["suppress"]["unrelated"]
    assert (other != by_fact["suppress"]["unrelated"]).any()  # a draw, not a fixed probe


def test_draws_are_averaged_and_the_order_of_rows_does_not_matter(facts):
    table = table_of(facts)
    control = line(table, "P106", selection="random", operation="enhance")
    own = facts[(facts["relation"] == "P106") & (facts["probe"] == "own") & (facts["operation"] == "enhance")]
    own = own[own["selection"] == "random"]
    assert control["value"] == pytest.approx(100 * (own["p_after"] - own["p_before"]).mean()) and control["n"] == 4
    order = ["selection", "operation", "empty_sets", "relation", "probe", "statistic"]
    shuffled = table_of(facts.sample(frac=1, random_state=1)).sort_values(order, ignore_index=True)
    pd.testing.assert_frame_equal(shuffled, table.sort_values(order, ignore_index=True))


def test_models_languages_and_selections_stay_apart(rows):
    others = [{**row, "language": "fr", "p_after": row["p_before"]} for row in rows]
    others += [{**row, "selection": "bkn"} for row in rows]
    table = table_of([*rows, *others])
    pd.testing.assert_frame_equal(table[table["language"] == "en"], table_of(rows))
    assert (table.loc[(table["language"] == "fr") & (table["statistic"] == "difference"), "value"].dropna() == 0).all()


def test_printed_numbers_stand_beside_refined_neurons_of_their_model(facts):
    table = beside_figures(table_of(facts))
    assert line(table, "all")["paper"] == -0.93
    assert line(table, "all", probe="unrelated", operation="enhance")["paper"] == 0.12
    enhanced = line(table, "all", operation="enhance")
    assert enhanced["difference"] == pytest.approx(enhanced["value"] - 0.48)
    printed = table[table["paper"].notna()]
    assert set(printed["selection"]) == {"refined"} and set(printed["relation"]) == {"all"}
    pd.testing.assert_frame_equal(table[TABLE_COLUMNS], table_of(facts))
    with pytest.raises(AtlasError, match=r"operation is 'erase'; expected one of a figure \(suppress enhance\)"):
        beside_figures(table.assign(operation="erase"))


def test_relations_of_printed_numbers_are_those_of_the_catalog():
    named = {entry["relation"] for place in ("figure3", "figure4") for entry in printed_values("localization", place)}
    assert named - {"all"} == {"P279", "P740", "P27"} <= set(read_catalog("relations"))


def kept(table, folder):
    """The table as a figure's script reads it."""
    write_csv(table, folder / "table.csv")
    return read_csv(folder / "table.csv")


def test_figures_3_and_4_hold_the_differences_of_their_operation(facts, tmp_path):
    table = kept(beside_figures(table_of(facts)), tmp_path)
    for name, operation in {"localization_figure3": "suppress", "localization_figure4": "enhance"}.items():
        pdf, png, csv = FIGURES[name](table, tmp_path / name)
        drawn = pd.read_csv(csv)
        assert pdf.read_bytes().startswith(b"%PDF") and png.stat().st_size > 10000
        assert set(drawn["operation"]) == {operation} and set(drawn["statistic"]) == {"difference"}
        bars = set(zip(drawn["selection"], drawn["probe"], strict=True))
        assert bars == {("refined", "related"), ("refined", "unrelated"), ("random", "related")}
        assert len(drawn) == 3 * 5 and set(drawn["empty_sets"]) == {"drop"} and "panel" not in drawn
        again = FIGURES[name](table, tmp_path / f"{name}_again")
        assert [path.read_bytes() for path in again] == [path.read_bytes() for path in (pdf, png, csv)]


def test_figure_5_of_matrice_is_drawn_by_relation(facts, tmp_path):
    renamed = facts.assign(selection=facts["selection"].replace("refined", "matrice"))
    table = kept(summarise_by_relation(renamed, resamples=RESAMPLES), tmp_path)
    *_, csv = FIGURES["matrice_figure5_relations"](table, tmp_path / "figure")
    drawn = pd.read_csv(csv)
    assert set(drawn["language"]) == {"all"} and set(drawn["probe"]) == {"own"}
    assert len(drawn) == 2 * 2 * 3  # selections, operations, relations


def test_each_relation_is_named_and_says_its_number_of_facts(facts, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(figures, "save", lambda figure, path, data: seen.append(figure))
    plot_differences(beside_figures(table_of(facts)), tmp_path / "figure", "suppress")
    (axes,) = seen[0].axes
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels[:3] == [
        "P17 country\nn = 4 facts",
        "P36 capital\nn = 4 facts",
        "P106 occupation\nn = 4 facts",
    ]
    assert labels[3:] == ["all relations, each as one\nn = 12 facts", "all facts\nn = 12 facts"]
    legend = [text.get_text() for text in seen[0].legends[0].get_texts()]
    assert "printed in the paper" in legend and "random neurons of the same layers, related facts" not in legend


def test_a_table_without_the_bars_is_a_sentence(facts, tmp_path):
    table = table_of(facts[facts["selection"] == "random"].assign(selection="bkn"), selections=["bkn"])
    with pytest.raises(AtlasError, match="no differences under suppress for refined, random, random_layer_matched"):
        plot_differences(table, tmp_path / "figure", "suppress")
    by_relation = summarise_by_relation(facts[facts["selection"] == "refined"], resamples=RESAMPLES)
    with pytest.raises(AtlasError, match="no relative changes in language all for matrice, likn, random"):
        plot_changes(by_relation, tmp_path / "figure")
