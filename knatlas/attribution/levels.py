"""Compressed quadrature: nodes at which a few gradients stand for all of a rule's.

A rule's sum over a path, S = sum_k w_k g(alpha_k), is an integral against a discrete measure, and a quadrature rule of
that measure gives the rule's own number, its error against the continuous integral included. Levels of nodes contain
each other, so that a path which a level does not settle pays for the next level's new nodes only; the end 1, which all
paths share, belongs to every level.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Bool, Float64
from numpy import ndarray

from knatlas.attribution.quadrature import quadrature

# Nodes that each level adds to those of the level below.
ADDED = (1, 2, 4, 6)
# Levels of rules with very many nodes that share nothing but the end: longer chains of nested nodes come too close
# to each other for the polynomials through them.
FRESH = (24, 48)
# Places at which a next node of Leja may lie.
CANDIDATES = 20_001
# A level of more nodes than this part of the rule's own is not worth the risk that it settles nothing.
LARGEST_PART, LARGEST_FRESH_PART = 0.7, 0.2


@dataclass(frozen=True, eq=False)
class Level:
    """The nodes of one level for the sum of a rule (alpha_k, w_k), k = 1..N; n of them are paid, one is the end.

    nodes (n + 1,): ascending, the last exactly 1. is_new (n + 1,): nodes that no lower level has (the end is none).
    weights (n + 1,): of the interpolating rule, sum 1. rule_nodes, rule_weights (N,): alpha_k, w_k.
    basis (n + 1, n + 1): c_i = sum_j basis[i, j] g(nodes[j]) are the coefficients of the polynomial through g at the
    nodes in the polynomials that are orthonormal under the rule; basis[0] = weights.
    highest (N,): the polynomial of degree n among these, at alpha_k.
    lagrange (N, n + 1): the polynomial through values at the nodes, at alpha_k.
    hermite (N, 2 n + 2): the polynomial through values and slopes at the nodes, values first.
    primitive (N, n + 1): with z(1) added, the function whose slope is the polynomial through slopes at the nodes.
    """

    nodes: Float64[ndarray, " node"]
    is_new: Bool[ndarray, " node"]
    weights: Float64[ndarray, " node"]
    rule_nodes: Float64[ndarray, " full"]
    rule_weights: Float64[ndarray, " full"]
    basis: Float64[ndarray, "degree node"]
    highest: Float64[ndarray, " full"]
    lagrange: Float64[ndarray, "full node"]
    hermite: Float64[ndarray, "full datum"]
    primitive: Float64[ndarray, "full node"]

    @property
    def paid(self) -> int:
        """Nodes that are not the shared end."""
        return len(self.nodes) - 1


def n_paid(rule: str, steps: int) -> int:
    """Nodes of a rule that are not the shared end 1."""
    return int((quadrature(rule, steps)[0] < 1).sum())


@cache
def levels_of(rule: str, steps: int) -> tuple[Level, ...]:
    """The levels of a rule of `quadrature`, ascending; none where the rule itself has too few nodes.

    Raises: AtlasError for an unknown rule or number of steps.
    """
    alphas, weights = quadrature(rule, steps)
    most = n_paid(rule, steps)
    end, levels = np.ones(1), []
    for added in ADDED:
        nodes = levels[-1].nodes if levels else end
        if len(nodes) - 1 + added <= LARGEST_PART * most:
            levels.append(_level(alphas, weights, nodes, _added_nodes(alphas, weights, nodes, added)))
    for paid in FRESH:
        if paid <= LARGEST_FRESH_PART * most:
            levels.append(_level(alphas, weights, end, _added_nodes(alphas, weights, end, paid)))
    return tuple(levels)


def _added_nodes(
    alphas: Float64[ndarray, " full"], weights: Float64[ndarray, " full"], nodes: Float64[ndarray, " node"], n: int
) -> Float64[ndarray, " new"]:
    """The n nodes that, added to `nodes`, make the product of all alpha - node small.

    The first nodes are those of Gauss and Radau, exact to degree 2 n; two nodes after one are Kronrod's, exact to
    degree 5. Such nodes need not exist further on, or come so close to old ones that no polynomial through both is to
    be trusted: there they are Leja's.
    """
    if len(nodes) == 1:
        return _gauss_nodes(alphas, weights * (1 - alphas), n)
    found = _kronrod_pair(alphas, weights * np.prod(alphas[:, None] - nodes, axis=1)) if len(nodes) == 2 else None
    return _leja_nodes(alphas[0], nodes, n) if found is None else found


def _gauss_nodes(alphas: Float64[ndarray, " full"], measure: Float64[ndarray, " full"], n: int) -> ndarray:
    """The n nodes of Gauss for a positive measure: real and inside."""
    diagonal, off_diagonal = _recurrence(alphas, measure / measure.sum(), n)
    return np.linalg.eigvalsh(np.diag(diagonal) + np.diag(off_diagonal, 1) + np.diag(off_diagonal, -1))


def _leja_nodes(lowest: float, nodes: Float64[ndarray, " node"], n: int) -> Float64[ndarray, " new"]:
    """Leja's nodes: each where the product of the distances to all nodes before it is largest, from `lowest` to 1."""
    candidates, found = np.linspace(lowest, 1, CANDIDATES), np.zeros(0)
    for _ in range(n):
        distances = np.abs(candidates[:, None] - np.append(nodes, found))
        found = np.append(found, candidates[distances.prod(1).argmax()])
    return np.sort(found)


def _kronrod_pair(alphas: Float64[ndarray, " full"], signed: Float64[ndarray, " full"]) -> ndarray | None:
    """The roots of the x^2 + b x + c whose products with 1 and x have sum 0 under a signed measure; None if outside."""
    moments = [float(signed @ alphas**degree) for degree in range(4)]
    c, b = np.linalg.solve([moments[:2], moments[1:3]], [-moments[2], -moments[3]])
    roots = np.sort(np.roots([1, b, c]))
    is_inside = np.isreal(roots).all() and roots.real.min() >= alphas[0] and roots.real.max() < 1
    return roots.real if is_inside else None


def _recurrence(
    alphas: Float64[ndarray, " full"], measure: Float64[ndarray, " full"], n: int
) -> tuple[Float64[ndarray, " n"], Float64[ndarray, " rest"]]:
    """Diagonal (n,) and off-diagonal (n - 1,) of the Jacobi matrix of a discrete measure, by Lanczos' procedure."""
    vectors = np.sqrt(measure)[None]
    diagonal, off_diagonal = [], []
    for _ in range(n):
        following = alphas * vectors[-1]
        diagonal.append(following @ vectors[-1])
        for _ in range(2):  # twice: rounding would otherwise let the vectors lose their right angles
            following = following - (vectors @ following) @ vectors
        off_diagonal.append(np.linalg.norm(following))
        vectors = np.vstack([vectors, following / off_diagonal[-1]])
    return np.array(diagonal), np.array(off_diagonal[:-1])


def _level(alphas: ndarray, rule_weights: ndarray, lower: ndarray, new: ndarray) -> Level:
    """Everything that a level needs, from its lower level's nodes and its new ones."""
    nodes = np.append(np.sort(np.append(lower[:-1], new)), 1.0)
    lagrange = _lagrange(nodes, alphas)
    orthonormal = _orthonormal(alphas, rule_weights, len(nodes))  # (N, degree)
    return Level(
        nodes=nodes,
        is_new=np.isin(nodes, new),
        weights=rule_weights @ lagrange,
        rule_nodes=alphas,
        rule_weights=rule_weights,
        basis=(orthonormal * rule_weights[:, None]).T @ lagrange,
        highest=orthonormal[:, -1],
        lagrange=lagrange,
        hermite=_hermite(nodes, alphas, lagrange),
        primitive=_primitive(nodes, alphas),
    )


def _lagrange(nodes: Float64[ndarray, " node"], points: Float64[ndarray, "*point"]) -> Float64[ndarray, "*point node"]:
    """The polynomials that are 1 at one node and 0 at the others, at points."""
    factors = points[..., None] - nodes
    ones = np.ones_like(factors[..., :1])
    before = np.cumprod(np.concatenate([ones, factors[..., :-1]], -1), -1)
    after = np.cumprod(np.concatenate([ones, factors[..., :0:-1]], -1), -1)[..., ::-1]
    gaps = nodes[:, None] - nodes + np.eye(len(nodes))
    return before * after / gaps.prod(1)


def _orthonormal(alphas: ndarray, weights: ndarray, n: int) -> Float64[ndarray, "full degree"]:
    """The first n polynomials that are orthonormal under the rule, at its nodes."""
    legendre = np.polynomial.legendre.legvander(2 * alphas - 1, n - 1)
    q, r = np.linalg.qr(legendre * np.sqrt(weights)[:, None])
    return q * np.sign(np.diag(r)) / np.sqrt(weights)[:, None]


def _hermite(nodes: ndarray, alphas: ndarray, lagrange: ndarray) -> Float64[ndarray, "full datum"]:
    """The polynomial of degree 2 n + 1 through values and slopes at the nodes."""
    gaps = nodes[:, None] - nodes + np.eye(len(nodes))
    steepness = (1 / gaps).sum(1) - 1  # slope of the Lagrange polynomials at their own node
    distance = alphas[:, None] - nodes
    return np.hstack([(1 - 2 * distance * steepness) * lagrange**2, distance * lagrange**2])


def _primitive(nodes: ndarray, alphas: ndarray) -> Float64[ndarray, "full node"]:
    """-integral from alpha_k to 1 of each Lagrange polynomial."""
    points, weights = np.polynomial.legendre.leggauss(len(nodes) // 2 + 1)
    inside = alphas[:, None] + (1 - alphas[:, None]) * (points + 1) / 2
    return -(1 - alphas[:, None]) * np.einsum("p,kpj->kj", weights / 2, _lagrange(nodes, inside))
