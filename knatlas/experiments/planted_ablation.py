"""The reference that every selection is held against: what zeroing each neuron of a planted model really costs."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from knatlas.attribution.capture import capture_causal, capture_masked
from knatlas.attribution.groups import ReadoutGroup, batches
from knatlas.attribution.sweep import CausalSweep, MaskedSweep
from knatlas.models.blocks import Network, network_of
from knatlas.models.encoding import EncodedQuery
from knatlas.models.planted.check import UNNOTICED
from knatlas.models.planted.design import ALL
from knatlas.models.planted.planting import PlantedModel

SELECTION, EACH, EVERY = "ablation", "reference", "reference_every_language"
# what one neuron of a degenerate pair may cost and still go unnoticed: whoever costs as much counts alone
LEAST = UNNOTICED
BATCH_QUERIES = 8
Found = tuple[str, str, str, str, ndarray, ndarray]


def rank_by_ablation(planted: PlantedModel, settings: Mapping) -> Iterator[Found]:
    """Selection, reading, fact, language, scores and set of the exhaustive ablation of single neurons.

    The score is the share of P(answer), its mean over the first `ablation_queries` paraphrases, that is lost with the
    neuron zeroed.
    Reading "reference" has it for each language, "reference_every_language" the smallest over the languages. The set is
    what loses at least LEAST: no share of the largest score, so that it can be empty.
    """
    if settings["selections"] != "all" and SELECTION not in settings["selections"]:
        return
    queries = [query for query in planted.queries if query.query < settings["ablation_queries"]]
    losses, languages = single_losses(planted, queries), planted.design.language_names
    for fact, of_fact in zip(planted.facts, losses, strict=True):
        for language, loss in zip(languages, of_fact, strict=True):
            yield SELECTION, EACH, fact.fact, language, loss, loss >= LEAST
        smallest = of_fact.min(axis=0)
        yield SELECTION, EVERY, fact.fact, ALL, smallest, smallest >= LEAST


def single_losses(
    planted: PlantedModel, queries: Sequence[EncodedQuery]
) -> Float[ndarray, "fact language layer neuron"]:
    """1 - P(answer) without a neuron / P(answer), of the means over a fact's queries, for every neuron of the model.

    Args: queries, as many of every fact and language.
    """
    cells, lm = {cell: i for i, cell in enumerate(planted.cells)}, planted.lm
    with_all, without = np.zeros(len(cells)), np.zeros((len(cells), lm.n_layers, lm.n_neurons))
    for part in batches(queries, BATCH_QUERIES):
        asked = [queries[i] for i in part]
        own = [cells[query.fact, query.language] for query in asked]
        before, after = _probabilities(network_of(lm), asked)
        np.add.at(with_all, own, before)
        np.add.at(without, own, after)
    losses = 1 - without / with_all[:, None, None]
    return losses.reshape(len(planted.facts), -1, lm.n_layers, lm.n_neurons)


@torch.no_grad()
def _probabilities(
    network: Network, queries: Sequence[EncodedQuery]
) -> tuple[Float[ndarray, " query"], Float[ndarray, "query layer neuron"]]:
    """P(answer) of queries of one token, as it is and without each neuron at the position that predicts it.

    One sweep for all: what a zeroed neuron changes begins at its own layer, and what lies below is computed once.
    """
    group = ReadoutGroup(queries, [], 0, network.device).group
    capture, sweep = (capture_causal, CausalSweep) if network.is_causal else (capture_masked, MaskedSweep)
    layers = capture(network, group, "down_input")
    points = [_without_each(block.feed.down, layer.clean) for block, layer in zip(network.blocks, layers, strict=True)]
    whole = network.blocks[-1].feed.down(layers[-1].clean)[:, None]  # (query, 1, position, width)
    points[-1] = torch.cat((whole, points[-1]), dim=1)
    swept = sweep(network, layers, group.positions, group.targets).run(points, with_gradient=False, is_shared=False)
    p = [log_p.double().exp() for log_p in swept.log_p]
    before, p[-1] = p[-1][:, 0], p[-1][:, 1:]
    return before.numpy(), torch.stack(p, dim=1).numpy()


def _without_each(down: torch.nn.Module, values: Float[Tensor, "query position neuron"]) -> Tensor:
    """What a layer writes without each of its neurons, (query, neuron, position, width)."""
    n_neurons = values.shape[-1]
    columns = down(torch.eye(n_neurons)) - down(torch.zeros(1, n_neurons))  # (neuron, width)
    return down(values)[:, None] - values.transpose(1, 2)[..., None] * columns[:, None]
