"""Stability of neuron sets by hand: overlaps, their chance levels, resampled paraphrases, names written alike."""

from itertools import combinations, product
from math import comb

import numpy as np
import pandas as pd
import pytest

from knatlas.selection.neuron_set import FoundSet, NeuronSets, as_table
from knatlas.selection.scores import Scores
from knatlas.statistics.chance import chance_jaccard, chance_of_frequent
from knatlas.statistics.paraphrases import expected_overlap, query_counts, resampled_refined
from knatlas.statistics.shared_names import name_pairs, shared_names_table
from knatlas.statistics.stability import stability_table

RELATIONS = {"a": "P1", "b": "P1", "c": "P2", "d": "P2"}
LANGUAGES = ["en", "fi"]


def neuron_sets(found, selection="amig", shape=(2, 10), languages=LANGUAGES):
    """Sets from {(fact, language): [(layer, index), ...]}."""
    parts = []
    for (fact, language), places in found.items():
        layers, indices = np.array(places, int).reshape(-1, 2).T
        parts.append(FoundSet(fact, language, 0, layers, indices, np.ones(len(layers))))
    facts = sorted({fact for fact, _ in found})
    table = as_table(selection, parts)
    return NeuronSets(table, selection, facts, list(languages), *shape, origin={"model": "m"})


def sets_of(by_fact, selection="amig", languages=LANGUAGES, **settings):
    """The same sets in every language."""
    found = {(fact, language): places for fact, places in by_fact.items() for language in languages}
    return neuron_sets(found, selection, languages=languages, **settings)


def lines_of(sets, relations=RELATIONS, pairs=()):
    return stability_table(sets, relations, pairs).set_index(["selection", "language", "statistic"])


def test_chance_overlap_is_the_hypergeometric_expectation():
    first, second, n = 3, 2, 10
    exact = sum(
        comb(first, k) * comb(n - first, second - k) / comb(n, second) * k / (first + second - k) for k in range(3)
    )
    counts = [np.array([[0, size]]) for size in (first, second)]
    found = chance_jaccard(*counts, n, np.random.default_rng(0), n_draws=100_000)
    assert found[0] == pytest.approx(exact, abs=4 * 0.15 / np.sqrt(100_000))


def test_chance_overlap_keeps_layers_apart_and_is_one_where_a_layer_is_full():
    stream = np.random.default_rng(0)
    layers = np.array([[4, 0], [0, 4], [0, 0]])
    np.testing.assert_array_equal(chance_jaccard(layers, np.array([[4, 0]] * 2 + [[0, 0]]), 4, stream), [1, 0, np.nan])


def test_chance_share_of_frequent_neurons_is_that_over_all_possible_sets():
    sizes, n = [1, 2, 1], 4
    frequent, total = 0, 0
    for sets in product(*(combinations(range(n), size) for size in sizes)):
        counts = np.bincount([i for part in sets for i in part], minlength=n)
        frequent, total = frequent + counts[counts >= 2].sum(), total + counts.sum()
    assert chance_of_frequent(np.array([sizes]).T, n, 2) == pytest.approx(frequent / total)


def test_overlap_with_other_facts_of_the_relation_and_of_others():
    places = {"a": [(0, 0), (0, 1)], "b": [(0, 0), (1, 2)], "c": [(1, 3)], "d": [(1, 3), (0, 0)]}
    found = lines_of([sets_of(places)])
    # a and b share one of three, c and d one of two
    assert found.loc["amig", "en", "same_relation"]["value"] == pytest.approx((1 / 3 + 1 / 3 + 1 / 2 + 1 / 2) / 4)
    # a: c 0, d 1/3; b the same; c: 0; d: 1/3 with each of a, b
    assert found.loc["amig", "en", "other_relation"]["value"] == pytest.approx((1 / 6 + 1 / 6 + 0 + 1 / 3) / 4)


def test_frequent_neurons_are_counted_and_taken_out():
    places = {"a": [(0, 0), (0, 1)], "b": [(0, 0)], "c": [(1, 3)], "d": [(1, 4)]}
    found = lines_of([sets_of(places)])
    # (0, 0) is in two of four sets: half of a's, all of b's
    assert found.loc["amig", "en", "frequent_share"]["value"] == pytest.approx((0.5 + 1) / 4)
    assert found.loc["amig", "en", "same_relation"]["value"] == pytest.approx((0.5 + 0.5 + 0 + 0) / 4)
    assert found.loc["amig", "en", "same_relation_without_frequent"]["value"] == 0.0


def test_languages_compare_the_sets_of_one_fact_and_empty_pairs_do_not_count():
    found = {("a", "en"): [(0, 0)], ("a", "fi"): [(0, 0), (0, 1)], ("b", "en"): [], ("b", "fi"): []}
    line = lines_of([neuron_sets(found)]).loc["amig", "all", "languages"]
    assert (line["value"], line["n"]) == (0.5, 1)
    assert line["chance"] == pytest.approx(0.1, abs=0.02)  # shared with chance 2 / 10, and then 1 / 2


def test_halves_of_a_relation_agree_on_what_all_its_facts_have():
    common = {name: [(0, 0), (1, i)] for i, name in enumerate("abcd")}
    line = lines_of([sets_of(common)], dict.fromkeys("abcd", "P1")).loc["amig", "en", "split_half"]
    assert (line["value"], line["n"]) == (1.0, 1)
    assert lines_of([sets_of(common)]).loc["amig", "en", "split_half"]["n"] == 0  # two facts of each relation


def test_paraphrases_compare_two_selections_fact_by_fact():
    refined, first = sets_of({"a": [(0, 0), (0, 1)]}, "refined"), sets_of({"a": [(0, 0)]}, "bkn")
    table = stability_table([refined, first], RELATIONS, [("refined", "bkn"), ("refined", "dkn")])
    lines = table[table["statistic"] == "paraphrases"]
    assert lines[["other", "language", "value"]].values.tolist() == [["bkn", "en", 0.5], ["bkn", "fi", 0.5]]


def test_random_sets_overlap_as_chance_says():
    stream = np.random.default_rng(5)
    places = {f"{i:02}": [(0, index) for index in stream.choice(20, 5, replace=False)] for i in range(40)}
    sets = sets_of(places, shape=(1, 20), languages=["all"])
    line = lines_of([sets], dict.fromkeys(places, "P1")).loc["amig", "all", "same_relation"]
    assert line["lo"] <= line["chance"] <= line["hi"]


def test_sets_of_no_fact_give_rows_without_a_value():
    found = lines_of([sets_of({"a": []})])
    assert found["value"].isna().all()
    assert (found["n"] == 0).all()


@pytest.mark.parametrize("least", [0.5, 0.7])
def test_resampled_paraphrases_are_the_mean_over_all_resamples(least):
    coarse = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [1, 1, 0, 0]])  # three queries, four neurons of one layer
    refined = coarse.mean(axis=0) > least
    again = [coarse[list(rows)].mean(axis=0) > least for rows in product(range(3), repeat=3)]
    shared = np.mean([(part & refined).sum() for part in again])
    either = refined.sum() + np.mean([part.sum() for part in again]) - shared
    found, chance = expected_overlap(coarse.mean(axis=0, keepdims=True).astype(np.float32), 3, least)
    assert found == pytest.approx(shared / either)
    assert 0 < chance < found


def test_a_fact_with_one_query_is_kept_as_it_is():
    scores = Scores({"bkn.share": np.array([[[[1.0, 0.0]], [[np.nan, np.nan]]]])}, ["a"], LANGUAGES)
    queries = pd.DataFrame({"fact": ["a", "a"], "language": ["en", "en"], "query": [0, 0], "method": ["bkn", "amig"]})
    (en, fi) = resampled_refined(scores, query_counts(queries), 0.5)
    assert en[:4] == ("refined", "", "en", "resampled_paraphrases")
    assert (en[4].tolist(), en[5]) == ([1.0], pytest.approx(0.5 / 1.5))
    assert np.isnan(fi[4]).all()


def names(**labels):
    rows = [(fact, "P1", language, label) for fact, pair in labels.items() for language, label in pair.items()]
    return pd.DataFrame(rows, columns=["fact", "relation", "language", "object_label"])


NAMES = names(a={"en": "Oslo", "fi": "Oslo"}, b={"en": "Rome", "fi": "Rooma"}, c={"en": "Paris"})


def test_names_are_compared_as_strings_where_both_are_known():
    pairs = name_pairs(NAMES, LANGUAGES)
    assert pairs[["fact", "pair", "is_same"]].values.tolist() == [["a", "en-fi", True], ["b", "en-fi", False]]
    assert name_pairs(NAMES, ["en"]).empty


def test_overlap_and_suppression_of_names_written_alike_beside_others():
    found = {("a", "en"): [(0, 0)], ("a", "fi"): [(0, 0)], ("b", "en"): [(0, 1)], ("b", "fi"): [(0, 2)]}
    after = {("a", "en"): 0.2, ("a", "fi"): 0.4, ("b", "en"): 0.5, ("b", "fi"): 0.5}
    rows = pd.DataFrame(
        [
            {"selection": "amig", "operation": "suppress", "language": language, "fact": fact, "probe": "own"}
            | {"p_before": 0.5, "p_after": p}
            for (fact, language), p in after.items()
        ]
    )
    table = shared_names_table([neuron_sets(found)], rows, name_pairs(NAMES, LANGUAGES))
    lines = table[table["pair"] == "en-fi"].set_index(["statistic", "group"])
    assert lines.loc[("share_same", "all"), "value"] == 0.5
    assert [lines.loc[("overlap", name), "value"] for name in ("same", "different", "difference")] == [1, 0, 1]
    assert lines.loc[("suppress", "same"), "value"] == pytest.approx((-0.6 - 0.2) / 2)
    assert lines.loc[("suppress", "difference"), "value"] == pytest.approx(-0.4)
    assert lines["n"].tolist() == [2, 1, 1, 2, 1, 1, 2]


def test_a_pair_of_languages_with_one_group_is_not_compared():
    rows = pd.DataFrame(columns=["selection", "operation", "language", "fact", "probe", "p_before", "p_after"])
    pairs = name_pairs(NAMES[NAMES["fact"] == "b"], LANGUAGES)
    table = shared_names_table([sets_of({"b": [(0, 0)]})], rows, pairs)
    assert set(table["statistic"]) == {"share_same"}
