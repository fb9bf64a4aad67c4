"""The neurons' values in unchanged forward passes, at the places where interventions act, and what may replace them.

Ablations set neurons to: zero; mean, their mean over other prompts of the language; resample, their values in the
prompt of another fact.
"""

from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from knatlas.models.answers import padded
from knatlas.models.encoding import EncodedQuery
from knatlas.models.language_model import LanguageModel
from knatlas.models.neuron_hooks import Tap, tapped_layer
from knatlas.models.scaling import positions_of

Values = Float[np.ndarray, "position layer neuron"]


@torch.no_grad()
def neuron_values(
    lm: LanguageModel,
    queries: Sequence[EncodedQuery],
    batch_rows: int,
    where: str = "answer",
    site: str = "down_input",
) -> list[Values]:
    """Values of all neurons of each query at its positions, in the order of the queries.

    Args: batch_rows, rows of a forward pass (speed and memory only); where and site as in `positions_of` and
    `scaled_rows`. Returns: float32 arrays (positions, layers, neurons), float64 in a float64 model.
    """
    found: dict[int, Values] = {}
    order = sorted(range(len(queries)), key=lambda number: len(queries[number].input_ids))
    for start in range(0, len(order), batch_rows):
        batch = order[start : start + batch_rows]
        found.update(zip(batch, _batch(lm, [queries[number] for number in batch], where, site), strict=True))
    return [found[number] for number in range(len(queries))]


def _batch(lm: LanguageModel, queries: Sequence[EncodedQuery], where: str, site: str) -> list[Values]:
    """The values of one padded forward pass."""
    ids, attention = padded([query.input_ids for query in queries], lm.device)
    if lm.kind == "causal":
        # no token sees the padding on its right, and a window of masked padding alone would have no softmax
        attention = torch.ones_like(attention)
    places = [list(positions_of(query, where)) for query in queries]
    kept: list[list[np.ndarray]] = [[] for _ in queries]
    with ExitStack() as hooks:
        for layer in range(lm.n_layers):
            hooks.enter_context(tapped_layer(lm, layer, site, _keep(kept, places)))
        lm.hidden_states(ids, attention)
    return [np.stack(layers, axis=1) for layers in kept]


def _keep(kept: list[list[np.ndarray]], places: Sequence[Sequence[int]]) -> Tap:
    """A tap that appends each row's (positions, neurons) to the row's list, and changes nothing."""

    def tap(values: Tensor) -> Tensor:
        precise = torch.float64 if values.dtype == torch.float64 else torch.float32
        for row, positions in enumerate(places):
            kept[row].append(values[row, positions].to(precise).cpu().numpy())
        return values

    return tap


def at_positions(values: Values, n_positions: int) -> Values:
    """Another prompt's values for so many positions: its own, one by one, and its last one for all that follow."""
    return values[np.minimum(np.arange(n_positions), len(values) - 1)]
