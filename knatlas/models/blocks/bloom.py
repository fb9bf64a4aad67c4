"""BLOOM: no positions but ALiBi's slopes, a norm after the embedding, norms before or after each part."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from knatlas.models.blocks.block import Attention, Block, FeedForward
from knatlas.models.blocks.network import Network, NoFastPath, work_dtype
from knatlas.models.blocks.parts import ACTIVATIONS, Norm, layer_norm, matrix, same
from knatlas.models.language_model import LanguageModel


def _slopes(lm: LanguageModel) -> Float[Tensor, " head"]:
    """ALiBi's slopes: what the model adds to the score of the second of two tokens."""
    two = torch.ones(1, 2, device=lm.device, dtype=torch.long)
    return lm.body.build_alibi_tensor(two, lm.model.config.n_head, work_dtype(lm))[:, 0, 1]


def _block(layer: nn.Module, lm: LanguageModel, slopes: Tensor, norms: dict[str, Norm]) -> Block:
    """A layer of BLOOM."""
    work, heads, own = work_dtype(lm), lm.model.config.n_head, layer.self_attention
    attention = Attention(
        projections=[matrix(own.query_key_value, work)],
        # the parts of one head lie together
        split=lambda fused: fused.unflatten(-1, (heads, 3, -1)).unbind(-2),
        output=matrix(own.dense, work),
        n_heads=heads,
        n_kv_heads=heads,
        scale=own.inv_norm_factor,
        slopes=slopes,
    )
    # BLOOM's own GELU has sqrt(2 / pi) to eight digits, which is the same number in float32
    inward, down = matrix(layer.mlp.dense_h_to_4h, work), matrix(layer.mlp.dense_4h_to_h, work)
    return Block(attention, FeedForward(inward, ACTIVATIONS["gelu_new"], down), **norms)


def _norms(first: list[Norm], second: list[Norm], is_after: bool) -> tuple[Norm, list[dict[str, Norm]]]:
    """The norm of the stream before the first layer, and those of each layer by their names in `Block`.

    is_after: the residual stream passes through the norms; the first norm of a layer is then the last of the one below.
    """
    if not is_after:
        return same, [{"attention_norm": a, "feed_norm": b} for a, b in zip(first, second, strict=True)]
    above = [*first[1:], same]
    return first[0], [{"after_attention": b, "after_feed": a} for a, b in zip(above, second, strict=True)]


def _bloom(lm: LanguageModel) -> Network:
    """BLOOM with its head."""
    config, body, work, layers = lm.model.config, lm.body, work_dtype(lm), lm.layers()
    if config.slow_but_exact:
        raise NoFastPath("slow_but_exact is set")
    first = [layer_norm(layer.input_layernorm, work) for layer in layers]
    second = [layer_norm(layer.post_attention_layernorm, work) for layer in layers]
    enter, norms = _norms(first, second, config.apply_residual_connection_post_layernorm)
    slopes, embedding_norm = _slopes(lm), layer_norm(body.word_embeddings_layernorm, work)
    return Network(
        blocks=[_block(layer, lm, slopes, own) for layer, own in zip(layers, norms, strict=True)],
        embed=lambda ids, _: enter(embedding_norm(body.word_embeddings(ids).to(work))),
        final=layer_norm(body.ln_f, work),
        vocabulary=lm.model.lm_head.weight,
        bias=lm.model.lm_head.bias,
        work=work,
        is_causal=True,
        rotations=lambda _: [None] * lm.n_layers,
    )


BUILDERS = {"bloom": _bloom}
