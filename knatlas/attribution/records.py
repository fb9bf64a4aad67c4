"""What an attribution of one query leaves."""

from dataclasses import dataclass, field

from jaxtyping import Float
from numpy import ndarray

from knatlas.attribution.normalisation import LayerSums


@dataclass(frozen=True)
class MethodRecord:
    """How a query's scores by one method came about.

    completeness (layers,): |sum_j Attr(j) - change| / max(sum_j |Attr(j)|, |change|, P/1000 per baseline), before the
    norm, with change = sum_i F(a) - F(b_i); where F = log P, 1/1000 nat in place of P/1000. 0 is exact; NaN where the
    factor is the full activation, whose scores need not sum to the change, or where it was not asked for.
    sums: the layers' sums before the norm. n_baselines: baselines of the longest readout. n_points: points at which a
    gradient was taken, the shared end point of all paths counted once per layer. n_zero_gradients: those of them whose
    gradient is zero for every neuron (on the fast path: for what the neurons write together). error_estimate (layers,):
    estimated relative L2 error of the layer's scores against the rule's sum over all of its points; 0 where that sum
    was computed. n_full_points: points of that sum. n_fallbacks: paths of the checked quadrature that took all points
    of the rule.
    """

    completeness: Float[ndarray, " layer"]
    sums: LayerSums
    n_baselines: int
    n_points: int
    n_zero_gradients: int
    error_estimate: Float[ndarray, " layer"]
    n_full_points: int
    n_fallbacks: int


@dataclass(frozen=True)
class QueryAttribution:
    """The scores of one query: method -> (layers, neurons), float32 (float64 for float64 models), all finite.

    p: P(answer | query). n_positions: positions at which answer tokens are predicted. n_tokens: tokens of the input.
    """

    fact: str
    language: str
    query: int
    p: float
    n_positions: int
    n_tokens: int
    scores: dict[str, Float[ndarray, "layer neuron"]] = field(default_factory=dict)
    records: dict[str, MethodRecord] = field(default_factory=dict)

    @property
    def completeness(self) -> dict[str, Float[ndarray, " layer"]]:
        """method -> completeness error of each layer (layers,), see `MethodRecord`."""
        return {name: record.completeness for name, record in self.records.items()}
