"""Negative log likelihoods of CounterFact, and the statistics of Table 3 on numbers that can be computed by hand."""

import numpy as np
import pandas as pd
import pytest
import torch

from knatlas.experiments.counterfact_answers import encode_record, mean_nll
from knatlas.facts.counterfact import CounterfactRecord
from knatlas.models.encoding import encode_prompts
from knatlas.statistics.bootstrap import NO_DATA
from knatlas.statistics.counterfact import (
    STATISTICS,
    TABLE_COLUMNS,
    bootstrap_score,
    harmonic_mean,
    prompt_measures,
    summarise_counterfact,
)
from tests.tiny_models import tiny_model, tiny_prompts

LN2 = float(np.log(2))


def queries_of(lm):
    return encode_prompts(lm, tiny_prompts(lm.kind, 2))


@pytest.mark.parametrize("model_type", ["bert", "gpt2", "llama"])
def test_nll_is_the_mean_over_the_answers_tokens_of_what_the_whole_model_gives(model_type):
    lm = tiny_model(model_type, "float64")
    queries = queries_of(lm)
    assert max(len(query.targets) for query in queries) > 1
    for query, nll in zip(queries, mean_nll(lm, queries, 4), strict=True):
        logits = lm.model(torch.tensor([query.input_ids])).logits[0].log_softmax(-1)
        terms = [-logits[p, t].item() for p, t in zip(query.positions, query.targets, strict=True)]
        assert nll == pytest.approx(np.mean(terms), rel=1e-12)


@pytest.mark.parametrize("model_type", ["bert", "gpt2"])
def test_rows_of_a_batch_change_no_nll(model_type):
    lm = tiny_model(model_type, "float64")
    queries = queries_of(lm)
    one, many = mean_nll(lm, queries, 1), mean_nll(lm, queries, 64)
    np.testing.assert_allclose(one, many, rtol=1e-12)


def test_an_object_too_improbable_for_float32_still_has_a_finite_nll():
    lm, precise = tiny_model("gpt2", scale=40.0), tiny_model("gpt2", "float64", scale=40.0)
    found, expected = mean_nll(lm, queries_of(lm), 8), mean_nll(precise, queries_of(precise), 8)
    assert expected.max() > 120 and np.isfinite(found).all()
    np.testing.assert_allclose(found, expected, rtol=1e-2)


def record(**changes):
    texts = {"prompt": "The capital of {} is", "subject": "France", "target_true": "Paris", "target_new": "Helsinki"}
    lists = {"paraphrases": ("The capital city of France is",), "neighbours": ("France is governed from",)}
    return CounterfactRecord(**{"case": 5, "fact": "5", "relation": "P36", **texts, **lists, **changes})


@pytest.mark.parametrize("kind", ["masked", "causal"])
def test_each_prompt_is_asked_for_the_true_and_then_for_the_new_object(kind):
    lm = tiny_model(kind)
    encoded = encode_record(lm, record())
    texts = [lm.tokenizer.decode(query.targets).strip() for query in encoded.queries]
    assert texts == ["Paris", "Helsinki"] * 3 and not encoded.is_too_long and encoded.reason == ""


@pytest.mark.parametrize("kind", ["masked", "causal"])
def test_a_record_with_a_prompt_that_is_too_long_has_no_queries_and_a_reason(kind):
    encoded = encode_record(tiny_model(kind), record(paraphrases=("The capital of France is " * 40,)))
    assert encoded.queries == [] and encoded.is_too_long
    assert encoded.reason.startswith("record 5 is left out") and "the model reads at most 64" in encoded.reason


def test_a_record_with_an_object_that_the_tokenizer_does_not_know_is_not_called_too_long():
    encoded = encode_record(tiny_model("masked"), record(target_new="Ⰰ"))
    assert encoded.queries == [] and not encoded.is_too_long and "unknown tokens" in encoded.reason


def rows(table, model="m", editor="e"):
    """Rows from (case, kind, nll_true, nll_new, ...): the optional rest are nll_new_before and n_neurons."""
    lines = []
    for case, kind, true, new, *rest in table:
        before, n_neurons = (*rest, *(new, 3)[len(rest) :])
        lines.append((model, editor, case, kind, true, new, true, before, n_neurons, bool(np.isnan(true))))
    columns = ["model", "editor", "case", "prompt_kind", "nll_true", "nll_new", "nll_true_before", "nll_new_before"]
    return pd.DataFrame(lines, columns=[*columns, "n_neurons", "is_left_out"])


E, P, N = "rewrite", "paraphrase", "neighborhood"
# record 1: rewritten, one of two paraphrases too, one of two neighbours kept; record 2: nothing achieved, no neighbours
TWO = [
    (1, E, 2 * LN2, LN2, 2 * LN2),
    (1, P, 2 * LN2, LN2),
    (1, P, LN2, 2 * LN2),
    (1, N, LN2, 2 * LN2),
    (1, N, 3 * LN2, LN2),
    (2, E, LN2, 3 * LN2, 3 * LN2, 0),
    (2, P, LN2, 2 * LN2, 2 * LN2, 0),
]


def values(table, column="value"):
    return table.set_index("statistic")[column].to_dict()


def test_success_and_magnitude_of_a_prompt_and_the_other_way_round_for_neighbours():
    measured = prompt_measures(rows(TWO))
    assert list(measured["success"]) == [1, 1, 0, 1, 0, 0, 0]
    np.testing.assert_allclose(measured["magnitude"], [0.25, 0.25, -0.25, 0.25, -0.375, -0.375, -0.25])


def test_equal_probabilities_are_no_success_of_any_kind():
    measured = prompt_measures(rows([(1, E, 1.0, 1.0), (1, N, 1.0, 1.0)]))
    assert list(measured["success"]) == [0, 0] and list(measured["magnitude"]) == [0, 0]


def test_an_impossible_object_counts_with_probability_zero():
    measured = prompt_measures(rows([(1, E, np.inf, LN2), (1, N, np.inf, LN2)]))
    assert list(measured["success"]) == [1, 0]
    np.testing.assert_allclose(measured["magnitude"], [0.5, -0.5])


def test_table_averages_within_records_and_then_over_records():
    found = values(summarise_counterfact(rows(TWO), resamples=50))
    expected = {"ES": 50.0, "EM": 100 * (0.25 - 0.375) / 2, "PS": 25.0, "PM": 100 * (0.0 - 0.25) / 2}
    expected |= {"NS": 50.0, "NM": 100 * (0.25 - 0.375) / 2, "S": 3 / (1 / 50 + 1 / 25 + 1 / 50), "moved": 50.0}
    assert found == pytest.approx(expected) and list(found) == STATISTICS


def test_sd_is_over_records_and_n_counts_those_with_a_prompt_of_the_kind():
    table = summarise_counterfact(rows(TWO), resamples=50)
    sd, n = values(table, "sd"), values(table, "n")
    assert sd["ES"] == pytest.approx(50.0) and sd["EM"] == pytest.approx(100 * 0.3125) and sd["NS"] == 0.0
    assert np.isnan(sd["S"])
    assert (n["S"], n["ES"], n["PM"], n["NS"], n["NM"]) == (2, 2, 2, 1, 1)


def test_records_that_could_not_be_asked_are_counted_and_change_nothing():
    left_out = [(3, kind, np.nan, np.nan, np.nan, 0) for kind in (E, P, N)]
    table, without = (summarise_counterfact(rows(part), resamples=50) for part in ([*TWO, *left_out], TWO))
    assert set(table["n_excluded"]) == {1} and set(without["n_excluded"]) == {0}
    pd.testing.assert_frame_equal(table.drop(columns="n_excluded"), without.drop(columns="n_excluded"))


def test_edits_without_neurons_are_counted_and_their_records_stay():
    table = summarise_counterfact(rows(TWO), resamples=50)
    assert set(table["n_empty"]) == {1} and set(table["n_neurons"]) == {1.5}


def test_moved_counts_changes_of_more_than_five_percent_in_either_direction():
    shifts = [0.0, 0.04, 0.06, -0.04, -0.06]
    table = [(case, E, 1.0, 2.0 - np.log1p(shift), 2.0) for case, shift in enumerate(shifts)]
    assert values(summarise_counterfact(rows(table), resamples=50))["moved"] == 40.0


def test_score_is_zero_where_one_success_is_zero_and_nan_where_one_has_no_record():
    kept = [(1, E, 2.0, 1.0), (1, P, 2.0, 1.0), (1, N, 2.0, 1.0)]
    assert values(summarise_counterfact(rows(kept), resamples=20))["S"] == 0.0
    table = summarise_counterfact(rows(kept[:2]), resamples=20)
    assert np.isnan(values(table)["S"]) and values(table, "n")["S"] == 0 and np.isnan(values(table)["NS"])


def test_harmonic_mean_of_the_papers_row_of_knowledge_neurons():
    assert harmonic_mean([70.7, 66.0, 33.2]) == pytest.approx(50.5, abs=0.05)
    assert harmonic_mean([0.0, 50.0, 50.0]) == 0.0 and np.isnan(harmonic_mean([np.nan, 50.0, 50.0]))


def test_interval_of_the_score_draws_a_record_with_all_its_parts():
    # each record has all parts equal: every resample has three equal means, so S is that mean
    part = np.array([0.0, 100.0, 50.0, 100.0])
    interval = bootstrap_score([part, part, part], seed=1, resamples=400)
    drawn = np.random.default_rng(1).integers(0, 4, size=(400, 4))
    means = part[drawn].mean(axis=1)
    expected = np.percentile(means, [2.5, 97.5], method="nearest")
    assert interval.value == pytest.approx(62.5) and (interval.lo, interval.hi) == pytest.approx(tuple(expected))


def test_interval_of_the_score_of_equal_records_has_no_width():
    part = np.full(7, 30.0)
    interval = bootstrap_score([part, part, part], resamples=100)
    assert interval.lo == interval.value == interval.hi == pytest.approx(30.0)


def test_a_record_without_neighbours_is_drawn_but_does_not_count_for_them():
    with_neighbours = np.array([100.0, 0.0, np.nan, np.nan])
    full = np.full(4, 100.0)
    interval = bootstrap_score([full, full, with_neighbours], seed=2, resamples=500)
    assert interval.value == pytest.approx(3 / (2 / 100 + 1 / 50)) and interval.n == 4
    assert interval.lo == 0.0 and interval.hi == pytest.approx(100.0)
    assert bootstrap_score([full, full, np.full(4, np.nan)]) == NO_DATA


def test_every_model_and_editor_has_its_lines_in_the_order_of_the_rows():
    table = pd.concat([rows(TWO, "b", "none"), rows(TWO, "b", "kn_e"), rows(TWO, "a", "none")])
    found = summarise_counterfact(table, resamples=20)
    assert list(found.columns) == TABLE_COLUMNS
    assert list(dict.fromkeys(zip(found["model"], found["editor"], strict=True))) == [
        ("b", "none"),
        ("b", "kn_e"),
        ("a", "none"),
    ]
    assert len(found) == 3 * len(STATISTICS)


def test_editors_that_did_the_same_have_the_same_intervals():
    table = pd.concat([rows(TWO, editor="none"), rows(TWO, editor="kn_e")])
    first, other = (part.drop(columns="editor") for _, part in summarise_counterfact(table).groupby("editor"))
    pd.testing.assert_frame_equal(first.reset_index(drop=True), other.reset_index(drop=True))
