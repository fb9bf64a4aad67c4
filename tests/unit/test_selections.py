"""Selections by name: what each chooses from known scores, and the random controls."""

import numpy as np
import pandas as pd
import pytest

from knatlas.errors import AtlasError
from knatlas.selection.gathering import gather_shards
from knatlas.selection.needs import SEARCHED
from knatlas.selection.recipes import RECIPES, recipe
from knatlas.selection.scores import Scores, read_scores
from knatlas.selection.select import select, selection_names
from knatlas.storage import write_arrays, write_table

LANGUAGES = ["en", "fi", "ko"]
MATRICE = {
    "tau": 0.3,
    "alpha1": 1.0,
    "alpha2": 1.0,
    "beta1": 1.0,
    "beta2": 1.0,
    "eq9_axis": "language",
    "eq9_floor": "zero",
    "guard": "raise_threshold",
}
SETTINGS = {
    "bkn": {"tau": {"default": 0.3}},
    "refined": {"share": 0.5},
    "amig": {"tau": {"default": 0.3}},
    "matrice": MATRICE,
    "random": {"reference": "matrice", "draws": 3},
}


def scores_of(facts=("P1:a>x",), n_layers=2, n_neurons=4, **arrays):
    """Scores that are zero but for the arrays given, by method and statistic with an underscore."""
    shape = (len(facts), len(LANGUAGES), n_layers, n_neurons)
    names = [f"{method}.{name}" for method in ("bkn", "amig", "saig") for name in ("mean", "std", "first", "share")]
    given = {name.replace("_", "."): np.asarray(values, dtype=np.float32) for name, values in arrays.items()}
    zeros = {name: np.zeros(shape, dtype=np.float32) for name in names}
    return Scores(zeros | given, list(facts), LANGUAGES, {"model": {"name": "tiny"}})


def choose(name, scores, settings=SETTINGS, seed=0):
    return select(scores, {**settings, "selections": [name]}, seed)[0]


def neurons(sets, fact="P1:a>x", language="en", draw=0):
    return list(zip(*(part.tolist() for part in sets.of(fact, language, draw)), strict=True))


def block(*by_language):
    """One fact: per language a dictionary {(layer, index): score}."""
    array = np.zeros((1, 3, 2, 4))
    for k, found in enumerate(by_language):
        for place, value in found.items():
            array[0, k][place] = value
    return array


FIRST = block({(0, 0): 1.0, (1, 1): 0.5}, {(0, 0): 2.0, (1, 2): 0.5}, {(0, 0): 0.2, (1, 1): 1.0, (1, 3): 0.25})


@pytest.mark.parametrize("name", ["bkn", "amig"])
def test_first_query_above_tau_times_maximum_in_each_language(name):
    sets, summary = choose(name, scores_of(**{f"{name}_first": FIRST}))
    assert neurons(sets, language="en") == [(0, 0), (1, 1)]
    assert neurons(sets, language="fi") == [(0, 0)]
    assert neurons(sets, language="ko") == [(1, 1)]  # (1, 3): .25 is not more than .3 * 1
    assert summary["n_neurons"].tolist() == [2, 1, 1]
    assert summary["max_score"].tolist() == [1.0, 2.0, 1.0]
    assert (sets.languages, sets.selection, sets.model) == (LANGUAGES, name, "tiny")


def test_tau_may_differ_between_languages():
    settings = {**SETTINGS, "amig": {"tau": {"default": 0.3, "en": 0.6, "fi": 0.2}}}
    sets, _ = choose("amig", scores_of(amig_first=FIRST), settings)
    assert [len(neurons(sets, language=language)) for language in LANGUAGES] == [1, 2, 1]


def test_refined_neurons_are_in_more_than_a_share_of_the_queries():
    share = block({(0, 0): 1.0, (0, 1): 0.5, (0, 2): 0.75}, {}, {(1, 0): 0.51})
    sets, summary = choose("refined", scores_of(bkn_share=share))
    assert neurons(sets, language="en") == [(0, 0), (0, 2)]  # .5 is not more than .5
    assert neurons(sets, language="fi") == [] and neurons(sets, language="ko") == [(1, 0)]
    assert summary["is_empty"].tolist() == [False, True, False]


def test_likn_is_the_intersection_of_the_amig_sets():
    first = block({(0, 0): 1.0, (1, 1): 0.5}, {(0, 0): 2.0, (1, 1): 0.9}, {(0, 0): 0.4, (1, 1): 1.0})
    sets, summary = choose("likn", scores_of(amig_first=first))
    assert sets.languages == ["all"]
    assert neurons(sets) == neurons(sets, language="ko") == [(0, 0), (1, 1)]
    assert neurons(choose("likn", scores_of(amig_first=FIRST))[0]) == []
    assert summary["language"].tolist() == ["all"]


def test_matrice_combines_queries_and_languages():
    mean = block({(0, 0): 1.0, (0, 1): 1.0, (1, 0): 0.9}, {(0, 0): 1.0, (0, 1): 1.0}, {(0, 0): 1.0, (0, 1): 1.0})
    std = block({(0, 1): 0.8}, {(0, 1): 0.8}, {(0, 1): 0.8})
    sets, summary = choose("matrice", scores_of(saig_mean=mean, saig_std=std))
    # (0, 1): 1 - .8 = .2 everywhere; (1, 0): normalised .9, 0, 0, mean .3 and deviation .42
    assert neurons(sets) == [(0, 0)]
    row = summary.iloc[0]
    assert (row["max_score"], row["n_neurons"], row["neutral_level"]) == (1.0, 1, 0.0)
    assert row["threshold"] == pytest.approx(0.3)


def test_without_query_uncertainty_the_first_query_counts():
    first = block(*[{(0, 2): 1.0}] * 3)
    mean = block(*[{(0, 0): 1.0}] * 3)
    sets, _ = choose("matrice_without_query_uncertainty", scores_of(saig_first=first, saig_mean=mean))
    assert neurons(sets) == [(0, 2)]


def test_without_language_uncertainty_the_sets_are_intersected():
    mean = block({(0, 0): 1.0, (1, 1): 0.4}, {(0, 0): 0.5, (1, 1): 1.0}, {(0, 0): 0.5, (1, 1): 1.0, (1, 2): 1.0})
    std = block({(1, 1): 0.2})
    sets, _ = choose("matrice_without_language_uncertainty", scores_of(saig_mean=mean, saig_std=std))
    assert neurons(sets) == [(0, 0)]  # (1, 1): .4 - .2 is not above .3 in the first language


def test_the_guard_reaches_the_summary():
    random = np.random.default_rng(0)
    mean = random.normal(0, 0.01, size=(1, 3, 2, 200))
    mean[0, :, 0, 0], mean[0, :, 1, 1] = 0.02, -0.05
    settings = {**SETTINGS, "matrice": {**MATRICE, "eq9_floor": "min", "beta2": 0.0}}
    scores = scores_of(n_neurons=200, saig_mean=mean)
    guarded, summary = choose("matrice", scores, settings)
    settings["matrice"]["guard"] = "off"
    unguarded, _ = choose("matrice", scores, settings)
    assert "was raised" in summary["sentence"].iat[0]
    assert len(unguarded.table) > 350 and len(guarded.table) < 250
    settings["matrice"]["guard"] = "stop"
    with pytest.raises(AtlasError, match="fact P1:a>x"):
        choose("matrice", scores, settings)


def test_a_selection_that_an_experiment_searches_is_left_to_it():
    chosen = select(scores_of(), {**SETTINGS, "selections": ["amig", *SEARCHED, "likn"]})
    assert [sets.selection for sets, _ in chosen] == ["amig", "likn"]


def test_empty_sets_are_kept_and_counted():
    for name in set(selection_names()) - set(SEARCHED):
        sets, summary = choose(name, scores_of(facts=["P1:a>x", "P1:b>y"]))
        assert sets.table.empty and sets.facts == ["P1:a>x", "P1:b>y"]
        assert summary["is_empty"].all() and summary["is_searched"].all() and set(summary["fact"]) == set(sets.facts)


def test_a_language_without_attribution_is_left_out_and_said():
    first = FIRST.copy()
    first[0, 2] = np.nan
    scores = scores_of(amig_first=first)
    sets, summary = choose("amig", scores)
    assert [sets.is_searched("P1:a>x", language) for language in LANGUAGES] == [True, True, False]
    assert summary["sentence"].iat[2] == "no attribution in ko"
    likn, summary = choose("likn", scores)
    assert neurons(likn) == [(0, 0)] and summary["sentence"].iat[0] == "no attribution in ko"
    first[0] = np.nan
    assert not choose("likn", scores_of(amig_first=first))[0].is_searched("P1:a>x", "en")


def test_scores_that_are_nan_in_part_are_refused():
    first = FIRST.copy()
    first[0, 0, 0, 0] = np.nan
    with pytest.raises(AtlasError, match="NaN for some neurons"):
        choose("amig", scores_of(amig_first=first))


def many_facts(n=6):
    random = np.random.default_rng(5)
    facts = [f"P1:s{i}>o{i}" for i in range(n)]
    mean = np.repeat(random.random(size=(n, 1, 3, 40)) ** 8, 3, axis=1)
    return facts, mean


def layer_counts(layers):
    return np.bincount(layers, minlength=3).tolist()


@pytest.mark.parametrize("name", ["random", "random_layer_matched"])
def test_random_neurons_have_the_number_of_the_found_and_none_of_them(name):
    facts, mean = many_facts()
    scores = scores_of(facts, 3, 40, saig_mean=mean)
    found, drawn = (choose(which, scores)[0] for which in ("matrice", name))
    assert drawn.n_draws == 3 and len(found.table) > 20
    for fact in facts:
        sets = [neurons(drawn, fact, draw=draw) for draw in range(3)]
        expected = neurons(found, fact)
        assert all(len(set(part)) == len(expected) and not set(part) & set(expected) for part in sets)
        assert len(set(map(frozenset, sets))) > 1


def test_layer_matched_neurons_have_the_layers_of_the_found():
    facts, mean = many_facts()
    scores = scores_of(facts, 3, 40, saig_mean=mean)
    found, drawn = (choose(which, scores)[0] for which in ("matrice", "random_layer_matched"))
    for fact in facts:
        for draw in range(3):
            assert layer_counts(drawn.of(fact, "en", draw)[0]) == layer_counts(found.of(fact, "en")[0])


@pytest.mark.parametrize("name", ["random", "random_layer_matched"])
def test_random_neurons_depend_on_the_seed_and_the_fact_alone(name):
    facts, mean = many_facts()
    whole = choose(name, scores_of(facts, 3, 40, saig_mean=mean), seed=1)[0]
    turned = choose(name, scores_of(facts[::-1], 3, 40, saig_mean=mean[::-1]), seed=1)[0]
    part = choose(name, scores_of(facts[2:3], 3, 40, saig_mean=mean[2:3]), seed=1)[0]
    other = choose(name, scores_of(facts, 3, 40, saig_mean=mean), seed=2)[0]
    for draw in range(3):
        expected = neurons(whole, facts[2], draw=draw)
        assert neurons(turned, facts[2], draw=draw) == neurons(part, facts[2], draw=draw) == expected
    assert any(neurons(other, fact) != neurons(whole, fact) for fact in facts)


def test_random_neurons_are_spread_uniformly():
    mean = block(*[{(0, 0): 1.0}] * 3)
    settings = {**SETTINGS, "random": {"reference": "matrice", "draws": 7000}}
    sets, _ = choose("random", scores_of(saig_mean=mean), settings)
    counts = sets.table.groupby(["layer", "index"]).size()
    assert len(counts) == 7 and counts.between(880, 1120).all()  # 1000 each, four standard deviations


def test_too_few_neurons_left_are_said():
    mean = block(*[{(0, 0): 1.0, (0, 1): 1.0, (0, 2): 1.0, (1, 0): 1.0}] * 3)
    sets, summary = choose("random_layer_matched", scores_of(saig_mean=mean))
    assert layer_counts(sets.of("P1:a>x", "en")[0])[:2] == [1, 1]
    assert summary["sentence"].iat[0].startswith("only 2 of 4 neurons could be drawn")


def test_random_controls_may_follow_a_selection_per_language():
    settings = {**SETTINGS, "random": {"reference": "amig", "draws": 1}}
    sets, summary = choose("random", scores_of(amig_first=FIRST), settings)
    assert sets.languages == LANGUAGES and summary["n_neurons"].tolist() == [2, 1, 1]


def test_selections_come_in_the_order_asked_for():
    names = ["random", "likn", "matrice", "bkn"]
    chosen = select(scores_of(), {**SETTINGS, "selections": names})
    assert [sets.selection for sets, _ in chosen] == names
    columns = {tuple(summary.columns) for _, summary in chosen}
    assert len(columns) == 1


def test_an_unknown_selection_is_a_sentence():
    with pytest.raises(AtlasError, match=r"'matrise'.*Did you mean 'matrice'"):
        choose("matrise", scores_of())


def test_a_random_reference_is_refused():
    with pytest.raises(AtlasError, match="reference is 'random'"):
        choose("random_layer_matched", scores_of(), {**SETTINGS, "random": {"reference": "random", "draws": 1}})


def test_scores_that_were_not_computed_are_named():
    scores = Scores({"bkn.first": FIRST}, ["P1:a>x"], LANGUAGES)
    with pytest.raises(AtlasError, match=r"amig\.first"):
        choose("amig", scores)


def test_a_new_selection_is_a_function_and_a_name(monkeypatch):
    copy = dict(RECIPES)
    for module in ("recipes", "select"):
        monkeypatch.setattr(f"knatlas.selection.{module}.RECIPES", copy)
    recipe("everything_bkn", is_per_language=True)(
        lambda scores, settings, i: RECIPES["bkn"].choose(scores, {"bkn": {"tau": {"default": 1e-9}}}, i)
    )
    assert len(choose("everything_bkn", scores_of(bkn_first=FIRST))[0].table) >= 4


def write_shard(folder, language, facts, arrays):
    path = folder / language / f"{len(facts)}.safetensors"
    write_arrays(arrays, path, {"model": {"name": "tiny"}, "language": language, "facts": facts})
    write_table(
        pd.DataFrame({"fact": facts, "language": language}), path.with_suffix("").with_suffix(".queries.parquet")
    )
    return path


def test_shards_are_gathered_and_read_slice_by_slice(tmp_path):
    ones = np.ones((2, 2, 4), dtype=np.float32)
    paths = [
        write_shard(tmp_path, "en", ["b", "a"], {"bkn.first": ones * [[[1]], [[2]]]}),
        write_shard(tmp_path, "en", ["c"], {"bkn.first": 3 * ones[:1]}),
        write_shard(tmp_path, "fi", ["a", "c"], {"bkn.first": 4 * ones}),
    ]
    metadata, queries = gather_shards(paths, ["fi", "en"], tmp_path / "scores.safetensors")
    scores = read_scores(tmp_path / "scores.safetensors")
    assert (scores.facts, scores.languages, scores.shape) == (["a", "b", "c"], ["fi", "en"], (2, 4))
    assert scores.metadata == {"model": {"name": "tiny"}} and len(queries) == 5 and metadata["facts"] == scores.facts
    np.testing.assert_array_equal(scores.of("bkn", "first", 0)[:, 0, 0], [4.0, 2.0])
    np.testing.assert_array_equal(scores.of("bkn", "first", 1)[:, 0, 0], [np.nan, 1.0])
    np.testing.assert_array_equal(scores.of("bkn", "first", 2)[:, 0, 0], [4.0, 3.0])
    assert scores.languages_with(scores.of("bkn", "first", 1)) == ["en"]
    with pytest.raises(AtlasError, match=r"saig\.mean"):
        scores.of("saig", "mean", 0)
