"""Editing across languages: which neurons are multiplied by what, which queries are run, and how often."""

import numpy as np
import pandas as pd
import pytest

from knatlas.errors import AtlasError
from knatlas.experiments.crosslingual import COLUMNS, edit_across, edits_of
from knatlas.experiments.evaluation import evaluate_with
from knatlas.experiments.manipulation import manipulate
from knatlas.models.answers import answer_probabilities
from knatlas.models.encoding import encode_prompts
from knatlas.models.scaling import NeuronScaling
from knatlas.selection.neuron_set import FoundSet, NeuronSets, as_table
from tests.edits_across_languages import BASE, FACTS, SETS, THREE, Formula, edit, only, prompts, rows_of, sets_of
from tests.tiny_models import tiny_model, tiny_prompts


def own_change(table, fact, edit, operation, language="en", pair="en-zh"):
    keys = {"fact": fact, "edit": edit, "operation": operation, "language": language, "pair": pair}
    row = only(table, probe="own", **keys)
    return row["p_after"] / row["p_before"]


def asked(formula):
    """The requests with neurons as comparable values."""
    return [
        (*request[:3], *(np.asarray(part).tobytes() for part in request[3:]))
        for request in formula.requests
        if len(request.layers)
    ]


def test_the_columns_are_the_agreed_ones():
    table, _ = edit()
    assert table.columns.tolist() == COLUMNS
    assert not table.isna().any().any()
    assert set(table["model"]) == {"tiny"} and set(table["pair"]) == {"en-zh"}
    assert set(table["edit"]) == {"likn", "first", "second", "both"}
    counts = table.groupby(["fact", "edit", "language", "operation"]).size()
    assert counts.eq(3).all() and len(counts) == 4 * 4 * 2 * 2  # probes; facts, edits, languages, operations


def test_edits_are_made_of_both_languages_sets():
    edits = edits_of(SETS, "a", ("en", "zh"))
    assert {name: (set(part.layers), part.indices.tolist()) for name, part in edits.items()} == {
        "likn": ({0}, [3]),
        "first": ({0}, [1, 2, 3]),
        "second": ({0}, [3, 4]),
        "both": ({0}, [1, 2, 3, 4]),
    }
    assert edits["both"].times.tolist() == [1, 1, 2, 1]
    assert edits_of(SETS, "a", ("en", "zh"), "once")["both"].times.tolist() == [1, 1, 1, 1]


def test_sizes_stand_beside_every_measurement():
    table, _ = edit()
    sizes = table.groupby("fact")[["n_likn", "n_first", "n_second"]].agg(["min", "max"])
    assert sizes.loc["a"].tolist() == [1, 1, 3, 3, 2, 2]
    assert sizes.loc["c"].tolist() == [0, 0, 0, 0, 1, 1]
    n_neurons = table[table["fact"] == "a"].groupby("edit")["n_neurons"].unique()
    assert {name: list(n) for name, n in n_neurons.items()} == {"likn": [1], "first": [3], "second": [2], "both": [4]}


@pytest.mark.parametrize(("overlap", "expected"), [("compound", 32.0), ("once", 16.0)])
def test_a_neuron_of_both_sets_is_enhanced_twice_or_once(overlap, expected):
    table, formula = edit(overlap=overlap)
    assert own_change(table, "a", "both", "enhance") == pytest.approx(expected)
    factors = {tuple(np.broadcast_to(r.factor, len(r.layers))) for r in formula.requests if len(r.layers) == 4}
    assert factors == {(0.0,) * 4, (2.0, 2.0, 4.0, 2.0) if overlap == "compound" else (2.0,) * 4}


def test_any_factor_of_the_study_is_taken_twice_in_both_operations():
    table, _ = edit(factors={"suppress": 0.5, "enhance": 3.0})
    assert own_change(table, "e", "both", "suppress") == pytest.approx(0.5**4)
    assert own_change(table, "e", "both", "enhance") == pytest.approx(3.0**4)
    assert own_change(table, "e", "first", "enhance") == pytest.approx(3.0**2)


def test_suppression_of_both_is_that_of_the_union_with_either_overlap():
    tables = [rows_of(edit(overlap=overlap)[0], operation="suppress") for overlap in ("compound", "once")]
    pd.testing.assert_frame_equal(*tables)
    other = only(tables[0], fact="a", edit="both", probe="other_relation", language="zh")
    assert other["p_after"] / other["p_before"] == pytest.approx(0.9**4)


def test_own_changes_of_one_languages_edit_are_the_same_in_both_languages():
    table, _ = edit()
    changes = [own_change(table, "a", "first", "enhance", language) for language in ("en", "zh")]
    assert changes == pytest.approx([8.0, 8.0])
    before = rows_of(table, fact="a", edit="first", operation="enhance", probe="own").set_index("language")["p_before"]
    assert before.to_dict() == {"en": 0.01, "zh": 0.005}


def test_rightness_is_that_of_the_request():
    row = only(edit()[0], fact="a", edit="likn", probe="own", operation="enhance", language="en")
    assert (row["p_before"], row["p_after"]) == (0.01, 0.02)
    assert not row["is_right_before"] and row["is_right_after"]


def test_only_first_queries_and_the_probes_of_manipulate_are_measured():
    table, _ = edit(THREE, seed=5)
    assert set(table["query"]) == {0}
    keys = ["fact", "language", "probe"]
    expected = manipulate([SETS], prompts(), Formula(), seed=5).drop_duplicates(keys).set_index(keys)["probed_fact"]
    found = table.drop_duplicates(keys).set_index(keys)["probed_fact"].sort_index()
    pd.testing.assert_series_equal(found, expected.sort_index().loc[found.index])
    assert set(table["probe"]) == {"own", "same_relation", "other_relation"}


def test_empty_edits_are_not_run_and_stay_in_the_table():
    table, formula = edit()
    empty = rows_of(table, fact="b", edit="likn")
    assert len(empty) == 2 * 2 * 3  # languages, operations, probes
    assert empty["n_neurons"].eq(0).all() and (empty["p_after"] == empty["p_before"]).all()
    clean = [request for request in formula.requests if not len(request.layers)]
    # of five facts in two languages: d is a probe of others also in the language in which it was not searched
    assert [request.factor for request in clean] == [1.0] * 5 * 2


def test_what_is_asked_twice_is_run_once():
    table, formula = edit(THREE)
    keys, filled = asked(formula), table[table["n_neurons"] > 0]
    columns = ["pair", "edit", "fact", "operation", "probed_fact", "language"]
    assert len(keys) == len(set(keys)) == len({asked_by(*row) for row in filled[columns].itertuples(index=False)})
    assert len(keys) < len(filled)
    clean = [request[:3] for request in formula.requests if not len(request.layers)]
    assert len(clean) == len(set(clean)) == len(FACTS) * len(BASE)


def asked_by(pair, edit, fact, operation, *query):
    """What one row asks the model, worked out from the sets: the query, and the factor of each neuron."""
    one, other = (FACTS[fact][2][language] for language in pair.split("-"))
    edited = {"likn": [n for n in one if n in other], "first": one, "second": other, "both": one + other}[edit]
    factor = {"suppress": 0.0, "enhance": 2.0}[operation]
    return fact, *query, frozenset((neuron, factor ** edited.count(neuron)) for neuron in edited)


def test_another_pair_costs_only_what_is_new():
    both, one = (len(asked(edit(pairs)[1])) for pairs in ([("en", "zh"), ("zh", "en")], [("en", "zh")]))
    assert both == one
    assert len(asked(edit(THREE)[1])) < sum(len(asked(edit([pair])[1])) for pair in THREE)


def test_pairs_together_measure_what_each_measures_alone():
    alone = pd.concat([edit([pair])[0] for pair in THREE], ignore_index=True)
    pd.testing.assert_frame_equal(edit(THREE)[0], alone)
    pd.testing.assert_frame_equal(edit([*THREE, ["en", "zh"]])[0], alone)


def test_the_order_of_a_pair_only_names_first_and_second():
    one, other = edit([("en", "zh")])[0], edit([("zh", "en")])[0]
    assert set(other["pair"]) == {"zh-en"}
    names = {"first": "second", "second": "first"}
    other = other.assign(pair="en-zh", edit=other["edit"].replace(names))
    other = other.rename(columns={"n_first": "n_second", "n_second": "n_first"})[COLUMNS]
    keys = ["fact", "edit", "language", "operation", "probe"]
    one, other = (table.sort_values(keys).reset_index(drop=True) for table in (one, other))
    pd.testing.assert_frame_equal(one, other)


def test_a_fact_not_searched_in_one_language_is_left_out_and_counted():
    table, _ = edit(THREE)
    by_pair = table.groupby("pair").agg(n_left_out=("n_left_out", "unique"), facts=("fact", "unique"))
    assert {pair: list(n) for pair, n in by_pair["n_left_out"].items()} == {"en-fi": [0], "en-zh": [1], "zh-fi": [1]}
    assert set(by_pair.loc["en-zh", "facts"]) == {"a", "b", "c", "e"}
    assert set(by_pair.loc["en-fi", "facts"]) == set(FACTS)


def test_no_fact_in_both_languages_gives_an_empty_table():
    only_english = sets_of({"a": {"en": [1]}, "b": {"en": [2]}})
    table = edit_across(only_english, prompts(), [("en", "zh")], Formula())
    assert table.columns.tolist() == COLUMNS and not len(table)


def test_progress_ends_at_the_number_of_requests():
    steps = []
    _, formula = edit(THREE, progress=lambda done, total, message: steps.append((done, total, message)))
    assert steps[-1] == (len(formula.requests), len(formula.requests), "edits")
    assert steps[0][2] == "before"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"pairs": [("en", "jp")]}, r"pair en-jp is 'jp'; expected a language of selection amig \(en zh fi\)"),
        ({"pairs": [("en", "en")]}, "pair en-en: expected two different languages"),
        ({"overlap": "compuond"}, r"overlap is 'compuond'; .*\(compound once\)\. Did you mean 'compound'"),
    ],
)
def test_what_cannot_be_edited_is_a_sentence(settings, sentence):
    with pytest.raises(AtlasError, match=sentence):
        edit(**settings)


def test_a_searched_fact_needs_prompts():
    with pytest.raises(AtlasError, match="1 searched facts have no prompts, the first is e"):
        edit_across(SETS, prompts().query("fact != 'e'"), [("en", "zh")], Formula())


@pytest.mark.parametrize("kind", ["masked", "causal"])
def test_a_real_model_is_asked_with_the_factors_of_both_edits(kind):
    lm = tiny_model(kind, "float64")
    text = tiny_prompts(kind, n_queries=2)
    fact, *others = sorted(set(text["fact"]))
    one, *_ = sorted(set(text["language"]))
    text = pd.concat([text[text["language"] == one], text[text["language"] == one].assign(language="xx")])
    layers, first, second = np.array([0, 1, 2]), np.array([1, 2, 3]), np.array([4, 2, 3])
    rows = [FoundSet(fact, one, 0, layers, first, np.ones(3)), FoundSet(fact, "xx", 0, layers, second, np.ones(3))]
    shape = (lm.n_layers, lm.n_neurons)
    sets = NeuronSets(as_table("amig", rows), "amig", [fact, *others], [one, "xx"], *shape, origin={"model": lm.name})
    table = edit_across(sets, text, [(one, "xx")], evaluate_with(lm, text, batch_rows=4))
    both = only(table, fact=fact, edit="both", operation="enhance", probe="own", language=one)
    query = encode_prompts(lm, text.query("fact == @fact and language == @one and query == @both['query']"))
    scaling = NeuronScaling(np.array([0, 0, 1, 2]), np.array([1, 4, 2, 3]), np.array([2.0, 2.0, 4.0, 4.0]))
    expected = answer_probabilities(lm, query, interventions=[scaling])["p"].item()
    assert both["p_after"] == pytest.approx(expected, rel=1e-9)
    assert abs(both["p_after"] / both["p_before"] - 1) > 1e-3
