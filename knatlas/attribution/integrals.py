"""Integrated gradients of one readout: the sums over the nodes of a path, and over the baselines."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from knatlas.attribution.general import Capture, ReadoutModel, capture, chunks
from knatlas.attribution.methods import AttributionMethod
from knatlas.attribution.quadrature import quadrature
from knatlas.models.encoding import EncodedQuery, Readout
from knatlas.models.language_model import LanguageModel


@dataclass(frozen=True)
class Integral:
    """The integrated gradients of one readout by one method, before the factor is chosen and before any norm.

    delta (layers, neurons): sum_i (a - b_i) * G_i, full: a * sum_i G_i, with G_i = sum_k w_k dF(b_i + alpha_k
    (a - b_i)), summed over the read positions. change (layers,): sum_i F(a) - F(b_i), what `delta` sums to for exact
    integrals. unit: the size of that sum if P were lost with every baseline, n_baselines * P (or one nat each, where
    F = log P). n_points: points at which a gradient was taken; n_zero_gradients: those whose gradient is exactly zero.
    """

    delta: Float[ndarray, "layer neuron"]
    full: Float[ndarray, "layer neuron"]
    change: Float[ndarray, " layer"]
    unit: float
    n_baselines: int
    n_points: int
    n_zero_gradients: int


def replaced_positions(query: EncodedQuery | Readout, method: AttributionMethod) -> tuple[int, ...]:
    """The positions whose tokens a method replaces, one per baseline sentence; none for the zero path."""
    if method.path == "zero":
        return ()
    return tuple(range(len(query.input_ids))) if method.replace_special else query.replaceable


def _baselines(seen: Capture, rows: Sequence[int], path: str) -> Float[Tensor, "baseline layer position neuron"]:
    """The baselines of a path: zeros, the neurons under the baseline sentences `rows`, or the mean of those."""
    if path == "zero":
        return torch.zeros_like(seen.clean)[None]
    tokens = seen.baselines[list(rows)]
    return tokens if path == "per_token" else tokens.mean(0, keepdim=True)


def _objective(log_p: Tensor, objective: str) -> Tensor:
    """F of each row: P(answer), or log P(answer) in nats."""
    return log_p.exp() if objective == "prob" else log_p


def path_gradients(
    model: ReadoutModel, clean: Tensor, baselines: Tensor, method: AttributionMethod, batch_rows: int
) -> tuple[Float[Tensor, "layer baseline position neuron"], int]:
    """sum_k w_k dF(b_i + alpha_k (a - b_i)) for each layer and baseline i, and the number of gradients that are zero.

    Args: clean (layers, positions, neurons); baselines (baselines, layers, positions, neurons). The rows given to the
    model are all points of all layers, sorted by layer, then baseline, then node.
    """
    alphas, weights = (torch.as_tensor(part).to(clean) for part in quadrature(method.rule, method.steps))
    n_layers, n_baselines, n_zero = len(clean), len(baselines), 0
    sums = clean.new_zeros(n_layers * n_baselines, *clean.shape[1:])
    for part in chunks(len(sums) * len(alphas), batch_rows):
        path, node = _divmod(part, len(alphas), clean.device)
        layer, baseline = path // n_baselines, path % n_baselines
        start = baselines[baseline, layer]  # (rows, positions, neurons)
        log_p, gradient = model.gradients(start + alphas[node, None, None] * (clean[layer] - start), layer)
        # dP = P d log P: the gradient of log P does not underflow where P is small
        scale = weights[node] * (log_p.exp() if method.objective == "prob" else 1)
        n_zero += int(((gradient == 0).flatten(1).all(1) | (scale == 0)).sum())
        _add_rows(sums, path, scale, gradient)
    return sums.unflatten(0, (n_layers, n_baselines)), n_zero


def _add_rows(sums: Tensor, path: Tensor, scale: Tensor, gradient: Tensor) -> None:
    """sums[path[row]] += scale[row] * gradient[row], in place; `path` is ascending without gaps."""
    first, last = int(path[0]), int(path[-1])
    # a matrix product and not index_add_, whose order of adding, hence last digit, changes from run to run on a GPU
    chosen = torch.arange(first, last + 1, device=path.device)[:, None] == path
    total = (chosen * scale) @ gradient.flatten(1)
    sums[first : last + 1] += total.unflatten(1, gradient.shape[1:])


def _divmod(part: slice, divisor: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Quotient and remainder of the row numbers of a slice, each (rows,)."""
    rows = torch.arange(part.start, part.stop, device=device)
    return rows // divisor, rows % divisor


@torch.no_grad()
def _changes(
    model: ReadoutModel, seen: Capture, baselines: Tensor, objective: str, batch_rows: int
) -> Float[ndarray, " layer"]:
    """sum_i F(a) - F(b_i) of each layer, (layers,) float64: one evaluation per layer and baseline."""
    n_layers, n_baselines = len(seen.clean), len(baselines)
    ends = []
    for part in chunks(n_layers * n_baselines, batch_rows):
        layer, baseline = _divmod(part, n_baselines, baselines.device)
        ends.append(_objective(model.log_p(baselines[baseline, layer], layer), objective))
    whole = _objective(torch.tensor(seen.log_p, dtype=torch.float64), objective)
    lost = whole - torch.cat(ends).cpu().double()
    return lost.view(n_layers, n_baselines).sum(1).numpy()


def _integrate(
    model: ReadoutModel, seen: Capture, baselines: Tensor, method: AttributionMethod, batch_rows: int
) -> Integral:
    """The integrated gradients of one method from its baselines."""
    sums, n_zero = path_gradients(model, seen.clean, baselines, method, batch_rows)
    differences = seen.clean - baselines  # (baselines, layers, positions, neurons)
    return Integral(
        delta=torch.einsum("blpn,lbpn->ln", differences, sums).cpu().numpy(),
        full=torch.einsum("lpn,lbpn->ln", seen.clean, sums).cpu().numpy(),
        change=_changes(model, seen, baselines, method.objective, batch_rows),
        unit=len(baselines) * (math.exp(seen.log_p) if method.objective == "prob" else 1.0),
        n_baselines=len(baselines),
        n_points=sums.shape[0] * len(baselines) * len(quadrature(method.rule, method.steps)[0]),
        n_zero_gradients=n_zero,
    )


def integrals(
    lm: LanguageModel, readout: Readout, methods: Sequence[AttributionMethod], batch_rows: int
) -> tuple[dict[AttributionMethod, Integral], float]:
    """The integrated gradients of a readout by each method that differs in path, rule, site or objective.

    Args: methods, reduced (`AttributionMethod.integral`); batch_rows, the most rows of one forward pass.
    Returns: method -> `Integral`, and log P(answer) of the readout in nats.
    """
    results = {}
    for site in dict.fromkeys(method.neuron_site for method in methods):
        here = [method for method in methods if method.neuron_site == site]
        replaced = sorted({position for method in here for position in replaced_positions(readout, method)})
        seen = capture(lm, readout, site, replaced, batch_rows)
        model = ReadoutModel(lm, readout, site)
        for method in here:
            rows = [replaced.index(position) for position in replaced_positions(readout, method)]
            results[method] = _integrate(model, seen, _baselines(seen, rows, method.path), method, batch_rows)
    return results, seen.log_p
