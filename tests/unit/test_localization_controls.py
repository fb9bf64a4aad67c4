"""Negative controls beside the localization paper's figures: what is traced, what is averaged, and what is drawn."""

import numpy as np
import pandas as pd
import pytest

from knatlas.experiments.causal_tracing import CausalTracing, trace_causes
from knatlas.experiments.traced_facts import usable_facts
from knatlas.facts.known_1000 import controlled_known_1000
from knatlas.figures import relations, tracing
from knatlas.figures.nulls import GREYS, NULL_LOOKS
from knatlas.figures.relations import plot_differences
from knatlas.figures.tracing import plot_tracing
from knatlas.interventions.tracing import Noise, TraceSettings, noise_sigma, trace
from knatlas.models.answers import token_probabilities
from knatlas.models.encoding import encode_prompt
from knatlas.statistics.causal_tracing import summarise_tracing
from knatlas.statistics.relations import summarise_relations
from knatlas.study import read_study
from knatlas.study.controls import control_tracing
from tests.tiny_models import tiny_model
from tests.unit.test_causal_tracing import knows, prompts_of, rows_of, untraced
from tests.unit.test_figures import caught
from tests.unit.test_relations import measured

SETTINGS = CausalTracing(n_samples=2, window=1, target="first_token")


# ---- traces


@pytest.mark.parametrize("kind", ["masked", "causal"])
def test_a_control_traces_its_facts_whether_or_not_they_are_answered_and_tells_nothing_of_others(kind, monkeypatch):
    lm = tiny_model(kind, "float64")
    prompts = prompts_of(lm)
    knows(monkeypatch, lm, ["P36:s1>o1"])
    only = ["P36:s0>o0", "P38:s2>o2"]
    rows = trace_causes(lm, prompts, None, SETTINGS, 5, only=only)
    assert sorted(rows["fact"].unique()) == only and (rows["kind"] != "").all()
    # noise is that of all subjects, as in the real trace
    first = prompts[prompts["query"] == 0]
    sigma = noise_sigma(lm, [(row, row.subject) for row in first.itertuples(index=False)])
    assert rows["noise"].tolist() == pytest.approx([sigma] * len(rows), rel=1e-12)
    row = next(prompts[prompts["fact"] == only[1]].itertuples(index=False))
    expected = trace(lm, row, "Hungary", TraceSettings(Noise(sigma, 2, 5), window=1, target="first_token"))
    found = rows[(rows["fact"] == only[1]) & (rows["kind"] == "mlp")]
    p = found.pivot(index="position", columns="layer", values="p_restored").to_numpy()
    assert np.array_equal(p, expected.p_restored["mlp"])


def test_p_is_that_of_the_answer_s_first_token_which_the_prediction_is_where_it_is_right():
    lm = tiny_model("gpt2", "float64")
    # of this relation the prediction is a whole character
    row = next(prompts_of(lm).query("relation == 'P38'").itertuples(index=False))
    query = encode_prompt(lm, row)
    distribution = token_probabilities(lm, [query])[0][0]
    traces = {
        target: trace(lm, row, row.subject, TraceSettings(Noise(1.0, 2), target=target))
        for target in ("first_token", "prediction")
    }
    assert traces["first_token"].p_clean == pytest.approx(float(distribution[query.targets[0]]), rel=1e-12)
    assert traces["first_token"].query.targets == query.targets[:1]
    is_right = query.targets[0] == int(distribution.argmax())
    assert traces["first_token"].is_right == traces["prediction"].is_right == is_right
    right = row._replace(answer=lm.tokenizer.decode([int(distribution.argmax())]).strip())
    assert encode_prompt(lm, right).targets[0] == int(distribution.argmax())
    one, other = (
        trace(lm, right, row.subject, TraceSettings(Noise(1.0, 2), target=target))
        for target in ("first_token", "prediction")
    )
    assert one.p_clean == other.p_clean and one.p_corrupted == other.p_corrupted
    assert all(np.array_equal(one.p_restored[kind], other.p_restored[kind]) for kind in one.p_restored)


def test_a_control_s_fact_that_cannot_be_run_is_a_row_and_no_facts_are_none(monkeypatch):
    lm = tiny_model("gpt2")
    prompts = prompts_of(lm)
    prompts.loc[prompts["fact"] == "P36:s1>o1", "subject"] = "Spain"
    rows = trace_causes(lm, prompts, None, SETTINGS, only=["P36:s0>o0", "P36:s1>o1"])
    assert rows.loc[rows["n_tokens"] == 0, "fact"].tolist() == ["P36:s1>o1"]
    assert summarise_tracing(rows, None, resamples=20)["n_unusable"].eq(1).all()
    assert trace_causes(lm, prompts, None, SETTINGS, only=[]).empty


def test_the_settings_of_a_control_are_the_real_ones_on_fewer_facts_and_the_answer_s_first_token():
    def settings(facts, most, **others):
        experiments = {"causal_tracing": {"facts": facts, "n_samples": 7, **others}}
        study = {"study": "s", "languages": ["en"], "models": ["gpt2"], "facts": {"source": "mpararel"}}
        return control_tracing(read_study({**study, "experiments": experiments, "controls": {"facts": most}}))

    assert [settings(*pair)["facts"] for pair in ((24, 10), (5, 10), (None, 10), (5, None))] == [10, 5, 10, 5]
    assert settings(None, None)["facts"] is None
    assert (settings(5, 5)["target"], settings(5, 5)["n_samples"]) == ("first_token", 7)
    assert settings(5, 5, target="answer")["target"] == "answer"


def known_1000(n=4):
    rows = [
        {"fact": f"known_1000:{i}", "relation": "P36", "language": "en", "kind": "causal", "query": 0, "template": 0}
        | {"mode": "final", "before": f"Land{i} of Land{i} has the capital", "separator": " ", "answer": f"City{i}"}
        | {"after": "", "subject": f"Land{i}"}
        for i in range(n)
    ]
    return pd.DataFrame(rows)


def test_known_facts_with_shuffled_objects_keep_their_prompts_and_no_answer():
    real = known_1000()
    found = controlled_known_1000(real, "shuffled_objects", 0)
    assert found.columns.tolist() == real.columns.tolist()
    pd.testing.assert_frame_equal(found.drop(columns="answer"), real.drop(columns="answer"))
    assert sorted(found["answer"]) == sorted(real["answer"]) and (found["answer"] != real["answer"]).all()
    # a relation with one answer has no other one to give
    assert controlled_known_1000(real.assign(answer="City"), "shuffled_objects", 0).empty


def test_known_facts_with_made_up_subjects_hold_them_where_the_subject_stood_last():
    real = known_1000()
    real.loc[3, "before"] = "A land that has the capital"
    found = controlled_known_1000(real, "nonsense_subjects", 0)
    assert not set(found["subject"]) & set(real["subject"]) and (found["answer"] == real["answer"]).all()
    expected = [f"Land{i} of {name} has the capital" for i, name in enumerate(found["subject"][:3])]
    assert found["before"].tolist() == [*expected, "A land that has the capital"]
    pd.testing.assert_frame_equal(found, controlled_known_1000(real, "nonsense_subjects", 0))


# ---- tables


def test_under_a_control_every_traced_fact_is_in_the_mean_whatever_the_model_predicts():
    rows = pd.DataFrame(
        [
            *rows_of([0.5], "a"),
            *rows_of([0.1], "small", p=(0.105, 0.1)),
            *rows_of([-0.3], "wrong", p=(0.1, 0.4), is_right=False),
            untraced("unusable", 0),
        ]
    )
    table = summarise_tracing(rows, None, resamples=200)
    counts = table[["n", "n_wrong", "n_small", "n_unusable"]].drop_duplicates()
    assert counts.values.tolist() == [[3, 0, 0, 1]]
    assert table.loc[table["statistic"] == "effect", "value"].tolist() == pytest.approx([0.1])
    assert set(table["statistic"]) == {"effect", "p_clean", "p_corrupted"}
    assert usable_facts(rows) == ["a"] and usable_facts(rows, 0.001) == ["a", "small"]
    assert usable_facts(rows, None) == ["a", "small", "wrong"]


# ---- figures


def traced_table(model, effect, n_facts=3):
    rows = [
        row
        for i in range(n_facts)
        for kind in ("block", "mlp")
        for token_class in ("last_subject", "further", "last")
        for row in rows_of([effect, 2 * effect], f"f{i}", kind, token_class, model=model)
    ]
    return summarise_tracing(pd.DataFrame(rows), None, resamples=20)


def null_traces(model="m", effect=0.01):
    return pd.concat([traced_table(model, effect, 2).assign(control=name) for name in NULL_LOOKS], ignore_index=True)


def test_tracing_shows_a_grey_line_per_control_and_end_of_subject_and_prompt_with_its_n(monkeypatch):
    table = pd.concat([traced_table("m", 0.2), traced_table("other", 0.1)], ignore_index=True)
    figure = caught(monkeypatch, tracing, lambda path: plot_tracing(table, path, null_traces()))
    for axes in figure.axes:
        lines = {line.get_label(): line for line in axes.get_lines() if "null" in line.get_label()}
        if "other" in axes.get_title():
            assert not lines
            continue
        names = [
            f"{where}, null: {look.words} (n = 2)" for look in NULL_LOOKS.values() for where in ("last", "last subject")
        ]
        assert sorted(lines) == sorted(names)
        assert all(line.get_ydata().tolist() == pytest.approx([0.01, 0.02]) for line in lines.values())
        colours = {label.split(",")[0]: line.get_color() for label, line in lines.items()}
        assert (colours["last subject"], colours["last"]) == GREYS
        assert len({line.get_marker() for line in lines.values()}) == 2


def test_the_csv_of_tracing_tells_nulls_and_without_controls_of_its_models_nothing_changes(tmp_path):
    table = traced_table("m", 0.2)
    *_, csv = plot_tracing(table, tmp_path / "figure", null_traces())
    counts = pd.read_csv(csv, keep_default_na=False)["control"].value_counts()
    assert counts.to_dict() == {"none": 2 * 3 * 2, **dict.fromkeys(NULL_LOOKS, 2 * 2 * 2)}
    plain, other = plot_tracing(table, tmp_path / "a"), plot_tracing(table, tmp_path / "b", null_traces("other"))
    assert [path.read_bytes() for path in plain] == [path.read_bytes() for path in other]


def changes(fall, facts):
    """What suppression does to facts named by relation and number, each with an unrelated fact that keeps its P."""
    rows = []
    for name in facts:
        rows += [measured(name, "own", 0.9, 0.9 - fall), measured(name, "other_relation", 0.5, 0.5, "P1:x")]
    return summarise_relations(pd.DataFrame(rows), resamples=50)


REAL_FACTS = [f"{relation}:{i}" for relation in ("P17", "P36", "P38") for i in range(4)]
NULL_FACTS = ["P17:0", "P17:1", "P36:0"]  # two, one, and none of a relation


def null_changes():
    return pd.concat([changes(0.1, NULL_FACTS).assign(control=name) for name in NULL_LOOKS], ignore_index=True)


def test_nulls_by_relation_are_grey_bars_and_where_an_interval_needs_more_facts_it_says_how_many(monkeypatch):
    draw = relations, lambda path: plot_differences(changes(0.4, REAL_FACTS), path, "suppress", controls=null_changes())
    (axes,) = caught(monkeypatch, *draw).axes
    heights = [bar.get_height() for bar in axes.patches]
    # P17, and the means over relations and over facts
    assert np.isclose(heights, -10).sum() == 3 * len(NULL_LOOKS) and np.isclose(heights, -40).sum() == 5
    written = [text.get_text() for text in axes.texts]
    assert written.count("n = 1, no interval") == written.count("n = 0, no interval") == len(NULL_LOOKS)
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels[:3] == [
        "P17 country\nn = 4 facts\nnull: n = 2 facts",
        "P36 capital\nn = 4 facts\nnull: n = 1 facts",
        "P38 currency\nn = 4 facts\nnull: n = 0 facts",
    ]


def test_a_null_with_one_fact_of_each_relation_has_no_interval_of_their_mean_but_one_over_facts(monkeypatch):
    null = changes(0.1, ["P17:0", "P36:0", "P38:0"]).assign(control="untrained")
    draw = relations, lambda path: plot_differences(changes(0.4, REAL_FACTS), path, "suppress", controls=null)
    (axes,) = caught(monkeypatch, *draw).axes
    written = sorted((text.xy[0], text.get_text()) for text in axes.texts)
    assert [text for _, text in written] == ["n = 1, no interval"] * 3 + ["n = 3, no interval"]
    assert np.isclose([bar.get_height() for bar in axes.patches], -10).sum() == 1


def test_the_csv_by_relation_tells_nulls_and_without_controls_of_its_models_nothing_changes(tmp_path):
    table = changes(0.4, REAL_FACTS).assign(paper=1.0)
    *_, csv = plot_differences(table, tmp_path / "figure", "suppress", controls=null_changes())
    drawn = pd.read_csv(csv, keep_default_na=False)
    assert drawn["control"].value_counts().to_dict() == {"none": 10, **dict.fromkeys(NULL_LOOKS, 4)}
    assert set(drawn.loc[drawn["control"] != "none", "probe"]) == {"related"} and "panel" not in drawn
    assert set(drawn.loc[drawn["control"] != "none", "paper"]) == {""}
    plain = plot_differences(table, tmp_path / "a", "suppress")
    others = null_changes().assign(model="another")
    assert [path.read_bytes() for path in plain] == [
        path.read_bytes() for path in plot_differences(table, tmp_path / "b", "suppress", controls=others)
    ]


def test_many_relations_take_several_rows_each_shown_once(monkeypatch):
    table = changes(0.4, [f"P{number}:{i}" for number in range(1, 25) for i in range(2)])
    figure = caught(monkeypatch, relations, lambda path: plot_differences(table, path, "suppress"))
    assert [axes.get_title() for axes in figure.axes] == [f"gpt2, en, suppress ({i} of 2)" for i in (1, 2)]
    labels = [[label.get_text().split()[0] for label in axes.get_xticklabels()] for axes in figure.axes]
    assert [len(names) for names in labels] == [13, 13]
    assert [*labels[0], *labels[1]] == [*(f"P{number}" for number in range(1, 25)), "all", "all"]
