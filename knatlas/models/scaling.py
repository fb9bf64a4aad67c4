"""Multiplying the activations of chosen neurons during a forward pass: the model itself is never changed."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from knatlas.errors import AtlasError, unknown
from knatlas.models.encoding import EncodedQuery
from knatlas.models.language_model import LanguageModel
from knatlas.models.neuron_hooks import check_site, tapped_layer

POSITIONS = ("answer", "last", "all")


@dataclass(frozen=True, eq=False)
class NeuronScaling:
    """Neurons as two arrays of equal length, and the factor of their activations: 0 suppresses, 2 doubles.

    The factor is one number for all neurons, or an array with one for each. A neuron is scaled once, however often it
    is named. Raises: AtlasError when there are neither one nor as many factors as neurons.
    """

    layers: Int[np.ndarray, " neuron"]
    indices: Int[np.ndarray, " neuron"]
    factor: float | Float[np.ndarray, " neuron"]

    def __post_init__(self) -> None:
        if np.ndim(self.factor) and np.shape(self.factor) != np.shape(self.layers):
            raise AtlasError(
                f"{np.size(self.factor)} factors for {np.size(self.layers)} neurons; give one number for all of them, "
                "or an array with one factor for each neuron"
            )


def positions_of(query: EncodedQuery, where: str) -> tuple[int, ...]:
    """The positions of a query at which neurons are scaled.

    "answer": all that predict a token of the answer; "last": the last of them; "all": every position of the input.
    """
    if where not in POSITIONS:
        raise AtlasError(unknown("intervene_positions", where, "a choice of positions", POSITIONS))
    if where == "all":
        return tuple(range(len(query.input_ids)))
    return query.positions if where == "answer" else query.positions[-1:]


@contextmanager
def scaled_rows(
    lm: LanguageModel,
    scalings: Sequence[NeuronScaling | None],
    positions: Sequence[Sequence[int]],
    site: str = "down_input",
) -> Iterator[None]:
    """Inside the block, row r of a forward pass has its neurons `scalings[r]` scaled at its `positions[r]`.

    Args: one entry per row of the batch in both sequences; site "down_input" (the neuron's value, input of the down
    projection) or "pre_activation" (the value before the non-linearity, where twice the input is not twice the value).
    The hooks are removed when the block ends, also by an exception. Raises AtlasError for an unknown site or a neuron
    that the model does not have.
    """
    check_site(site)
    with ExitStack() as hooks:
        for layer, change in _changes(lm, scalings, positions).items():
            hooks.enter_context(tapped_layer(lm, layer, site, change))
        yield


@dataclass(frozen=True)
class _Change:
    """Where one layer's activations (rows, positions, neurons) are multiplied, and by what."""

    place: tuple[Tensor, Tensor, Tensor]
    factors: Tensor

    def __call__(self, values: Tensor) -> Tensor:
        changed = values.clone()
        changed[self.place] = values[self.place] * self.factors.to(values.dtype)
        return changed


def _changes(
    lm: LanguageModel, scalings: Sequence[NeuronScaling | None], positions: Sequence[Sequence[int]]
) -> dict[int, _Change]:
    parts = [
        _row_places(lm, row, scaling, places)
        for row, (scaling, places) in enumerate(zip(scalings, positions, strict=True))
        if scaling is not None
    ]
    if not parts:
        return {}
    table = np.concatenate(parts)  # one line per activation that is scaled: layer, row, position, neuron, factor
    return {int(layer): _change(lm, table[table[:, 0] == layer]) for layer in np.unique(table[:, 0])}


def _row_places(lm: LanguageModel, row: int, scaling: NeuronScaling, positions: Sequence[int]) -> np.ndarray:
    layers, indices = np.asarray(scaling.layers, dtype=int), np.asarray(scaling.indices, dtype=int)
    _check_neurons(lm, layers, indices)
    n_neurons, n_positions = len(layers), len(positions)
    columns = (
        np.tile(layers, n_positions),
        np.full(n_neurons * n_positions, row),
        np.repeat(np.asarray(positions, dtype=int), n_neurons),
        np.tile(indices, n_positions),
        np.tile(np.broadcast_to(np.asarray(scaling.factor, dtype=float), n_neurons), n_positions),
    )
    return np.stack(columns, axis=1)


def _change(lm: LanguageModel, table: np.ndarray) -> _Change:
    place = tuple(torch.as_tensor(table[:, column].astype(int), device=lm.device) for column in (1, 2, 3))
    return _Change(place, torch.as_tensor(table[:, 4], device=lm.device))


def _check_neurons(lm: LanguageModel, layers: np.ndarray, indices: np.ndarray) -> None:
    outside = (layers < 0) | (layers >= lm.n_layers) | (indices < 0) | (indices >= lm.n_neurons)
    if outside.any():
        first = int(np.flatnonzero(outside)[0])
        raise AtlasError(
            f"{lm.name}: there is no neuron (layer {layers[first]}, index {indices[first]}); the model has "
            f"{lm.n_layers} layers of {lm.n_neurons} neurons. Were these neurons found in another model?"
        )
