"""Layers of neuron sets: counted by fact, shares with intervals, empty sets counted."""

import numpy as np
import pytest

from knatlas.experiments.layer_distribution import COUNT_COLUMNS, count_layers
from knatlas.selection.neuron_set import FoundSet, NeuronSets, as_table
from knatlas.statistics.layers import LAYER_COLUMNS, layer_distribution, layer_shares


def sets_of(layers, selection="amig", languages=("en",), n_facts=3, n_draws=1, **settings):
    """Sets from {(fact, language, draw): [layer, ...]}; indices count up."""
    rows = [
        FoundSet(*key, np.array(found, dtype=int), np.arange(len(found)), np.ones(len(found)))
        for key, found in layers.items()
    ]
    facts = [f"f{i}" for i in range(n_facts)]
    table = as_table(selection, rows)
    return NeuronSets(table, selection, facts, list(languages), 3, 9, n_draws, origin={"model": "tiny"}, **settings)


EXAMPLE = sets_of({("f0", "en", 0): [0, 2, 2], ("f1", "en", 0): [2]})


def test_every_fact_has_a_count_for_every_layer():
    counts = count_layers(EXAMPLE)
    assert counts.columns.tolist() == COUNT_COLUMNS
    assert counts["n_neurons"].tolist() == [1, 0, 2, 0, 0, 1, 0, 0, 0]
    assert counts["fact"].tolist() == ["f0"] * 3 + ["f1"] * 3 + ["f2"] * 3
    assert set(counts["model"]) == {"tiny"}


def test_facts_without_attribution_are_not_counted():
    assert set(count_layers(sets_of({}, not_searched=[("f1", "en")]))["fact"]) == {"f0", "f2"}


def test_draws_of_a_random_control_add_up():
    drawn = sets_of({("f0", "all", 0): [0, 1], ("f0", "all", 1): [1, 1]}, "random", ["all"], n_draws=2)
    assert count_layers(drawn)["n_neurons"].tolist()[:3] == [1, 3, 0]


def test_shares_by_hand():
    table = layer_shares(count_layers(EXAMPLE))
    assert table.columns.tolist() == LAYER_COLUMNS
    assert table["value"].tolist() == pytest.approx([0.25, 0.0, 0.75])
    assert table["n_neurons"].tolist() == [1, 0, 3]
    assert table["n"].tolist() == [3, 3, 3] and table["n_empty"].tolist() == [1, 1, 1]
    assert (table["lo"] <= table["value"]).all() and (table["value"] <= table["hi"]).all()
    assert table.loc[1, ["lo", "hi"]].tolist() == [0.0, 0.0]


def test_shares_are_of_neurons_and_not_means_of_facts():
    table = layer_shares(count_layers(sets_of({("f0", "en", 0): [0] * 9, ("f1", "en", 0): [1]}, n_facts=2)))
    assert table["value"].tolist() == pytest.approx([0.9, 0.1, 0.0])


def test_facts_alike_give_an_interval_of_no_width():
    table = layer_shares(count_layers(sets_of({(f"f{i}", "en", 0): [0, 0, 0, 1] for i in range(3)})))
    assert table[["value", "lo", "hi"]].values.tolist() == [[0.75] * 3, [0.25] * 3, [0.0] * 3]


def test_when_every_set_is_empty_there_is_no_share():
    table = layer_shares(count_layers(sets_of({})))
    assert table[["value", "lo", "hi"]].isna().all().all() and table["n_empty"].eq(3).all()


def test_selections_and_languages_stay_apart():
    likn = sets_of({("f0", "all", 0): [1]}, "likn", ["all"])
    amig = sets_of({("f0", "en", 0): [0], ("f0", "fi", 0): [2]}, "amig", ["en", "fi"])
    table = layer_distribution([amig, likn])
    sure = table[table["value"] == 1][["selection", "language", "layer"]].values.tolist()
    assert sure == [["amig", "en", 0], ["amig", "fi", 2], ["likn", "all", 1]]


@pytest.mark.parametrize("sets", [[], [sets_of({}, n_facts=0)]])
def test_nothing_to_count_is_an_empty_table(sets):
    table = layer_distribution(sets)
    assert table.columns.tolist() == LAYER_COLUMNS and table.empty
