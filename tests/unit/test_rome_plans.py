"""ROME as the reference of updates: what it edits, what it leaves, and its rows among those of the others."""

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch

from knatlas.errors import AtlasError
from knatlas.experiments import rome_plans, weight_edits
from knatlas.experiments.edit_targets import new_objects
from knatlas.experiments.weight_edits import COLUMNS, RANKED_COLUMNS, WeightEdits, edit_facts
from knatlas.facts.table import PROMPT_COLUMNS
from knatlas.interventions.editing import EditRequest, edited
from knatlas.interventions.key_statistics import completed_sentences, measure_key_statistics
from knatlas.interventions.rome import Rome, rome_editor
from knatlas.interventions.weights import edited_values
from knatlas.models.answers import answer_details
from knatlas.models.encoding import encode_prompt
from knatlas.selection.neuron_set import FoundSet, NeuronSets, as_table
from knatlas.statistics.weight_edits import summarise_edits
from tests.tiny_models import tiny_model, tiny_prompts
from tests.unit.test_rome import N_NEURONS, recalling

# the network's facts in two relations, asked in two languages that differ in the words around the subject
FACTS = {f"{'P1' if i < 4 else 'P2'}:s{i}>o{i}": i for i in range(6)}
FRAMES = {"en": ["q0 {} q1", "q2 {} q1"], "fi": ["q3 {} q4", "q4 {} q0"]}
ROME = {"layer": 0, "prefix_lengths": [[5, 2]]}
SETTINGS = {"reference_editors": ["rome"], "rome": ROME}


def prompts_of(separator=" "):
    rows = [
        (*(fact, fact[:2], language, "causal", query, query, "final"), *(frame.format(f"s{i}"), separator, f"o{i}", ""))
        for language, frames in FRAMES.items()
        for fact, i in FACTS.items()
        for query, frame in enumerate(frames)
    ]
    return pd.DataFrame(rows, columns=PROMPT_COLUMNS)


def facts_table(**labels):
    """The subject of each fact in either language, or another one."""
    rows = [(fact, language, labels.get(f"s{i}", f"s{i}")) for fact, i in FACTS.items() for language in FRAMES]
    return pd.DataFrame(rows, columns=["fact", "language", "subject_label"])


@cache
def statistics():
    lm, _ = recalling()
    measured = measure_key_statistics(lm, completed_sentences(prompts_of()), [0])
    # no neuron of the second layer is ever active
    return replace(measured, moments={**measured.moments, 1: np.eye(N_NEURONS)})


def sets_of(selection="matrice", n_draws=1):
    found = [
        FoundSet(fact, "all", draw, np.array([0]), np.array([i if selection == "matrice" else 6 + draw]), np.ones(1))
        for fact, i in FACTS.items()
        for draw in range(n_draws)
    ]
    table, shape = as_table(selection, found), (2, N_NEURONS)
    return NeuronSets(table, selection, list(FACTS), ["all"], *shape, n_draws, origin={"model": {"name": "recalling"}})


def measure(prompts=None, facts=None, log=lambda _: None, progress=lambda *told: None, sets=None, **settings):
    settings = WeightEdits(**{**SETTINGS, **settings})
    given = (sets or [sets_of()], prompts_of() if prompts is None else prompts, settings, 0, progress, 5)
    return edit_facts(recalling()[0], *given, statistics(), facts_table() if facts is None else facts, log)


def empty_sets():
    origin = {"model": {"name": "recalling"}}
    return NeuronSets(as_table("empty", []), "empty", list(FACTS), ["all"], 2, N_NEURONS, 1, origin=origin)


def of_rome(table):
    return table[table["selection"] == "rome"].reset_index(drop=True)


def assert_unedited(rows):
    assert len(rows) and rows["n_neurons"].eq(0).all() and rows["n_edited"].eq(0).all() and rows["is_unchanged"].all()
    for name in ("p_old", "p_new", "is_old", "is_new"):
        assert rows[f"{name}_after"].equals(rows[f"{name}_before"].rename(f"{name}_after"))


def bits():
    return {name: tensor.clone().view(torch.int64) for name, tensor in recalling()[0].model.state_dict().items()}


def assert_same(before):
    after = bits()
    assert len(before) > 5 and all(torch.equal(tensor, after[name]) for name, tensor in before.items())


# ---- what it edits


def test_rows_of_rome_follow_those_of_the_others_which_stay_as_they_were():
    table, without = measure(), measure(reference_editors=())
    pd.testing.assert_frame_equal(table[table["selection"] != "rome"], without)
    rows = of_rome(table)
    assert table.columns.tolist() == COLUMNS and table["selection"].tolist()[-len(rows) :] == ["rome"] * len(rows)
    others = without[without["operation"] == "update"].reset_index(drop=True)
    same = ["model", "draw", "operation", "scope", "fact", "relation", "language", "probe", "probed_fact", "query"]
    same += ["object", "is_same_as_english", "p_old_before", "p_new_before", "is_old_before"]
    pd.testing.assert_frame_equal(rows[same], others[same])
    assert rows["n_neurons"].eq(N_NEURONS).all() and rows["n_edited"].eq(N_NEURONS).all()
    # the edit is made with the first English query alone
    is_edited = (rows["probe"] == "reliability") & (rows["language"] == "en")
    assert is_edited.sum() == 6 and (rows["is_in_sample"] == is_edited).all()


def test_a_fact_recalled_at_the_subject_is_updated_in_all_queries_and_languages():
    rows = of_rome(measure())
    own = rows[rows["probe"] != "locality"]
    assert len(own) == 6 * 2 * 2 and own["is_old_before"].all() and own["is_new_after"].all()
    assert not own["is_old_after"].any() and not own["is_new_before"].any()
    unrelated = rows[rows["probe"] == "locality"]
    assert len(unrelated) == (4 * 2 + 2 * 4) * 2 and unrelated["is_old_after"].all() and unrelated["is_unchanged"].all()


def test_what_is_measured_is_what_the_editor_alone_does():
    lm, prompts = recalling()[0], prompts_of()
    rows = of_rome(measure())
    objects = new_objects(prompts, list(FACTS), 0)
    by_key = {(prompt.fact, prompt.language, prompt.query): prompt for prompt in prompts.itertuples()}
    editor = rome_editor(lm, Rome(**ROME), statistics(), 0)
    for fact, i in FACTS.items():
        own = rows[(rows["fact"] == fact) & (rows["probe"] != "locality")]
        new = objects[fact]["en"]
        keys = own[["fact", "language", "query"]].itertuples(index=False, name=None)
        asked = [by_key[key] for key in keys]
        with edited(lm, editor(lm, EditRequest("q0 {} q1", f"s{i}", f"o{i}", new))):
            after = answer_details(lm, [encode_prompt(lm, prompt._replace(answer=new)) for prompt in asked])
        np.testing.assert_allclose(own["p_new_after"], after["p"], rtol=1e-9)
        assert own["is_new_after"].tolist() == after["is_argmax"].tolist()


def test_an_edit_is_found_once_in_the_unedited_model_and_made_before_the_next(monkeypatch):
    before, told = bits(), []

    def noting(lm, settings, given, seed):
        editor = rome_editor(lm, settings, given, seed)

        def edit(lm, request):
            assert_same(before)
            told.append(request.case)
            return editor(lm, request)

        return edit

    def made(lm, edits):
        told.append("made")
        return edited_values(lm, edits)

    monkeypatch.setattr(rome_plans, "rome_editor", noting)
    monkeypatch.setattr(weight_edits, "edited_values", made)
    steps = []
    measure(scopes=["single", "batch"], progress=lambda *step: steps.append(step))
    assert told[-12:] == [word for fact in FACTS for word in (fact, "made")]
    # erased and updated, each alone and by relation, and ROME's
    assert len(told) == 2 * (6 + 2) + 12 and steps[-1] == (22, 22, "rome update single") and len(steps) == 22


@pytest.mark.parametrize("is_stopped", [False, True])
def test_every_weight_has_its_bits_again(is_stopped):
    before = bits()

    def stop(done, total, message):
        if is_stopped and message.startswith("rome"):
            raise KeyError("stopped")

    if is_stopped:
        with pytest.raises(KeyError, match="stopped"):
            measure(progress=stop)
    else:
        measure(progress=stop)
    assert_same(before)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in recalling()[0].model.modules())


def test_of_several_subjects_in_a_query_the_last_one_is_edited(monkeypatch):
    asked = []

    def noting(*given):
        editor = rome_editor(*given)
        return lambda lm, request: asked.append(request) or editor(lm, request)

    monkeypatch.setattr(rome_plans, "rome_editor", noting)
    prompts = prompts_of()
    prompts["before"] = [
        f"s{FACTS[fact]} {text}" for fact, text in zip(prompts["fact"], prompts["before"], strict=True)
    ]
    rows = of_rome(measure(prompts))
    assert [request.prompt for request in asked] == [f"s{i} q0 {{}} q1" for i in range(6)]
    assert [request.text for request in asked] == [f"s{i} q0 s{i} q1" for i in range(6)]
    assert rows["n_neurons"].eq(N_NEURONS).all()


def test_ranks_are_measured_of_rome_too():
    rows = of_rome(measure(is_ranked=True))
    assert rows.columns.tolist() == [*COLUMNS, *RANKED_COLUMNS]
    own = rows[rows["probe"] != "locality"]
    assert own["is_old_ranked_before"].all() and own["is_new_ranked_after"].all()
    assert not own["is_ranked_unchanged"].any() and rows.loc[rows["probe"] == "locality", "is_ranked_unchanged"].all()


# ---- what it leaves


@pytest.mark.parametrize("label", ["s9", "", " s2"])
def test_a_query_without_its_subject_is_counted_unedited(label):
    lines = []
    rows = of_rome(measure(facts=facts_table(s2=label), log=lines.append))
    is_left = rows["fact"] == "P1:s2>o2"
    assert_unedited(rows[is_left])
    assert rows.loc[~is_left, "n_neurons"].eq(N_NEURONS).all() and rows.loc[is_left, "object"].ne("").all()
    assert len(lines) == 1 and "recalling: rome left 1 of 6 facts unedited; the first: " in lines[0]
    assert "P1:s2>o2" in lines[0]


def test_what_rome_refuses_is_counted_unedited_and_nothing_is_run(monkeypatch):
    lines = []
    without = measure(operations=["update"], reference_editors=())
    monkeypatch.setattr(weight_edits, "edited_values", lambda lm, edits: pytest.fail("nothing is to be edited"))
    table = measure(sets=[empty_sets()], operations=["update"], rome={"layer": 1}, log=lines.append)
    # what is written at the subject in the last layer doesn't reach the answer
    assert_unedited(of_rome(table))
    assert len(of_rome(table)) == len(without) and len(lines) == 1
    assert "rome left 6 of 6 facts unedited; the first" in lines[0] and "the last one" in lines[0]


def test_a_fact_without_a_new_object_is_not_asked_for():
    lines = []
    prompts = prompts_of()
    prompts = prompts[prompts["fact"].isin(["P1:s1>o1", "P2:s4>o4", "P2:s5>o5"])]
    sets = sets_of()
    few = NeuronSets(sets.table, "matrice", sorted(set(prompts["fact"])), ["all"], 2, N_NEURONS, 1, origin=sets.origin)
    rows = of_rome(measure(prompts, sets=[few], log=lines.append))
    is_alone = rows["fact"] == "P1:s1>o1"
    assert_unedited(rows[is_alone])
    assert rows.loc[is_alone, "object"].eq("").all() and lines == []
    assert rows.loc[~is_alone, "n_neurons"].eq(N_NEURONS).all()


def test_a_query_without_a_blank_before_its_answer_is_not_edited():
    lines = []
    rows = of_rome(measure(prompts_of(separator=""), log=lines.append))
    assert_unedited(rows)
    assert "no blank stands before the answer of 'q0 s0 q1', as rome needs it" in lines[0]


def test_a_fact_without_a_query_in_the_source_language_is_not_edited():
    prompts, lines = prompts_of(), []
    prompts = prompts[(prompts["fact"] != "P2:s4>o4") | (prompts["language"] != "en")]
    rows = of_rome(measure(prompts, sets=[empty_sets()], operations=["update"], log=lines.append))
    assert_unedited(rows[rows["fact"] == "P2:s4>o4"])
    assert "fact P2:s4>o4 has no query in the source language" in lines[0]


@pytest.mark.parametrize("settings", [{"operations": ["erase"]}, {"scopes": ["batch"]}])
def test_erasures_and_batches_have_no_rome(settings):
    lines = []
    table = measure(log=lines.append, **settings)
    pd.testing.assert_frame_equal(table, measure(reference_editors=(), **settings))
    assert "rome is left out: it is made for operation update in scope single" in lines[0]


def test_a_masked_model_has_no_rome():
    lm, lines = tiny_model("bert"), []
    prompts = tiny_prompts(lm.kind, 2)
    facts = sorted(set(prompts["fact"]))
    found = [FoundSet(fact, "all", 0, np.array([1]), np.array([3]), np.ones(1)) for fact in facts]
    sets = NeuronSets(as_table("likn", found), "likn", facts, ["all"], 3, 24, origin={"model": {"name": lm.name}})
    table = edit_facts(lm, [sets], prompts, WeightEdits(**SETTINGS), log=lines.append)
    pd.testing.assert_frame_equal(table, edit_facts(lm, [sets], prompts, WeightEdits()))
    assert lines == [
        "tiny-bert: the reference editor rome is left out: it edits causal models only, and this one is masked"
    ]


def test_missing_needs_and_unknown_words_are_sentences():
    lm, sets, prompts = recalling()[0], [sets_of()], prompts_of()
    with pytest.raises(AtlasError, match="the reference editor rome was given no key statistics; give it, or leave"):
        edit_facts(lm, sets, prompts, WeightEdits(**SETTINGS), facts=facts_table())
    with pytest.raises(AtlasError, match="the reference editor rome was given no table of facts"):
        edit_facts(lm, sets, prompts, WeightEdits(**SETTINGS), statistics=statistics())
    with pytest.raises(AtlasError, match=r"weight_edits: reference_editors is 'rom'.*Did you mean 'rome'"):
        WeightEdits(reference_editors=["rom"])
    with pytest.raises(AtlasError, match="rome: clamp is 0"):
        WeightEdits(rome={"clamp": 0})


# ---- the tables


def test_rome_stands_in_the_table_of_updates_as_the_others_do():
    table = measure(facts=facts_table(s2="s9"), sets=[sets_of(), sets_of("random", 2)])
    tables = summarise_edits(table, seed=1, resamples=50)
    assert "rome" not in set(tables.erase["selection"])
    assert list(dict.fromkeys(tables.update["selection"])) == ["matrice", "random", "rome"]
    rome, random = (tables.update[tables.update["selection"] == name] for name in ("rome", "random"))

    def value(rows, statistic, subset="all", language="all"):
        named = {"statistic": statistic, "subset": subset, "language": language, "notion": "exact"}
        return rows[(rows[list(named)] == pd.Series(named)).all(axis=1)].iloc[0]

    # one of six facts is left unedited
    for name in ("reliability", "generality"):
        assert value(rome, name)["value"] == pytest.approx(500 / 6) and value(rome, name, "non_empty")["value"] == 100
        excess = value(rome, name)["value"] - value(random, name)["value"]
        assert value(rome, f"excess_{name}")["value"] == pytest.approx(excess)
    assert value(rome, "locality")["value"] == 100 and value(rome, "reliability", "non_empty")["n"] == 5
    sizes = value(rome, "reliability")
    assert sizes["n_empty"] == 1 and sizes["n_no_object"] == 0 and sizes["n_neurons"] == sizes["n_edited"] == 10
    in_sample = [
        value(rome, name, language=at)["is_in_sample"] for name in ("reliability", "generality") for at in ("en", "fi")
    ]
    assert in_sample == [True, False, False, False]
    matrice = tables.update[tables.update["selection"] == "matrice"]
    assert set(rome["statistic"]) == set(matrice["statistic"]) and set(rome["subset"]) == set(matrice["subset"])
