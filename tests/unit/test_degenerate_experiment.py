"""The search for degenerate neurons over facts: a model that is a formula, a network with planted pairs, batches."""

import json

import numpy as np
import pandas as pd
import pytest

import knatlas.experiments.degenerate as experiment
import knatlas.experiments.measurement as measurement
from knatlas.errors import AtlasError
from knatlas.experiments.degenerate import search_degenerate
from knatlas.experiments.evaluation import evaluate_with
from knatlas.figures.layers import plot_layers
from knatlas.selection.degenerate import Thresholds
from knatlas.selection.neuron_set import FoundSet, NeuronSets, as_table
from knatlas.statistics.degenerate import DEGENERATE_COLUMNS, degenerate_layers, summarise_degenerate
from knatlas.statistics.layers import LAYER_COLUMNS
from tests.planted_network import ADDITIVE, DEGENERATE, LOST, PLAIN, STEP, planted_network
from tests.tiny_models import tiny_model, tiny_prompts

# numbers that binary fractions hold exactly
QUARTERS = Thresholds(low=0.25, high=0.5)

# A model that is a formula: the relevant neurons of a fact are those of layer 1, of which pairs (0, i) are degenerate.

PAIR_COLUMNS = (
    "model sets fact relation language first_layer first_index second_layer second_index p_before p_first p_second "
    "p_both drop_1 drop_2 drop_12 excess is_degenerate"
)
CLUSTER_COLUMNS = (
    "model sets fact relation language cluster size layer index score p_before p_after drop sum_of_drops excess"
)
FACT_COLUMNS = (
    "model sets fact relation language p_before n_neurons n_top n_candidates n_pairs n_degenerate_pairs "
    "n_super_additive n_clusters n_raised"
)
FACTS = ["P1:a", "P1:b", "P2:c"]
# neurons of P1:a in falling order of score; P1:b has one neuron, P2:c none in en and no attribution in fi
NEURONS = {("P1:a", "en"): [(1, 2), (0, 4), (1, 0), (1, 3)], ("P1:a", "fi"): [(1, 0), (1, 5)], ("P1:b", "en"): [(2, 7)]}


def sets_of(neurons=NEURONS, facts=FACTS, languages=("en", "fi"), not_searched=(("P2:c", "fi"),), shape=(3, 12)):
    rows = []
    for (fact, language), found in neurons.items():
        layers, indices = np.array(found, dtype=int).reshape(-1, 2).T
        rows.append(FoundSet(fact, language, 0, layers, indices, np.arange(len(found), 0, -1.0)))
    origin = {"model": {"name": "tiny", "revision": "r1"}}
    table = as_table("amig", rows)
    return NeuronSets(
        table, "amig", list(facts), list(languages), *shape, not_searched=list(not_searched), origin=origin
    )


def prompts(facts=FACTS, languages=("en", "fi"), numbers=(4, 2)):
    rows = [(fact, fact[:2], language, query) for query in numbers for fact in facts for language in languages]
    return pd.DataFrame(rows, columns=["fact", "relation", "language", "query"])


class Model:
    """P = 1/2, 3/8 without one of layer 1, 0 without (1, 0) and another of layer 1; notes its requests."""

    def __init__(self):
        self.requests = []

    def __call__(self, requests):
        self.requests += requests
        return np.array([self.probability(request) for request in requests]), np.ones(len(requests), bool)

    def probability(self, request):
        relevant = set(request.indices[request.layers == 1]) if request.factor == 0 else set()
        return 0.0 if len(relevant) > 1 and 0 in relevant else 0.5 - 0.125 * min(1, len(relevant))


def run(reference=None, table=None, settings=QUARTERS, **others):
    model = Model()
    return search_degenerate(reference or sets_of(), prompts() if table is None else table, model, settings, **others)


def of(table, sets="found", **values):
    for column, value in {"sets": sets, **values}.items():
        table = table[table[column] == value]
    return table


def sorted_rows(table):
    keys = ["sets", "fact", "language", *[name for name in table if table[name].dtype.kind in "ib"]]
    return table.sort_values(keys, kind="stable").reset_index(drop=True)


def test_the_columns_are_the_agreed_ones_also_when_nothing_is_found():
    for found in (run(), run(sets_of({})), run(sets_of({}, facts=[], not_searched=()), prompts(facts=[]))):
        assert found.pairs.columns.tolist() == PAIR_COLUMNS.split()
        assert found.clusters.columns.tolist() == CLUSTER_COLUMNS.split()
        assert found.facts.columns.tolist() == FACT_COLUMNS.split()
        types = [[str(kind) for kind in table.dtypes] for table in found[:3]]
        assert types == [[str(kind) for kind in table.dtypes] for table in run()[:3]]


def test_pairs_by_hand():
    pairs = of(run().pairs, fact="P1:a", language="en")
    places = pairs[["first_layer", "first_index", "second_layer", "second_index"]].values.tolist()
    assert places == [[1, 2, 0, 4], [1, 2, 1, 0], [1, 2, 1, 3], [0, 4, 1, 0], [0, 4, 1, 3], [1, 0, 1, 3]]
    assert pairs["drop_12"].tolist() == [0.25, 1.0, 0.25, 0.25, 0.25, 1.0]
    assert pairs["is_degenerate"].tolist() == [False, True, False, False, False, True]
    assert pairs["excess"].tolist() == [0.0, 0.5, -0.25, 0.0, 0.0, 0.5]
    first = pairs.iloc[1]
    assert first[["p_before", "p_first", "p_second", "p_both"]].tolist() == [0.5, 0.375, 0.375, 0.0]
    assert first[["drop_1", "drop_2"]].tolist() == [0.25, 0.25]
    assert set(pairs["model"]) == {"tiny"} and set(pairs["relation"]) == {"P1"}


def test_clusters_by_hand():
    clusters = of(run().clusters, fact="P1:a", language="en")
    assert clusters[["cluster", "size", "layer", "index", "score"]].values.tolist() == [
        [0, 2, 1, 2, 4.0],
        [0, 2, 1, 0, 2.0],
        [1, 2, 1, 0, 2.0],
        [1, 2, 1, 3, 1.0],
    ]
    values = clusters[["p_before", "p_after", "drop", "sum_of_drops", "excess"]].drop_duplicates()
    assert values.values.tolist() == [[0.5, 0.0, 1.0, 0.5, 0.5]]


def test_every_searched_fact_has_a_row_also_with_few_or_no_neurons():
    facts = of(run().facts)
    counts = facts.drop(columns=["model", "sets", "relation", "p_before"]).values.tolist()
    assert counts == [
        ["P1:a", "en", 4, 4, 4, 6, 2, 2, 2, 0],
        ["P1:a", "fi", 2, 2, 2, 1, 1, 1, 1, 0],
        ["P1:b", "en", 1, 1, 1, 0, 0, 0, 0, 0],
        ["P1:b", "fi", 0, 0, 0, 0, 0, 0, 0, 0],
        ["P2:c", "en", 0, 0, 0, 0, 0, 0, 0, 0],
    ]
    assert facts["p_before"].eq(0.5).all()


def test_degenerate_neurons_become_sets_with_the_number_of_their_clusters_as_score():
    sets = run().sets
    assert sets.selection == "dkn" and sets.facts == FACTS and sets.languages == ["en", "fi"]
    assert sets.table[["fact", "language", "layer", "index", "score"]].values.tolist() == [
        ["P1:a", "en", 1, 0, 2.0],
        ["P1:a", "en", 1, 2, 1.0],
        ["P1:a", "en", 1, 3, 1.0],
        ["P1:a", "fi", 1, 0, 1.0],
        ["P1:a", "fi", 1, 5, 1.0],
    ]
    assert sets.not_searched == [("P2:c", "fi")] and sets.model == "tiny"
    again = NeuronSets.from_table(sets.table, json.loads(json.dumps(sets.metadata)))
    assert again.metadata == sets.metadata and again.origin["thresholds"]["low"] == 0.25
    assert not again.is_searched("P2:c", "fi") and len(again.of("P2:c", "en")[0]) == 0


def test_only_the_neurons_with_the_highest_scores_are_searched():
    found = run(settings=Thresholds(low=0.25, high=0.5, top=2))
    fact = of(found.facts, fact="P1:a", language="en").iloc[0]
    assert (fact["n_neurons"], fact["n_top"], fact["n_pairs"]) == (4, 2, 1)
    pair = of(found.pairs, fact="P1:a", language="en").iloc[0]
    assert (pair["first_index"], pair["second_index"]) == (2, 4)


def test_the_first_query_is_asked_and_p_before_once_for_both_searches():
    model = Model()
    search_degenerate(sets_of(), prompts(), model, QUARTERS, suppress_factor=0.5)
    assert {request.query for request in model.requests} == {2}
    clean = [request[:3] for request in model.requests if not len(request.layers)]
    assert len(clean) == len(set(clean)) == 5
    assert {request.factor for request in model.requests if len(request.layers)} == {0.5}


def test_progress_ends_at_the_number_of_requests():
    model, steps = Model(), []
    progress = lambda done, total, message: steps.append((done, total))  # noqa: E731
    search_degenerate(sets_of(), prompts(), model, Thresholds(low=0.2, high=0.5, largest=3), progress=progress)
    assert steps[-1] == (len(model.requests), len(model.requests))
    assert all(done <= total for done, total in steps) and steps[0][1] > steps[-1][1]


def test_random_neurons_lie_in_the_same_layers_outside_the_whole_set():
    neurons = {("P1:a", "en"): [(0, 3), *((1, i) for i in range(7))]}
    reference = sets_of(neurons, not_searched=())
    drawn = [run(reference, settings=Thresholds(low=1, high=1, top=4), seed=seed) for seed in range(12)]
    seen = []
    for found in drawn:
        fact = of(found.facts, "random", fact="P1:a", language="en").iloc[0]
        assert (fact["n_neurons"], fact["n_top"], fact["n_pairs"]) == (4, 4, 6)
        pairs = of(found.pairs, "random")
        ends = {tuple(row) for name in ("first", "second") for row in pairs[[f"{name}_layer", f"{name}_index"]].values}
        assert sorted(layer for layer, _ in ends) == [0, 1, 1, 1]  # the layers of the four searched
        assert not ends & set(neurons["P1:a", "en"])  # the four that were not searched among them
        seen.append(frozenset(ends))
    assert len(set(seen)) > 6
    pd.testing.assert_frame_equal(of(drawn[0].pairs), of(drawn[1].pairs))


def test_random_neurons_depend_on_fact_and_language():
    neurons = {(fact, language): [(0, 1), (0, 2)] for fact in FACTS for language in ("en", "fi")}
    pairs = of(run(sets_of(neurons, not_searched=(), shape=(1, 500))).pairs, "random")
    assert len(pairs) == len(pairs[["first_index", "second_index"]].drop_duplicates()) == 6


def test_where_too_few_neurons_are_left_the_control_is_smaller():
    found = run(sets_of({("P1:a", "en"): [(1, i) for i in range(9)]}, not_searched=()))
    assert of(found.facts, "random", fact="P1:a", language="en")["n_top"].tolist() == [3]


def test_random_clusters_have_no_score_and_are_no_degenerate_neurons():
    found = run(sets_of({("P1:a", "en"): [(1, i) for i in range(1, 7)]}, not_searched=()), seed=2)
    clusters = of(found.clusters, "random")
    assert len(clusters) == 10 and clusters["score"].isna().all()  # (1, 0) was drawn, with five others
    assert not len(of(found.clusters)) and not len(found.sets.table)


def test_results_do_not_depend_on_the_order_of_facts_or_on_steps(monkeypatch):
    settings, found = Thresholds(low=0.25, high=0.5, largest=3), run(settings=Thresholds(low=0.25, high=0.5, largest=3))
    turned = run(sets_of(dict(reversed(NEURONS.items())), FACTS[::-1]), prompts()[::-1], settings)
    monkeypatch.setattr(experiment, "SEARCHES_AT_ONCE", 3)
    monkeypatch.setattr(measurement, "CHUNK", 2)
    by_steps = run(settings=settings)
    for one, other, third in zip(found[:3], turned[:3], by_steps[:3], strict=True):
        pd.testing.assert_frame_equal(sorted_rows(other), sorted_rows(one))
        pd.testing.assert_frame_equal(third, one)


def test_sets_for_all_languages_are_searched_in_each():
    likn = sets_of({("P1:a", "all"): [(1, 0), (1, 1)]}, languages=["all"], not_searched=[("P2:c", "all")])
    found = run(likn)
    pairs = of(found.pairs)
    assert pairs["language"].tolist() == ["en", "fi"] and pairs["is_degenerate"].all()
    assert found.sets.languages == ["en", "fi"] and found.sets.not_searched == [("P2:c", "en"), ("P2:c", "fi")]
    assert of(found.clusters)["score"].tolist() == [2.0, 1.0] * 2


def test_facts_without_prompts_are_a_sentence_and_languages_without_are_not_searched():
    with pytest.raises(AtlasError, match="1 searched facts have no prompts, the first is P2:c"):
        run(table=prompts(FACTS[:2]))
    table = prompts().query("not (fact == 'P1:a' and language == 'fi')")
    assert ("P1:a", "fi") in run(table=table).sets.not_searched


# A real network: weights written by hand, loaded from a folder, run by the function that runs every model.


def probability(x):
    return 1 / (1 + np.exp(-x))


@pytest.fixture(scope="module", params=["float64", "float32"])
def planted(request, tmp_path_factory):
    lm = planted_network(tmp_path_factory.mktemp("planted"), request.param)
    neurons = [(0, index) for pair in (PLAIN, DEGENERATE, ADDITIVE) for index in pair]
    facts = ["P36:FI>Helsinki", "P36:FR>Paris"]
    reference = sets_of({(fact, "en"): neurons for fact in facts}, facts, ["en"], (), (lm.n_layers, lm.n_neurons))
    evaluate = evaluate_with(lm, tiny_prompts(lm.kind), batch_rows=16)
    return search_degenerate(reference, tiny_prompts(lm.kind), evaluate, Thresholds())


def test_the_planted_pair_is_degenerate_and_more_than_the_sum_of_its_neurons(planted):
    pairs = of(planted.pairs, fact="P36:FR>Paris").set_index(["first_index", "second_index"])
    assert set(pairs.index[pairs["is_degenerate"]]) == {DEGENERATE, ADDITIVE} and len(pairs) == 15
    pair = pairs.loc[DEGENERATE]
    expected = 1 - probability(STEP - LOST) / probability(STEP)
    assert expected > 0.85
    np.testing.assert_allclose(pair[["drop_1", "drop_2", "drop_12"]].tolist(), [0, 0, expected], atol=1e-5)
    assert pair["excess"] == pytest.approx(expected, abs=1e-5)


def test_the_additive_pair_passes_the_test_and_is_no_more_than_the_sum_of_its_neurons(planted):
    pair = of(planted.pairs, fact="P36:FR>Paris").set_index(["first_index", "second_index"]).loc[ADDITIVE]
    drops = [1 - 0.5 / probability(STEP)] * 2 + [1 - probability(-STEP) / probability(STEP)]
    assert drops[0] < 0.2 and drops[2] > 0.25 and pair["is_degenerate"]
    np.testing.assert_allclose(pair[["drop_1", "drop_2", "drop_12"]].tolist(), drops, atol=1e-5)
    assert pair["excess"] == pytest.approx(0.0, abs=1e-5)


def test_neurons_that_do_nothing_and_random_ones_are_in_no_cluster(planted):
    assert not set(of(planted.clusters)["index"]) & set(PLAIN)
    assert of(planted.facts, fact="P36:FR>Paris")[["n_candidates", "n_clusters"]].values.tolist() == [[6, 2]]
    assert of(planted.facts, "random")[["n_candidates", "n_clusters"]].values.tolist() == [[6, 0], [6, 0]]
    assert set(planted.sets.table["index"]) == {*DEGENERATE, *ADDITIVE}


def test_neurons_of_one_answer_raise_another(planted):
    other = of(planted.facts, fact="P36:FI>Helsinki")
    # each of ADDITIVE raises it; DEGENERATE and PLAIN alone change nothing beyond rounding
    assert other["n_raised"].between(2, 6).all() and other["n_candidates"].tolist() == [6]
    pairs = of(planted.pairs, fact="P36:FI>Helsinki").set_index(["first_index", "second_index"])
    assert pairs.loc[DEGENERATE, "drop_12"] < -1 and not pairs["is_degenerate"].any()


@pytest.mark.parametrize("kind", ["masked", "causal"])
def test_batches_change_nothing(kind):
    lm, table = tiny_model(kind, "float64"), tiny_prompts(kind)
    facts = sorted(set(table["fact"]))
    neurons = {(fact, "en"): [(layer, 3 * i) for layer in range(3) for i in range(3)] for fact in facts}
    reference = sets_of(neurons, facts, ["en"], (), (lm.n_layers, lm.n_neurons))
    settings = Thresholds(low=0.05, high=0.06, largest=3)
    one, many = (
        search_degenerate(reference, table, evaluate_with(lm, table, rows), settings, seed=3) for rows in (1, 64)
    )
    for first, second in zip(one[:3], many[:3], strict=True):
        pd.testing.assert_frame_equal(first, second, rtol=1e-9, atol=1e-12)
    assert one.pairs["is_degenerate"].any() and not one.pairs["is_degenerate"].all()
    assert one.pairs["drop_12"].abs().min() > 0


# What was searched goes through to summaries and figures.


@pytest.mark.parametrize("reference", [sets_of({}), sets_of({}, facts=[], not_searched=())])
def test_summaries_of_nothing_are_tables(reference):
    found = run(reference, prompts(reference.facts))
    assert summarise_degenerate(found.pairs, found.facts).columns.tolist() == DEGENERATE_COLUMNS
    layers = degenerate_layers(found.clusters, found.facts, {"tiny": 3})
    assert layers.columns.tolist() == LAYER_COLUMNS and layers["value"].isna().all()


def test_a_neuron_counts_in_its_layer_once_per_cluster_it_is_in(tmp_path):
    found = run()
    layers = degenerate_layers(found.clusters, found.facts, {"tiny": 3}, resamples=100)
    assert layers.columns.tolist() == LAYER_COLUMNS and set(layers["selection"]) == {"dkn"}
    assert layers[["language", "layer", "n_neurons", "n", "n_empty"]].values.tolist() == [
        ["en", 0, 0, 3, 2],
        ["en", 1, 4, 3, 2],  # (1, 0) is in two pairs
        ["en", 2, 0, 3, 2],
        ["fi", 0, 0, 2, 1],
        ["fi", 1, 2, 2, 1],
        ["fi", 2, 0, 2, 1],
    ]
    assert layers["value"].tolist() == [0.0, 1.0, 0.0] * 2
    paths = plot_layers(layers, tmp_path / "figure4", ["dkn"])
    assert all(path.stat().st_size > 0 for path in paths)
