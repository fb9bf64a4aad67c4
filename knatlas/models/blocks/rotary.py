"""Llama, Mistral, Qwen2, Qwen3, Phi-3: root-mean-square norms, rotary embedding, gated neurons, grouped heads."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from knatlas.models.blocks.block import Attention, Block, FeedForward, Split
from knatlas.models.blocks.network import Network, activation_of, work_dtype
from knatlas.models.blocks.parts import Matrix, matrix, rms_norm, rotation_of, same
from knatlas.models.language_model import LanguageModel


def windows_by_type(config: object) -> list[int | None]:
    """How many positions a token of each layer sees, None for all, where the configuration names types of layers."""
    return [config.sliding_window if kind == "sliding_attention" else None for kind in config.layer_types]


def _windows(config: object) -> list[int | None]:
    """How many positions a token of each layer sees: in Llama all, in Mistral and Phi-3 as many in every layer."""
    if config.model_type.startswith("qwen"):
        return windows_by_type(config)
    window = None if config.model_type == "llama" else config.sliding_window
    return [window] * config.num_hidden_layers


def _split(head_dim: int, sizes: Sequence[int] | None) -> Split:
    """Heads out of three projections, or out of the parts of a fused one."""

    def split(*parts: Tensor) -> tuple[Tensor, ...]:
        parts = parts if sizes is None else parts[0].split(sizes, dim=-1)
        return tuple(part.unflatten(-1, (-1, head_dim)) for part in parts)

    return split


def attention_of(own: nn.Module, config: object, work: torch.dtype, **settings: object) -> Attention:
    """The attention of a layer with rotary embedding; settings, further fields of `Attention`."""
    heads, kv_heads, sizes = config.num_attention_heads, config.num_key_value_heads, None
    if hasattr(own, "qkv_proj"):
        modules, sizes = (own.qkv_proj,), [n * own.head_dim for n in (heads, kv_heads, kv_heads)]
    else:
        modules = (own.q_proj, own.k_proj, own.v_proj)
    return Attention(
        projections=[matrix(module, work) for module in modules],
        split=_split(own.head_dim, sizes),
        output=matrix(own.o_proj, work),
        n_heads=heads,
        n_kv_heads=kv_heads,
        scale=own.scaling,
        **settings,
    )


def _gate_and_up(mlp: nn.Module, work: torch.dtype) -> tuple[Matrix, Matrix]:
    """Two matrices, or the two halves of a fused one."""
    if not hasattr(mlp, "gate_up_proj"):
        return matrix(mlp.gate_proj, work), matrix(mlp.up_proj, work)
    half = mlp.gate_up_proj.out_features // 2
    return matrix(mlp.gate_up_proj, work, slice(half)), matrix(mlp.gate_up_proj, work, slice(half, None))


def feed_of(mlp: nn.Module, config: object, work: torch.dtype, setting: str = "hidden_act") -> FeedForward:
    """The gated feed-forward part of a layer; setting, the configuration's name for the non-linearity."""
    gate, up = _gate_and_up(mlp, work)
    return FeedForward(gate, activation_of(config, setting), matrix(mlp.down_proj, work), up)


def _block(layer: nn.Module, window: int | None, config: object, work: torch.dtype) -> Block:
    """A layer of the family."""
    own = layer.self_attn
    norms = [rms_norm(getattr(own, name), work) if hasattr(own, name) else same for name in ("q_norm", "k_norm")]
    return Block(
        attention=attention_of(own, config, work, window=window, query_norm=norms[0], key_norm=norms[1]),
        feed=feed_of(layer.mlp, config, work),
        attention_norm=rms_norm(layer.input_layernorm, work),
        feed_norm=rms_norm(layer.post_attention_layernorm, work),
    )


def _llama(lm: LanguageModel) -> Network:
    """A model of the family with its head."""
    config, body, work = lm.model.config, lm.body, work_dtype(lm)
    windows = _windows(config)
    return Network(
        blocks=[_block(layer, window, config, work) for layer, window in zip(lm.layers(), windows, strict=True)],
        embed=lambda ids, _: body.embed_tokens(ids).to(work),
        final=rms_norm(body.norm, work),
        vocabulary=lm.model.lm_head.weight,
        bias=lm.model.lm_head.bias,
        work=work,
        is_causal=True,
        rotations=lambda positions: [rotation_of(body.rotary_emb, positions, work)] * lm.n_layers,
    )


BUILDERS = dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "phi3"), _llama)
