"""Captum's integrated gradients of the neurons: the model with a hook, one call per layer and baseline."""

from collections.abc import Callable, Sequence

import torch
from captum.attr import IntegratedGradients
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from knatlas.attribution.sites import tapped
from knatlas.errors import AtlasError
from knatlas.models.encoding import EncodedQuery
from knatlas.models.language_model import LanguageModel

SITE = "down_input"
METHODS = {"right": "riemann_right", "left": "riemann_left", "midpoint": "riemann_middle", "gauss": "gausslegendre"}


def captum_scores(
    lm: LanguageModel, query: EncodedQuery, path: str, steps: int, layers: Sequence[int], rule: str = "right"
) -> Float[ndarray, "layer neuron"]:
    """Scores of some layers, summed over the baselines, (layers, neurons); the rows of one call are its `steps` points.

    Args: query with one answer token; path "zero", or "per_token": a baseline for each replaceable token.
    Raises: AtlasError for another path or more answer tokens.
    """
    if path not in ("zero", "per_token") or len(query.positions) != 1:
        raise AtlasError(f"Captum's loop takes path 'zero' or 'per_token' and one answer token, not '{path}'.")
    end, starts = _ends(lm, query, path)
    rows = []
    for layer in layers:
        gradients = IntegratedGradients(_probability(lm, query, layer))
        point = end[layer : layer + 1]
        parts = [
            gradients.attribute(point, baselines=start[layer : layer + 1], n_steps=steps, method=METHODS[rule])[0]
            for start in starts
        ]
        rows.append(sum(parts))
    return torch.stack(rows).detach().cpu().numpy()


def _probability(lm: LanguageModel, query: EncodedQuery, layer: int) -> Callable[[Tensor], Tensor]:
    """P(answer) as a function of the neurons of one layer at the read position, (rows, neurons) -> (rows,)."""
    ids = torch.tensor([query.input_ids], device=lm.device)
    (position,), (target,) = query.positions, query.targets

    def function(points: Float[Tensor, "row neuron"]) -> Float[Tensor, " row"]:
        def put(number: int, value: Tensor) -> Tensor:
            if number != layer:
                return value
            value = value.clone()
            value[:, position] = points
            return value

        with tapped(lm, SITE, put):
            logits = lm.model(input_ids=ids.expand(len(points), -1)).logits
        return logits[:, position].softmax(-1)[:, target]

    return function


@torch.no_grad()
def _ends(
    lm: LanguageModel, query: EncodedQuery, path: str
) -> tuple[Float[Tensor, "layer neuron"], list[Float[Tensor, "layer neuron"]]]:
    """Neurons of all layers at the read position: of the query, and under each baseline."""
    (position,) = query.positions
    seen: list[Tensor] = []

    def keep(_: int, value: Tensor) -> Tensor:
        seen.append(value[0, position])
        return value

    def neurons(ids: Sequence[int]) -> Tensor:
        seen.clear()
        with tapped(lm, SITE, keep):
            lm.model(input_ids=torch.tensor([ids], device=lm.device))
        return torch.stack(seen)

    end = neurons(query.input_ids)
    if path == "zero":
        return end, [torch.zeros_like(end)]
    ids = query.input_ids
    return end, [neurons((*ids[:i], lm.replacement_id, *ids[i + 1 :])) for i in query.replaceable]
