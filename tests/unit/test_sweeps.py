"""Sweeps over tau, alpha2 and beta2: which sets, which queries are run once, the table, the figure."""

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch

from knatlas.errors import AtlasError
from knatlas.experiments.evaluation import evaluate_with
from knatlas.experiments.manipulation import manipulate
from knatlas.experiments.sweeps import COLUMNS, Point, select_swept, sweep_points, sweep_settings
from knatlas.figures import sweeps as figure_module
from knatlas.figures.style import house_style
from knatlas.figures.sweeps import MEASURES, plot_sweeps
from knatlas.selection.scores import Scores, read_scores
from knatlas.selection.select import select
from knatlas.statistics.bootstrap import bootstrap_mean
from knatlas.statistics.sweeps import TABLE_COLUMNS, summarise_sweeps
from knatlas.storage import write_arrays
from tests.candidate_scores import candidates_of, heavy_tailed
from tests.tiny_models import tiny_model, tiny_prompts
from tests.unit.test_certificates import study

SWEEPS = {"tau": [0.1, 0.3, 0.6], "alpha2": [0, 2], "beta2": [0.5]}
POINTS = sweep_points(study()["matrice"], SWEEPS)
POINTS_BELOW = [Point("tau", 0.01, False), Point("tau", 0.999, True)]


def prompts_of(scores, n_queries=3):
    keys = [(fact, language, q) for fact in scores.facts for language in scores.languages for q in range(n_queries)]
    table = pd.DataFrame(keys, columns=["fact", "language", "query"])
    return table.assign(relation="P1", answer="x").sort_values("query", ascending=False, ignore_index=True)


class Formula:
    """P = .5, times (1 + factor) / 2 for every neuron; notes its requests."""

    def __init__(self, before=0.5):
        self.requests, self.before = [], before

    def __call__(self, requests):
        self.requests += requests
        p = np.array([self.before * ((1 + request.factor) / 2) ** len(request.layers) for request in requests])
        return p, p > 0.3


def swept(scores=None, sweeps=SWEEPS, settings=None, before=0.5):
    scores, formula = scores or heavy_tailed(0), Formula(before)
    return sweep_settings(scores, settings or study(), sweeps, prompts_of(scores), formula), formula


def pairs(layers, indices):
    return list(zip(layers.tolist(), indices.tolist(), strict=True))


def test_each_setting_is_varied_around_the_studys_values_which_are_always_there():
    assert [
        *(Point("tau", 0.1, False), Point("tau", 0.3, True), Point("tau", 0.6, False)),
        *(Point("alpha2", 0.0, False), Point("alpha2", 1.0, True), Point("alpha2", 2.0, False)),
        *(Point("beta2", 0.5, False), Point("beta2", 1.0, True)),
    ] == POINTS


def test_a_setting_that_cannot_be_swept_is_a_sentence():
    with pytest.raises(AtlasError, match=r"'alpha1'.*tau alpha2 beta2.*Did you mean 'alpha2'"):
        sweep_points(study()["matrice"], {"alpha1": [1]})


def test_at_the_studys_values_the_sets_are_exactly_the_studys():
    scores = heavy_tailed(2, n_facts=6)
    found = select_swept(scores, study(), POINTS)
    ((sets, _),) = select(scores, study(["matrice"]))
    own = found[found["is_study"]]
    assert len(own) == 3 * 6
    for row in own.itertuples():
        assert pairs(row.layers, row.indices) == pairs(*sets.of(row.fact, "all")) != []


@pytest.mark.parametrize("point", POINTS)
def test_at_every_point_the_sets_are_those_of_a_study_with_that_setting(point):
    scores = heavy_tailed(3)
    found = select_swept(scores, study(), [point])
    ((sets, _),) = select(scores, study(["matrice"], **{"tau": 0.3, point.setting: point.setting_value}))
    assert [pairs(row.layers, row.indices) for row in found.itertuples()] == [
        pairs(*sets.of(fact, "all")) for fact in scores.facts
    ]


def test_sets_shrink_when_tau_grows():
    points = sweep_points(study()["matrice"], {"tau": [0.01, 0.05, 0.1, 0.2, 0.5, 0.9]})
    found = select_swept(heavy_tailed(5, n_facts=8), study(), points)
    for _, group in found.groupby("fact"):
        sets = [set(pairs(row.layers, row.indices)) for row in group.sort_values("setting_value").itertuples()]
        assert all(larger >= smaller for larger, smaller in pairwise(sets))
        assert len(sets[0]) > len(sets[-1]) > 0


def test_scores_of_a_file_give_the_same_sets(tmp_path):
    scores = candidates_of(heavy_tailed(6), 150)
    metadata = {"facts": scores.facts, "languages": scores.languages, "shape": list(scores.shape)}
    arrays = {name: np.asarray(array) for name, array in scores.arrays.items()}
    write_arrays(arrays, tmp_path / "scores.safetensors", {**metadata, "grid": dict(scores.weights)})
    read = select_swept(read_scores(tmp_path / "scores.safetensors"), study(), POINTS)
    expected = select_swept(scores, study(), POINTS)
    assert read.drop(columns=["layers", "indices"]).equals(expected.drop(columns=["layers", "indices"]))
    for name in ("layers", "indices"):
        assert all(np.array_equal(*both) for both in zip(read[name], expected[name], strict=True))


def test_sets_that_candidates_cannot_certify_are_flagged_and_never_stop_a_sweep():
    scores = candidates_of(heavy_tailed(1), 30)
    strict = {**study(), "uncertified": "stop"}
    table, _ = swept(scores, {"tau": [0.001, 0.9]}, strict)
    by_tau = table.groupby("setting_value")["is_certified"].all()
    assert not by_tau[0.001] and by_tau[0.9]
    summary = summarise_sweeps(table, resamples=20).query("language == 'all' and statistic == 'n_neurons'")
    assert summary.set_index("setting_value")["n_uncertified"].loc[[0.001, 0.9]].tolist() == [4, 0]


def test_a_guard_that_stops_a_study_raises_the_threshold_in_its_sweep():
    scores = heavy_tailed(0, n_facts=2)
    for array in scores.arrays.values():
        array[..., 0, 0] = -50 * array.max()
    guarded = study(eq9_floor="min", guard="stop", tau=0.999)  # S_0 is about .98
    assert select(scores, {**guarded, "selections": ["matrice"]})
    with pytest.raises(AtlasError, match="does not lie above"):
        select(scores, study(["matrice"], eq9_floor="min", guard="stop", tau=0.01))
    low, own = (part["n_neurons"] for _, part in select_swept(scores, guarded, POINTS_BELOW).groupby("is_study"))
    unguarded = select_swept(scores, study(eq9_floor="min", guard="off", tau=0.999), POINTS_BELOW)
    assert (own.to_numpy() < low.to_numpy()).all()
    assert (low.to_numpy() < unguarded.loc[~unguarded["is_study"], "n_neurons"].to_numpy()).all()


def test_the_first_query_of_every_language_is_measured_and_equal_sets_once():
    table, formula = swept()
    assert table.columns.tolist() == COLUMNS and not table.isna().any(axis=None)
    assert len(table) == 4 * 3 * len(POINTS) * 2  # facts, languages, points, operations
    assert {request.query for request in formula.requests} == {0}
    keys = [(r.fact, r.language, r.factor, frozenset(pairs(r.layers, r.indices))) for r in formula.requests]
    assert len(keys) == len(set(keys)) < len(table)
    assert sum(len(request.layers) == 0 for request in formula.requests) == 4 * 3  # before, once each


def test_what_is_measured_is_of_the_rows_own_set_and_operation():
    table, _ = swept()
    base = table["operation"].map({"suppress": 0.5, "enhance": 1.5})
    np.testing.assert_allclose(table["p_after"], 0.5 * base ** table["n_neurons"])
    assert (table["p_before"] == 0.5).all() and set(table["relation"]) == {"P1"}
    at_study = table[table["is_study"]].groupby(["language", "fact", "operation"])
    assert (at_study[["n_neurons", "p_after"]].nunique() == 1).all(axis=None) and (at_study.size() == 3).all()


def test_an_empty_set_changes_nothing_and_is_not_run():
    scores = heavy_tailed(0)
    scores.arrays["saig.mean"][0] = -1.0
    table, formula = swept(scores)
    rows = table[table["fact"] == scores.facts[0]]
    assert (rows["n_neurons"] == 0).all() and (rows["p_after"] == rows["p_before"]).all() and len(rows) == 48
    assert sum(request.fact == scores.facts[0] for request in formula.requests) == 3
    summary = summarise_sweeps(table, resamples=20).query("statistic == 'share_empty' and language == 'en'")
    assert (summary["value"] == 0.25).all() and (summary["n_empty"] == 1).all()


def test_a_fact_without_attribution_has_no_row():
    scores = heavy_tailed(0)
    for array in scores.arrays.values():
        array[1] = np.nan
    assert scores.facts[1] not in set(swept(scores)[0]["fact"])


def test_a_fact_without_prompts_is_a_sentence():
    scores = heavy_tailed(0)
    prompts = prompts_of(scores).query("fact != @scores.facts[2]")
    with pytest.raises(AtlasError, match=f"1 facts with scores have no prompts, the first is {scores.facts[2]}"):
        sweep_settings(scores, study(), SWEEPS, prompts, Formula())


@pytest.mark.parametrize("model_type", ["bert", "gpt2", "llama"])
def test_a_real_model_gives_what_the_manipulation_gives_and_is_left_as_it_was(model_type):
    lm = tiny_model(model_type, scale=0.1)
    before = [parameter.clone() for parameter in lm.model.parameters()]
    prompts = tiny_prompts(lm.kind, n_queries=2)
    facts, languages = sorted(prompts["fact"].unique()), sorted(prompts["language"].unique())
    random = np.random.default_rng(0).random((len(facts), len(languages), lm.n_layers, lm.n_neurons)) ** 4
    arrays = {"saig.mean": random.astype(np.float32), "saig.std": np.zeros(random.shape, np.float32)}
    scores = Scores(arrays, facts, languages, {"model": {"name": lm.name}})
    evaluate = evaluate_with(lm, prompts, 8)
    table = sweep_settings(scores, study(), SWEEPS, prompts, evaluate)
    own = manipulate([select(scores, study(["matrice"]))[0][0]], prompts, evaluate)
    own = own[(own["probe"] == "own") & (own["query"] == 0)]
    keys = ["model", "language", "fact", "operation"]
    pair = table[table["is_study"]].merge(own, on=keys, suffixes=("", "_own"), validate="many_to_one")
    assert len(pair) == table["is_study"].sum() > 0 and (pair["p_after"] != pair["p_before"]).all()
    np.testing.assert_allclose(pair[["p_before", "p_after"]], pair[["p_before_own", "p_after_own"]], rtol=1e-5)
    assert all(torch.equal(*both) for both in zip(before, lm.model.parameters(), strict=True))


def test_no_attribution_code_and_no_torch_is_imported():
    code = "import sys, knatlas.experiments.sweeps, knatlas.statistics.sweeps, knatlas.statistics.ablation\n"
    code += "sys.exit(any(name == 'torch' or name.startswith('knatlas.attribution') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_table_has_means_over_facts_of_means_over_languages():
    rows, _ = swept()
    table = summarise_sweeps(rows, seed=1, resamples=100)
    assert table.columns.tolist() == TABLE_COLUMNS
    assert len(table) == len(POINTS) * 4 * 4  # languages and all; two changes, size, share
    at = rows[(rows["setting"] == "alpha2") & (rows["setting_value"] == 2.0)]
    found = table[(table["setting"] == "alpha2") & (table["setting_value"] == 2.0)]
    for language in ("en", "all"):
        part = at if language == "all" else at[at["language"] == language]
        change = (part["p_after"] / part["p_before"] - 1).where(part["operation"] == "enhance")
        expected = {"mean_relative_change": ("enhance", change), "n_neurons": ("all", part["n_neurons"])}
        for statistic, (operation, values) in expected.items():
            by_fact = values.groupby(part["fact"]).mean().to_numpy()
            row = found[(found["language"] == language) & (found["statistic"] == statistic)]
            row = row[row["operation"] == operation].iloc[0]
            assert row[["value", "lo", "hi", "n"]].tolist() == pytest.approx(list(bootstrap_mean(by_fact, 1, 100)))


def test_p_before_of_zero_is_counted_and_has_no_change():
    table = summarise_sweeps(swept(before=0.0)[0], resamples=20)
    changes = table[table["statistic"] == "mean_relative_change"]
    assert changes["value"].isna().all() and (changes["n"] == 0).all()
    assert set(changes["n_excluded"]) == {4, 12}  # in a language, in all
    assert table.loc[table["statistic"] == "n_neurons", "n"].eq(4).all()


class Drawn(Exception):
    """Carries a figure out of the function that draws it."""


def drawn(monkeypatch, table):
    def stop(figure, path, data):
        raise Drawn(figure)

    monkeypatch.setattr(figure_module, "save", stop)
    with house_style(), pytest.raises(Drawn) as caught:
        plot_sweeps(table, "figure")
    return caught.value.args[0]


def tables(*models):
    return pd.concat([summarise_sweeps(swept()[0].assign(model=model), resamples=20) for model in models])


def test_a_row_of_panels_per_setting_a_line_per_model_and_the_studys_value_marked(monkeypatch):
    table = tables("a", "b")
    figure = drawn(monkeypatch, table)
    assert len(figure.axes) == 3 * len(MEASURES)
    first = figure.axes[0]
    rows = table[(table["setting"] == "tau") & (table["language"] == "all") & (table["operation"] == "suppress")]
    for line, model in zip(first.lines, ("a", "b"), strict=False):
        part = rows[rows["model"] == model]
        np.testing.assert_array_equal(line.get_xydata(), part[["setting_value", "value"]])
    assert [list(axes.lines[-1].get_xdata()) for axes in figure.axes[::4]] == [[0.3, 0.3], [1, 1], [1, 1]]
    assert len(first.collections) == 2 and first.get_title() == "n = 4 facts"
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["a", "b", "the study's value"]
    assert [axes.get_xlabel() for axes in figure.axes[::4]] == ["tau", "alpha2", "beta2"]


def test_the_figure_is_written_the_same_twice(tmp_path):
    first, second = (plot_sweeps(tables("a"), tmp_path / name / "figure") for name in ("one", "two"))
    assert [path.name for path in first] == ["figure.pdf", "figure.png", "figure.csv"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert set(pd.read_csv(first[2])["language"]) == {"all"}


def test_a_table_without_rows_is_a_sentence(tmp_path):
    with pytest.raises(AtlasError, match="no rows of language 'all'"):
        plot_sweeps(pd.DataFrame(columns=TABLE_COLUMNS), tmp_path / "figure")
