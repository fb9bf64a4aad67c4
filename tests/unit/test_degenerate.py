"""Degenerate neurons: thresholds and growth on formulas against the definition, and summaries by hand."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from knatlas.errors import AtlasError
from knatlas.selection.degenerate import Thresholds, most_combinations, search, search_together
from knatlas.statistics.degenerate import DEGENERATE_COLUMNS, degenerate_layers, summarise_degenerate

# numbers that binary fractions hold exactly, so that "equal to the threshold" is meant literally
QUARTERS = Thresholds(low=0.25, high=0.5)


class Formula:
    """P by combination, `other` for those not listed; notes what it was asked, call by call."""

    def __init__(self, listed, other=1.0):
        self.listed, self.other, self.calls = listed, other, []

    def __call__(self, parts):
        self.calls.append(list(parts))
        return np.array([self.listed.get(part, self.other) for part in parts])

    @property
    def asked(self):
        return [part for call in self.calls for part in call]


def degenerate(found):
    return [part.neurons for part in found.clusters]


def random_formula(n_neurons, seed):
    """P of every combination at random, mostly near 1 for small ones."""
    random = np.random.default_rng(seed)
    parts = [part for size in range(n_neurons + 1) for part in combinations(range(n_neurons), size)]
    return Formula({part: float(random.random() ** (0.15 * len(part) ** 1.5)) for part in parts})


def test_a_drop_of_exactly_low_is_a_candidate_and_one_just_above_is_not():
    found = search(3, Formula({(0,): 0.75, (1,): np.nextafter(0.75, 0), (2,): 1.0}), QUARTERS)
    assert found.candidates == [0, 2]
    assert [part.neurons for part in found.pairs] == [(0, 2)]


def test_a_drop_of_exactly_high_is_not_degenerate_and_one_just_above_is():
    found = search(3, Formula({(0, 1): 0.5, (0, 2): 0.5 - 2**-50}), QUARTERS)
    assert degenerate(found) == [(0, 2)]


@pytest.mark.parametrize("kind, expected", [("relative", [(0, 1)]), ("absolute", [])])
def test_drops_are_shares_of_p_before_or_differences(kind, expected):
    formula = Formula({(): 0.5, (0,): 0.375, (1,): 0.5, (0, 1): 0.125})
    found = search(2, formula, Thresholds(kind, low=0.25, high=0.5))
    assert degenerate(found) == expected
    (pair,) = found.pairs
    scale = 2 if kind == "relative" else 1
    assert (pair.drop, found.sum_of_drops(pair), found.excess(pair)) == (0.375 * scale, 0.125 * scale, 0.25 * scale)


def test_neurons_whose_suppression_raises_p_are_candidates_and_counted():
    found = search(3, Formula({(): 0.5, (0,): 0.625, (1,): 0.125, (2,): 0.5, (0, 2): 0.125}), QUARTERS)
    assert found.candidates == [0, 2] and found.n_raised == 1
    assert degenerate(found) == [(0, 2)] and found.excess(found.pairs[0]) == 0.75 + 0.25


def test_without_candidates_no_pair_is_asked_for():
    formula = Formula({}, other=0.0)
    formula.listed[()] = 1.0
    found = search(4, formula, QUARTERS)
    assert (found.candidates, found.pairs, found.clusters, found.n_raised) == ([], [], [], 0)
    assert len(formula.asked) == 1 + 4


@pytest.mark.parametrize("n_neurons", [0, 1])
def test_too_few_neurons_have_no_pair(n_neurons):
    formula = Formula({(): 0.5}, other=0.5)
    found = search(n_neurons, formula, Thresholds(largest=3))
    assert found.p_before == 0.5 and len(found.candidates) == n_neurons and found.larger == []
    assert formula.asked == [(), (0,)][: n_neurons + 1]


@pytest.mark.parametrize("kind", ["relative", "absolute"])
def test_p_before_of_zero_cannot_fall(kind):
    found = search(3, Formula({(1,): 0.25}, other=0.0), Thresholds(kind))
    assert found.candidates == [0, 1, 2] and found.n_raised == 1
    assert len(found.pairs) == 3 and found.clusters == []
    assert [part.drop for part in found.singles] == [0.0, 0.0 if kind == "relative" else -0.25, 0.0]


def test_pairs_cost_at_most_1_20_and_190_probabilities_in_three_calls():
    formula = Formula({})
    search(20, formula, Thresholds())
    assert [len(call) for call in formula.calls] == [1, 20, 190]
    assert most_combinations(20, Thresholds()) == 210


def test_three_that_are_degenerate_only_together():
    formula = Formula({(0, 1, 2): 0.0})
    assert degenerate(search(4, formula, QUARTERS)) == []
    assert degenerate(search(4, formula, Thresholds(low=0.25, high=0.5, largest=3))) == [(0, 1, 2)]


@pytest.mark.parametrize("p_of_pair", [0.0, 0.625])  # the pair is degenerate itself, or neither safe nor degenerate
def test_three_with_an_unsafe_pair_are_neither_tested_nor_reported(p_of_pair):
    formula = Formula({(0, 1): p_of_pair, (0, 1, 2): 0.0, (0, 2, 3): 0.0})
    found = search(4, formula, Thresholds(low=0.25, high=0.5, largest=3))
    assert (0, 1, 2) not in formula.asked
    assert degenerate(found) == [(0, 1)] * (p_of_pair == 0.0) + [(0, 2, 3)]


def test_only_the_beam_of_safe_combinations_with_the_largest_drop_grows():
    pairs = {(0, 1): 0.75, (0, 2): 0.8, (1, 2): 0.85, (0, 3): 0.9}  # then (1, 3) and (2, 3), whose drop is 0
    formula = Formula(pairs, other=1.0)
    search(4, formula, Thresholds(low=0.25, high=0.5, largest=3, beam=3))
    assert formula.calls[-1] == [(0, 1, 2)]
    narrow = Formula(pairs, other=1.0)
    found = search(4, narrow, Thresholds(low=0.25, high=0.5, largest=3, beam=2))
    assert max(map(len, narrow.asked)) == 2  # (1, 2) was safe but left the beam: it doesn't count as safe for (0, 1, 2)
    assert len(found.pairs) == 6


def definition(formula, n_neurons, settings):
    """Eqs. 9 and 10 by hand: every proper subset drops by at most low, the whole by more than high."""
    parts = [part for size in range(2, settings.largest + 1) for part in combinations(range(n_neurons), size)]
    before = formula.listed[()]
    drops = {part: (before - p) / before for part, p in formula.listed.items()}

    def is_degenerate(part):
        subsets = [subset for size in range(1, len(part)) for subset in combinations(part, size)]
        return drops[part] > settings.high and all(drops[subset] <= settings.low for subset in subsets)

    return [part for part in parts if is_degenerate(part)]


@pytest.mark.parametrize("seed", range(12))
def test_the_search_is_the_definition_when_the_beam_is_wide(seed):
    formula, settings = random_formula(7, seed), Thresholds(low=0.3, high=0.4, largest=5, beam=1000)
    found = search(7, formula, settings)
    assert degenerate(found) == definition(formula, 7, settings)
    assert len(formula.asked) - 1 <= most_combinations(7, settings)


def test_the_definition_is_met_with_a_narrow_beam_too():
    n_missed = n_found = 0
    for seed in range(40):
        formula, settings = random_formula(7, seed), Thresholds(low=0.3, high=0.4, largest=5, beam=4)
        found, all_there_are = degenerate(search(7, formula, settings)), definition(formula, 7, settings)
        assert set(found) <= set(all_there_are)
        assert len(formula.asked) - 1 <= most_combinations(7, settings)
        n_missed, n_found = n_missed + len(all_there_are) - len(found), n_found + len(found)
    assert n_found > 40 and n_missed > 0


def test_facts_searched_together_are_as_if_searched_alone():
    settings, sizes = Thresholds(low=0.6, high=0.65, largest=4, beam=20), [5, 0, 7, 1]
    formulas, calls = [random_formula(size, seed) for seed, size in enumerate(sizes)], []

    def together(asked):
        calls.append({len(part) for _, part in asked})
        return np.array([formulas[i].listed[part] for i, part in asked])

    found = search_together(sizes, [formula.listed[()] for formula in formulas], together, settings)
    assert found == [search(size, formula, settings) for size, formula in zip(sizes, formulas, strict=True)]
    assert calls == [{1}, {2}, {3}, {4}]
    assert sum(len(part.clusters) for part in found) > 2


@pytest.mark.parametrize(
    "settings, sentence",
    [
        ({"kind": "relativ"}, "kind is 'relativ'; expected .* Did you mean 'relative'"),
        ({"low": 0.3}, "high is 0.25 and low 0.3; expected high at or above low"),
        ({"top": 0}, "top is 0; expected a number from 1"),
        ({"largest": 1}, "largest is 1; expected a number from 2"),
        ({"beam": 0}, "beam is 0; expected a number from 1"),
    ],
)
def test_thresholds_that_make_no_sense_are_sentences(settings, sentence):
    with pytest.raises(AtlasError, match=sentence):
        Thresholds(**settings)


# Summaries: two facts with pairs, one without, one with P before = 0.


COUNTS = [
    *("n_neurons", "n_top", "n_candidates", "n_pairs"),
    *("n_degenerate_pairs", "n_super_additive", "n_clusters", "n_raised"),
]


def pair_row(fact, drops, is_degenerate=True, sets="found"):
    excess = drops[2] - drops[0] - drops[1]
    names = ["drop_1", "drop_2", "drop_12"]
    row = {"model": "tiny", "sets": sets, "fact": fact, "language": "en", "excess": excess}
    return row | dict(zip(names, drops, strict=True)) | {"is_degenerate": is_degenerate}


def fact_row(fact, counts, p_before=0.5, sets="found"):
    row = {"model": "tiny", "sets": sets, "fact": fact, "relation": "P1", "language": "en", "p_before": p_before}
    return row | dict(zip(COUNTS, counts, strict=True))


PAIRS = pd.DataFrame(
    [
        pair_row("a", (0.0, 0.125, 0.875)),
        pair_row("a", (0.125, 0.125, 0.25)),
        pair_row("a", (0.0, 0.0, 0.0), is_degenerate=False),
        pair_row("b", (0.125, 0.0, 1.0)),
        pair_row("d", (0.0, 0.0, 0.0), is_degenerate=False),
        pair_row("a", (0.0, 0.0, 0.0), is_degenerate=False, sets="random"),
    ]
)
SEARCHED = pd.DataFrame(
    [
        fact_row("a", (25, 20, 3, 3, 2, 1, 3, 1)),
        fact_row("b", (4, 4, 2, 1, 1, 1, 1, 0)),
        fact_row("c", (0, 0, 0, 0, 0, 0, 0, 0)),
        fact_row("d", (2, 2, 2, 1, 0, 0, 0, 2), p_before=0.0),
        fact_row("a", (25, 20, 3, 1, 0, 0, 0, 1), sets="random"),
    ]
)


def values_of(table, sets="found"):
    return table[table["sets"] == sets].set_index("statistic")


def test_summaries_by_hand():
    table = summarise_degenerate(PAIRS, SEARCHED, resamples=200)
    assert table.columns.tolist() == DEGENERATE_COLUMNS
    assert values_of(table)["value"].to_dict() == pytest.approx(
        {
            "facts_with_pairs": 2 / 4,
            "pairs_per_fact": 3 / 4,
            "clusters_per_fact": 4 / 4,
            "candidates_per_fact": 7 / 4,
            "share_degenerate": 3 / 5,
            "share_super_additive": 2 / 3,
            "share_merely_additive": 1 / 3,
            "mean_excess": (0.75 + 0.0 + 0.875) / 3,
            "mean_drop_1": (0.125 + 0.25 + 0.125) / 6,
            "mean_drop_12": (0.875 + 0.25 + 1.0) / 3,
            "share_raised": 3 / 7,
            "n_no_neurons": 1,
            "n_few_candidates": 1,
            "n_p_zero": 1,
        }
    )
    assert set(values_of(table)["n"]) == {4}


def test_intervals_surround_the_values_and_counts_have_none():
    table = values_of(summarise_degenerate(PAIRS, SEARCHED, resamples=200))
    is_count = table.index.str.startswith("n_")
    assert table.loc[is_count, ["lo", "hi"]].isna().all().all()
    assert (table["lo"] <= table["value"])[~is_count].all() and (table["value"] <= table["hi"])[~is_count].all()


def test_without_degenerate_pairs_shares_of_them_are_not_numbers():
    table = values_of(summarise_degenerate(PAIRS, SEARCHED, resamples=50), "random")
    assert table.loc[["share_super_additive", "mean_excess", "mean_drop_1"], "value"].isna().all()
    assert table.loc[["share_degenerate", "facts_with_pairs"], "value"].tolist() == [0.0, 0.0]


def test_summaries_do_not_depend_on_the_order_of_rows():
    expected = summarise_degenerate(PAIRS, SEARCHED, resamples=100)
    turned = summarise_degenerate(PAIRS[::-1], SEARCHED.iloc[[3, 1, 2, 0, 4]], resamples=100)
    pd.testing.assert_frame_equal(turned, expected)


def test_layers_are_weighed_by_pairs_and_not_by_facts():
    members = [("a", 0, 0, 1), ("a", 0, 0, 2), ("a", 1, 0, 1), ("a", 1, 2, 5), ("b", 0, 2, 3), ("b", 0, 2, 4)]
    clusters = pd.DataFrame(members, columns=["fact", "cluster", "layer", "index"])
    clusters = pd.concat([clusters.assign(sets="found"), clusters[:2].assign(sets="random")])
    layers = degenerate_layers(clusters.assign(model="tiny", language="en"), SEARCHED, {"tiny": 3}, resamples=100)
    assert layers["value"].tolist() == pytest.approx([0.5, 0.0, 0.5])
    assert layers["n_neurons"].tolist() == [3, 0, 3] and set(layers["n"]) == {4} and set(layers["n_empty"]) == {2}
