"""Integrated gradients of a group of readouts: the paths of all methods laid side by side, summed in common rounds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor

from knatlas.attribution.checked_sums import CheckedSum
from knatlas.attribution.evaluation import Evaluated, Nodes, Readouts
from knatlas.attribution.methods import AttributionMethod
from knatlas.attribution.sums import PathBundle, PathSum


@dataclass(frozen=True)
class Integral:
    """The integrated gradients of one readout by one method, before the factor is chosen and before any norm.

    delta (layers, neurons): sum_i (a - b_i) * G_i, full: a * sum_i G_i, with G_i = sum_k w_k dF(b_i + alpha_k
    (a - b_i)), summed over the read positions. change (layers,): sum_i F(a) - F(b_i), what `delta` sums to for exact
    integrals; NaN where it was not asked for. unit: the size of that sum if P were lost with every baseline,
    n_baselines * P (or one nat each, where F = log P). error (layers,): estimated L2 error of the checked quadrature,
    of the factor of the method. Counts as in `MethodRecord`.
    """

    delta: Float[ndarray, "layer neuron"]
    full: Float[ndarray, "layer neuron"]
    change: Float[ndarray, " layer"]
    unit: float
    error: Float[ndarray, " layer"]
    n_baselines: int
    n_points: int
    n_full_points: int
    n_zero_gradients: int
    n_fallbacks: int


# The sentences of a method's baselines, (readouts, sentences): which of the captured ones each readout takes.
Chosen = Mapping[AttributionMethod, Bool[Tensor, "readout sentence"]]


def _starts(readouts: Readouts, method: AttributionMethod, chosen: Tensor) -> tuple[list[Tensor], Tensor]:
    """The baselines of a method per layer (readouts, paths, positions, neurons), and which paths are real.

    zero: the zero vector. per_token: the neurons under each baseline sentence. mean_path: the mean of those.
    """
    if method.path == "per_token":
        return list(readouts.baselines), chosen
    is_path = chosen.new_ones(len(chosen), 1)
    if method.path == "zero":
        return [torch.zeros_like(clean)[:, None] for clean in readouts.clean], is_path
    share = chosen.to(readouts.clean[0].dtype)
    share = share / share.sum(1, keepdim=True)
    return [torch.einsum("rs,rspn->rpn", share, part)[:, None] for part in readouts.baselines], is_path


def _sums(readouts: Readouts, chosen: Chosen, is_smooth: bool) -> dict[AttributionMethod, PathSum]:
    """The sums of every method, their paths laid one after the other."""
    sums, starts, first = {}, [], 0
    for method, sentences in chosen.items():
        of_method, is_path = _starts(readouts, method, sentences)
        # of log P no estimate from few points was found to hold
        is_checked = is_smooth and method.quadrature == "checked" and method.objective == "prob"
        kind = CheckedSum if is_checked else PathSum
        sums[method] = kind(PathBundle(readouts, method, first, of_method, is_path))
        starts.append(of_method)
        first += is_path.shape[1]
    readouts.set_paths([torch.cat(parts, dim=1) for parts in zip(*starts, strict=True)])
    return sums


def _joined(parts: Sequence[Sequence[Nodes]]) -> list[Nodes]:
    """What several sums ask for, side by side in every layer."""
    layers = zip(*parts, strict=True)
    return [Nodes(torch.cat([n.path for n in row], 1), torch.cat([n.alpha for n in row], 1)) for row in layers]


def _parted(found: Evaluated, sizes: Sequence[int]) -> list[Evaluated | None]:
    """What was found, by the sum that asked: sizes, the columns of each in this layer."""
    parts, start = [], 0
    for size in sizes:
        first, stop = max(found.columns.start, start), min(found.columns.stop, start + size)
        inside = slice(first - found.columns.start, stop - found.columns.start)
        own = slice(first - start, stop - start)
        values = None if found.values is None else found.values[:, inside]
        parts.append(Evaluated(found.layer, own, found.log_p[:, inside], values) if first < stop else None)
        start += size
    return parts


def _add_up(readouts: Readouts, sums: Sequence[PathSum]) -> None:
    """Run the rounds of all sums; those that are open share their sweeps."""
    asking = [(part, part.ask()) for part in sums]
    while asking:
        for found in readouts.evaluate(_joined([asked for _, asked in asking]), with_gradient=True):
            sizes = [asked[found.layer].size for _, asked in asking]
            for (part, _), own in zip(asking, _parted(found, sizes), strict=True):
                if own is not None:
                    part.take(own)
        asking = [(part, asked) for part, _ in asking if (asked := part.close()) is not None]


def _changes(readouts: Readouts, sums: Sequence[PathSum]) -> list[Float[ndarray, "readout layer"]]:
    """sum_i F(a) - F(b_i) of each sum: one evaluation without gradient per path."""
    asked = [_first_nodes(part) for part in sums]
    changes = [np.zeros((len(part.bundle.is_path), part.bundle.n_layers)) for part in sums]
    for found in readouts.evaluate(_joined(asked), with_gradient=False):
        sizes = [of_part[found.layer].size for of_part in asked]
        for part, own, change in zip(sums, _parted(found, sizes), changes, strict=True):
            if own is None:
                continue
            lost = _objective(part, readouts.log_p()[:, None]) - _objective(part, own.log_p)
            lost *= part.bundle.is_path[:, own.columns]
            change[:, own.layer] += lost.sum(1).cpu().numpy()
    return changes


def _first_nodes(part: PathSum) -> list[Nodes]:
    """The starts of all paths, in every layer."""
    n_readouts, n_paths = part.bundle.is_path.shape
    path = torch.arange(n_paths, device=part.bundle.is_path.device).expand(n_readouts, -1)
    nodes = Nodes(path + part.bundle.first, torch.zeros_like(path).to(part.bundle.starts[0].dtype))
    return [nodes] * part.bundle.n_layers


def _objective(part: PathSum, log_p: Tensor) -> Tensor:
    """F in float64."""
    return log_p.double().exp() if part.bundle.method.objective == "prob" else log_p.double()


def integrals(
    readouts: Readouts, chosen: Chosen, with_changes: bool, is_smooth: bool
) -> tuple[dict[AttributionMethod, list[Integral]], Float[ndarray, " readout"]]:
    """The integrated gradients of all readouts by each method that differs in path, rule, quadrature or objective.

    Args: chosen, the methods, all of one neuron site, and their baseline sentences; with_changes, whether
    `Integral.change` is computed; is_smooth, whether P is a smooth function of the neurons: where it is not, no
    estimate from few points holds, and the checked quadrature takes all points of the rule.
    Returns: method -> one `Integral` per readout, and log P(answer) of each in nats.
    """
    sums = _sums(readouts, chosen, is_smooth)
    _add_up(readouts, list(sums.values()))
    changes = dict(zip(sums, _changes(readouts, list(sums.values())), strict=True)) if with_changes else {}
    log_p = readouts.log_p().double().cpu().numpy()
    return {method: _results(part, log_p, changes.get(method)) for method, part in sums.items()}, log_p


def _results(part: PathSum, log_p: ndarray, change: ndarray | None) -> list[Integral]:
    """The integrals of one method, one per readout."""
    delta, full = (np.stack(arrays, axis=1) for arrays in zip(*_scores(part), strict=True))
    unknown = np.full(delta.shape[:2], np.nan)
    n_baselines = part.bundle.is_path.sum(1).tolist()
    columns = [part.n_points + part.bundle.n_layers, part.n_full_points, part.n_zero, part.n_fallbacks]
    counts = zip(*(column.tolist() for column in columns), strict=True)
    return [
        Integral(
            delta=delta[number],
            full=full[number],
            change=(unknown if change is None else change)[number],
            unit=n_baselines[number] * (math.exp(log_p[number]) if part.bundle.method.objective == "prob" else 1.0),
            error=part.squares[number].sqrt().cpu().numpy(),
            n_baselines=n_baselines[number],
            n_points=n_points,
            n_full_points=n_full_points,
            n_zero_gradients=n_zero,
            n_fallbacks=n_fallbacks,
        )
        for number, (n_points, n_full_points, n_zero, n_fallbacks) in enumerate(counts)
    ]


def _scores(part: PathSum) -> list[tuple[Float[ndarray, "readout neuron"], Float[ndarray, "readout neuron"]]]:
    """delta and full of every layer."""
    scores = []
    for layer, total in enumerate(part.totals):
        bundle = part.bundle
        lifted = bundle.readouts.lift(layer, total) * bundle.is_path[..., None, None]
        delta = (bundle.differences(layer) * lifted).sum((1, 2))
        full = (bundle.readouts.clean[layer] * lifted.sum(1)).sum(1)
        scores.append((delta.cpu().numpy(), full.cpu().numpy()))
    return scores
