"""All selections on a planted model: the regression test of what they find."""

import pytest

from knatlas.experiments.planted import localise
from knatlas.experiments.planted_readings import READINGS, planted_methods
from knatlas.models.planted.design import Design
from knatlas.models.planted.tuning import plant_model
from knatlas.selection.recipes import RECIPES
from knatlas.statistics.planted import summarise_planted
from knatlas.study import read_study

DESIGN = Design(strengths=("medium",), facts=2)


@pytest.fixture(scope="module")
def settings():
    study = read_study({"study": "planted", "languages": ["en", "fr"], "models": ["tiny-gpt2"]})
    search = {"languages": 1, "low": 0.2, "high": 0.25, "top": 8}
    # eight nodes: the tests compare selections, not integrals
    attribution = {**study["attribution"], "quadrature": "full"}
    attribution["methods"] = {name: {"rule": "gauss", "steps": 4} for name in ("bkn", "amig", "saig")}
    return {
        "attribution": attribution,
        "selection": study["selection"],
        "search": search,
        "selections": "all",
        "seed": 0,
    }


@pytest.fixture(scope="module")
def found(settings):
    return localise(plant_model(DESIGN, "gpt2"), settings)


@pytest.fixture(scope="module")
def table(found):
    identity = {"family": "gpt2", "seed": 0}
    return summarise_planted(found.ranks.assign(**identity), found.sets.assign(**identity), 0, 100)


def value(table, selection, kind, measure, reading="default"):
    rows = table.query(
        "selection == @selection and reading == @reading and kind == @kind and measure == @measure "
        "and family == 'all' and strength == 'medium'"
    )
    (number,) = rows["value"]
    return number


def test_matrice_finds_agnostic_neurons_and_no_specific_ones(table):
    assert value(table, "matrice", "agnostic", "average_precision") >= 0.9
    assert value(table, "matrice", "specific", "confusion") < 0.2
    assert value(table, "matrice", "specific", "recall") < 0.2


def test_sets_of_one_language_hold_its_specific_neurons(table):
    for selection in ("bkn", "amig"):
        assert value(table, selection, "specific", "recall") > 0.8
        assert value(table, selection, "specific", "confusion") > value(table, "matrice", "specific", "confusion")


def test_random_neurons_are_not_the_planted_ones(table):
    for selection in ("random", "random_layer_matched"):
        assert value(table, selection, "agnostic", "average_precision") < 0.2


def test_the_printed_axis_of_equation_9_is_worse_than_the_default(table):
    printed = value(table, "matrice", "agnostic", "average_precision", "eq9_axis_neuron")
    assert printed < value(table, "matrice", "agnostic", "average_precision") - 0.2


def test_algorithm_1_finds_a_pair_of_one_layer_that_it_is_given(table):
    assert value(table, "dkn", "degenerate_same_layer", "recall", "given") > 0.8
    assert value(table, "dkn", "additive", "recall", "given") == 0


def test_every_selection_and_reading_has_a_row_for_every_fact(found):
    rows = found.sets.groupby(["selection", "reading"])["fact"].nunique()
    searched = rows.pop(("dkn", "default")), rows.pop(("dkn", "given"))
    assert searched == (6, 6)  # the facts that are stored in pairs
    assert set(rows) == {10}
    assert set(RECIPES) <= set(rows.index.get_level_values("selection"))


def test_readings_name_methods_that_are_run(settings):
    names = {method.name for method in planted_methods(settings["attribution"], "causal")}
    assert {method for reading in READINGS for method in reading.methods.values()} <= names
