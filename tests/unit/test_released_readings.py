"""Readings `code` against AMIG's released code: its numbers on the same weights, from attribution to F1."""

from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from knatlas.attribution import preset
from knatlas.attribution.engine import attribute_queries
from knatlas.experiments.degenerate import search_degenerate
from knatlas.experiments.evaluation import evaluate_with
from knatlas.experiments.fact_checking import degenerate_neurons, score_candidates
from knatlas.experiments.measurement import NONE, Request
from knatlas.models.answers import answer_probabilities
from knatlas.models.encoding import EncodedQuery, encode_prompts
from knatlas.models.language_model import LanguageModel
from knatlas.selection.degenerate import Thresholds
from knatlas.selection.neuron_set import FoundSet, NeuronSets, as_table
from knatlas.selection.thresholds import NONE_LEFT_OUT, choose_above
from knatlas.statistics import checking_splits
from knatlas.statistics.checking_splits import CheckSettings, kept_neurons
from knatlas.statistics.fact_checking import check_facts
from knatlas.statistics.success_rate import READINGS, success_rates
from tests.conftest import ROOT
from tests.trained_models import memorised

RELEASED = yaml.safe_load((ROOT / "tests" / "data" / "amig" / "released.yaml").read_text())
KINDS = pytest.mark.parametrize("kind", ["masked", "causal"])
# the record is in float64, and models trained in float64 differ by 1e-9 at most from one processor to the next
RTOL = 1e-6
TAU, N_FACTS, N_RELATIONS, N_TEST = 0.3, 20, 2, 4
# width, steps of training, and what the second matrices are multiplied by: single neurons matter, some in pairs
SIZES = {"masked": (16, 120, 12.0), "causal": (12, 160, 12.0)}
SECOND = {"masked": ("bert.encoder.layer", "output.dense"), "causal": ("transformer.h", "mlp.c_proj")}
CHECKING = {"splits": 1, "train_share": 0.8, "count_share": 0.7, "code_threshold": 1e-6}
# cells of the record's changes
OPERATIONS = ["suppress", "suppress", "enhance", "enhance"]


class Trained(NamedTuple):
    """A model, its queries, and the same as prompts."""

    lm: LanguageModel
    queries: list[EncodedQuery]
    prompts: pd.DataFrame


@cache
def trained(kind):
    width, steps, gain = SIZES[kind]
    # in float32 the training itself differs between processors
    torch.set_default_dtype(torch.float64)
    try:
        lm, queries = memorised.__wrapped__(kind, n_facts=N_FACTS, steps=steps, width=width)
    finally:
        torch.set_default_dtype(torch.float32)
    layers, second = SECOND[kind]
    for block in lm.model.get_submodule(layers):
        block.get_submodule(second).weight.data *= gain
    return Trained(lm, queries, pd.DataFrame([prompt_of(lm, query) for query in queries]))


def prompt_of(lm, query):
    words = [token for token in lm.tokenizer.convert_ids_to_tokens(query.input_ids) if token != "[MASK]"]
    (answer,) = lm.tokenizer.convert_ids_to_tokens(query.targets)
    texts = {"before": " ".join(words), "separator": " ", "answer": answer, "after": ""}
    place = {"fact": query.fact, "relation": relation_of(query.fact), "language": "en", "query": 0, "kind": lm.kind}
    return place | texts


def relation_of(fact):
    return f"R{int(fact.removeprefix('fact-')) % N_RELATIONS}"


@cache
def scores(kind):
    """The scores of all neurons in the reading `code`, by fact."""
    lm, queries, _ = trained(kind)
    found = attribute_queries(lm, queries, [preset("amig", "code", kind)])
    return {query.fact: part.scores["amig"] for query, part in zip(queries, found, strict=True)}


@cache
def sets(kind):
    chosen = {fact: choose_above(values, TAU, NONE_LEFT_OUT) for fact, values in scores(kind).items()}
    parts = [
        FoundSet(fact, "en", 0, *np.nonzero(choice.is_chosen), choice.scores[choice.is_chosen])
        for fact, choice in chosen.items()
    ]
    lm, origin = trained(kind).lm, {"model": trained(kind).lm.name}
    return NeuronSets(as_table("amig", parts), "amig", list(chosen), ["en"], lm.n_layers, lm.n_neurons, origin=origin)


def evaluate(kind, site="pre_activation"):
    """Neurons are scaled where released code scales them."""
    return evaluate_with(trained(kind).lm, trained(kind).prompts, 64, site=site)


def changes(kind, site="pre_activation"):
    """Relative changes of P as the record has them, (facts, cells), and P before of own and irrelevant facts."""
    facts, rows = RELEASED[kind]["facts"], []
    for fact, record in facts.items():
        for operation, probed in zip(OPERATIONS, [fact, record["irrelevant"]] * 2, strict=True):
            factor = {"suppress": 0.0, "enhance": 2.0}[operation]
            rows.append(Request(probed, "en", 0, *sets(kind).of(fact, "en"), factor))
    before, _ = evaluate(kind)([row._replace(layers=NONE, indices=NONE) for row in rows])
    after, _ = evaluate(kind, site)(rows)
    return (after / before - 1).reshape(len(facts), 4), before.reshape(len(facts), 4)


@cache
def degenerate(kind):
    return search_degenerate(sets(kind), trained(kind).prompts, evaluate(kind), Thresholds())


@KINDS
def test_the_models_are_those_of_the_record(kind):
    lm, queries, prompts = trained(kind)
    assert encode_prompts(lm, prompts) == queries
    found = answer_probabilities(lm, queries)["p"].to_numpy()
    assert found == pytest.approx([record["p"] for record in RELEASED[kind]["facts"].values()], rel=1e-9)


@KINDS
def test_scores_are_those_of_the_released_class(kind):
    for fact, record in RELEASED[kind]["scores"].items():
        found = scores(kind)[fact]
        layers, indices = np.unravel_index(np.argsort(-found, axis=None)[:10], found.shape)
        assert [[*place] for place in zip(layers, indices, strict=True)] == [top[:2] for top in record["top"]]
        assert found[layers, indices] == pytest.approx([top[2] for top in record["top"]], rel=RTOL)
        assert np.abs(found).sum(axis=1) == pytest.approx(record["sums"], rel=RTOL)


@KINDS
def test_neurons_and_their_order_are_those_of_the_released_class(kind):
    for fact, record in RELEASED[kind]["facts"].items():
        assert np.stack(sets(kind).of(fact, "en"), axis=1).tolist() == record["neurons"]


@KINDS
def test_changes_of_p_are_those_of_the_released_edits(kind):
    expected = np.array([record["changes"] for record in RELEASED[kind]["facts"].values()])
    found, _ = changes(kind)
    assert np.abs(found).min() > 1e-3
    assert found == pytest.approx(expected, rel=RTOL)


def test_the_neuron_itself_doubled_is_another_edit_than_the_released_one_in_causal_models():
    (found, _), (released, _) = changes("causal", "down_input"), changes("causal")
    assert found[:, :2] == pytest.approx(released[:, :2], rel=1e-9)
    # every one of them by far more than what counts as agreement
    assert np.abs(found[:, 2:] / released[:, 2:] - 1).min() > 100 * RTOL


@KINDS
@pytest.mark.parametrize("factor", [1, 90, 120, 300])
def test_success_rates_are_those_that_the_released_script_prints(kind, factor):
    found, before = changes(kind)
    facts, rows = RELEASED[kind]["facts"], []
    for i, (fact, of) in enumerate(facts.items()):
        for j, operation in enumerate(OPERATIONS):
            probed = of["irrelevant"] if j % 2 else fact
            other = "same_relation" if relation_of(probed) == relation_of(fact) else "other_relation"
            after = before[i, j] * (1 + factor * found[i, j])
            row = (fact, relation_of(fact), other if j % 2 else "own", probed, operation, before[i, j], after)
            rows.append((*row, len(of["neurons"])))
    columns = ["fact", "relation", "probe", "probed_fact", "operation", "p_before", "p_after", "n_neurons"]
    table = pd.DataFrame(rows, columns=columns).assign(model="m", selection="amig", draw=0, language="en", query=0)
    rates = success_rates(table, ["language"], {"code": READINGS["code"]}, resamples=10).set_index("statistic")
    expected = RELEASED[kind]["averages"][factor]
    assert rates.loc[list(expected), "value"].tolist() == pytest.approx(list(expected.values()), rel=RTOL)
    # the changes themselves are never extreme, 300 times them are
    assert factor in (90, 120) or (rates.loc["sr", "n_excluded"] > 0) == (factor == 300)


@KINDS
def test_degenerate_pairs_are_those_of_the_released_search(kind):
    pairs = degenerate(kind).pairs.query("sets == 'found' and is_degenerate")
    found = {fact: [] for fact in RELEASED[kind]["facts"]}
    for row in pairs.itertuples():
        found[row.fact].append([[row.first_layer, row.first_index], [row.second_layer, row.second_index]])
    for fact, record in RELEASED[kind]["facts"].items():
        assert found[fact] == [[record["neurons"][i] for i in pair] for pair in record["pairs"]]
    assert sum(map(len, found.values())) >= 15
    sizes = degenerate(kind).facts.query("sets == 'found'").set_index("fact")["n_top"]
    assert sizes.to_dict() == {fact: min(20, len(of["neurons"])) for fact, of in RELEASED[kind]["facts"].items()}


@KINDS
def test_fact_checking_scores_and_metrics_are_those_of_the_released_scripts(kind, monkeypatch):
    checked = pd.DataFrame(RELEASED[kind]["checked"])
    tested, clusters = set(checked["fact"]), degenerate(kind).clusters
    monkeypatch.setattr(checking_splits, "draw_test_facts", lambda facts, *_: np.isin(facts, list(tested)))
    lm, _, prompts = trained(kind)
    found = score_candidates(lm, prompts, candidates(kind), degenerate_neurons(clusters), preset("amig", "code", kind))
    for row in checked.itertuples():
        (number,) = found.candidates.query("fact == @row.fact and label == @row.object")["candidate"]
        of = found.scores[(found.scores["fact"] == row.fact) & (found.scores["candidate"] == number)]
        kept = of.set_index(["layer", "index"])["attribution"].loc[kept_in(clusters, relation_of(row.fact), tested)]
        assert [kept.mean(), kept.max(), kept.min()] == pytest.approx(row.score, rel=RTOL)
    table = check_facts(found.candidates, found.scores, clusters, CHECKING, resamples=10)
    table = table.query("reading == 'code' and detector == 'dkn_attribution'").set_index("statistic")["value"]
    for name, value in RELEASED[kind]["metrics"].items():
        assert table[name] == pytest.approx(value, rel=1e-12)
    accepted, rejected = RELEASED[kind]["accepted"]
    assert (table["true_accepted"], table["wrong_accepted"]) == (accepted / N_TEST, 1 - rejected / N_TEST)


def candidates(kind):
    """Every fact with its own object and a wrong one: that of the record, in training facts (not asked) any word."""
    wrong = {row["fact"]: row["object"] for row in RELEASED[kind]["checked"]}  # the last of a fact is the wrong one
    rows = []
    for prompt in trained(kind).prompts.itertuples():
        labels = [prompt.answer, wrong.get(prompt.fact, "w0")]
        rows += [(prompt.fact, prompt.relation, "en", i, label, i == 0) for i, label in enumerate(labels)]
    return pd.DataFrame(rows, columns=["fact", "relation", "language", "candidate", "label", "is_true"])


def kept_in(clusters, relation, tested):
    """The neurons that the training facts of a relation keep, as places."""
    training = clusters.query("sets == 'found' and relation == @relation and fact not in @tested")
    counts = training.groupby(["layer", "index"]).size()
    return counts.index[kept_neurons(counts.to_numpy(), CheckSettings().count_share)]
