"""Causal tracing of a study: facts chosen, tokens classed, effects averaged over facts, figures, known_1000."""

import json

import numpy as np
import pandas as pd
import pytest

from knatlas.errors import AtlasError
from knatlas.experiments import causal_tracing
from knatlas.experiments.causal_tracing import COLUMNS, CausalTracing, trace_causes
from knatlas.experiments.token_classes import token_classes
from knatlas.facts.known_1000 import read_known_1000
from knatlas.facts.table import PROMPT_COLUMNS
from knatlas.figures.tracing import choose_examples, plot_trace_examples, plot_tracing
from knatlas.interventions.tracing import Noise, TraceSettings, noise_sigma, trace
from knatlas.models.answers import answer_details
from knatlas.models.encoding import encode_prompts
from knatlas.statistics.causal_tracing import TABLE_COLUMNS, summarise_tracing
from tests.tiny_models import tiny_model

SUBJECTS = ["France", "Finland", "Hungary"]
SETTINGS = CausalTracing(n_samples=2, noise=1.0, window=1)


def prompts_of(lm, is_right=True):
    """Two queries about each subject in two relations; the answer to the first is what the model says, or isn't."""
    rows = []
    for relation, words in (("P36", "The capital of"), ("P38", "The currency of")):
        for number, subject in enumerate(SUBJECTS):
            for query in range(2):
                texts = (f"{words} {subject} is{' the' * query}", " ", "Paris", "." if lm.kind == "masked" else "")
                fact = f"{relation}:s{number}>o{number}"
                rows.append((fact, relation, "en", lm.kind, query, query, "final", *texts))
    table = pd.DataFrame(rows, columns=PROMPT_COLUMNS)
    return table.assign(subject=[SUBJECTS[int(fact.split(":s")[1][0])] for fact in table["fact"]])


def knows(monkeypatch, lm, right):
    """Let the model's prediction be the answer's first token for these facts only, as far as choosing goes."""

    def details(lm, queries, batch_rows):
        return answer_details(lm, queries, batch_rows).assign(is_first_argmax=[q.fact in right for q in queries])

    monkeypatch.setattr(causal_tracing, "answer_details", details)


@pytest.mark.parametrize("kind", ["masked", "causal"])
def test_rows_are_the_traces_of_the_first_queries_that_are_answered_rightly(kind, monkeypatch):
    lm = tiny_model(kind, "float64")
    prompts = prompts_of(lm)
    right = ["P36:s0>o0", "P38:s2>o2"]
    knows(monkeypatch, lm, right)
    seen = []
    rows = trace_causes(lm, prompts, None, SETTINGS, 5, lambda *done: seen.append(done[:2]))
    assert rows.columns.tolist() == COLUMNS and seen == [(1, 2), (2, 2)]
    traced = rows[rows["kind"] != ""]
    assert sorted(traced["fact"].unique()) == right and set(traced["query"]) == {0}
    assert rows[rows["kind"] == ""]["layer"].eq(-1).all() and (rows["kind"] == "").sum() == 4
    row = next(prompts[prompts["fact"] == right[1]].itertuples(index=False))
    expected = trace(lm, row, "Hungary", TraceSettings(Noise(1.0, 2, 5), window=1))
    for state, p in expected.p_restored.items():
        found = traced[(traced["fact"] == right[1]) & (traced["kind"] == state)]
        table = found.pivot(index="position", columns="layer", values="p_restored")
        assert np.array_equal(table.to_numpy(), p)
        assert np.allclose(found["effect"], found["p_restored"] - expected.p_corrupted)
        assert set(found["p_clean"]) == {expected.p_clean} and set(found["is_right"]) == {expected.is_right}
        assert found.groupby("layer")["is_read"].sum().eq(1).all()
        assert set(found.loc[found["is_read"], "token_class"]) == {"last"}
        assert "Hungary" in "".join(found[found["layer"] == 0]["token"])


def test_the_model_s_own_prediction_decides_whether_a_fact_is_traced():
    lm = tiny_model("causal", "float64")
    prompts = prompts_of(lm)
    details = answer_details(lm, encode_prompts(lm, prompts))
    said = lm.tokenizer.decode(details["predicted"].iloc[0][:1]).strip()
    prompts.loc[0, "answer"] = said or "Paris"
    first = answer_details(lm, encode_prompts(lm, prompts[prompts["query"] == 0]))["is_first_argmax"]
    rows = trace_causes(lm, prompts, None, SETTINGS)
    assert rows[rows["kind"] != ""]["fact"].nunique() == int(first.sum())
    assert (rows["kind"] == "").sum() == int((~first).sum())


def test_facts_are_taken_from_each_relation_in_turn_whatever_the_order_of_rows(monkeypatch):
    lm = tiny_model("gpt2")
    prompts = prompts_of(lm)
    knows(monkeypatch, lm, set(prompts["fact"]))
    chosen = {}
    for seed, table in ((0, prompts), (0, prompts[::-1]), (1, prompts), (2, prompts), (3, prompts)):
        rows = trace_causes(lm, table, None, CausalTracing(4, ("mlp",), 1, 1.0), seed)
        facts = frozenset(rows["fact"])
        assert chosen.setdefault(seed, facts) == facts
        assert rows.drop_duplicates("fact").groupby("relation").size().tolist() == [2, 2]
    assert len(set(chosen.values())) > 1


def test_facts_that_cannot_be_run_are_rows_without_tokens(monkeypatch):
    lm = tiny_model("gpt2")
    prompts = prompts_of(lm)
    prompts.loc[prompts["fact"] == "P36:s1>o1", "subject"] = "Spain"
    prompts.loc[prompts["fact"] == "P36:s2>o2", "before"] = "Hungary " * 40
    knows(monkeypatch, lm, set(prompts["fact"]))
    rows = trace_causes(lm, prompts, None, SETTINGS)
    lost = rows[rows["n_tokens"] == 0]
    assert sorted(lost["fact"]) == ["P36:s1>o1", "P36:s2>o2"] and lost["kind"].eq("").all()
    assert summarise_tracing(rows, resamples=20)["n_unusable"].eq(2).all()
    with pytest.raises(AtlasError, match="does not hold the subject"):
        trace_causes(lm, prompts.assign(subject="Spain"), None, SETTINGS)


def test_subjects_come_from_the_table_of_facts_and_noise_from_all_of_them(monkeypatch):
    lm = tiny_model("bert", "float64")
    prompts = prompts_of(lm)
    knows(monkeypatch, lm, ["P36:s0>o0"])
    facts = prompts.rename(columns={"subject": "subject_label"})[["fact", "language", "subject_label"]]
    settings = CausalTracing(n_samples=2)
    named, labelled = (
        trace_causes(lm, prompts, None, settings),
        trace_causes(lm, prompts.drop(columns="subject"), facts, settings),
    )
    pd.testing.assert_frame_equal(named, labelled)
    first = prompts[prompts["query"] == 0]
    sigma = noise_sigma(lm, [(row, row.subject) for row in first.itertuples(index=False)])
    assert named["noise"].tolist() == pytest.approx([sigma] * len(named), rel=1e-12)


def test_settings_that_cannot_be_meant_are_refused():
    for settings in ({"facts": 0}, {"kinds": ("layer",)}, {"noise": -1.0}, {"n_samples": 0}, {"target": "gold"}):
        with pytest.raises(AtlasError, match="causal_tracing: "):
            CausalTracing(**settings)


# ---- classes of tokens


def test_each_token_has_its_place_to_the_subject_and_the_answer():
    found = token_classes(9, range(1, 8), [2, 3, 4], 7)
    expected = ["special", "before_subject", "first_subject", "middle_subject", "last_subject", "first_after"]
    assert found == [*expected, "further", "last", "special"]


def test_a_subject_of_one_token_is_its_last_and_the_read_position_is_always_last():
    assert token_classes(3, range(3), [0], 2) == ["last_subject", "first_after", "last"]
    assert token_classes(3, range(3), [1, 2], 2) == ["before_subject", "first_subject", "last"]


def test_tokens_behind_the_mask_belong_to_the_query_and_other_masks_do_not():
    # [CLS] x s [MASK] [MASK] . [SEP]
    found = token_classes(7, [1, 2, 5], [2], 3)
    assert found == ["special", "before_subject", "last_subject", "last", "special", "first_after", "special"]


# ---- the table


def rows_of(effects, fact="a", kind="mlp", token_class="last", p=(0.9, 0.1), **values):
    """Rows of one position with an effect in each layer."""
    fixed = {"model": "m", "fact": fact, "relation": "P1", "language": "en", "query": 0, "kind": kind, "window": 1}
    fixed |= {"noise": 0.1, "position": 3, "n_tokens": 5, "token": "t", "token_class": token_class}
    fixed |= {"p_clean": p[0], "p_corrupted": p[1], "is_right": True, "is_read": token_class == "last", **values}
    return [
        {**fixed, "layer": layer, "effect": effect, "p_restored": p[1] + effect} for layer, effect in enumerate(effects)
    ]


def untraced(fact, n_tokens):
    return {**rows_of([np.nan], fact)[0], "kind": "", "layer": -1, "n_tokens": n_tokens, "is_right": False}


def summary(rows, **settings):
    table = summarise_tracing(pd.DataFrame(rows), resamples=200, **settings)
    assert table.columns.tolist() == TABLE_COLUMNS
    return table


def test_effects_are_averaged_over_a_class_s_positions_and_then_over_facts():
    rows = [
        *rows_of([0.2, 0.4], "a", token_class="further", position=1),
        *rows_of([0.4, 0.6], "a", token_class="further", position=2),
        *rows_of([0.5, 0.7], "b", token_class="further"),
    ]
    table = summary(rows)
    effects = table[table["statistic"] == "effect"].set_index("layer")
    assert effects["value"].tolist() == pytest.approx([0.4, 0.6]) and effects["n"].tolist() == [2, 2]
    assert effects["sd"].tolist() == pytest.approx([0.2 / np.sqrt(2)] * 2)
    assert effects["se196"].tolist() == pytest.approx([1.96 * 0.2 / 2] * 2)
    assert effects["lo"].tolist() == pytest.approx([0.3, 0.5]) and effects["hi"].tolist() == pytest.approx([0.5, 0.7])
    p = table[table["token_class"] == ""].set_index("statistic")
    assert p["value"].tolist() == pytest.approx([0.9, 0.1]) and p.index.tolist() == ["p_clean", "p_corrupted"]


def test_wrong_small_and_unusable_facts_are_counted_and_left_out():
    rows = [
        *rows_of([0.5], "a"),
        *rows_of([0.1], "small", p=(0.105, 0.1)),
        *rows_of([0.1], "changed", is_right=False),
        untraced("wrong", 5),
        untraced("unusable", 0),
    ]
    table = summary(rows)
    assert set(map(tuple, table[["n", "n_wrong", "n_small", "n_unusable"]].to_numpy())) == {(1, 2, 1, 1)}
    lower = summary(rows, min_drop=0.001)
    assert set(lower["n"]) == {2} and set(lower["n_small"]) == {0}


def test_a_model_without_facts_is_still_a_row():
    table = summary([untraced("wrong", 5), untraced("unusable", 0)])
    assert table[["kind", "statistic", "n", "n_wrong", "n_unusable"]].values.tolist() == [["", "p_clean", 0, 1, 1]]
    assert summary(pd.DataFrame(columns=COLUMNS)).empty


def test_the_peak_is_the_layer_of_the_largest_mean_effect_of_the_last_subject_token_and_the_last():
    rows = []
    for fact in "abcdef":
        rows += rows_of([0.1, 0.3, 0.2], fact, token_class="last_subject", position=1)
        rows += rows_of([0.1, 0.2, 0.2 + 0.01 * ord(fact) / 100], fact, token_class="last")
        rows += rows_of([0.9, 0.3, 0.2], fact, token_class="further", position=2)
    table = summary(rows)
    peaks = table[table["statistic"] == "peak_layer"].set_index("token_class")
    assert peaks["value"].to_dict() == {"last_subject": 1.0, "last": 2.0} and peaks["n"].tolist() == [6, 6]
    assert peaks.loc["last_subject", ["lo", "hi"]].tolist() == [1.0, 1.0]
    # one fact in three has its largest effect elsewhere, so drawn facts do not agree
    mixed = [*rows_of([0.1, 0.5], "a"), *rows_of([0.1, 0.5], "b"), *rows_of([0.9, 0.2], "c")]
    peak = summary(mixed).query("statistic == 'peak_layer'").iloc[0]
    assert (peak["value"], peak["lo"], peak["hi"]) == (1.0, 0.0, 1.0)


def test_the_order_of_rows_changes_no_number():
    rows = pd.DataFrame([*rows_of([0.2, 0.4], "a"), *rows_of([0.5, 0.1], "b"), *rows_of([0.3, 0.1], "c")])
    one, other = (summarise_tracing(table, resamples=50) for table in (rows, rows[::-1]))
    pd.testing.assert_frame_equal(one, other)


# ---- figures


def example_rows(p_of_facts):
    rows = []
    for fact, p in p_of_facts.items():
        for kind in ("block", "mlp"):
            for position, token_class in enumerate(("last_subject", "last")):
                rows += rows_of([0.1, 0.2], fact, kind, token_class, (p, 0.001), position=position)
    return pd.DataFrame(rows)


def test_examples_are_the_median_and_the_lowest_fact_above_the_smallest_drop():
    rows = example_rows({"a": 0.9, "b": 0.5, "c": 0.45, "d": 0.02, "e": 0.005, "f": 0.7})
    examples = choose_examples(rows)
    assert examples[["fact", "rule"]].values.tolist() == [["b", "median"], ["d", "lowest"]]
    assert choose_examples(example_rows({"a": 0.9}))[["fact", "rule"]].values.tolist() == [["a", "median"]]


def test_figures_are_drawn_from_what_was_measured(tmp_path):
    rows = example_rows({"a": 0.9, "b": 0.5, "c": 0.45})
    table = summarise_tracing(rows, resamples=20)
    for path in (*plot_tracing(table, tmp_path / "six"), *plot_trace_examples(rows, tmp_path / "seven")):
        assert path.stat().st_size > 200
    assert len(pd.read_csv(tmp_path / "six.csv")) == 2 * 2 * 2
    assert set(pd.read_csv(tmp_path / "seven.csv")["fact"]) == {"b", "c"}


def test_nothing_to_draw_is_a_sentence(tmp_path):
    rows = pd.DataFrame([untraced("wrong", 5)])
    for draw, table in ((plot_tracing, summarise_tracing(rows)), (plot_trace_examples, rows)):
        with pytest.raises(AtlasError, match=r"lower experiments\.causal_tracing\.min_drop"):
            draw(table, tmp_path / "figure")


# ---- known_1000

RECORD = {"known_id": 3, "subject": "Suomi", "attribute": "Helsinki", "template": "{} has the capital"}
RECORD |= {"prediction": " Turku", "prompt": "Suomi has the capital", "relation_id": "P36"}


def test_known_facts_are_prompts_with_subjects(tmp_path):
    path = tmp_path / "known.json"
    path.write_text(json.dumps([RECORD, {**RECORD, "known_id": 4, "prompt": "Suomi has its capital "}]))
    table = read_known_1000(path)
    assert table.columns.tolist() == [*PROMPT_COLUMNS, "subject"]
    assert table["fact"].tolist() == ["known_1000:3", "known_1000:4"] and set(table["language"]) == {"en"}
    first = table[["relation", "before", "separator", "answer", "after", "subject", "kind"]].iloc[0].tolist()
    assert first == ["P36", "Suomi has the capital", " ", "Helsinki", "", "Suomi", "causal"]
    assert table["before"].iloc[1] == "Suomi has its capital"
    assert set(read_known_1000(path, "masked")["after"]) == {" ."}
    rows = trace_causes(tiny_model("gpt2"), table, None, SETTINGS)
    assert set(rows["fact"]) == set(table["fact"])


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("{", "line 1 is not JSON"),
        ("{}", "holds no list of facts"),
        (json.dumps([RECORD, {**RECORD, "subject": ""}]), r"entry 1 \(from 0\) has no subject"),
        (json.dumps([["x"]]), "has no known_id, subject, attribute, prompt, relation_id"),
    ],
)
def test_another_file_than_known_1000_is_a_sentence(tmp_path, content, match):
    path = tmp_path / "known.json"
    path.write_text(content)
    with pytest.raises(AtlasError, match=match):
        read_known_1000(path)


def test_a_missing_file_or_another_kind_is_a_sentence(tmp_path):
    with pytest.raises(AtlasError, match="is not there"):
        read_known_1000(tmp_path / "none.json")
    with pytest.raises(AtlasError, match="Did you mean 'causal'"):
        read_known_1000(tmp_path / "none.json", "causl")
