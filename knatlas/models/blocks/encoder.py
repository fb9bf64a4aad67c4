"""BERT, RoBERTa, XLM-RoBERTa: post-norm layers that see all tokens."""

from torch import Tensor, nn

from knatlas.models.blocks.block import Attention, Block, FeedForward
from knatlas.models.blocks.network import Network, NoFastPath, activation_of, work_dtype
from knatlas.models.blocks.parts import ACTIVATIONS, Norm, layer_norm, matrix
from knatlas.models.language_model import LanguageModel


def _block(layer: nn.Module, config: object, lm: LanguageModel) -> Block:
    """A layer of the family."""
    work, heads, own = work_dtype(lm), config.num_attention_heads, layer.attention.self
    attention = Attention(
        projections=[matrix(module, work) for module in (own.query, own.key, own.value)],
        split=lambda *parts: tuple(part.unflatten(-1, (heads, -1)) for part in parts),
        output=matrix(layer.attention.output.dense, work),
        n_heads=heads,
        n_kv_heads=heads,
        scale=own.scaling,
    )
    feed = FeedForward(
        matrix(layer.intermediate.dense, work), activation_of(config, "hidden_act"), matrix(layer.output.dense, work)
    )
    return Block(
        attention=attention,
        feed=feed,
        after_attention=layer_norm(layer.attention.output.LayerNorm, work),
        after_feed=layer_norm(layer.output.LayerNorm, work),
    )


def _check(config: object) -> None:
    """Refuse the switches of the family that are not known."""
    if config.is_decoder or config.add_cross_attention:
        raise NoFastPath("is_decoder or add_cross_attention is set")
    if getattr(config, "position_embedding_type", None) not in (None, "absolute"):
        raise NoFastPath(f"position_embedding_type is '{config.position_embedding_type}'")


def _network(lm: LanguageModel, final: Norm, vocabulary: Tensor, bias: Tensor) -> Network:
    """A network of the family with its own head."""
    config, body, work = lm.model.config, lm.body, work_dtype(lm)
    _check(config)
    n_skipped = config.pad_token_id + 1 if lm.architecture.skips_padding_positions else 0
    return Network(
        blocks=[_block(layer, config, lm) for layer in lm.layers()],
        embed=lambda ids, positions: body.embeddings(input_ids=ids, position_ids=positions + n_skipped).to(work),
        final=final,
        vocabulary=vocabulary,
        bias=bias,
        work=work,
        is_causal=False,
        rotations=lambda _: [None] * lm.n_layers,
    )


def _bert(lm: LanguageModel) -> Network:
    """BERT: the head transforms, then reads the vocabulary."""
    head, work = lm.model.cls.predictions, work_dtype(lm)
    dense, norm = matrix(head.transform.dense, work), layer_norm(head.transform.LayerNorm, work)
    activation = head.transform.transform_act_fn
    return _network(lm, lambda x: norm(activation(dense(x))), head.decoder.weight, head.decoder.bias)


def _roberta(lm: LanguageModel) -> Network:
    """RoBERTa: the same head under other names, always with the exact GELU."""
    head, work = lm.model.lm_head, work_dtype(lm)
    dense, norm = matrix(head.dense, work), layer_norm(head.layer_norm, work)
    return _network(lm, lambda x: norm(ACTIVATIONS["gelu"](dense(x))), head.decoder.weight, head.decoder.bias)


BUILDERS = {"bert": _bert, "roberta": _roberta, "xlm-roberta": _roberta}
