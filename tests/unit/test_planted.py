"""Planted models: every neuron does what its kind says, measured here without the library's own interventions."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from knatlas.errors import AtlasError
from knatlas.models.answers import answer_probabilities, token_probabilities
from knatlas.models.encoding import encode_prompts
from knatlas.models.loading import load_model
from knatlas.models.planted.check import NO_EFFECT, QUERY_COLUMNS, check_plants, check_queries
from knatlas.models.planted.design import (
    DEGENERATE,
    FAMILIES,
    PARAPHRASE,
    SPECIFIC,
    STRENGTHS,
    Design,
    place_plants,
    planted_facts,
)
from knatlas.models.planted.detectors import fit_detector, read_states
from knatlas.models.planted.planting import build_planted
from knatlas.models.planted.tuning import P_ANSWER, plant_model
from knatlas.models.sources import resolve_model

SMALL = Design(languages=3, paraphrases=3, held_out=1, neurons=128, strengths=("medium",))
SINGLE = ("agnostic", "specific", "paraphrase", "additive")


@pytest.fixture(scope="module", params=list(FAMILIES))
def planted(request):
    return plant_model(SMALL, request.param)


@pytest.fixture(scope="module")
def queries(planted):
    return check_queries(planted)


def p_without(planted, query, plants):
    """P(answer) with neurons put to zero at the read position by a hook of the test's own."""
    handles = []
    for plant in plants:

        def zero(_module, inputs, index=plant.index):
            values = inputs[0].clone()
            values[:, query.positions[-1], index] = 0
            return (values,)

        handles.append(planted.lm.down_projections()[plant.layer].register_forward_pre_hook(zero))
    try:
        (p,) = token_probabilities(planted.lm, [query])
    finally:
        for handle in handles:
            handle.remove()
    return float(p[-1, query.targets[-1]])


def test_zeroing_a_neuron_costs_what_the_ground_truth_says(planted, queries):
    known = {(q.fact, q.language, q.query): q for q in planted.queries}
    rows = queries[~queries["is_held_out"] & queries["kind"].isin(SINGLE)].iloc[::5]
    assert len(rows) >= 6
    for row in rows.itertuples(index=False):
        query = known[row.fact, row.language, row.query]
        assert p_without(planted, query, [planted.plants[row.plant]]) == pytest.approx(row.p_without, abs=1e-5)
        assert p_without(planted, query, []) == pytest.approx(row.p_before, abs=1e-5)


def test_the_strength_of_a_fact_is_the_effect_of_its_neurons(planted, queries):
    plants = check_plants(queries)
    single = plants[plants["kind"].isin(SINGLE)]
    # paraphrases differ in P, which no neuron of the others can level: their neurons are counted together
    is_paraphrase = single["kind"] == PARAPHRASE
    by_plant = single["effect"].groupby(single["plant"].where(~is_paraphrase, -1)).mean()
    assert single[is_paraphrase].groupby("plant")["is_acting"].all().mean() >= 0.5
    np.testing.assert_allclose(by_plant, STRENGTHS["medium"].effect, atol=0.12)
    of_facts = single.groupby("fact")["p_before"].mean()
    np.testing.assert_allclose(of_facts, P_ANSWER, atol=0.1)


def test_one_neuron_of_a_degenerate_pair_goes_unnoticed_and_both_do_not(planted, queries):
    pairs = check_plants(queries).query("kind in @DEGENERATE")
    assert set(pairs["kind"]) == set(DEGENERATE)
    assert (pairs["effect"] < 0.2).all()
    together = pairs.groupby("fact")["effect_of_pair"].mean()
    np.testing.assert_allclose(together, STRENGTHS["medium"].effect, atol=0.15)
    layers = pairs.drop_duplicates("plant").groupby("kind")["layer"].nunique()
    assert layers.to_dict() == {"degenerate_same_layer": 1, "degenerate_across_layers": 2}


def test_both_neurons_of_a_pair_are_zeroed_together(planted, queries):
    row = queries[queries["kind"].isin(DEGENERATE)].iloc[0]
    query = next(q for q in planted.queries if (q.fact, q.language, q.query) == (row.fact, row.language, row.query))
    pair = [plant for plant in planted.plants if plant.kind == row.kind and plant.fact == row.fact]
    assert len(pair) == 2
    assert p_without(planted, query, pair) == pytest.approx(row.p_without_pair, abs=1e-5)


def test_a_distractor_is_active_and_does_nothing(queries):
    rows = check_plants(queries).query("kind == 'distractor'")
    assert (rows["activation"] > 1).all()
    assert rows["effect"].abs().mean() < NO_EFFECT


def test_planted_neurons_are_silent_for_other_facts_languages_and_paraphrases(planted):
    activations = read_states(planted.lm, planted.queries)[1]
    for plant in planted.plants:
        if plant.kind not in ("agnostic", SPECIFIC, PARAPHRASE):
            continue
        asked = [q for q in planted.queries if q.fact == plant.fact and plant.language in ("all", q.language)]
        own = [q for q in asked if plant.kind != PARAPHRASE or q.query == plant.query]
        assert len(own) == (len(asked) / SMALL.paraphrases if plant.kind == PARAPHRASE else len(asked))
        is_own = np.array([q in own for q in planted.queries])
        values = activations[plant.layer][:, plant.index]
        assert values[is_own].min() > 1
        assert np.abs(values[~is_own]).max() < 0.3


def test_a_saved_model_gives_the_same_answers(planted, tmp_path):
    planted.save(tmp_path)
    loaded = load_model(resolve_model("planted", "folder", str(tmp_path)), device="cpu")
    queries = encode_prompts(loaded, planted.prompts)
    assert queries[: len(planted.queries)] == encode_prompts(planted.lm, planted.prompts)[: len(planted.queries)]
    pd.testing.assert_frame_equal(
        answer_probabilities(loaded, queries),
        answer_probabilities(planted.lm, encode_prompts(planted.lm, planted.prompts)),
    )


def test_each_paraphrase_of_a_fact_has_a_neuron_of_its_own():
    facts = planted_facts(design := Design(strengths=("high",)))
    (fact,) = (fact for fact in facts if fact.group == PARAPHRASE)
    plants = [plant for plant in place_plants(design, facts) if plant.fact == fact.fact]
    assert sorted(plant.query for plant in plants if plant.kind == PARAPHRASE) == [0, 1, 2]
    assert sum(plant.kind == "agnostic" and plant.query is None for plant in plants) == 1


def test_noise_is_what_random_neurons_write():
    designs = [dataclasses.replace(SMALL, noise=noise) for noise in (0.25, 0.5)]
    models = [build_planted(design, "gpt2") for design in designs]
    layer, taken = 1, {plant.index for plant in models[0].plants if plant.layer == 1}
    index = next(i for i in range(SMALL.neurons) if i not in taken)
    quiet, loud = (model.lm.value_vector(layer, index) for model in models)
    torch.testing.assert_close(loud, 2 * quiet)


def test_the_seed_decides_the_model():
    first, again = (build_planted(SMALL, "gpt2") for _ in range(2))
    other = build_planted(dataclasses.replace(SMALL, seed=1), "gpt2")
    weights = [model.lm.model.get_input_embeddings().weight for model in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert first.plants == again.plants != other.plants


def test_no_place_is_taken_twice():
    design = Design(seed=3)
    plants = place_plants(design, planted_facts(design))
    places = [(plant.layer, plant.index) for plant in plants]
    assert len(set(places)) == len(places)
    assert all(plant.layer == design.layers - 1 for plant in plants if plant.kind == "language")


def test_a_detector_separates_what_can_be_separated():
    random = np.random.default_rng(0)
    states = random.standard_normal((60, 8))
    fires = states[:, 0] > 0.8
    states[fires, 0] += 2
    weights, bias = fit_detector(states, fires)
    values = states @ weights + bias
    assert values[fires].mean() == pytest.approx(3)
    assert values[~fires].max() == pytest.approx(-5)


def checked(kind, activation=3.0, without=0.4, without_pair=np.nan, plant=0, language="l0"):
    """One row of the table of queries, of a medium fact with P = 0.8."""
    place = (plant, kind, 1, plant, kind, "medium", "R0:s0>o0", language, 0, False)
    return (*place, activation, 0.8, without, without_pair)


@pytest.mark.parametrize(
    ("row", "is_acting"),
    [
        (checked("agnostic"), True),
        (checked("agnostic", without=0.62), False),  # a loss of 0.225, less than half of 0.5
        (checked("agnostic", activation=0.9), False),
        (checked("degenerate_same_layer", without=0.7, without_pair=0.4), True),
        (checked("degenerate_same_layer", without=0.6, without_pair=0.4), False),  # one of the two is noticed
        (checked("degenerate_same_layer", without=0.7, without_pair=0.65), False),  # both are not
        (checked("distractor", without=0.79), True),
        (checked("distractor", without=0.7), False),
        (checked("relation", without=0.77), True),
        (checked("relation", without=0.8), False),
    ],
)
def test_what_does_not_act_is_no_ground_truth(row, is_acting):
    (found,) = check_plants(pd.DataFrame([row], columns=QUERY_COLUMNS))["is_acting"]
    assert found == is_acting


def test_a_neuron_that_fails_in_one_language_counts_in_none():
    rows = [checked("agnostic"), checked("agnostic", without=0.8, language="l1")]
    assert not check_plants(pd.DataFrame(rows, columns=QUERY_COLUMNS))["is_acting"].any()


def test_half_a_pair_is_no_pair():
    of_pair = {"without_pair": 0.4}
    rows = [
        checked("degenerate_same_layer", without=0.7, plant=0, **of_pair),
        checked("degenerate_same_layer", without=0.5, plant=1, **of_pair),
    ]
    assert not check_plants(pd.DataFrame(rows, columns=QUERY_COLUMNS))["is_acting"].any()


def test_wrong_sizes_are_sentences():
    with pytest.raises(AtlasError, match=r"planted\.strengths is 'lo'"):
        Design(strengths=("lo",))
    with pytest.raises(AtlasError, match=r"planted\.layers is 2; expected a number from 4 on"):
        Design(layers=2)
    with pytest.raises(AtlasError, match=r"planted\.noise is 0; expected a number above 0"):
        Design(noise=0)
    with pytest.raises(AtlasError, match=r"planted\.neurons is 32, too few"):
        place_plants(design := Design(neurons=32, facts=3), planted_facts(design))
