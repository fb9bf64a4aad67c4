"""Gemma 2 and 3: norms before and after each part, windows and angles by type of layer, capped scores and logits."""

import torch
from torch import Tensor, nn

from knatlas.models.blocks.block import Attention, Block
from knatlas.models.blocks.network import Network, NoFastPath, work_dtype
from knatlas.models.blocks.parts import Norm, Rotation, rms_norm, rotation_of
from knatlas.models.blocks.rotary import attention_of, feed_of, windows_by_type
from knatlas.models.language_model import LanguageModel


def _norm(module: nn.Module, work: torch.dtype) -> Norm:
    """Gemma's norms store their weights less 1."""
    return rms_norm(module, work, offset=1.0)


def _attention(own: nn.Module, window: int | None, config: object, work: torch.dtype) -> Attention:
    """Gemma 2 caps its scores, Gemma 3 has norms of queries and keys instead."""
    if config.model_type == "gemma2":
        return attention_of(own, config, work, window=window, cap=config.attn_logit_softcapping)
    norms = {"query_norm": _norm(own.q_norm, work), "key_norm": _norm(own.k_norm, work)}
    return attention_of(own, config, work, window=window, **norms)


def _block(layer: nn.Module, window: int | None, config: object, work: torch.dtype) -> Block:
    """A layer of Gemma."""
    return Block(
        attention=_attention(layer.self_attn, window, config, work),
        feed=feed_of(layer.mlp, config, work, "hidden_activation"),
        attention_norm=_norm(layer.input_layernorm, work),
        attention_close=_norm(layer.post_attention_layernorm, work),
        feed_norm=_norm(layer.pre_feedforward_layernorm, work),
        feed_close=_norm(layer.post_feedforward_layernorm, work),
    )


def _check(config: object) -> None:
    """Refuse the switches that are not known."""
    if config.use_bidirectional_attention:
        raise NoFastPath("use_bidirectional_attention is set")
    if config.model_type != "gemma2" and config.attn_logit_softcapping is not None:
        raise NoFastPath(f"attn_logit_softcapping is {config.attn_logit_softcapping}")


def _gemma(lm: LanguageModel) -> Network:
    """A model of the family with its head."""
    config, body, work = lm.model.config, lm.body, work_dtype(lm)
    _check(config)

    def rotations(positions: Tensor) -> list[Rotation]:
        if config.model_type == "gemma2":
            return [rotation_of(body.rotary_emb, positions, work)] * lm.n_layers
        kinds = set(config.layer_types)
        turns = {kind: rotation_of(body.rotary_emb, positions, work, layer_type=kind) for kind in kinds}
        return [turns[kind] for kind in config.layer_types]

    windows = windows_by_type(config)
    return Network(
        blocks=[_block(layer, window, config, work) for layer, window in zip(lm.layers(), windows, strict=True)],
        embed=lambda ids, _: body.embed_tokens(ids).to(work),
        final=_norm(body.norm, work),
        vocabulary=lm.model.lm_head.weight,
        bias=lm.model.lm_head.bias,
        work=work,
        is_causal=True,
        rotations=rotations,
        logit_cap=config.final_logit_softcapping,
    )


BUILDERS = dict.fromkeys(("gemma2", "gemma3_text"), _gemma)
