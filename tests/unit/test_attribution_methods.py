"""The record of a method, and the readings of the published ones."""

import subprocess
import sys
from dataclasses import asdict, replace

import pytest

from knatlas.attribution import AMIG, B_KN, SAIG, AttributionMethod, preset
from knatlas.attribution.methods import ATP
from knatlas.errors import AtlasError


def reading(name, equations, kind="masked"):
    return {key: value for key, value in asdict(preset(name, equations, kind)).items() if key != "name"}


BASE = {
    "path": "per_token",
    "rule": "right",
    "steps": 20,
    "multiplier": "delta",
    "norm": "none",
    "neuron_site": "down_input",
    "replace_special": False,
    "objective": "prob",
    "quadrature": "full",
    "rtol": 1e-3,
}


def test_b_kn_is_the_right_sum_from_zero_and_the_released_grid_has_both_ends():
    assert reading("bkn", "default") == reading("bkn", "paper") == BASE | {"path": "zero"}
    assert reading("bkn", "code") == BASE | {"path": "zero", "rule": "linspace"}


def test_amig_as_printed_has_the_full_activation_and_the_layer_sum():
    assert reading("amig", "default") == BASE
    assert reading("amig", "paper") == BASE | {"multiplier": "full", "norm": "layer_sum"}


def test_amig_as_released_is_one_mean_path_on_the_left_grid():
    released = {"path": "mean_path", "rule": "left", "multiplier": "full", "replace_special": True}
    assert reading("amig", "code") == BASE | released


def test_saig_is_normalised_by_layer_in_every_reading():
    assert reading("saig", "default") == BASE | {"norm": "layer_l1"}
    assert reading("saig", "paper") == reading("saig", "code") == BASE | {"norm": "layer_sum"}


def test_attribution_patching_is_one_right_step_in_every_reading():
    assert reading("atp", "default") == reading("atp", "paper") == reading("atp", "code") == BASE | {"steps": 1}


@pytest.mark.parametrize("name", ["bkn", "amig", "saig", "atp"])
def test_only_released_code_of_causal_models_takes_the_value_before_the_non_linearity(name):
    sites = {
        (equations, kind): preset(name, equations, kind).neuron_site
        for equations in ("default", "paper", "code")
        for kind in ("masked", "causal")
    }
    assert [key for key, site in sites.items() if site == "pre_activation"] == [("code", "causal")]


def test_constants_hold_the_readings_of_masked_models():
    for name, constant in {"bkn": B_KN, "amig": AMIG, "saig": SAIG, "atp": ATP}.items():
        assert constant == {equations: preset(name, equations) for equations in ("default", "paper", "code")}


def test_an_unknown_preset_reading_or_kind_is_named():
    with pytest.raises(AtlasError, match=r"is 'saigg'; expected one of \(bkn amig saig atp\). Did you mean 'saig'"):
        preset("saigg")
    with pytest.raises(AtlasError, match="Did you mean 'paper'"):
        preset("amig", "papers")
    with pytest.raises(AtlasError, match=r"kind of the model is 'encoder'; expected one of \(masked causal\)"):
        preset("amig", "code", "encoder")


@pytest.mark.parametrize(
    ("field", "value", "nearest"),
    [
        ("path", "per-token", "per_token"),
        ("rule", "rigth", "right"),
        ("multiplier", "deltas", "delta"),
        ("norm", "layer_l2", "layer_l1"),
        ("neuron_site", "down_output", "down_input"),
        ("objective", "log_prob", "logprob"),
        ("quadrature", "check", "checked"),
    ],
)
def test_every_choice_is_checked_and_the_nearest_is_offered(field, value, nearest):
    with pytest.raises(AtlasError, match=f"'{value}'.*Did you mean '{nearest}'"):
        AttributionMethod("saig", **{field: value})


def test_names_that_cannot_stand_before_a_dot_and_truth_values_that_are_none_are_refused():
    with pytest.raises(AtlasError, match=r"named|name of an attribution method is 'saig\.v2'"):
        AttributionMethod("saig.v2")
    with pytest.raises(AtlasError, match="replace_special is 1; expected true or false"):
        AttributionMethod("saig", replace_special=1)


@pytest.mark.parametrize("rtol", [0, -1e-3, 1, 2.0])
def test_a_tolerance_lies_between_zero_and_one(rtol):
    with pytest.raises(AtlasError, match=rf"rtol is {rtol}; expected a number above 0 and below 1"):
        AttributionMethod("x", rtol=rtol)


def test_tolerance_and_factor_decide_which_points_the_checked_quadrature_takes_and_no_others():
    full, checked = AttributionMethod("x"), AttributionMethod("x", quadrature="checked")
    assert full.integral != checked.integral
    for change in ({"rtol": 1e-2}, {"multiplier": "full"}):
        assert replace(full, **change).integral == full.integral
        assert replace(checked, **change).integral != checked.integral
    for change in ({"name": "two"}, {"norm": "layer_l1"}):
        assert replace(checked, **change).integral == checked.integral


def test_methods_share_their_integral_exactly_when_name_factor_and_norm_are_all_that_differs():
    method = AttributionMethod("one")
    for change in ({"name": "two"}, {"multiplier": "full"}, {"norm": "query_l1"}):
        assert replace(method, **change).integral == method.integral
    for change in ({"path": "zero"}, {"rule": "left"}, {"steps": 5}, {"replace_special": True}):
        assert replace(method, **change).integral != method.integral
    for change in ({"neuron_site": "pre_activation"}, {"objective": "logprob"}):
        assert replace(method, **change).integral != method.integral


def test_what_is_replaced_does_not_matter_from_a_zero_baseline():
    zero = AttributionMethod("one", path="zero")
    assert zero.integral == replace(zero, replace_special=True).integral


def test_scores_sum_to_the_change_for_delta_and_from_zero():
    assert AttributionMethod("x").is_complete
    assert AttributionMethod("x", path="zero", multiplier="full").is_complete
    assert not AttributionMethod("x", multiplier="full").is_complete


def test_methods_are_checked_without_loading_pytorch():
    script = "import sys, knatlas.attribution, knatlas.attribution.combination, knatlas.attribution.normalisation\n"
    script += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
