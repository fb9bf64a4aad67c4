"""Quadrature rules on [0, 1]: where integrated gradients are evaluated on the path, and with which weights."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from knatlas.errors import AtlasError, unknown

Rule = tuple[Float64[ndarray, " node"], Float64[ndarray, " node"]]


def _uniform(nodes: Float64[ndarray, " node"]) -> Rule:
    """The nodes, each with weight 1/N."""
    return nodes, np.full(len(nodes), 1 / len(nodes))


def _right(steps: int) -> Rule:
    """Nodes k/N, k = 1..N, weights 1/N."""
    return _uniform(np.arange(1, steps + 1) / steps)


def _left(steps: int) -> Rule:
    """Nodes k/N, k = 0..N-1, weights 1/N."""
    return _uniform(np.arange(steps) / steps)


def _linspace(steps: int) -> Rule:
    """Nodes k/(N-1), k = 0..N-1, weights 1/N: both ends at full weight, the grid of the released B-KN code."""
    return _uniform(np.linspace(0, 1, steps))


def _midpoint(steps: int) -> Rule:
    """Nodes (k-1/2)/N, k = 1..N, weights 1/N."""
    return _uniform((np.arange(steps) + 0.5) / steps)


def _trapezoid(steps: int) -> Rule:
    """N + 1 nodes k/N, k = 0..N, weights 1/N, half of that at both ends."""
    weights = np.full(steps + 1, 1 / steps)
    weights[[0, -1]] /= 2
    return np.arange(steps + 1) / steps, weights


def _gauss(steps: int) -> Rule:
    """The N nodes of Gauss and Legendre: exact for polynomials up to degree 2N - 1."""
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    return (nodes + 1) / 2, weights / 2


RULES: dict[str, Callable[[int], Rule]] = {
    "right": _right,
    "left": _left,
    "linspace": _linspace,
    "midpoint": _midpoint,
    "trapezoid": _trapezoid,
    "gauss": _gauss,
}


def check_rule(rule: str, steps: int) -> None:
    """Raise AtlasError unless `rule` is a rule and `steps` a number of steps that it can take."""
    if rule not in RULES:
        raise AtlasError(unknown("The quadrature rule", rule, "a rule", RULES))
    fewest = 2 if rule == "linspace" else 1
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < fewest:
        raise AtlasError(f"The number of steps of rule '{rule}' is {steps!r}; expected a whole number >= {fewest}.")


def quadrature(rule: str, steps: int) -> Rule:
    """Nodes alpha_k in [0, 1] and weights w_k with integral_0^1 f ~ sum_k w_k f(alpha_k); the weights sum to 1.

    Args: rule, one of `RULES`; steps, the N of the rule ("linspace" needs two, the others one).
    Returns: nodes and weights, ascending nodes, N of each (trapezoid: N + 1). Raises: AtlasError.
    """
    check_rule(rule, steps)
    return RULES[rule](steps)
