"""GPT-2 (and mGPT): pre-norm layers, learned positions, one fused projection."""

from torch import nn

from knatlas.models.blocks.block import Attention, Block, FeedForward
from knatlas.models.blocks.network import Network, NoFastPath, activation_of, work_dtype
from knatlas.models.blocks.parts import layer_norm, matrix
from knatlas.models.language_model import LanguageModel


def _block(layer: nn.Module, config: object, lm: LanguageModel) -> Block:
    """A layer of GPT-2."""
    work, heads = work_dtype(lm), config.num_attention_heads
    attention = Attention(
        projections=[matrix(layer.attn.c_attn, work)],
        split=lambda fused: fused.unflatten(-1, (3, heads, -1)).unbind(-3),
        output=matrix(layer.attn.c_proj, work),
        n_heads=heads,
        n_kv_heads=heads,
        scale=layer.attn.scaling,
    )
    activation = activation_of(config, "activation_function")
    return Block(
        attention=attention,
        feed=FeedForward(matrix(layer.mlp.c_fc, work), activation, matrix(layer.mlp.c_proj, work)),
        attention_norm=layer_norm(layer.ln_1, work),
        feed_norm=layer_norm(layer.ln_2, work),
    )


def _gpt2(lm: LanguageModel) -> Network:
    """GPT-2 with its head."""
    config, body, work = lm.model.config, lm.body, work_dtype(lm)
    if config.add_cross_attention:
        raise NoFastPath("add_cross_attention is set")
    return Network(
        blocks=[_block(layer, config, lm) for layer in lm.layers()],
        embed=lambda ids, positions: body.wte(ids).to(work) + body.wpe(positions).to(work),
        final=layer_norm(body.ln_f, work),
        vocabulary=lm.model.lm_head.weight,
        bias=lm.model.lm_head.bias,
        work=work,
        is_causal=True,
        rotations=lambda _: [None] * lm.n_layers,
    )


BUILDERS = {"gpt2": _gpt2}
