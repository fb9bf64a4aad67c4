"""What an attribution costs in floating-point operations, from the shape of a model and the size of a query.

One multiplication with its addition counts as two operations. Counted are matrix products and the products of
attention (scores and values), forward and backward; norms, activations and softmaxes are not.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields

import numpy as np

from knatlas.attribution.methods import AttributionMethod
from knatlas.attribution.quadrature import quadrature
from knatlas.attribution.shape import ModelShape
from knatlas.errors import AtlasError


@dataclass(frozen=True)
class QuerySize:
    """The size of an encoded query.

    n_tokens: of the input, answer tokens of causal models but the last included. n_positions: positions at which answer
    tokens are predicted: masks of one readout (masked), or readouts (causal). n_own: tokens of the query itself, which
    are replaced one at a time; in causal models they end where the answer begins.
    """

    n_tokens: int
    n_positions: int
    n_own: int


@dataclass(frozen=True)
class Flops:
    """Floating-point operations by stage; sizes of queries add up, and a factor scales all stages.

    capture: the passes without gradient over the query and its replaced sentences. sweep: the points of all paths
    through the layers above their own, forward and backward. head: the vocabulary. projection: differences through the
    down projections and gradients back.
    """

    capture: float = 0.0
    sweep: float = 0.0
    head: float = 0.0
    projection: float = 0.0

    @property
    def total(self) -> float:
        """All stages."""
        return sum(getattr(self, part.name) for part in fields(self))

    def __add__(self, other: "Flops") -> "Flops":
        return Flops(*(getattr(self, part.name) + getattr(other, part.name) for part in fields(self)))

    def __mul__(self, factor: float) -> "Flops":
        return Flops(*(getattr(self, part.name) * factor for part in fields(self)))


def key_value_flops(shape: ModelShape) -> int:
    """Keys and values of one token in one layer."""
    return 4 * shape.hidden * shape.kv_heads * shape.head_dim


def query_flops(shape: ModelShape) -> int:
    """The query vectors of one token in one layer; the output projection of attention costs as much."""
    return 2 * shape.hidden * shape.heads * shape.head_dim


def neuron_flops(shape: ModelShape) -> int:
    """From the residual stream to the neurons of one token: one matrix, or two where the network is gated."""
    return 2 * shape.hidden * shape.neurons * (2 if shape.is_gated else 1)


def down_flops(shape: ModelShape) -> int:
    """The down projection of one token."""
    return 2 * shape.hidden * shape.neurons


def attention_flops(shape: ModelShape, n_queries: int, n_keys: int) -> int:
    """Scores and weighted values of `n_queries` tokens that see `n_keys` tokens, all heads."""
    return 4 * n_queries * n_keys * shape.heads * shape.head_dim


def layer_flops(
    shape: ModelShape, n_tokens: int, n_keys: int, n_new: int | None = None, n_out: int | None = None
) -> int:
    """Forward pass of one layer over `n_tokens` tokens that each see `n_keys`.

    n_new: tokens whose keys, values and query vectors have to be computed (None: all). n_out: tokens of which anything
    but keys and values is needed (None: all).
    """
    n_new = n_tokens if n_new is None else n_new
    n_out = n_tokens if n_out is None else n_out
    outward = query_flops(shape) + neuron_flops(shape) + down_flops(shape)
    return (
        n_new * key_value_flops(shape)
        + min(n_new, n_out) * query_flops(shape)
        + n_out * outward
        + attention_flops(shape, n_out, n_keys)
    )


def n_replaced(size: QuerySize, method: AttributionMethod) -> int:
    """Baseline sentences of a method: the query's own tokens, or all tokens, replaced one at a time."""
    if method.path == "zero":
        return 0
    return size.n_tokens if method.replace_special else size.n_own


def n_paths(size: QuerySize, method: AttributionMethod) -> int:
    """Paths per layer: one per replaced token, or one."""
    return n_replaced(size, method) if method.path == "per_token" else 1


def paid_points(method: AttributionMethod) -> int:
    """Points of a path at which its own gradient is taken: the end point alpha = 1 is shared by all paths."""
    nodes, _ = quadrature(method.rule, method.steps)
    return int(np.sum(nodes != 1))


def capture_flops(shape: ModelShape, size: QuerySize, methods: Iterable[AttributionMethod]) -> int:
    """The clean sentence and one sentence per replaced token, without gradient; all readouts share them.

    Causal: a sentence equals the query before the token that is replaced, so only what follows is run. Of the last
    layer everything but keys and values is needed at the read positions only, and the down projection nowhere.
    """
    numbers = [n_replaced(size, method) for method in methods]
    n_sentences = 1 + max(numbers, default=0)
    packed = n_sentences * size.n_tokens
    if shape.kind == "causal":
        # own tokens end where the answer begins
        first = 0 if n_sentences == 1 + size.n_tokens else size.n_tokens - (size.n_positions - 1) - size.n_own
        packed -= sum(range(first, first + n_sentences - 1))
    read = n_sentences * size.n_positions
    full = (shape.n_layers - 1) * layer_flops(shape, packed, size.n_tokens)
    return full + layer_flops(shape, packed, size.n_tokens, n_out=read) - read * down_flops(shape)


@dataclass(frozen=True)
class Readout:
    """The size of what is read together: tokens of the sentence, and read positions."""

    n_tokens: int
    n_positions: int


def readout_lengths(shape: ModelShape, size: QuerySize) -> Sequence[int]:
    """Tokens of each readout: one with all masks, or one per answer token, each a token longer than the one before."""
    if shape.kind == "masked":
        return [size.n_tokens]
    return range(size.n_tokens - size.n_positions + 1, size.n_tokens + 1)


def row_flops(shape: ModelShape, readout: Readout, layer: int) -> int:
    """Forward pass of one point of `layer` through the layers above, without the head; its gradient costs as much.

    Gradients go to inputs only, never to weights. Causal: one token over the kept keys and values of the others.
    Masked: right above its own layer a point changes the queries, keys and values of the read positions alone; of the
    last layer only the read positions are needed.
    """
    above, m, read = shape.n_layers - 1 - layer, readout.n_tokens, readout.n_positions
    if above == 0:
        return 0
    if shape.kind == "causal":
        return above * layer_flops(shape, 1, m)
    if above == 1:
        return layer_flops(shape, m, m, n_new=read, n_out=read)
    first, full = layer_flops(shape, m, m, n_new=read), layer_flops(shape, m, m)
    return first + (above - 2) * full + layer_flops(shape, m, m, n_out=read)


def head_flops(shape: ModelShape, n_positions: int, with_gradient: bool = True) -> float:
    """The vocabulary for one point: logits, and the weighted sum of its rows as gradient; a transform in between."""
    passes = 2 if with_gradient else 1
    transform = 2 * shape.hidden**2 if shape.has_head_transform else 0
    return n_positions * passes * (2 * shape.hidden * shape.vocabulary + transform)


def attribution_flops(
    shape: ModelShape,
    size: QuerySize,
    methods: Iterable[AttributionMethod],
    points_of: Callable[[AttributionMethod], float] | None = None,
    completeness: bool = False,
) -> Flops:
    """Operations for one query.

    Args: methods, of which those with equal integrals are counted once; points_of, the points of a path at which its
    own gradient is taken (default: all of the rule, `paid_points`; the checked quadrature takes fewer, a measured
    number); completeness, whether F at the baselines is computed too.
    Raises: AtlasError for a size that no query has.
    """
    _check(size)
    kinds = list(dict.fromkeys(method.integral for method in methods))
    total = Flops(capture=capture_flops(shape, size, kinds))
    n_positions = size.n_positions if shape.kind == "masked" else 1
    for n_tokens in readout_lengths(shape, size):
        readout = Readout(n_tokens, n_positions)
        total += Flops(sweep=2 * row_flops(shape, readout, 0), head=head_flops(shape, n_positions))
        for method in kinds:
            points = (points_of or paid_points)(method)
            path = path_flops(shape, readout, method, points, completeness)
            total += path * n_paths(size, method)
    return total


def path_flops(
    shape: ModelShape, readout: Readout, method: AttributionMethod, points: float, completeness: bool
) -> Flops:
    """One path of a method in every layer, without the shared end point."""
    n_positions, layers = readout.n_positions, shape.n_layers
    sweep = sum(2 * row_flops(shape, readout, layer) for layer in range(layers))
    value_only = layers * head_flops(shape, n_positions, with_gradient=False)
    return Flops(
        sweep=(points + completeness / 2) * sweep + points * layers * _site_flops(shape, method, n_positions),
        head=points * layers * head_flops(shape, n_positions) + completeness * value_only,
        projection=layers * 2 * n_positions * down_flops(shape),
    )


def _site_flops(shape: ModelShape, method: AttributionMethod, n_positions: int) -> float:
    """A point before the non-linearity passes it and the down projection itself, and so does its gradient."""
    return 2 * n_positions * down_flops(shape) if method.neuron_site == "pre_activation" else 0


def _check(size: QuerySize) -> None:
    """Raise AtlasError for a size that no query has."""
    if not (size.n_tokens >= 1 and 1 <= size.n_positions <= size.n_tokens and 0 <= size.n_own <= size.n_tokens):
        raise AtlasError(
            f"The size of a query is {size}; expected at least one token and one read position, and at most n_tokens "
            "read positions and own tokens."
        )
