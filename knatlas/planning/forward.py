"""What forward passes of an unmodified model cost."""

from collections.abc import Sequence

from knatlas.attribution.cost import QuerySize, head_flops, layer_flops
from knatlas.attribution.shape import ModelShape
from knatlas.planning.model_plan import ModelPlan


def forward_flops(shape: ModelShape, size: QuerySize) -> float:
    """One forward pass of an unmodified model over a sentence, the vocabulary at the read positions only."""
    layers = shape.n_layers * layer_flops(shape, size.n_tokens, size.n_tokens)
    return layers + head_flops(shape, size.n_positions, with_gradient=False)


def forward_work(plan: ModelPlan, rows: Sequence[tuple[QuerySize, float]], each: str) -> tuple[float, float]:
    """Operations and seconds of forward passes; rows: sizes of sentences and how many of each; each: rate of a row."""
    flops = sum(n * forward_flops(plan.shape, size) for size, n in rows)
    return flops, flops / plan.rates("forward") + sum(n for _, n in rows) * plan.rates(each)
