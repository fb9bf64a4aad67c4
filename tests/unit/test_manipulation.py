"""Suppress and enhance with a model that is a formula: which queries are run, with which neurons, what comes out."""

import numpy as np
import pandas as pd
import pytest

from knatlas.errors import AtlasError
from knatlas.experiments.manipulation import COLUMNS, manipulate
from knatlas.experiments.probes import plan_probes
from knatlas.selection.neuron_set import FoundSet, NeuronSets, as_table

FACTS = {"P1:a>x": "X", "P1:b>y": "Y", "P1:c>x": "X", "P2:d>z": "Z"}


def prompts(n_queries=2, languages=("fi", "en")):
    rows = [
        {"fact": fact, "relation": fact[:2], "language": language, "query": query, "answer": answer}
        for language in languages
        for fact, answer in FACTS.items()
        for query in range(n_queries)
    ]
    return pd.DataFrame(rows)


def sets_of(neurons, selection="matrice", languages=("all",), n_draws=1, **settings):
    """Sets from {(fact, language, draw): [(layer, index), ...]}."""
    rows = []
    for (fact, language, draw), found in neurons.items():
        layers, indices = np.array(found, dtype=int).reshape(-1, 2).T
        rows.append(FoundSet(fact, language, draw, layers, indices, np.ones(len(found))))
    origin = {"model": {"name": "tiny"}}
    table = as_table(selection, rows)
    return NeuronSets(table, selection, list(FACTS), list(languages), 3, 24, n_draws, origin=origin, **settings)


MATRICE = sets_of({("P1:a>x", "all", 0): [(0, 1), (2, 5)], ("P1:b>y", "all", 0): [(1, 1)]})


class Formula:
    """P = .5 * factor ** (number of neurons) / (1 + query) for the fact P1:a>x, .25 for others; notes its requests."""

    def __init__(self):
        self.requests = []

    def __call__(self, requests):
        self.requests += requests
        p = np.array([self.probability(request) for request in requests])
        return p, p > 0.3

    def probability(self, request):
        if request.fact != "P1:a>x":
            return 0.25
        return 0.5 * request.factor ** len(request.layers) / (1 + request.query)


def measure(*sets, **settings):
    formula = Formula()
    return manipulate(sets or [MATRICE], prompts(), formula, **settings), formula


def rows_of(table, **values):
    for column, value in values.items():
        table = table[table[column] == value]
    return table


def test_the_columns_are_the_agreed_ones():
    table, _ = measure()
    assert table.columns.tolist() == COLUMNS
    assert not table.isna().any().any()
    assert set(table["model"]) == {"tiny"} and set(table["draw"]) == {0}


def test_own_queries_before_and_after():
    table, _ = measure()
    own = rows_of(table, fact="P1:a>x", probe="own", language="en").set_index(["operation", "query"])
    assert own["p_before"].to_dict() == {
        ("suppress", 0): 0.5,
        ("suppress", 1): 0.25,
        ("enhance", 0): 0.5,
        ("enhance", 1): 0.25,
    }
    assert own["p_after"].tolist() == [0.0, 0.0, 2.0, 1.0]
    assert own["is_right_before"].tolist() == [True, False, True, False]
    assert own["is_right_after"].tolist() == [False, False, True, True]
    assert set(own["n_neurons"]) == {2} and set(own["probed_fact"]) == {"P1:a>x"}


def test_factors_can_be_chosen():
    table, _ = measure(factors={"enhance": 3.0})
    own = rows_of(table, fact="P1:a>x", probe="own", language="fi", query=0)
    assert own[["operation", "p_after"]].values.tolist() == [["enhance", 4.5]]


def test_other_facts_are_probed_with_the_neurons_of_this_one():
    table, _ = measure()
    probes = table[table["fact"] != table["probed_fact"]]
    same, other = (rows_of(probes, probe=name) for name in ("same_relation", "other_relation"))
    assert set(same["query"]) | set(other["query"]) == {0}
    # P1:a>x and P1:c>x have the same answer, so that only P1:b>y can stand for the relation of each
    assert set(same[same["fact"] != "P1:b>y"]["probed_fact"]) == {"P1:b>y"}
    assert set(same["fact"]) == {"P1:a>x", "P1:b>y", "P1:c>x"}  # P2 has one fact only
    assert set(other[other["relation"] == "P1"]["probed_fact"]) == {"P2:d>z"}
    assert set(rows_of(other, fact="P2:d>z")["relation"]) == {"P2"}
    assert rows_of(same, fact="P1:a>x")["n_neurons"].eq(2).all()
    assert rows_of(same, fact="P1:a>x")["p_after"].eq(0.25).all()


def test_one_other_fact_is_probed_in_every_language():
    table, _ = measure()
    others = table[table["probe"] != "own"]
    assert others.groupby(["fact", "probe"])["probed_fact"].nunique().eq(1).all()
    assert others.groupby(["fact", "probe"])["language"].nunique().eq(2).all()


def test_empty_sets_are_not_run_and_stay_in_the_table():
    table, formula = measure()
    empty = rows_of(table, fact="P2:d>z", probe="own")
    assert len(empty) == 2 * 2 * 2  # queries, languages, operations
    assert empty["n_neurons"].eq(0).all() and (empty["p_after"] == empty["p_before"]).all()
    assert not [request for request in formula.requests if request.factor != 1.0 and not len(request.layers)]


def test_p_before_is_measured_once_per_query():
    random = sets_of({("P1:a>x", "all", draw): [(0, draw)] for draw in range(3)}, "random", n_draws=3)
    _, formula = measure(MATRICE, random)
    clean = [request[:3] for request in formula.requests if request.factor == 1.0]
    assert len(clean) == len(set(clean)) == len(FACTS) * 2 * 2


def test_every_selection_and_draw_is_measured():
    random = sets_of({("P1:a>x", "all", draw): [(0, draw)] for draw in range(3)}, "random", n_draws=3)
    table, formula = measure(MATRICE, random)
    counts = table.groupby(["selection", "draw"]).size()
    assert counts.index.tolist() == [("matrice", 0), ("random", 0), ("random", 1), ("random", 2)]
    assert counts.nunique() == 1
    drawn = {request.indices[0] for request in formula.requests if len(request.indices) == 1 and request.layers[0] == 0}
    assert drawn == {0, 1, 2}


def test_sets_per_language_are_measured_in_their_language():
    amig = sets_of(
        {("P1:a>x", "en", 0): [(0, 1)], ("P1:a>x", "fi", 0): [(0, 1), (0, 2), (0, 3)]},
        "amig",
        ["en", "fi"],
        not_searched=[("P1:b>y", "fi")],
    )
    table, _ = measure(amig)
    own = rows_of(table, probe="own", operation="enhance", query=0)
    assert own.set_index(["fact", "language"])["p_after"].to_dict() == {
        ("P1:a>x", "en"): 1.0,
        ("P1:a>x", "fi"): 4.0,
        ("P1:b>y", "en"): 0.25,
        ("P1:c>x", "en"): 0.25,
        ("P1:c>x", "fi"): 0.25,
        ("P2:d>z", "en"): 0.25,
        ("P2:d>z", "fi"): 0.25,
    }


def test_progress_ends_at_the_number_of_requests():
    steps = []
    table, formula = measure(progress=lambda done, total, message: steps.append((done, total, message)))
    assert steps[-1][0] == steps[-1][1] == len(formula.requests)
    assert steps[0][2] == "before" and steps[-1][2] == "matrice enhance"
    assert len(table) > 0


def test_a_searched_fact_needs_prompts():
    few = prompts().query("fact != 'P2:d>z'")
    with pytest.raises(AtlasError, match="1 searched facts have no prompts, the first is P2:d>z"):
        manipulate([MATRICE], few, Formula())


def test_probes_depend_on_the_seed_and_not_on_the_order_of_rows():
    facts = [f"P{relation}:s{i}>o{i}" for relation in range(3) for i in range(8)]
    rows = [
        {"fact": fact, "relation": fact[:2], "language": language, "query": 0, "answer": fact[-2:]}
        for fact in facts
        for language in ("en", "fi")
    ]
    table = pd.DataFrame(rows)
    keys = ["fact", "language", "probe"]

    def plan(prompts, facts, seed):
        return plan_probes(prompts, facts, seed).set_index(keys)["probed_fact"].sort_index()

    first = plan(table, facts, 1)
    pd.testing.assert_series_equal(plan(table[::-1], facts[::-1], 1), first)
    others = first[first.index.get_level_values("probe") != "own"]
    assert len(others) == 24 * 2 * 2 and others.nunique() > 12
    assert (plan(table, facts, 2) != first).sum() > 40
