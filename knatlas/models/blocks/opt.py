"""OPT: learned positions, norms before or after each part, embeddings that may be narrower than the residual stream."""

from torch import Tensor, nn

from knatlas.models.blocks.block import Attention, Block, FeedForward
from knatlas.models.blocks.network import Network, activation_of, work_dtype
from knatlas.models.blocks.parts import layer_norm, matrix, same
from knatlas.models.language_model import LanguageModel


def _block(layer: nn.Module, config: object, lm: LanguageModel) -> Block:
    """A layer of OPT, in the order of norms that its configuration says."""
    work, heads, own = work_dtype(lm), config.num_attention_heads, layer.self_attn
    attention = Attention(
        projections=[matrix(module, work) for module in (own.q_proj, own.k_proj, own.v_proj)],
        split=lambda *parts: tuple(part.unflatten(-1, (heads, -1)) for part in parts),
        output=matrix(own.out_proj, work),
        n_heads=heads,
        n_kv_heads=heads,
        scale=own.scaling,
    )
    feed = FeedForward(matrix(layer.fc1, work), activation_of(config, "activation_function"), matrix(layer.fc2, work))
    first, second = (layer_norm(norm, work) for norm in (layer.self_attn_layer_norm, layer.final_layer_norm))
    if config.do_layer_norm_before:
        return Block(attention, feed, attention_norm=first, feed_norm=second)
    return Block(attention, feed, after_attention=first, after_feed=second)


def _opt(lm: LanguageModel) -> Network:
    """OPT with its head."""
    body, work = lm.body, work_dtype(lm)
    norm = same if body.final_layer_norm is None else layer_norm(body.final_layer_norm, work)
    narrow = same if body.project_out is None else matrix(body.project_out, work)
    widen = same if body.project_in is None else body.project_in

    def embed(ids: Tensor, positions: Tensor) -> Tensor:
        places = body.embed_positions(None, position_ids=positions)
        return widen(body.embed_tokens(ids)).to(work) + places.to(work)

    return Network(
        blocks=[_block(layer, lm.model.config, lm) for layer in lm.layers()],
        embed=embed,
        final=lambda x: narrow(norm(x)),
        vocabulary=lm.model.lm_head.weight,
        bias=lm.model.lm_head.bias,
        work=work,
        is_causal=True,
        rotations=lambda _: [None] * lm.n_layers,
    )


BUILDERS = {"opt": _opt}
