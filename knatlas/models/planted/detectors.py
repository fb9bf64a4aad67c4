"""Linear detectors: class-balanced ridge regressions from the states that feed-forward parts read."""

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor

from knatlas.models.answers import padded
from knatlas.models.architectures import module_at
from knatlas.models.encoding import EncodedQuery
from knatlas.models.language_model import LanguageModel

RIDGE = 0.05  # of the mean variance of a state's coordinates
CONSTANT_RIDGE = 1e-3  # the same of what stands in for a bias
ACTIVE, SILENT = 3.0, -5.0  # mean value where a neuron shall fire, largest value elsewhere, before the non-linearity
SMALLEST_GAP = 1e-3


@torch.no_grad()
def read_states(lm: LanguageModel, queries: list[EncodedQuery]) -> tuple[list[ndarray], list[ndarray]]:
    """What the feed-forward part of each layer reads (queries, width), and its neurons (queries, neurons), in float64.

    Both at the last position that predicts the answer.
    """
    inputs: dict[int, Tensor] = {}
    neurons: dict[int, Tensor] = {}
    rows = torch.arange(len(queries))
    places = torch.tensor([query.positions[-1] for query in queries])

    def note(store: dict[int, Tensor], layer: int):
        return lambda _module, values: store.__setitem__(layer, values[0][rows, places].double())

    handles = []
    for number, layer in enumerate(lm.layers()):
        record = lm.architecture
        for path, store in ((record.pre_activation, inputs), (record.down_projection, neurons)):
            handles.append(module_at(layer, path).register_forward_pre_hook(note(store, number)))
    try:
        lm.hidden_states(*padded([query.input_ids for query in queries], lm.device))
    finally:
        for handle in handles:
            handle.remove()
    return [inputs[i].numpy() for i in range(lm.n_layers)], [neurons[i].numpy() for i in range(lm.n_layers)]


def fit_detector(states: Float[ndarray, "state width"], fires: Bool[ndarray, " state"]) -> tuple[ndarray, float]:
    """Weights (width,) and bias with mean `ACTIVE` over the states it fires for and at most `SILENT` over all others.

    Ridge regression to +1 and -1, both classes of equal weight, then the affine map. Scaled as far as the gap between
    the classes allows: where they do not separate, the detector is left weak, and the causal check will say so.
    """
    weights = np.where(fires, 0.5 / fires.sum(), 0.5 / (~fires).sum())
    target = np.where(fires, 1.0, -1.0)
    direction = _ridge(states, target, weights)
    center = weights @ states
    value = (states - center) @ direction
    gap = max(value[fires].mean() - value[~fires].max(), SMALLEST_GAP)
    slope = (ACTIVE - SILENT) / gap
    bias = ACTIVE - slope * value[fires].mean()
    return slope * direction, float(bias - slope * center @ direction)


def fit_level(states: Float[ndarray, "state width"], fires: Bool[ndarray, " state"]) -> ndarray:
    """Weights (width,) without a bias: 1 on average where it fires, near 0 elsewhere, by ridge regression."""
    weights = np.where(fires, 0.5 / fires.sum(), 0.5 / (~fires).sum())
    level = _ridge(states, fires.astype(float), weights, is_centred=False)
    return level / max((states[fires] @ level).mean(), SMALLEST_GAP)


def fit_constant(states: Float[ndarray, "state width"]) -> ndarray:
    """Weights (width,) whose product with every state is near 1: a bias for matrices that have none."""
    weights = np.full(len(states), 1 / len(states))
    return _ridge(states, np.ones(len(states)), weights, is_centred=False, ridge=CONSTANT_RIDGE)


def _ridge(
    states: ndarray, target: ndarray, weights: ndarray, is_centred: bool = True, ridge: float = RIDGE
) -> ndarray:
    if is_centred:
        states, target = states - weights @ states, target - weights @ target
    weighted = states * weights[:, None]
    gram = weighted.T @ states
    penalty = ridge * np.trace(gram) / len(gram)
    return np.linalg.solve(gram + penalty * np.eye(len(gram)), weighted.T @ target)
