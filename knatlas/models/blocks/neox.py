"""GPT-NeoX (Pythia): attention and feed-forward part side by side, rotary embedding of a part of each head."""

from torch import nn

from knatlas.models.blocks.block import Attention, Block, FeedForward
from knatlas.models.blocks.network import Network, activation_of, work_dtype
from knatlas.models.blocks.parts import layer_norm, matrix, rotation_of
from knatlas.models.language_model import LanguageModel


def _block(layer: nn.Module, config: object, lm: LanguageModel) -> Block:
    """A layer of GPT-NeoX."""
    work, heads = work_dtype(lm), config.num_attention_heads
    attention = Attention(
        projections=[matrix(layer.attention.query_key_value, work)],
        # the parts of one head lie together
        split=lambda fused: fused.unflatten(-1, (heads, 3, -1)).unbind(-2),
        output=matrix(layer.attention.dense, work),
        n_heads=heads,
        n_kv_heads=heads,
        scale=layer.attention.scaling,
    )
    mlp = layer.mlp
    return Block(
        attention=attention,
        feed=FeedForward(
            matrix(mlp.dense_h_to_4h, work), activation_of(config, "hidden_act"), matrix(mlp.dense_4h_to_h, work)
        ),
        attention_norm=layer_norm(layer.input_layernorm, work),
        feed_norm=layer_norm(layer.post_attention_layernorm, work),
        is_parallel=config.use_parallel_residual,
    )


def _neox(lm: LanguageModel) -> Network:
    """GPT-NeoX with its head."""
    config, body, work = lm.model.config, lm.body, work_dtype(lm)
    head = lm.head
    return Network(
        blocks=[_block(layer, config, lm) for layer in lm.layers()],
        embed=lambda ids, _: body.embed_in(ids).to(work),
        final=layer_norm(body.final_layer_norm, work),
        vocabulary=head.weight,
        bias=head.bias,
        work=work,
        is_causal=True,
        rotations=lambda positions: [rotation_of(body.rotary_emb, positions, work)] * lm.n_layers,
    )


BUILDERS = {"gpt_neox": _neox}
