"""Neuron sets: found rows, empty sets and what was never searched are three different things."""

import numpy as np
import pandas as pd
import pytest

from knatlas.errors import AtlasError
from knatlas.selection.neuron_set import SET_COLUMNS, FoundSet, NeuronSets, as_table, read_neuron_sets
from knatlas.storage import write_table


def found(fact, language, neurons, scores, draw=0):
    layers, indices = np.array(neurons, dtype=int).reshape(-1, 2).T
    return FoundSet(fact, language, draw, layers, indices, np.array(scores, dtype=float))


FOUND = [
    found("a", "en", [(0, 1), (1, 5), (1, 2)], [0.1, 0.9, 0.9]),
    found("a", "fi", [], []),
    found("b", "en", [(2, 3)], [0.5]),
]
ORIGIN = {"model": {"name": "tiny", "revision": "r1"}, "dtype": "float32"}


def example(**changes):
    settings = {"not_searched": [("b", "fi")], "origin": ORIGIN} | changes
    return NeuronSets(as_table("amig", FOUND), "amig", ["a", "b"], ["en", "fi"], 3, 6, **settings)


def as_lists(neurons):
    return tuple(part.tolist() for part in neurons)


def test_the_table_has_the_agreed_columns_and_the_best_neuron_first():
    table = as_table("amig", FOUND)
    assert table.columns.tolist() == SET_COLUMNS
    assert table.values.tolist() == [
        ["a", "en", 0, 1, 2, 0.9, "amig"],
        ["a", "en", 0, 1, 5, 0.9, "amig"],
        ["a", "en", 0, 0, 1, 0.1, "amig"],
        ["b", "en", 0, 2, 3, 0.5, "amig"],
    ]


def test_layers_and_indices_of_a_fact():
    assert as_lists(example().of("a", "en")) == ([1, 1, 0], [2, 5, 1])
    assert as_lists(example().of("a", "fi")) == ([], [])


def test_one_set_for_all_languages_serves_each():
    sets = NeuronSets(as_table("likn", [found("a", "all", [(1, 1)], [1.0])]), "likn", ["a"], ["all"], 3, 6)
    assert as_lists(sets.of("a", "en")) == as_lists(sets.of("a", "all")) == ([1], [1])
    assert sets.is_searched("a", "ko") and not sets.is_searched("b", "ko")


def test_draws_are_kept_apart():
    rows = [found("a", "all", [(0, draw)], [np.nan], draw) for draw in range(2)]
    sets = NeuronSets(as_table("random", rows), "random", ["a"], ["all"], 3, 6, n_draws=2)
    assert as_lists(sets.of("a", "en", 1)) == ([0], [1])
    with pytest.raises(AtlasError, match="draw 2 of selection random: expected 0 to 1"):
        sets.of("a", "en", 2)


def test_searched_empty_and_not_searched_differ():
    sets = example()
    assert sets.is_searched("a", "fi") and not sets.is_searched("b", "fi") and not sets.is_searched("a", "zh")


def test_what_was_not_searched_is_refused():
    with pytest.raises(AtlasError, match="fact c was not searched"):
        example().of("c", "en")
    with pytest.raises(AtlasError, match=r"language is 'zh'.*\(en fi\)"):
        example().of("a", "zh")


@pytest.mark.parametrize("rows", [FOUND, []])
def test_a_file_gives_back_what_was_written(tmp_path, rows):
    sets = NeuronSets(as_table("amig", rows), "amig", ["a", "b"], ["en", "fi"], 3, 6, 1, [("b", "fi")], ORIGIN)
    write_table(sets.table, tmp_path / "sets.parquet", sets.metadata)
    again = read_neuron_sets(tmp_path / "sets.parquet")
    pd.testing.assert_frame_equal(again.table, sets.table)
    assert again.metadata == sets.metadata
    assert (again.model, again.shape, again.not_searched) == ("tiny", (3, 6), [("b", "fi")])
    assert as_lists(again.of("b", "en")) == (([2], [3]) if rows else ([], []))


def test_a_table_without_a_column_is_refused():
    with pytest.raises(AtlasError, match="column score is missing"):
        NeuronSets.from_table(example().table.drop(columns="score"), example().metadata)
