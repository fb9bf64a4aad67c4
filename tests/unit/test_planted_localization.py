"""All selections on a planted model: the regression test of what they find."""

import numpy as np
import pytest

from knatlas.experiments.planted import localise, networks
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
        "ablation_queries": 1,
        "seed": 0,
    }


@pytest.fixture(scope="module")
def found(settings):
    return localise(plant_model(DESIGN, "gpt2"), settings)


@pytest.fixture(scope="module")
def table(found):
    identity = {"family": "gpt2", "seed": 0, "network": "reference"}
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


def test_matrice_leaves_neurons_of_one_paraphrase_out(table):
    for measure in ("recall", "confusion", "average_precision"):
        assert value(table, "matrice", "paraphrase", measure) < 0.1
    assert value(table, "matrice_without_query_uncertainty", "paraphrase", "recall") > 0.3


def test_the_reference_is_the_loss_of_p_without_each_neuron(found):
    """Every neuron is zeroed in one sweep; the check of the plants runs whole models with hooks."""
    ranks = found.ranks.query("selection == 'ablation' and reading == 'reference'")
    first = found.queries.query("query == 0").drop_duplicates(["plant", "fact", "language"])
    both = ranks.merge(first, on=["plant", "fact", "language"], validate="one_to_one")
    assert set(both["kind_x"]) >= {"agnostic", "specific", "paraphrase", "additive", "distractor", "language"}
    np.testing.assert_allclose(both["score"], 1 - both["p_without"] / both["p_before"], atol=1e-5)


def test_the_reference_finds_what_acts_alone_and_misses_what_another_replaces(table):
    for kind in ("agnostic", "additive"):
        assert value(table, "ablation", kind, "recall", "reference_every_language") > 0.9
    for kind in ("degenerate_same_layer", "degenerate_across_layers"):
        assert value(table, "ablation", kind, "recall", "reference") < 0.2
    # not 0: a neuron of the relation may cost as much in every language
    causal = value(table, "ablation", "agnostic", "false_positives", "reference_every_language")
    assert causal < value(table, "matrice", "agnostic", "false_positives")


def test_levels_are_varied_one_at_a_time():
    sizes = {"facts": 1, "languages": 3, "paraphrases": 2, "held_out": 0, "width": 64, "neurons": 128}
    designs = networks({**sizes, "strengths": ["high"], "layers": [4, 6], "noise": [0.2, 0.4, 0.6]}, seed=5)
    found = {name: (design.layers, design.noise, design.seed) for name, design in designs.items()}
    assert found == {
        "reference": (4, 0.2, 5),
        "layers_6": (6, 0.2, 5),
        "noise_0.4": (4, 0.4, 5),
        "noise_0.6": (4, 0.6, 5),
    }


def test_every_selection_and_reading_has_a_row_for_every_fact(found):
    rows = found.sets.groupby(["selection", "reading"])["fact"].nunique()
    searched = rows.pop(("dkn", "default")), rows.pop(("dkn", "given"))
    assert searched == (6, 6)  # the facts that are stored in pairs
    assert set(rows) == {12}
    assert set(RECIPES) <= set(rows.index.get_level_values("selection"))


def test_readings_name_methods_that_are_run(settings):
    names = {method.name for method in planted_methods(settings["attribution"], "causal")}
    assert {method for reading in READINGS for method in reading.methods.values()} <= names
