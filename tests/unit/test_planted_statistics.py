"""Scores on planted neurons against numbers worked by hand."""

import numpy as np
import pandas as pd
import pytest

from knatlas.experiments.planted import RANK_COLUMNS, SET_COLUMNS
from knatlas.figures.planted import plot_planted
from knatlas.statistics.planted import COLUMNS, average_precision, summarise_effects, summarise_planted


def precision_of(*pairs):
    table = pd.DataFrame([("x", *pair) for pair in pairs], columns=["key", "n_better", "n_tied"])
    return average_precision(table, ["key"])["x"]


def test_average_precision_is_the_mean_precision_down_to_each():
    assert precision_of((0, 1), (1, 1)) == 1.0
    assert precision_of((0, 1), (3, 1)) == pytest.approx((1 / 1 + 2 / 4) / 2)
    assert precision_of((4, 1)) == pytest.approx(1 / 5)


def test_ties_are_found_together():
    assert precision_of((0, 2), (0, 2)) == 1.0
    assert precision_of((0, 1000), (0, 1000)) == pytest.approx(2 / 1000)
    assert precision_of((0, 1), (1, 99)) == pytest.approx((1 + 2 / 100) / 2)


def ranks_and_sets():
    """Two facts: an agnostic one whose set of four holds it, a specific neuron and two others; a specific one."""
    place = ("gpt2", 0, "reference")
    first, second = ("agnostic", "medium", "A", "all", "matrice", "default"), ("specific", "medium", "B", "all")
    neurons = [
        (*place, *first, 0, "agnostic", 1, 5, True, 1.0, 0, 1, True),
        (*place, *first, 1, "agnostic", 1, 6, True, 0.5, 3, 1, False),
        (*place, *first, 2, "specific", 1, 7, True, 0.9, 1, 1, True),
        (*place, *first, 3, "distractor", 1, 8, False, 0.0, 9, 5, False),
        (*place, *second, "matrice", "default", 4, "specific", 1, 9, True, 0.1, 4, 2, False),
    ]
    sets = [(*place, *first, 4), (*place, *second, "matrice", "default", 3)]
    return pd.DataFrame(neurons, columns=RANK_COLUMNS), pd.DataFrame(sets, columns=SET_COLUMNS)


@pytest.fixture(scope="module")
def table():
    return summarise_planted(*ranks_and_sets(), resamples=50)


def value(table, measure, kind, strength="medium"):
    rows = table[
        (table["measure"] == measure)
        & (table["kind"] == kind)
        & (table["strength"] == strength)
        & (table["family"] == "all")
    ]
    (found,) = rows["value"]
    return found


def test_measures_of_a_kind(table):
    assert value(table, "average_precision", "agnostic") == pytest.approx((1 + 2 / 4) / 2)
    assert value(table, "recall", "agnostic") == 0.5
    assert value(table, "precision", "agnostic") == 0.25
    assert value(table, "average_precision", "specific") == pytest.approx((1 / 2 + 1 / 6) / 2)
    assert value(table, "recall", "specific", "all") == 0.5


def test_confusion_is_the_share_of_another_kind(table):
    assert value(table, "confusion", "specific") == 0.25
    assert value(table, "confusion", "background") == 0.5
    assert value(table, "confusion", "distractor") == 0.0
    # the fact has no such neuron: nothing to take for another
    assert not ((table["measure"] == "confusion") & (table["kind"] == "relation")).any()
    assert not ((table["measure"] == "confusion") & (table["kind"] == "agnostic")).any()


def test_sets_of_facts_without_agnostic_neurons_are_false(table):
    assert value(table, "false_positives", "agnostic") == 3
    assert value(table, "false_positive_share", "agnostic") == 1
    assert value(table, "size", "agnostic") == 4
    assert value(table, "size", "specific") == 3


def test_what_does_not_act_is_counted_and_not_scored(table):
    assert not ((table["measure"] == "recall") & (table["kind"] == "distractor")).any()
    of_kind = table[(table["kind"] == "distractor") & (table["measure"] == "confusion")]
    assert (of_kind["n_not_acting"] == 1).all()


def test_an_empty_set_has_no_precision():
    ranks, sets = ranks_and_sets()
    found = summarise_planted(ranks.assign(is_selected=False), sets.assign(n_neurons=0), resamples=50)
    assert set(found["measure"]) == {"average_precision", "recall", "size", "false_positives", "false_positive_share"}
    assert value(found, "false_positive_share", "agnostic") == 0


def test_facts_of_other_seeds_and_families_are_other_facts():
    ranks, sets = ranks_and_sets()
    copies = [{"family": "gpt2", "seed": 0}, {"family": "gpt2", "seed": 1}, {"family": "bert", "seed": 0}]
    both = summarise_planted(
        pd.concat([ranks.assign(**copy) for copy in copies]), pd.concat([sets.assign(**copy) for copy in copies]), 0, 50
    )
    rows = both[(both["measure"] == "recall") & (both["kind"] == "agnostic") & (both["strength"] == "all")]
    assert rows.set_index("family")["n"].to_dict() == {"all": 3, "bert": 1, "gpt2": 2}
    assert list(both.columns) == COLUMNS


def test_neurons_of_one_paraphrase_are_confused_where_there_are_any():
    ranks, sets = ranks_and_sets()
    other = {"group": "paraphrase", "fact": "C"}
    ranks = pd.concat([ranks, ranks.iloc[:3].assign(**other, kind=["agnostic", "paraphrase", "paraphrase"])])
    sets = pd.concat([sets, sets.iloc[:1].assign(**other, n_neurons=5)])
    table = summarise_planted(ranks, sets, 0, 50)
    assert value(table, "confusion", "paraphrase") == pytest.approx(1 / 5)
    # of the agnostic fact alone, whose languages have neurons of their own
    assert value(table, "confusion", "specific") == 0.25
    assert value(table, "confusion", "background") == 0.5


def test_networks_of_other_levels_are_apart_and_below_the_reference():
    ranks, sets = ranks_and_sets()
    names = ("layers_6", "reference")
    both = summarise_planted(*(pd.concat([rows.assign(network=name) for name in names]) for rows in (ranks, sets)))
    assert list(both["network"].unique()) == ["reference", "layers_6"]
    alone = summarise_planted(ranks, sets)
    pd.testing.assert_frame_equal(both[both["network"] == "reference"], alone)


def test_languages_of_a_fact_are_one_fact():
    ranks, sets = ranks_and_sets()
    languages = [{"language": "l0"}, {"language": "l1", "is_selected": False}]
    ranks = pd.concat([ranks.assign(**language) for language in languages])
    sets = pd.concat([sets.assign(language=language["language"]) for language in languages])
    table = summarise_planted(ranks, sets, 0, 50)
    assert value(table, "recall", "agnostic") == 0.25
    assert set(table.loc[table["measure"] == "recall", "n"]) == {1, 2}


def test_effects_are_means_over_facts():
    network = {"family": "gpt2", "seed": 0, "network": "reference"}
    row = {**network, "kind": "agnostic", "strength": "low", "effect_of_pair": np.nan}
    rows = [
        {**row, "fact": "A", "effect": 0.2, "p_before": 0.8, "activation": 3.0, "is_acting": True},
        {**row, "fact": "A", "effect": 0.4, "p_before": 0.8, "activation": 3.0, "is_acting": True},
        {**row, "fact": "B", "effect": 0.6, "p_before": 0.7, "activation": 3.0, "is_acting": False},
    ]
    table = summarise_effects(pd.DataFrame(rows), 0, 50)
    (of_effect,) = table[
        (table["measure"] == "effect") & (table["family"] == "all") & (table["strength"] == "low")
    ].to_dict("records")
    assert of_effect["value"] == pytest.approx(0.45)
    assert (of_effect["n"], of_effect["n_not_acting"]) == (2, 1)
    assert not (table["measure"] == "effect_of_pair").any()


def test_the_figure_shows_what_was_measured(table, tmp_path):
    paths = plot_planted(table, tmp_path / "planted")
    assert all(path.stat().st_size > 1000 for path in paths[:2])
    drawn = pd.read_csv(paths[2])
    assert set(drawn["measure"]) == {"average_precision", "false_positives"}
    assert set(drawn["selection"]) == {"matrice"}
