"""Causal fidelity against closed forms, and ablations of a real model against an explicit hook."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch

from knatlas.errors import AtlasError
from knatlas.experiments.ablations import replacements, values_with
from knatlas.experiments.evaluation import evaluate_with
from knatlas.experiments.fidelity import CURVE_COLUMNS, EFFECT_COLUMNS, log_odds, measure_fidelity
from knatlas.experiments.measurement import Request
from knatlas.figures.fidelity import plot_fidelity
from knatlas.models.architectures import module_at
from knatlas.models.encoding import encode_prompt
from knatlas.models.scaling import NeuronScaling
from knatlas.selection.rankings import MATCHED, descending, rankings
from knatlas.selection.scores import Scores
from knatlas.statistics.fidelity import fidelity_tables
from knatlas.study import read_study
from tests.tiny_models import tiny_model, tiny_prompts

LAYERS, NEURONS, FACTS = 3, 20, ("P1:A>x", "P1:B>y", "P2:C>x", "P2:D>y")
SETTINGS = {
    "facts": 4,
    "languages": ["en"],
    "ablations": ["zero"],
    "exhaustive": ["zero", "mean", "resample"],
    "exhaustive_up_to": 1000,
    "top": 4,
    "sample": 20,
    "set_sizes": [1, 2, 5, 10],
    "precision_at": [5],
    "draws": 3,
    "mean_prompts": 100,
    "min_p_before": 0.0,
}


def additive_effects(seed=0):
    """What each neuron of each fact adds to P(answer): (facts, layers, neurons), of both signs, all different."""
    return np.random.default_rng(seed).normal(size=(len(FACTS), LAYERS, NEURONS)) * 0.004


def scores_of(effects, **others):
    """Scores of bkn in the order of the effects, of amig in the opposite one, and of others."""
    arrays = {"bkn.first": effects, "amig.first": -effects, **others}
    arrays = {name: array[:, None] for name, array in arrays.items()}
    return Scores(arrays, list(FACTS), ["en"], {"model": {"name": "made"}})


def prompts_of(facts=FACTS):
    rows = [(fact, fact[:2], "en", "causal", query, fact[-1]) for fact in facts for query in (1, 0)]
    return pd.DataFrame(rows, columns=["fact", "relation", "language", "kind", "query", "answer"])


class Additive:
    """P = 0.5 less the effects of the neurons that are ablated; all requests are noted."""

    def __init__(self, effects):
        self.effects, self.requests = effects, []

    def __call__(self, requests):
        self.requests += requests
        p = [0.5 - self.effects[FACTS.index(r.fact), r.layers, r.indices].sum() for r in requests]
        return np.array(p), np.array(p) > 0.4


def no_values(keys):
    raise AssertionError(f"zero ablation needs no values, asked for {keys}")


def measured(effects, scores=None, **settings):
    evaluate = Additive(effects)
    how = SETTINGS | settings
    return measure_fidelity(scores or scores_of(effects), prompts_of(), evaluate, no_values, how, 0), evaluate


def value_of(table, method, statistic, ranking="own"):
    chosen = (table["method"] == method) & (table["statistic"] == statistic) & (table["ranking"] == ranking)
    (value,) = table.loc[chosen & (table["language"] == "all"), "value"]
    return value


# single and joint ablations of a network that adds


def test_every_neuron_is_ablated_alone_in_the_first_query_with_its_exact_effect():
    effects = additive_effects()
    found, evaluate = measured(effects)
    assert list(found.effects.columns) == EFFECT_COLUMNS and list(found.curves.columns) == CURVE_COLUMNS
    assert len(found.effects) == effects.size and (found.effects["weight"] == 1).all()
    assert set(found.effects["query"]) == {0} and set(found.effects["model"]) == {"made"}
    rows = found.effects
    expected = effects[[FACTS.index(fact) for fact in rows["fact"]], rows["layer"], rows["index"]]
    np.testing.assert_allclose(rows["p_before"] - rows["p_after"], expected, atol=1e-12)
    odds = np.log((0.5 - expected) / (0.5 + expected))
    np.testing.assert_allclose(rows["change_of_log_odds"], odds, atol=1e-12)
    assert all(request.factor == 0 and np.all(request.shift == 0) for request in evaluate.requests[1:60])


def test_curves_are_sums_of_effects_in_the_order_of_each_ranking():
    effects = additive_effects()
    found, _ = measured(effects)
    for (fact, method, size), rows in found.curves.groupby(["fact", "method", "size"]):
        flat = np.sort(effects[FACTS.index(fact)].ravel())
        expected = {"bkn": flat[::-1][:size].sum(), "oracle": flat[::-1][:size].sum(), "amig": flat[:size].sum()}
        own = rows[rows["ranking"] == "own"]
        if method in expected:
            np.testing.assert_allclose(0.5 - own["p_after"], expected[method], atol=1e-12)


def test_where_effects_add_no_order_beats_the_true_one_and_a_wrong_order_is_caught():
    effects = additive_effects()
    noisy = effects + np.random.default_rng(1).normal(size=effects.shape) * 0.004
    scores = scores_of(effects, **{"saig.mean": noisy})
    found, _ = measured(effects, scores)
    table, _ = fidelity_tables([(found.effects, found.curves, scores)], SETTINGS, 0, 200, 999)
    areas = {method: value_of(table, method, "area") for method in ("oracle", "bkn", "saig", "amig", "random")}
    assert areas["oracle"] == pytest.approx(areas["bkn"], abs=1e-12)
    assert areas["bkn"] > areas["saig"] > areas["random"] > areas["amig"]
    assert value_of(table, "bkn", "spearman") == pytest.approx(1)
    assert value_of(table, "amig", "spearman") == pytest.approx(-1)
    assert 0.4 < value_of(table, "saig", "spearman") < 0.9 and abs(value_of(table, "random", "spearman")) < 0.2
    assert value_of(table, "bkn", "precision_at_5") == 1 and value_of(table, "amig", "precision_at_5") == 0
    for method, sign in (("bkn", 1), ("amig", -1)):
        assert sign * value_of(table, method, "spearman", "difference") > 0.8
        own, control = (value_of(table, method, "area", ranking) for ranking in ("own", MATCHED))
        assert value_of(table, method, "area", "difference") == pytest.approx(own - control)
    tests = table[table["ranking"] == "difference"].dropna(subset="p")
    assert set(tests["language"]) == {"all"} and (tests["p_holm"] >= tests["p"]).all()
    of_spearman = tests[tests["statistic"] == "spearman"]
    assert set(tests["n_tests"]) == {3} and set(of_spearman["test"]) == {"exact 16"}
    assert set(of_spearman["p"]) == {2 / 16} and set(of_spearman["p_holm"]) == {6 / 16}
    assert set(table["coverage"]) == {"every"} and set(table["n_ablated"]) == {60} and set(table["n"]) == {4}
    by_method = table.dropna(subset="scores").groupby("method")["scores"].unique()
    assert {name: list(of) for name, of in by_method.items()} == {"amig": ["first"], "bkn": ["first"], "saig": ["mean"]}


def test_the_area_of_a_known_curve():
    effects = np.zeros((len(FACTS), LAYERS, NEURONS))
    effects[:, 1, :10] = 0.04 - 0.001 * np.arange(10)  # 0.04, 0.039, ...
    found, _ = measured(effects)
    table, curves = fidelity_tables([(found.effects, found.curves, scores_of(effects))], SETTINGS, 0, 200, 999)
    line = curves[(curves["method"] == "bkn") & (curves["ranking"] == "own") & (curves["language"] == "all")]
    lost = [2 * sum(0.04 - 0.001 * i for i in range(size)) for size in (1, 2, 5, 10)]
    assert line["value"].to_list() == pytest.approx(lost) and set(line["n"]) == {4}
    pairs = zip(pairwise((1, 2, 5, 10)), pairwise(lost), strict=True)
    steps = [(np.log(b / a), (x + y) / 2) for (a, b), (x, y) in pairs]
    assert value_of(table, "bkn", "area") == pytest.approx(sum(w * y for w, y in steps) / np.log(10))


def test_a_large_model_is_sampled_with_its_best_neurons_and_the_table_says_so():
    effects = additive_effects()
    scores = scores_of(effects)
    found, _ = measured(effects, scores, exhaustive_up_to=59)
    of_fact = found.effects[found.effects["fact"] == FACTS[2]]
    taken = set(np.ravel_multi_index((of_fact["layer"], of_fact["index"]), scores.shape).tolist())
    for sign in (1, -1):
        assert set(descending(sign * effects[2])[:4].tolist()) <= taken
    assert 24 <= len(taken) < 60 and of_fact["weight"].sum() == pytest.approx(60)
    table, _ = fidelity_tables([(found.effects, found.curves, scores)], SETTINGS, 0, 200, 999)
    assert set(table["coverage"]) == {"sample"} and set(table["n_neurons"]) == {60}
    assert value_of(table, "bkn", "spearman") > 0.98 and value_of(table, "amig", "spearman") < -0.98


def test_controls_have_as_many_neurons_in_each_layer_at_every_size():
    effects = additive_effects()
    found = rankings(scores_of(effects), 1, "en", 2, seed=3)
    own = {part.method: part.scores for part in found if part.ranking == "own" and part.method != "random"}
    controls = [part for part in found if part.ranking == MATCHED]
    assert len(controls) == 4 and len({part.scores.tobytes() for part in controls}) == 4
    for control in controls:
        pair = (descending(own[control.method]) // NEURONS, descending(control.scores) // NEURONS)
        np.testing.assert_array_equal(*pair)
        assert not np.array_equal(own[control.method], control.scores)


def test_the_figure_shows_what_the_tables_say(tmp_path):
    effects = additive_effects()
    found, _ = measured(effects)
    tables = fidelity_tables([(found.effects, found.curves, scores_of(effects))], SETTINGS, 0, 200, 999)
    paths = plot_fidelity(*tables, tmp_path / "fidelity")
    assert all(path.stat().st_size > 200 for path in paths)
    drawn = pd.read_csv(paths[2])
    assert set(drawn["statistic"]) == {"share_lost", "spearman"} and set(drawn["language"]) == {"all"}
    with pytest.raises(AtlasError, match="no rows of language 'all'"):
        plot_fidelity(tables[0].iloc[:0], tables[1], tmp_path / "none")


def test_log_odds_stay_finite_where_p_is_one_to_rounding():
    assert log_odds(np.array([0.5, 0.8])) == pytest.approx([0, np.log(4)])
    assert np.isfinite(log_odds(np.array([0.0, 1.0]))).all()


# what neurons are set to


def test_the_mean_is_over_other_facts_and_resampling_takes_another_answer_of_the_relation():
    facts = ("P1:A>x", "P1:B>x", "P1:C>y", "P2:D>y")
    values = {fact: np.full((1 + i, 1, 2), 10.0**i) for i, fact in enumerate(facts)}
    asked = []

    def values_of(keys):
        asked.extend(keys)
        return [values[fact] for fact, *_ in keys]

    queries = [(("P1:C>y", "en", 0), "P1"), (("P1:A>x", "en", 0), "P1"), (("P2:D>y", "en", 0), "P2")]
    how = {"ablations": ["zero", "mean", "resample"], "mean_prompts": 100}
    found = replacements(queries, prompts_of(facts), values_of, how, 0)
    assert {query for *_, query in asked} == {0}  # first queries only
    third, first, alone = (found[key] for key, _ in queries)
    assert third["zero"] is None
    np.testing.assert_allclose(third["mean"], np.full((1, 1, 2), (1 + 10 + 1000) / 3))
    np.testing.assert_allclose(first["mean"], np.full((1, 1, 2), (10 + 100 + 1000) / 3))
    # A and B have the same answer, so that C is the only donor; of its three positions A has one
    np.testing.assert_array_equal(first["resample"], np.full((1, 1, 2), 100.0))
    # C has three positions, its donor one or two
    assert third["resample"].shape == (3, 1, 2) and third["resample"].flat[0] in (1.0, 10.0)
    assert set(alone) == {"zero", "mean"}  # no other fact of its relation


def test_an_unknown_kind_of_ablation_is_a_sentence():
    with pytest.raises(AtlasError, match=r"'mena'.*Did you mean 'mean'"):
        replacements([], prompts_of(), no_values, {"ablations": ["mena"], "mean_prompts": 2}, 0)


def test_scores_without_prompts_are_a_sentence():
    effects = additive_effects()
    with pytest.raises(AtlasError, match="1 facts with scores have no prompts, the first is P2:D>y"):
        measure_fidelity(scores_of(effects), prompts_of(FACTS[:3]), Additive(effects), no_values, SETTINGS)


def test_shifts_of_another_number_than_neurons_are_a_sentence():
    with pytest.raises(AtlasError, match=r"shifts of the shape \(2, 3\) for 2 neurons"):
        NeuronScaling(np.arange(2), np.arange(2), 0.0, np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"models": ["gpt3"]}, r"experiments.fidelity.models\[0\].*'gpt3'.*Did you mean 'gpt2'"),
        ({"languages": ["fr"]}, r"experiments.fidelity.languages\[0\].*'fr'"),
        ({"ablations": ["mean"], "exhaustive": ["zero"]}, r"experiments.fidelity.exhaustive\[0\].*'zero'"),
    ],
)
def test_mistakes_of_the_configuration_are_sentences(settings, sentence):
    study = {"study": "x", "languages": ["en", "zh"], "models": ["gpt2"], "experiments": {"fidelity": settings}}
    with pytest.raises(AtlasError, match=sentence):
        read_study(study)


# a real model


def hooked_p(lm, query, layer, index, values=None):
    """P(answer) by one unpadded pass in which a hook of its own sets one neuron at the read positions.

    values: what it is set to, or None to be told what it was; returns P and the neuron's values before.
    """
    seen = []
    positions = list(query.positions)

    def hook(_module, inputs):
        changed = inputs[0].clone()
        seen.append(changed[0, positions, index].tolist())
        if values is not None:
            changed[0, positions, index] = torch.tensor(values, dtype=changed.dtype)
        return (changed, *inputs[1:])

    handle = module_at(lm.layers()[layer], lm.architecture.down_projection).register_forward_pre_hook(hook)
    with torch.no_grad():
        logits = lm.model(torch.tensor([query.input_ids])).logits[0]
    handle.remove()
    log_p = logits[positions].log_softmax(-1)[range(len(positions)), list(query.targets)].sum()
    return float(log_p.exp()), seen[0]


@pytest.mark.parametrize("kind", ["masked", "causal"])
def test_ablations_of_a_real_model_are_those_of_an_explicit_hook(kind):
    lm = tiny_model(kind, "float64")
    prompts = tiny_prompts(kind)
    prompts = prompts[prompts["language"] == "en"]
    encoded = {row.fact: encode_prompt(lm, row) for row in prompts.itertuples(index=False)}
    assert {len(query.positions) for query in encoded.values()} != {1}  # answers of one and of more tokens
    queries = [((fact, "en", 0), "P36") for fact in encoded]
    how = {"ablations": ["zero", "mean", "resample"], "mean_prompts": 100}
    found = replacements(queries, prompts, values_with(lm, prompts, 2), how, 0)
    evaluate, (layer, index) = evaluate_with(lm, prompts, 4), (1, 7)
    clean = {fact: hooked_p(lm, query, layer, index) for fact, query in encoded.items()}
    for key, _ in queries:
        query, others = encoded[key[0]], [np.mean(of) for fact, (_, of) in clean.items() if fact != key[0]]
        n_positions = len(query.positions)
        expected = {"zero": [0.0] * n_positions, "mean": [np.mean(others)] * n_positions}
        donors = [[*of, *[of[-1]] * n_positions][:n_positions] for fact, (_, of) in clean.items() if fact != key[0]]
        resampled = found[key]["resample"][:, layer, index]
        expected["resample"] = min(donors, key=lambda of: np.abs(np.array(of) - resampled).max())
        np.testing.assert_allclose(resampled, expected["resample"], rtol=1e-10)
        for name, values in expected.items():
            shift = 0.0 if found[key][name] is None else found[key][name][:, [layer], [index]]
            (p,), _ = evaluate([Request(*key, np.array([layer]), np.array([index]), 0.0, shift)])
            hooked, _ = hooked_p(lm, query, layer, index, values)
            assert p == pytest.approx(hooked, rel=1e-9)
            assert abs(hooked / clean[key[0]][0] - 1) > 1e-6
