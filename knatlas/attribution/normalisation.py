"""Norms of the scores of a query (Eq. 5 of AMIG and of SAIG), and what their divisors look like."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from knatlas.attribution.methods import NORMS
from knatlas.errors import AtlasError, unknown

# Below this share of sum_j |Attr(j)| the signed sum of a layer is rounding and cancellation, not a divisor.
SMALLEST_SHARE = 1e-3


@dataclass(frozen=True)
class LayerSums:
    """The sums of a layer's scores before any norm: `signed` = sum_j Attr(j), `absolute` = sum_j |Attr(j)|.

    Both (layers,), float64. By completeness the signed sum is the net effect of the layer, F(a) - F(b): near zero or
    negative in many layers, where dividing by it exalts noise or turns the order of the neurons around.
    """

    signed: Float[ndarray, " layer"]
    absolute: Float[ndarray, " layer"]

    @property
    def is_negative(self) -> ndarray:
        """Layers whose signed sum is below zero, (layers,)."""
        return self.signed < 0

    @property
    def is_skipped(self) -> ndarray:
        """Layers that "layer_sum" sets to zero: |sum| < 1e-3 * sum|.|, or all scores zero, (layers,)."""
        return (np.abs(self.signed) < SMALLEST_SHARE * self.absolute) | (self.absolute == 0)

    @property
    def cancellation(self) -> Float[ndarray, " layer"]:
        """sum|.| / |sum| of each layer, (layers,): 1 without cancellation; infinite (0/0: 1) for a sum of zero."""
        ratio = np.full(len(self.signed), np.inf)
        np.divide(self.absolute, np.abs(self.signed), out=ratio, where=self.signed != 0)
        return np.where(self.absolute == 0, 1.0, ratio)


def layer_sums(scores: Float[ndarray, "layer neuron"]) -> LayerSums:
    """Signed and absolute sum of each layer, added in float64."""
    return LayerSums(scores.sum(1, dtype=np.float64), np.abs(scores).sum(1, dtype=np.float64))


def _divisors(sums: LayerSums, norm: str) -> Float[ndarray, " layer"]:
    """The divisor of each layer, infinite where the layer is to be set to zero."""
    if norm == "none":
        return np.ones_like(sums.absolute)
    if norm == "layer_sum":
        return np.where(sums.is_skipped, np.inf, sums.signed)
    absolute = np.full_like(sums.absolute, sums.absolute.sum()) if norm == "query_l1" else sums.absolute
    return np.where(absolute == 0, np.inf, absolute)


def normalise(scores: Float[ndarray, "layer neuron"], norm: str) -> Float[ndarray, "layer neuron"]:
    """Scores divided by what `norm` says: nothing, a sum per layer, or one sum for the query.

    none: 1. layer_sum: sum_j Attr(l, j), signed; the layer becomes zero where |sum| < 1e-3 * sum_j |Attr(l, j)|.
    layer_l1: sum_j |Attr(l, j)|. query_l1: sum_lj |Attr(l, j)|. Layers of zeros stay zero.
    Args: scores (layers, neurons). Returns: (layers, neurons), same dtype. Raises: AtlasError for an unknown norm.
    """
    if norm not in NORMS:
        raise AtlasError(unknown("The norm of an attribution", norm, "one of", NORMS))
    return (scores / _divisors(layer_sums(scores), norm)[:, None]).astype(scores.dtype)
