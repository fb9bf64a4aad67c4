"""Matrices, norms, activations and rotations of a layer, computed in the dtype of the residual stream."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

# The functions of a configuration's `hidden_act`, in one kernel each; a name that is not here is not guessed.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "gelu_new": partial(functional.gelu, approximate="tanh"),
    "gelu_pytorch_tanh": partial(functional.gelu, approximate="tanh"),
    "relu": functional.relu,
    "silu": functional.silu,
    "swish": functional.silu,
}
Norm = Callable[[Tensor], Tensor]


def same(x: Tensor) -> Tensor:
    """The tensor itself: a norm that a layer does not have."""
    return x


class Matrix:
    """x W^T + b: the product in the weights' dtype, the result in the residual stream's."""

    def __init__(self, weight: Float[Tensor, "out in"], bias: Tensor | None, work: torch.dtype) -> None:
        """Args: weight (out, in), bias (out,) or None, and the dtype of inputs and results."""
        self.weight, self.bias, self.work = weight, bias, work

    def __call__(self, x: Float[Tensor, "... in"]) -> Float[Tensor, "... out"]:
        """The product with the bias."""
        return functional.linear(x.to(self.weight.dtype), self.weight, self.bias).to(self.work)

    def product(self, x: Float[Tensor, "... in"]) -> Float[Tensor, "... out"]:
        """The product without the bias: what a difference of inputs becomes."""
        return functional.linear(x.to(self.weight.dtype), self.weight).to(self.work)

    def transposed(self, x: Float[Tensor, "... out"]) -> Float[Tensor, "... in"]:
        """x W: what a gradient of the result becomes."""
        if self.weight.dtype != torch.float16:
            return self._transposed(x)
        # gradients of small probabilities lie below float16's smallest numbers
        size = x.abs().amax(-1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)
        return self._transposed(x / size) * size

    def _transposed(self, x: Float[Tensor, "... out"]) -> Float[Tensor, "... in"]:
        """x W."""
        # one product of two matrices: tensors that are no plain view of one would become many small products
        flat = x.to(self.weight.dtype).reshape(-1, x.shape[-1])
        return (flat @ self.weight).view(*x.shape[:-1], -1).to(self.work)


def matrix(module: nn.Module, work: torch.dtype, rows: slice = slice(None)) -> Matrix:
    """The matrix of a linear module, or some of its output rows; Conv1D keeps the transpose of its weight."""
    weight = module.weight if isinstance(module, nn.Linear) else module.weight.t()
    return Matrix(weight[rows], None if module.bias is None else module.bias[rows], work)


def layer_norm(module: nn.LayerNorm, work: torch.dtype) -> Norm:
    """LayerNorm in the residual stream's dtype, with or without weight and bias."""
    weight, bias = (None if part is None else part.to(work) for part in (module.weight, module.bias))
    return lambda x: functional.layer_norm(x, module.normalized_shape, weight, bias, module.eps)


def rms_norm(module: nn.Module, work: torch.dtype, offset: float = 0.0) -> Norm:
    """x / sqrt(mean(x^2) + eps) * (offset + weight), in the residual stream's dtype."""
    weight = offset + module.weight.to(work)
    epsilon = module.variance_epsilon if hasattr(module, "variance_epsilon") else module.eps
    return lambda x: functional.rms_norm(x, weight.shape, weight, epsilon)


@dataclass(frozen=True)
class Rotation:
    """Cosine and sine of the rotary embedding at each position, (..., rotated dimensions)."""

    cos: Float[Tensor, "... dim"]
    sin: Float[Tensor, "... dim"]

    def __call__(self, x: Float[Tensor, "... head dim"]) -> Float[Tensor, "... head dim"]:
        """Rotate the first dimensions of every head, the two halves of them against each other."""
        n_rotated = self.cos.shape[-1]
        turned, kept = x[..., :n_rotated], x[..., n_rotated:]
        first, second = turned.chunk(2, dim=-1)
        turned = turned * self.cos[..., None, :] + torch.cat((-second, first), -1) * self.sin[..., None, :]
        return torch.cat((turned, kept), -1) if kept.shape[-1] else turned

    def at(self, index: object) -> "Rotation":
        """The rotations at some of the positions."""
        return Rotation(self.cos[index], self.sin[index])


def rotation_of(embedding: nn.Module, positions: Int[Tensor, "..."], work: torch.dtype, **layer_type: str) -> Rotation:
    """The rotation at positions (...,) by a rotary embedding of transformers, of one type of layers where it has many.

    Embeddings whose angles change with the length do so beyond `LanguageModel.n_positions` only.
    """
    like = torch.zeros((), dtype=work, device=positions.device)
    cos, sin = embedding(like, positions.reshape(1, -1), **layer_type)
    return Rotation(cos.view(*positions.shape, -1), sin.view(*positions.shape, -1))
