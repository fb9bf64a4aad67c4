"""The two ways to the integrals of queries: the fast path of known blocks, and the general one of hooks."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from numpy import ndarray

from knatlas.attribution.fast import FastReadouts
from knatlas.attribution.general import GeneralReadouts
from knatlas.attribution.groups import ReadoutGroup, replaced_positions, takes
from knatlas.attribution.integrals import Integral, integrals
from knatlas.attribution.memory import rows_for
from knatlas.attribution.methods import AttributionMethod
from knatlas.errors import AtlasError, unknown
from knatlas.models.blocks import Network, network_of
from knatlas.models.blocks.network import NoFastPath
from knatlas.models.encoding import EncodedQuery, Readout, readouts
from knatlas.models.language_model import LanguageModel

# "auto" takes the fast path where the model's blocks are known
ENGINE_PATHS = ("auto", "fast", "general")
# Rows of a forward pass on the general path, where none are asked for
GENERAL_ROWS = 256
# Method -> one integral per readout
Integrals = dict[AttributionMethod, list[Integral]]
# From queries of like form, reduced methods, rows, and whether changes are wanted: the integrals of each query with
# log P of its readouts
Route = Callable[[Sequence[EncodedQuery], Sequence[AttributionMethod], int, bool], list[tuple[Integrals, ndarray]]]


def choose_route(lm: LanguageModel, path: str) -> Route:
    """The way for a model. Raises: AtlasError for an unknown path, or "fast" where the model has none."""
    if path not in ENGINE_PATHS:
        raise AtlasError(unknown("The path of the engine", path, "one of", ENGINE_PATHS))
    if path == "general":
        return partial(_general, lm)
    try:
        return partial(_fast, lm, network_of(lm))
    except NoFastPath as reason:
        if path == "auto":
            return partial(_general, lm)
        raise AtlasError(f"Model {lm.name} has no fast path: {reason}. Use 'auto' or 'general'.") from reason


def _by_site(methods: Sequence[AttributionMethod]) -> dict[str, list[AttributionMethod]]:
    """The methods of each neuron site."""
    sites = dict.fromkeys(method.neuron_site for method in methods)
    return {site: [method for method in methods if method.neuron_site == site] for site in sites}


def _fast(
    lm: LanguageModel,
    network: Network,
    queries: Sequence[EncodedQuery],
    methods: Sequence[AttributionMethod],
    batch_rows: int,
    with_changes: bool,
) -> list[tuple[Integrals, ndarray]]:
    """All readouts of all queries together."""
    needs_token = any(method.path != "zero" for method in methods)
    group = ReadoutGroup(queries, methods, lm.replacement_id if needs_token else 0, lm.device)
    rows = rows_for(network, 1 if network.is_causal else len(queries[0].input_ids), batch_rows)
    found, log_p = {}, np.zeros(0)
    for site, here in _by_site(methods).items():
        chosen = {method: group.chosen(method) for method in here}
        of_site, log_p = integrals(FastReadouts(network, group.group, site, rows), chosen, with_changes, lm.is_smooth)
        found |= of_site
    bounds = np.cumsum([0, *map(len, group.of_query)])
    parts = [slice(start, stop) for start, stop in pairwise(bounds)]
    return [({method: of[part] for method, of in found.items()}, log_p[part]) for part in parts]


def _general(
    lm: LanguageModel,
    queries: Sequence[EncodedQuery],
    methods: Sequence[AttributionMethod],
    batch_rows: int,
    with_changes: bool,
) -> list[tuple[Integrals, ndarray]]:
    """One readout after the other."""
    results = []
    for query in queries:
        parts = [_of_readout(lm, readout, methods, batch_rows, with_changes) for readout in readouts(query)]
        found = {method: [of_readout[method] for of_readout, _ in parts] for method in methods}
        results.append((found, np.array([log_p for _, log_p in parts])))
    return results


def _of_readout(
    lm: LanguageModel, readout: Readout, methods: Sequence[AttributionMethod], batch_rows: int, with_changes: bool
) -> tuple[dict[AttributionMethod, Integral], float]:
    """The integrals of a readout on the general path, and its log P."""
    found, log_p = {}, np.zeros(1)
    for site, here in _by_site(methods).items():
        replaced = sorted({position for method in here for position in replaced_positions(readout, method)})
        chosen = {method: torch.tensor([takes(readout, replaced, method)], device=lm.device) for method in here}
        chosen = {method: part.bool().view(1, len(replaced)) for method, part in chosen.items()}
        own = GeneralReadouts(lm, readout, site, replaced, batch_rows or GENERAL_ROWS)
        of_site, log_p = integrals(own, chosen, with_changes, lm.is_smooth)
        found |= {method: parts[0] for method, parts in of_site.items()}
    return found, float(log_p[0])
