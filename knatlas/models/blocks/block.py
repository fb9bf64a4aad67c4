"""One layer: projections, residual after attention, neurons, and the way back to the residual stream."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from knatlas.models.blocks.parts import Matrix, Norm, Rotation, same

# Splits the last axis of a fused projection into queries, keys and values, each (..., heads, head_dim).
Split = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]


@dataclass(frozen=True)
class Attention:
    """From token vectors to queries, keys and values, and from what was attended to back to the residual stream.

    scale: factor of the scores. window: a token sees only so many positions, itself included; None sees all. In causal
    models only: cap, c in c * tanh(score / c); slopes (heads,), ALiBi's, added times the distance of key and query.
    """

    projections: Sequence[Matrix]  # one fused matrix, or those of queries, keys, values
    split: Split
    output: Matrix
    n_heads: int
    n_kv_heads: int
    scale: float
    window: int | None = None
    query_norm: Norm = same
    key_norm: Norm = same
    cap: float | None = None
    slopes: Float[Tensor, " head"] | None = None

    def capped(self, scores: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Scores under the cap."""
        return scores if self.cap is None else self.cap * torch.tanh(scores / self.cap)

    def project(self, x: Float[Tensor, "... hidden"], rotation: Rotation | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (..., heads, dim), keys and values (..., kv_heads, dim), rotated to their positions."""
        parts = [projection(x) for projection in self.projections]
        query, key, value = self.split(*parts)
        query, key = self.query_norm(query), self.key_norm(key)
        return (query, key, value) if rotation is None else (rotation(query), rotation(key), value)


@dataclass(frozen=True)
class FeedForward:
    """The neurons of a layer: a = act(W_in x), or act(W_gate x) * (W_up x); and W_down, which reads them."""

    inward: Matrix  # its output is the value before the non-linearity
    activation: Callable[[Tensor], Tensor]
    down: Matrix
    up: Matrix | None = None  # of a gated network

    def gate(self, x: Float[Tensor, "... hidden"]) -> Float[Tensor, "... neuron"] | None:
        """The factor of each neuron in a gated network, else None."""
        return None if self.up is None else self.up(x)

    def activate(self, before: Float[Tensor, "... neuron"], gate: Tensor | None) -> Float[Tensor, "... neuron"]:
        """The input of the down projection, from the value before the non-linearity and the gate."""
        activated = self.activation(before)
        return activated if gate is None else activated * gate


@dataclass(frozen=True)
class Block:
    """One layer. With x its input, r = the residual after attention and y = W_down a + bias:

    attention reads attention_norm(x); r = after_attention(x + attention_close(o)); the neurons read feed_norm(r), or
    feed_norm(x) where both parts are parallel; the layer's output is after_feed(r + feed_close(y)).
    """

    attention: Attention
    feed: FeedForward
    attention_norm: Norm = same
    attention_close: Norm = same
    after_attention: Norm = same
    feed_norm: Norm = same
    feed_close: Norm = same
    after_feed: Norm = same
    is_parallel: bool = field(default=False)

    def project(self, x: Float[Tensor, "... hidden"], rotation: Rotation | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of token vectors."""
        return self.attention.project(self.attention_norm(x), rotation)

    def residual(
        self, x: Float[Tensor, "... hidden"], attended: Float[Tensor, "... head dim"]
    ) -> Float[Tensor, "... hidden"]:
        """r, from the layer's input and what its heads attended to."""
        return self.after_attention(x + self.attention_close(self.attention.output(attended.flatten(-2))))

    def feed_input(self, x: Float[Tensor, "... hidden"], residual: Float[Tensor, "... hidden"]) -> Tensor:
        """What the feed-forward part reads."""
        return self.feed_norm(x if self.is_parallel else residual)

    def feed_forward(self, x: Float[Tensor, "... hidden"], residual: Float[Tensor, "... hidden"]) -> Tensor:
        """y, from the layer's input and r."""
        read = self.feed_input(x, residual)
        return self.feed.down(self.feed.activate(self.feed.inward(read), self.feed.gate(read)))

    def leave(self, residual: Float[Tensor, "... hidden"], y: Float[Tensor, "... hidden"]) -> Tensor:
        """The layer's output from r and y."""
        return self.after_feed(residual + self.feed_close(y))
