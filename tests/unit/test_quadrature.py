"""Nodes and weights on [0, 1]."""

import numpy as np
import pytest

from knatlas.attribution.quadrature import RULES, quadrature
from knatlas.errors import AtlasError

FOUR = {
    "right": ([0.25, 0.5, 0.75, 1], [0.25] * 4),
    "left": ([0, 0.25, 0.5, 0.75], [0.25] * 4),
    "linspace": ([0, 1 / 3, 2 / 3, 1], [0.25] * 4),
    "midpoint": ([0.125, 0.375, 0.625, 0.875], [0.25] * 4),
    "trapezoid": ([0, 0.25, 0.5, 0.75, 1], [0.125, 0.25, 0.25, 0.25, 0.125]),
}


@pytest.mark.parametrize("rule", FOUR)
def test_four_steps_as_written_out(rule):
    nodes, weights = quadrature(rule, 4)
    np.testing.assert_allclose(nodes, FOUR[rule][0], rtol=1e-15)
    assert weights.tolist() == FOUR[rule][1]


def test_two_gauss_nodes_are_known_in_closed_form():
    nodes, weights = quadrature("gauss", 2)
    np.testing.assert_allclose(nodes, [0.5 - 1 / np.sqrt(12), 0.5 + 1 / np.sqrt(12)], rtol=1e-15)
    np.testing.assert_allclose(weights, [0.5, 0.5], rtol=1e-15)


@pytest.mark.parametrize("n", [1, 2, 5, 20])
def test_gauss_is_exact_up_to_degree_two_n_minus_one_and_no_further(n):
    nodes, weights = quadrature("gauss", n)
    for degree in range(2 * n):
        assert weights @ nodes**degree == pytest.approx(1 / (degree + 1), rel=1e-13)
    if n <= 5:
        assert weights @ nodes ** (2 * n) < (1 - 1e-8) / (2 * n + 1)


@pytest.mark.parametrize("n", [2, 3, 20])
@pytest.mark.parametrize("rule", RULES)
def test_weights_sum_to_one_and_nodes_ascend_within_the_path(rule, n):
    nodes, weights = quadrature(rule, n)
    assert weights.sum() == pytest.approx(1, rel=1e-14)
    assert len(nodes) == len(weights) == n + (rule == "trapezoid")
    assert (np.diff(nodes) > 0).all() and nodes[0] >= 0 and nodes[-1] <= 1


def test_errors_of_the_sums_of_a_straight_line_are_those_of_the_textbook():
    sums = {rule: float(np.dot(*quadrature(rule, 20))) for rule in RULES}
    expected = {"right": 0.525, "left": 0.475, "linspace": 0.5, "midpoint": 0.5, "trapezoid": 0.5, "gauss": 0.5}
    assert sums == pytest.approx(expected, rel=1e-14)


def test_an_unknown_rule_is_named_with_the_nearest():
    with pytest.raises(AtlasError, match=r"rule is 'simpsons'; expected a rule \(right left .*\)"):
        quadrature("simpsons", 20)
    with pytest.raises(AtlasError, match="Did you mean 'midpoint'"):
        quadrature("midpiont", 20)


@pytest.mark.parametrize(
    ("rule", "steps"), [("right", 0), ("gauss", -1), ("linspace", 1), ("right", 2.0), ("left", True)]
)
def test_a_number_of_steps_that_makes_no_rule_is_refused(rule, steps):
    with pytest.raises(AtlasError, match=f"steps of rule '{rule}' is {steps!r}; expected a whole number"):
        quadrature(rule, steps)
