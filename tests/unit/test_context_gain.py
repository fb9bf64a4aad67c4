"""The gain of P(answer) by examples: what is asked, sentences that are too long, and the table over facts."""

import numpy as np
import pandas as pd
import pytest

from knatlas.errors import AtlasError
from knatlas.experiments.context_gain import COLUMNS, ContextGain, measure_context_gain
from knatlas.facts.contexts import choose_examples, with_contexts
from knatlas.facts.table import PROMPT_COLUMNS
from knatlas.models.answers import answer_probabilities
from knatlas.models.encoding import encode_prompts
from knatlas.statistics.context_gain import STATISTICS, TABLE_COLUMNS, summarise_context_gain
from tests.tiny_models import tiny_model

# words that all tiny tokenizers know, in relations of three facts and of one
COUNTRIES = [("P36", "France", "Paris"), ("P36", "Finland", "Helsinki"), ("P36", "Hungary", "Budapest")]
TEXTS = [*COUNTRIES, ("P38", "Paris", "France")]
FRAMES = ["The capital of {} is", "{}: the capital is"]


def prompts_of(kind, texts=TEXTS, after="."):
    mode, after = ("mask", after) if kind == "masked" else ("final", "")
    rows = [
        (f"{relation}:{subject}", relation, "en", kind, query, query, mode, frame.format(subject), " ", obj, after)
        for relation, subject, obj in texts
        for query, frame in enumerate(FRAMES)
    ]
    return pd.DataFrame(rows, columns=PROMPT_COLUMNS)


@pytest.mark.parametrize("model_type", ["bert", "gpt2", "llama"])
def test_p_is_that_of_the_prompt_alone_and_behind_its_examples(model_type):
    lm = tiny_model(model_type, "float64")
    prompts = prompts_of(lm.kind)
    rows = measure_context_gain(lm, prompts, ContextGain(n_examples=2), seed=5)
    assert rows.columns.tolist() == COLUMNS and len(rows) == 8
    for column, table in (("without", prompts), ("with", with_contexts(prompts, 2, 5))):
        answers = answer_probabilities(lm, encode_prompts(lm, table))
        np.testing.assert_allclose(rows[f"p_{column}"], answers["p"], rtol=1e-9)
        assert rows[f"is_right_{column}"].tolist() == answers["is_argmax"].tolist()
    of_three = rows[rows["relation"] == "P36"]
    assert (of_three["p_with"] != of_three["p_without"]).all() and set(of_three["n_given"]) == {2}
    assert set(rows["n_examples"]) == {2} and not rows["is_too_long"].any() and set(rows["model"]) == {lm.name}


def test_a_prompt_without_any_example_is_asked_as_it_is():
    rows = measure_context_gain(tiny_model("masked"), prompts_of("masked"), ContextGain())
    alone = rows[rows["relation"] == "P38"]
    assert alone["n_given"].tolist() == [0, 0] and alone["p_with"].tolist() == alone["p_without"].tolist()
    assert rows[rows["relation"] == "P36"]["n_given"].tolist() == [2] * 6


def test_a_context_that_the_prompts_have_is_taken_off():
    lm, prompts = tiny_model("causal"), prompts_of("causal")
    rows = measure_context_gain(lm, prompts, ContextGain(n_examples=1), seed=2)
    assert measure_context_gain(lm, with_contexts(prompts, 2, 9), ContextGain(n_examples=1), seed=2).equals(rows)


def test_only_prompts_of_the_models_kind_are_asked():
    both = pd.concat([prompts_of("masked"), prompts_of("causal")], ignore_index=True)
    lm = tiny_model("causal")
    assert measure_context_gain(lm, both, ContextGain()).equals(measure_context_gain(lm, both[8:], ContextGain()))


@pytest.mark.parametrize("kind", ["masked", "causal"])
def test_sentences_that_are_too_long_are_counted_and_the_others_measured(kind):
    lm = tiny_model(kind)
    prompts = prompts_of(kind)
    queries = encode_prompts(lm, with_contexts(prompts, 1, 0))
    lengths = np.array([len(query.input_ids) for query in queries])
    bare = max(len(query.input_ids) for query in encode_prompts(lm, prompts))
    limit = int(np.sort(np.unique(lengths))[-2])
    assert bare <= limit < lengths.max()
    short = tiny_model(kind, max_position_embeddings=limit)
    rows = measure_context_gain(short, prompts, ContextGain(n_examples=1))
    assert rows["is_too_long"].tolist() == (lengths > limit).tolist()
    assert rows["p_with"].isna().tolist() == rows["is_too_long"].tolist() and rows["p_without"].notna().all()
    assert not rows.loc[rows["is_too_long"], "is_right_with"].any()


def test_a_prompt_that_is_too_long_on_its_own_is_counted_too():
    lm, prompts = tiny_model("causal"), prompts_of("causal")
    shortest = min(len(query.input_ids) for query in encode_prompts(lm, prompts))
    rows = measure_context_gain(tiny_model("causal", max_position_embeddings=shortest - 1), prompts, ContextGain())
    assert rows["is_too_long"].all() and rows["p_without"].isna().all() and not rows["is_right_without"].any()
    table = summarise_context_gain(rows, resamples=10)
    assert table["value"].isna().all() and set(table["n"]) == {0}
    assert table.set_index("relation")["n_excluded"].groupby(level=0).first().to_dict() == {
        "all": 4,
        "P36": 3,
        "P38": 1,
    }


def test_limits_take_facts_of_all_relations_in_turn_and_first_queries_but_examples_come_from_all():
    lm, prompts = tiny_model("causal"), prompts_of("causal")
    every = measure_context_gain(lm, prompts, ContextGain(n_examples=2))
    two = measure_context_gain(lm, prompts, ContextGain(n_examples=2, max_facts=2, max_queries=1))
    assert two["relation"].tolist() == ["P36", "P38"] and two["query"].tolist() == [0, 0]
    same = every.merge(two[["fact", "query"]], on=["fact", "query"])
    pd.testing.assert_frame_equal(same, two, rtol=1e-4)
    assert two["n_given"].tolist() == [2, 0]
    chosen = {tuple(measure_context_gain(lm, prompts, ContextGain(max_facts=1), seed)["fact"]) for seed in range(12)}
    assert len(chosen) > 1


def test_batches_and_the_order_of_rows_change_nothing_and_progress_reaches_its_total():
    lm, prompts, told = tiny_model("causal", "float64"), prompts_of("causal"), []
    rows = measure_context_gain(lm, prompts, ContextGain(), 0, lambda *state: told.append(state), batch_rows=1)
    assert told[-1] == (16, 16, "with context")
    other = measure_context_gain(lm, prompts.iloc[::-1], ContextGain(), batch_rows=8)
    key = ["fact", "query"]
    ordered = [table.sort_values(key, ignore_index=True) for table in (rows, other)]
    pd.testing.assert_frame_equal(*ordered, rtol=1e-9)


def test_settings_that_cannot_be_meant_are_told():
    for wrong in ({"n_examples": 0}, {"max_facts": 0}, {"max_queries": -1}, {"n_examples": None}):
        with pytest.raises(AtlasError, match=f"context_gain: {next(iter(wrong))} is .*; expected at least 1"):
            ContextGain(**wrong)


def test_no_prompts_give_an_empty_table():
    lm = tiny_model("causal")
    rows = measure_context_gain(lm, prompts_of("causal")[:0], ContextGain())
    assert rows.empty and rows.columns.tolist() == COLUMNS
    assert choose_examples(prompts_of("causal")[:0], 4, 0) == []
    assert summarise_context_gain(rows).columns.tolist() == TABLE_COLUMNS


def row(fact, p_without, p_with, relation="P1", query=0, n_given=4, is_too_long=False, **other):
    right = {"is_right_without": p_without > 0.5, "is_right_with": p_with > 0.5}
    fixed = {"model": "m", "language": "en", "n_examples": 4}
    measured = {"query": query, "n_given": n_given, "p_without": p_without, "p_with": p_with}
    return {**fixed, "fact": fact, "relation": relation, **measured, **right, "is_too_long": is_too_long, **other}


def lines_of(rows, relation="all"):
    table = summarise_context_gain(pd.DataFrame(rows), seed=1, resamples=200)
    return table[table["relation"] == relation].set_index("statistic")


def test_statistics_are_means_over_facts_and_the_relative_change_a_ratio_of_means():
    rows = [row("a", 0.2, 0.4), row("a", 0.4, 0.8, query=1), row("b", 0.1, 0.0, relation="P2", n_given=2)]
    table = lines_of(rows)
    expected = {"p_without": 0.2, "p_with": 0.3, "difference": 0.1, "relative_change": 0.5}
    expected |= {"right_without": 0.0, "right_with": 0.25, "n_given": 3.0}
    assert table["value"].to_dict() == pytest.approx(expected) and tuple(table.index) == STATISTICS
    assert set(table["n"]) == {2} and set(table["n_excluded"]) == {0}
    assert lines_of(rows, "P2")["value"]["relative_change"] == -1.0
    assert lines_of(rows, "P1")["value"]["difference"] == pytest.approx(0.3)


def test_prompts_that_are_too_long_or_without_an_example_do_not_count_on_either_side():
    rows = [
        row("a", 0.2, 0.4),
        row("a", 0.9, np.nan, query=1, is_too_long=True),
        row("b", 0.9, np.nan, is_too_long=True),
        row("c", 0.7, 0.7, n_given=0),
    ]
    table = lines_of(rows)
    assert table["value"][["p_without", "p_with", "relative_change"]].tolist() == pytest.approx([0.2, 0.4, 1.0])
    assert set(table["n"]) == {1} and set(table["n_excluded"]) == {2}


def test_the_interval_of_a_relative_change_draws_both_means_together():
    rows = [row(f"f{i}", p, 1.5 * p) for i, p in enumerate(np.linspace(0.01, 0.6, 20))]
    table = lines_of(rows)
    change = table.loc["relative_change", ["value", "lo", "hi"]].astype(float).tolist()
    assert change == pytest.approx([0.5, 0.5, 0.5])
    assert table.loc["p_with", "lo"] < table.loc["p_with", "value"] < table.loc["p_with", "hi"]


def test_p_of_zero_without_examples_is_an_infinite_gain_and_none_where_both_are_zero():
    assert lines_of([row("a", 0.0, 0.3)])["value"]["relative_change"] == np.inf
    assert np.isnan(lines_of([row("a", 0.0, 0.0)])["value"]["relative_change"])


def test_models_and_languages_stand_apart_and_relations_by_number():
    rows = [row("a", 0.2, 0.4, relation=relation, model=model) for model in "nm" for relation in ("P101", "P36")]
    table = summarise_context_gain(pd.DataFrame(rows), resamples=10)
    keys = table[["model", "relation"]].drop_duplicates()
    assert list(keys.itertuples(index=False, name=None)) == [
        (model, relation) for model in "nm" for relation in ("all", "P36", "P101")
    ]
