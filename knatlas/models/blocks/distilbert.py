"""DistilBERT: post-norm layers that see all tokens, and a head of four modules."""

from torch import nn

from knatlas.models.blocks.block import Attention, Block, FeedForward
from knatlas.models.blocks.network import Network, activation_of, work_dtype
from knatlas.models.blocks.parts import layer_norm, matrix
from knatlas.models.language_model import LanguageModel


def _block(layer: nn.Module, config: object, lm: LanguageModel) -> Block:
    """A layer of DistilBERT."""
    work, heads, own = work_dtype(lm), config.n_heads, layer.attention
    attention = Attention(
        projections=[matrix(module, work) for module in (own.q_lin, own.k_lin, own.v_lin)],
        split=lambda *parts: tuple(part.unflatten(-1, (heads, -1)) for part in parts),
        output=matrix(own.out_lin, work),
        n_heads=heads,
        n_kv_heads=heads,
        scale=own.scaling,
    )
    return Block(
        attention=attention,
        feed=FeedForward(
            matrix(layer.ffn.lin1, work), activation_of(config, "activation"), matrix(layer.ffn.lin2, work)
        ),
        after_attention=layer_norm(layer.sa_layer_norm, work),
        after_feed=layer_norm(layer.output_layer_norm, work),
    )


def _distilbert(lm: LanguageModel) -> Network:
    """DistilBERT with its head."""
    config, body, work = lm.model.config, lm.body, work_dtype(lm)
    dense, norm = matrix(lm.model.vocab_transform, work), layer_norm(lm.model.vocab_layer_norm, work)
    activation = activation_of(config, "activation")
    return Network(
        blocks=[_block(layer, config, lm) for layer in lm.layers()],
        embed=lambda ids, positions: body.embeddings(input_ids=ids, position_ids=positions).to(work),
        final=lambda x: norm(activation(dense(x))),
        vocabulary=lm.model.vocab_projector.weight,
        bias=lm.model.vocab_projector.bias,
        work=work,
        is_causal=False,
        rotations=lambda _: [None] * lm.n_layers,
    )


BUILDERS = {"distilbert": _distilbert}
