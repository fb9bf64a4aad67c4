"""What an attribution needs in memory, in bytes: weights, and rows of the sweep."""

from knatlas.attribution.cost import down_flops, key_value_flops, neuron_flops, query_flops
from knatlas.attribution.shape import ModelShape


def n_parameters(shape: ModelShape) -> int:
    """Numbers in the matrices of all layers, the embedding and the head; norms, biases and positions are left out."""
    layer = (2 * query_flops(shape) + key_value_flops(shape) + neuron_flops(shape) + down_flops(shape)) // 2
    transform = shape.hidden**2 if shape.has_head_transform else 0
    vocabulary = shape.hidden * shape.vocabulary * (1 if shape.is_tied else 2)
    return shape.n_layers * layer + transform + vocabulary


def sweep_row_bytes(shape: ModelShape, n_tokens: int, bytes_per_number: int = 4) -> int:
    """What the backward pass keeps of one row: of every layer above its own, on average half of them.

    A row is one token in causal models, all tokens in masked ones. A token keeps about ten vectors of the hidden size
    and two of the neurons', four in gated networks, in the dtype of the residual stream.
    """
    tokens = n_tokens if shape.kind == "masked" else 1
    numbers = 10 * shape.hidden + (4 if shape.is_gated else 2) * shape.neurons
    return tokens * numbers * bytes_per_number * max(1, shape.n_layers // 2)
