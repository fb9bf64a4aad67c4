"""Suppressing and enhancing neurons: their activations are scaled while the model runs, and nothing remains after."""

from collections.abc import Sequence
from contextlib import AbstractContextManager

import pandas as pd

from knatlas.models.encoding import EncodedQuery
from knatlas.models.language_model import LanguageModel
from knatlas.models.scaling import NeuronScaling, positions_of, scaled_rows

__all__ = ["NeuronScaling", "enhance", "scaled", "scaled_activations", "suppress"]


def scaled(neurons: pd.DataFrame, factor: float) -> NeuronScaling:
    """The neurons of a neuron set (columns layer, index) with their activation multiplied by `factor`."""
    return NeuronScaling(neurons["layer"].to_numpy(dtype=int), neurons["index"].to_numpy(dtype=int), factor)


def suppress(neurons: pd.DataFrame) -> NeuronScaling:
    """The neurons of a neuron set with their activation set to zero."""
    return scaled(neurons, 0.0)


def enhance(neurons: pd.DataFrame, factor: float = 2.0) -> NeuronScaling:
    """The neurons of a neuron set with their activation doubled (or multiplied by another factor)."""
    return scaled(neurons, factor)


def scaled_activations(
    lm: LanguageModel,
    queries: Sequence[EncodedQuery],
    scalings: Sequence[NeuronScaling | None],
    where: str = "answer",
    site: str = "down_input",
) -> AbstractContextManager[None]:
    """Inside the block, row r of a forward pass of `queries` (padded on the right) has its neurons scaled.

    Args: one scaling, or None, per query; where "answer" (the positions that predict the answer), "last" or "all";
    site "down_input" or "pre_activation". The weights are not touched and the hooks are always removed.
    Raises AtlasError for an unknown choice or a neuron that the model does not have.
    """
    return scaled_rows(lm, scalings, [positions_of(query, where) for query in queries], site)
