"""Multiplying or replacing the activations of chosen neurons in a forward pass: the model itself is never changed."""

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
    is named. `shift` is added after that, so that factor 0 with a shift sets an activation to a value: one number, one
    for each neuron, or (positions, neurons) for the positions that are scaled.
    Raises: AtlasError when there are neither one nor as many factors or shifts as neurons.
    """

    layers: Int[np.ndarray, " neuron"]
    indices: Int[np.ndarray, " neuron"]
    factor: float | Float[np.ndarray, " neuron"]
    shift: float | Float[np.ndarray, "*position neuron"] = 0.0

    def __post_init__(self) -> None:
        if np.ndim(self.factor) and np.shape(self.factor) != np.shape(self.layers):
            raise AtlasError(
                f"{np.size(self.factor)} factors for {np.size(self.layers)} neurons; give one number for all of them, "
                "or an array with one factor for each neuron"
            )
        if np.ndim(self.shift) and np.shape(self.shift)[-1] != len(self.layers):
            raise AtlasError(
                f"shifts of the shape {np.shape(self.shift)} for {np.size(self.layers)} neurons; give one number for "
                "all of them, or an array whose last axis has one for each neuron"
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
    """Where one layer's activations (rows, positions, neurons) are multiplied, by what, and what is added, if any."""

    place: tuple[Tensor, Tensor, Tensor]
    factors: Tensor
    shifts: Tensor | None

    def __call__(self, values: Tensor) -> Tensor:
        changed, new = values.clone(), values[self.place] * self.factors.to(values.dtype)
        changed[self.place] = new if self.shifts is None else new + self.shifts.to(values.dtype)
        return changed


def _changes(
    lm: LanguageModel, scalings: Sequence[NeuronScaling | None], positions: Sequence[Sequence[int]]
) -> dict[int, _Change]:
    given = [
        (row, scaling, places)
        for row, (scaling, places) in enumerate(zip(scalings, positions, strict=True))
        if scaling is not None
    ]
    if not given:
        return {}
    layers, *columns = _lines(given)
    _check_neurons(lm, layers, columns[2])
    return {int(layer): _change(lm, [column[layers == layer] for column in columns]) for layer in np.unique(layers)}


def _lines(given: list[tuple[int, NeuronScaling, Sequence[int]]]) -> list[np.ndarray]:
    """Columns layer, row, position, neuron, factor, shift: one line per activation that is scaled."""
    columns = ([], [], [], [], [], [])
    for row, of, places in given:
        shape = (len(places), len(of.layers))
        at = np.asarray(places, dtype=int)[:, None]
        for column, value in zip(columns, (of.layers, row, at, of.indices, of.factor, of.shift), strict=True):
            column.append(np.full(shape, value, dtype=float).ravel())
    places, numbers = columns[:4], columns[4:]
    return [np.concatenate(parts).astype(int) for parts in places] + [np.concatenate(parts) for parts in numbers]


def _change(lm: LanguageModel, columns: Sequence[np.ndarray]) -> _Change:
    *place, factors, shifts = (torch.as_tensor(column, device=lm.device) for column in columns)
    return _Change(tuple(place), factors, shifts if shifts.any() else None)


def _check_neurons(lm: LanguageModel, layers: np.ndarray, indices: np.ndarray) -> None:
    outside = (layers < 0) | (layers >= lm.n_layers) | (indices < 0) | (indices >= lm.n_neurons)
    if outside.any():
        first = int(np.flatnonzero(outside)[0])
        raise AtlasError(
            f"{lm.name}: there is no neuron (layer {layers[first]}, index {indices[first]}); the model has "
            f"{lm.n_layers} layers of {lm.n_neurons} neurons. Were these neurons found in another model?"
        )
