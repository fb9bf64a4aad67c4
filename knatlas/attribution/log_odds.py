"""The sum of a path from few gradients, and how far from the rule's full sum it may be.

P(answer) is a sigmoid of its log-odds z, and z and its gradient v change far more smoothly along a path than P and its
gradient g = F'(z) v: a cliff of P between two nodes is a gentle slope of z. z, its slope and v are known at the nodes,
so S = sum_k w_k F'(z(alpha_k)) v(alpha_k) is taken with polynomials through z and through v. On the gradients that were
evaluated this is a weighted sum, whose weights are the path's own.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from knatlas.attribution.levels import Level

# 1 - P and rates F'(z) below this are zero for every sum
SMALLEST = 1e-100
# The exponent with which falling coefficients are taken to go on falling: half of the digits that they promise; none
# where a non-linearity has kinks, whose coefficients fall at first and then no more.
SMOOTH, KINKED = 0.5, 0.0
# what the estimate is multiplied by
SAFETY = 2.0


@dataclass(frozen=True)
class PathWeights:
    """What to do with the gradients dF at the nodes of paths.

    total (paths, nodes): weights of the sum S. checks (paths, 6, nodes): weights of six vectors whose L2 norms, as
    scores, are the sizes that `estimated_error` takes: the three highest coefficients of v times sum_k w_k F'(z_k)
    (zero where there are fewer), then S taken in three other ways minus S.
    """

    total: Float[ndarray, "path node"]
    checks: Float[ndarray, "path check node"]


def path_weights(
    level: Level, log_p: Float[ndarray, "path node"], slopes: Float[ndarray, "path node"], objective: str = "prob"
) -> PathWeights:
    """The weights of paths from log P(answer) in nats and the slopes dF/dalpha at the nodes of a level.

    S takes z from values and slopes. The three other ways: the rule that needs no z; z from slopes alone; z from values
    alone. They differ from S where P does something between nodes that g, z or the slopes of z do not show.
    Args: log_p, slopes (paths, nodes), finite; objective, F = P ("prob") or F = log P ("logprob").
    """
    log_p, slopes = np.asarray(log_p, float), np.asarray(slopes, float)
    lost = np.maximum(-np.expm1(log_p), SMALLEST)
    z = log_p - np.log(lost)
    rate = np.maximum(_rate(z, objective), SMALLEST)
    steps = slopes / rate  # dz/dalpha
    from_both = np.hstack([z, steps]) @ level.hermite.T
    from_slopes = z[:, -1:] + steps @ level.primitive.T
    from_values = z @ level.lagrange.T
    pulls = [level.rule_weights * _rate(curve, objective) for curve in (from_both, from_slopes, from_values)]
    total, by_slopes, by_values = ((pull @ level.lagrange) / rate for pull in pulls)
    checks = np.zeros((len(z), 6, len(level.nodes)))
    top = level.basis[::-1][:3]
    checks[:, : len(top)] = (pulls[0].sum(1)[:, None] / rate)[:, None] * top
    checks[:, 3], checks[:, 4], checks[:, 5] = level.weights - total, by_slopes - total, by_values - total
    return PathWeights(total, checks)


def _rate(z: Float[ndarray, "path point"], objective: str) -> Float[ndarray, "path point"]:
    """F'(z): P (1 - P), or 1 - P."""
    small = np.exp(-np.abs(z))
    if objective == "prob":
        return small / (1 + small) ** 2
    return np.where(z > 0, small, 1.0) / (1 + small)


def _decay(sizes: Float[ndarray, "*path check"], paid: int) -> Float[ndarray, "*path"]:
    """The factor by which coefficients fall from one degree to the next, 0 to 1, the larger of two neighbours each."""
    last, middle, first = (sizes[..., i] for i in range(3))
    later, earlier = (last, middle) if paid == 1 else (np.maximum(last, middle), np.maximum(middle, first))
    return np.minimum(1.0, np.divide(later, earlier, out=np.ones_like(later), where=earlier > 0))


def estimated_error(sizes: Float[ndarray, "*path check"], paid: int, is_smooth: bool = True) -> Float[ndarray, "*path"]:
    """Estimated L2 error of paths' scores against the rule's full sum, in the unit of the scores.

    err = 2 (e_n rho^((n+1)/2) + sum of the three differences), e_n the size of the highest coefficient and rho the
    factor by which coefficients fall; with kinks, err = 2 (e_n + sum of the differences).
    Args: sizes (..., 6), L2 norms of `PathWeights.checks` as scores; paid, the level's n; is_smooth, whether the
    non-linearities of the model have a derivative everywhere (GELU, SiLU, tanh; not ReLU).
    """
    sizes = np.asarray(sizes, float)
    trust = SMOOTH if is_smooth else KINKED
    tail = sizes[..., 0] * _decay(sizes, paid) ** (trust * (paid + 1))
    return SAFETY * (tail + sizes[..., 3:].sum(-1))


def allowed_error(layer_size: Float[ndarray, "*path"], n_paths: int | ndarray, rtol: float) -> Float[ndarray, "*path"]:
    """The largest estimated error with which a path may be left as it is: rtol |A_layer| / sqrt(paths).

    Args: layer_size |A_layer|, the L2 norm of the layer's scores as known so far, over all of its paths; n_paths of the
    layer; rtol, the relative L2 error allowed in the layer's scores.
    """
    return rtol * layer_size / np.sqrt(n_paths)


def is_hopeless(
    error: Float[ndarray, "*path"],
    sizes: Float[ndarray, "*path check"],
    paid: int,
    last_paid: int,
    allowed: Float[ndarray, "*path"],
) -> Bool[ndarray, "*path"]:
    """Whether not even the last level would settle paths: better take all points of the rule at once.

    Judged by coefficients that would fall twice as fast as they do, so that only kinks and cliffs are given up. A level
    of one paid node judges nothing.
    Args: error of `estimated_error`, from sizes at a level of `paid` nodes; last_paid, those of the last level.
    """
    if paid == 1:
        return np.zeros(np.shape(error), dtype=bool)
    return error * _decay(np.asarray(sizes, float), paid) ** (2 * (last_paid - paid)) > allowed
