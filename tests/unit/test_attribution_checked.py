"""The checked quadrature inside the engine: the rule's own scores within rtol from few points, or all points."""

from dataclasses import replace

import numpy as np
import pytest

from knatlas.attribution import AttributionMethod, checked_sums, preset
from knatlas.attribution.engine import attribute_queries
from knatlas.attribution.levels import levels_of
from knatlas.attribution.quadrature import RULES
from tests.naive_attribution import ONE_TOKEN, SEVERAL_TOKENS, example, relative_error
from tests.tiny_models import tiny_model
from tests.trained_models import memorised

PATHS = ["zero", "per_token", "mean_path"]
RANDOM, TRAINED = ["bert", "gpt2", "llama"], ["causal", "masked"]
ENGINE_PATHS = ["fast", "general"]
# what is below every estimate that is not exactly zero: no path is settled
HOPELESS = 1e-30


@pytest.fixture(autouse=True)
def each_level_by_itself(monkeypatch):
    """Points are those that the paths themselves need; none are taken ahead to save sweeps."""
    monkeypatch.setattr(checked_sums, "FEW", 0)


def case(name):
    """A model in float64 and some of its queries."""
    if name in TRAINED:
        lm, queries = memorised(name)
        return lm, queries[:5]
    lm = tiny_model(name, "float64")
    return lm, [example(lm, ONE_TOKEN, 0), example(lm, ONE_TOKEN, 1), example(lm, SEVERAL_TOKENS, 1)]


def attributed(lm, queries, *methods, way="auto", **settings):
    return attribute_queries(lm, queries, methods, completeness=False, path=way, batch_queries=4, **settings)


def both(path="per_token", rule="right", rtol=1e-3, **settings):
    """A method with all points, and the same one checked."""
    full = AttributionMethod("full", path=path, rule=rule, **settings)
    return full, replace(full, name="checked", quadrature="checked", rtol=rtol)


def errors_of(found):
    """Relative L2 error of the checked scores of each layer."""
    full, checked = found.scores["full"], found.scores["checked"]
    return np.linalg.norm(checked - full, axis=1) / np.linalg.norm(full, axis=1)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("objective", ["prob", "logprob"])
@pytest.mark.parametrize("name", RANDOM + TRAINED)
def test_every_layer_is_within_rtol_of_the_rules_own_scores(name, objective, path, rule):
    lm, queries = case(name)
    for found in attributed(lm, queries, *both(path, rule, objective=objective)):
        assert errors_of(found).max() <= 1e-3


@pytest.mark.parametrize("rtol", [1e-1, 1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("name", RANDOM + TRAINED)
def test_other_tolerances_and_the_full_factor_before_the_non_linearity_hold_too(name, rtol):
    lm, queries = case(name)
    for settings in ({"multiplier": "full"}, {"neuron_site": "pre_activation"}):
        for found in attributed(lm, queries, *both("per_token", "right", rtol, **settings)):
            assert errors_of(found).max() <= rtol


@pytest.mark.parametrize("name", RANDOM + TRAINED)
def test_less_tolerance_never_takes_fewer_points(name):
    lm, queries = case(name)
    points = [
        sum(found.records["checked"].n_points for found in attributed(lm, queries, both(rtol=rtol)[1]))
        for rtol in (0.5, 1e-1, 1e-2, 1e-3, 1e-5, 1e-8)
    ]
    assert points == sorted(points) and points[0] < points[-1]


@pytest.mark.parametrize("name", TRAINED)
def test_trained_models_need_a_third_of_the_points_and_random_ones_too(name):
    for lm, queries in (case(name), case("bert")):
        records = [found.records["checked"] for found in attributed(lm, queries, both()[1])]
        assert sum(record.n_points for record in records) < sum(record.n_full_points for record in records) / 3


@pytest.mark.parametrize("way", ENGINE_PATHS)
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", ["bert", "gpt2", "causal"])
def test_paths_that_nothing_settles_take_all_points_and_give_the_full_sum(name, path, way):
    lm, queries = case(name)
    (found,) = attributed(lm, queries[:1], *both(path, rtol=HOPELESS), way=way)
    full, checked = found.records["full"], found.records["checked"]
    assert relative_error(found.scores["checked"], found.scores["full"]) <= 1e-13
    moving = (full.n_points - lm.n_layers) // 19
    assert checked.n_fallbacks == moving > 0
    assert (
        full.n_points
        < checked.n_points
        <= full.n_points + moving * sum(int(level.is_new.sum()) for level in levels_of("right", 20))
    )
    assert (checked.error_estimate == 0).all()


@pytest.mark.parametrize("name", RANDOM + TRAINED)
def test_records_tell_points_fallbacks_and_the_estimate(name):
    lm, queries = case(name)
    spent = sum(int(level.is_new.sum()) for level in levels_of("right", 20))
    for found in attributed(lm, queries, *both()):
        full, checked = found.records["full"], found.records["checked"]
        assert full.n_full_points == checked.n_full_points >= full.n_points
        assert (full.error_estimate == 0).all() and full.n_fallbacks == 0
        moving = (full.n_points - lm.n_layers * len(found_readouts(lm, found))) // 19
        assert moving <= checked.n_points <= full.n_points + spent * moving
        assert 0 <= checked.n_fallbacks <= moving
        assert checked.error_estimate.shape == (lm.n_layers,) and (checked.error_estimate > 0).any()


def found_readouts(lm, found):
    """As many as answer tokens in causal models, one in masked ones."""
    return range(found.n_positions if lm.kind == "causal" else 1)


def test_a_smooth_path_takes_one_point_where_much_is_tolerated():
    lm, queries = case("bert")
    (found,) = attributed(lm, queries[:1], *both("mean_path", rtol=0.5))
    # the replaced tokens leave the first layer's read position as it is: there the path has no length
    moving = (found.records["full"].n_points - lm.n_layers) // 19
    assert found.records["checked"].n_points == lm.n_layers + moving > lm.n_layers


@pytest.mark.parametrize(("name", "path"), [("masked", "zero"), ("masked", "per_token"), ("causal", "mean_path")])
@pytest.mark.parametrize("rule", ["right", "trapezoid"])
def test_three_hundred_steps_take_about_as_many_points_as_twenty(name, path, rule):
    lm, queries = case(name)
    points = {
        steps: sum(
            found.records["checked"].n_points for found in attributed(lm, queries, both(path, rule, steps=steps)[1])
        )
        for steps in (20, 50, 300)
    }
    assert points[50] <= 1.1 * points[20] and points[300] <= 1.1 * points[20]


@pytest.mark.parametrize("name", RANDOM + TRAINED)
def test_several_methods_in_one_call_are_those_of_separate_calls(name):
    lm, queries = case(name)
    methods = [
        AttributionMethod("bkn", path="zero"),
        both("per_token")[1],
        AttributionMethod("mean", path="mean_path", rule="left", steps=7),
        replace(both("zero", "gauss", steps=50)[1], name="gauss"),
        replace(both("per_token", rtol=1e-6, multiplier="full")[1], name="fine"),
    ]
    together = attributed(lm, queries, *methods)
    for method in methods:
        for found, alone in zip(together, attributed(lm, queries, method), strict=True):
            # the weights of few points make more of rounding than those of all points do
            limit = 1e-12 if method.quadrature == "full" else 1e-8
            assert relative_error(found.scores[method.name], alone.scores[method.name]) <= limit
            record, own = found.records[method.name], alone.records[method.name]
            assert (record.n_points, record.n_fallbacks) == (own.n_points, own.n_fallbacks)
            np.testing.assert_allclose(record.error_estimate, own.error_estimate, rtol=1e-3, atol=1e-14)


@pytest.mark.parametrize("name", ["bert", "gpt2", "masked", "causal"])
def test_both_paths_of_the_engine_settle_the_same_paths(name):
    lm, queries = case(name)
    fast, general = (attributed(lm, queries, both()[1], way=way) for way in ENGINE_PATHS)
    for one, other in zip(fast, general, strict=True):
        assert relative_error(one.scores["checked"], other.scores["checked"]) <= 1e-10
        assert one.records["checked"].n_points == other.records["checked"].n_points


@pytest.mark.parametrize("few", [5, 64, 10**6])
@pytest.mark.parametrize("name", ["gpt2", "masked"])
def test_points_taken_ahead_to_save_sweeps_change_no_score_and_settle_the_same_paths(name, few, monkeypatch):
    lm, queries = case(name)
    expected = attributed(lm, queries, both()[1])
    monkeypatch.setattr(checked_sums, "FEW", few)
    for one, other in zip(attributed(lm, queries, both()[1]), expected, strict=True):
        ahead, alone = one.records["checked"], other.records["checked"]
        assert relative_error(one.scores["checked"], other.scores["checked"]) <= 1e-12
        np.testing.assert_allclose(ahead.error_estimate, alone.error_estimate, rtol=1e-9)
        assert ahead.n_fallbacks == alone.n_fallbacks and ahead.n_points >= alone.n_points


@pytest.mark.parametrize("rows", [1, 7, 1000])
@pytest.mark.parametrize("name", ["gpt2", "masked"])
def test_rows_per_batch_settle_the_same_paths(name, rows):
    lm, queries = case(name)
    for one, other in zip(
        attributed(lm, queries, both()[1], batch_rows=rows), attributed(lm, queries, both()[1]), strict=True
    ):
        assert relative_error(one.scores["checked"], other.scores["checked"]) <= 1e-12
        assert one.records["checked"].n_points == other.records["checked"].n_points


@pytest.mark.parametrize(("rule", "steps"), [("right", 1), ("right", 2), ("gauss", 1), ("left", 1)])
def test_rules_with_hardly_any_nodes_are_taken_in_full(rule, steps):
    lm, queries = case("gpt2")
    for found in attributed(lm, queries, *both("per_token", rule, steps=steps)):
        assert relative_error(found.scores["checked"], found.scores["full"]) <= 1e-14
        assert found.records["checked"].n_points == found.records["full"].n_points


def test_a_model_with_kinks_takes_all_points():
    lm = tiny_model("opt", "float64")
    (found,) = attributed(lm, [example(lm)], *both())
    assert (found.scores["checked"] == found.scores["full"]).all()
    assert found.records["checked"].n_points == found.records["full"].n_points
    assert (found.records["checked"].error_estimate == 0).all()


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_float32_models_are_within_rtol_of_the_full_sum_in_float64(name):
    exact, lm = tiny_model(name, "float64"), tiny_model(name)
    method = replace(preset("saig"), quadrature="checked")
    full = attributed(exact, [example(exact, ONE_TOKEN)], preset("saig"))[0].scores["saig"]
    found = attributed(lm, [example(lm, ONE_TOKEN)], method)[0].scores["saig"]
    assert found.dtype == np.float32
    assert (np.linalg.norm(found - full, axis=1) / np.linalg.norm(full, axis=1)).max() <= 1e-3
