"""The sizes of a model on which its costs depend, read from a configuration of transformers; no weights are opened."""

from collections.abc import Mapping
from dataclasses import dataclass

from knatlas.errors import AtlasError, unknown

# The names that families give one size, in the order in which they are looked up.
NAMES = {
    "n_layers": ("num_hidden_layers", "n_layer", "n_layers"),
    "hidden": ("hidden_size", "n_embd", "dim", "n_embed"),
    "neurons": ("intermediate_size", "ffn_dim", "n_inner", "hidden_dim"),
    "vocabulary": ("vocab_size",),
    "heads": ("num_attention_heads", "n_head", "n_heads"),
}
MASKED = ("bert", "roberta", "xlm-roberta", "distilbert")
GATED = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "gemma3_text", "phi3")
PLAIN = ("gpt2", "gpt_neox", "opt", "bloom")
# configurations of these that say nothing of ties have a separate output matrix
UNTIED = ("llama", "mistral", "qwen2", "qwen3", "gpt_neox", "phi3")


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a transformer, whatever its family.

    kind: "masked" or "causal". neurons: per layer. is_gated: the feed-forward part has three matrices. is_tied: the
    output matrix is the embedding. has_head_transform: a square matrix before the output matrix, as in BERT.
    """

    kind: str
    n_layers: int
    hidden: int
    neurons: int
    vocabulary: int
    heads: int
    kv_heads: int
    head_dim: int
    is_gated: bool = False
    is_tied: bool = True
    has_head_transform: bool = False


def shape_of(config: object) -> ModelShape:
    """The shape of a model from its configuration: an object of transformers, or the mapping in its config.json.

    Raises: AtlasError for an unknown model type or a size that the configuration does not give.
    """
    values = config if isinstance(config, Mapping) else config.to_dict()
    values = values.get("text_config", values)
    family = str(values.get("model_type"))
    known = (*MASKED, *PLAIN, *GATED)
    if family not in known:
        raise AtlasError(unknown("config.json: model_type", family, "a known architecture", sorted(known)))
    sizes = {name: _size(values, name) for name in NAMES}
    return ModelShape(
        kind="masked" if family in MASKED else "causal",
        **sizes,
        kv_heads=values.get("num_key_value_heads") or sizes["heads"],
        head_dim=values.get("head_dim") or sizes["hidden"] // sizes["heads"],
        is_gated=family in GATED,
        is_tied=bool(values.get("tie_word_embeddings", family not in UNTIED)),
        has_head_transform=family in MASKED,
    )


def _size(values: Mapping, name: str) -> int:
    """One size of a configuration; neurons that it leaves out are four times the hidden size."""
    found = next((values[key] for key in NAMES[name] if values.get(key) is not None), None)
    if found is None and name == "neurons":
        return 4 * _size(values, "hidden")
    if found is None:
        raise AtlasError(f"config.json has none of {' '.join(NAMES[name])}; the costs of a model depend on that size.")
    return int(found)
