"""Which modules of an architecture hold the neurons: one record per model type, read by all code that opens a model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from torch import Tensor, nn

from knatlas.errors import AtlasError, unknown

# the eager implementation rounds its softmax to float32 even in a float64 model, and both differ in the last digits
ATTENTION = "sdpa"


@dataclass(frozen=True)
class Requirement:
    """A setting of a configuration that is only known to work at some values; one that is absent is at its default."""

    setting: str
    allowed: tuple[object, ...]
    reason: str


@dataclass(frozen=True)
class Architecture:
    """Where the neurons of one model type are; all paths are dotted attribute paths.

    Neuron (layer, j) is coordinate j of the input of the layer's down projection, the second matrix of the feed-forward
    network. Its value vector is slice j of that matrix along `neuron_axis`; its incoming weights are slice j of each up
    projection along the other axis. A further model type is one more record in `RECORDS`.
    """

    model_type: str  # config.model_type of the checkpoint
    kind: str  # "masked" (predicts masks from both sides) or "causal" (predicts the next token)
    body: str  # from the model with its head: the module that turns token ids into final hidden states
    head: tuple[str, ...]  # from the model with its head: the modules that turn hidden states into logits, in order
    layers: str  # from the model with its head: the list of layers
    down_projection: str  # inside a layer
    neuron_axis: int  # axis of the down projection's weight along which neurons lie: 1 in Linear, 0 in Conv1D
    pre_activation: str  # inside a layer: the module whose output goes into the non-linearity
    up_projections: tuple[str, ...]  # inside a layer: the modules whose output coordinates are the neurons
    attention_output: str  # inside a layer: the module whose output the attention adds to the residual stream
    inner_size: str | None  # name in the configuration of the neurons per layer; None here or there: 4 * hidden_size
    mlp_output: str | None = None  # inside a layer: the same of the feed-forward network; None: the down projection
    fused_parts: int = 1  # equal parts of an up projection's output; the first goes into the non-linearity
    is_flat: bool = False  # in the feed-forward network the tokens of all rows lie along one axis
    longest: str | None = "max_position_embeddings"  # name in the configuration of the most tokens; None: no limit
    skips_padding_positions: bool = False  # the first token's position is the padding token's id + 1, not 0
    logit_cap: str | None = None  # name in the configuration of c, where logits z become c * tanh(z / c)
    attention: str = ATTENTION  # the implementation in transformers: "eager" where the other does not exist
    requires: tuple[Requirement, ...] = ()


# true of every type
UNPACKED = Requirement("quantization_config", (None,), "the neurons of compressed weights cannot be read or changed")
ENCODER = (
    Requirement("is_decoder", (False, None), "a decoder sees no token after the mask, a masked model must"),
    Requirement("position_embedding_type", ("absolute", None), "transformers has absolute positions only"),
    Requirement("chunk_size_feed_forward", (0, None), "pieces of a sentence would go through the network one by one"),
)
ONE_WAY = Requirement(
    "use_bidirectional_attention", (False, None), "a causal model must see no token after the position that is read"
)

BERT = Architecture(
    model_type="bert",
    kind="masked",
    body="bert",
    head=("cls",),
    layers="bert.encoder.layer",
    down_projection="output.dense",
    neuron_axis=1,
    pre_activation="intermediate.dense",
    up_projections=("intermediate.dense",),
    attention_output="attention.output.dense",
    inner_size="intermediate_size",
    requires=ENCODER,
)

GPT2 = Architecture(
    model_type="gpt2",
    kind="causal",
    body="transformer",
    head=("lm_head",),
    layers="transformer.h",
    down_projection="mlp.c_proj",
    neuron_axis=0,
    pre_activation="mlp.c_fc",
    up_projections=("mlp.c_fc",),
    attention_output="attn.c_proj",
    inner_size="n_inner",
)

LLAMA = Architecture(
    model_type="llama",
    kind="causal",
    body="model",
    head=("lm_head",),
    layers="model.layers",
    down_projection="mlp.down_proj",
    neuron_axis=1,
    pre_activation="mlp.gate_proj",
    up_projections=("mlp.gate_proj", "mlp.up_proj"),
    attention_output="self_attn.o_proj",
    inner_size="intermediate_size",
)

ROBERTA_PARTS = {"body": "roberta", "head": ("lm_head",), "layers": "roberta.encoder.layer"}
ROBERTA = replace(BERT, model_type="roberta", skips_padding_positions=True, **ROBERTA_PARTS)
XLM_ROBERTA = replace(ROBERTA, model_type="xlm-roberta")

GPT_NEOX = Architecture(
    model_type="gpt_neox",
    kind="causal",
    body="gpt_neox",
    head=("lm_head",),
    layers="gpt_neox.layers",
    down_projection="mlp.dense_4h_to_h",
    neuron_axis=1,
    pre_activation="mlp.dense_h_to_4h",
    up_projections=("mlp.dense_h_to_4h",),
    attention_output="attention.dense",
    inner_size="intermediate_size",
)

# the modules of these have the names of llama's
MISTRAL, QWEN2, QWEN3 = (replace(LLAMA, model_type=name) for name in ("mistral", "qwen2", "qwen3"))

# gate and up projection are the two halves of one matrix
PHI3 = replace(
    LLAMA, model_type="phi3", pre_activation="mlp.gate_up_proj", up_projections=("mlp.gate_up_proj",), fused_parts=2
)

# what either part of a layer gives is normed before it is added, so the norm's output is what is added
NORMED = replace(LLAMA, attention_output="post_attention_layernorm", mlp_output="post_feedforward_layernorm")
GEMMA2 = replace(
    NORMED, model_type="gemma2", logit_cap="final_logit_softcapping", attention="eager", requires=(ONE_WAY,)
)
GEMMA3_TEXT = replace(
    GEMMA2,
    model_type="gemma3_text",
    attention=ATTENTION,
    requires=(ONE_WAY, Requirement("attn_logit_softcapping", (None,), "transformers leaves it out in this type")),
)

DISTILBERT = Architecture(
    model_type="distilbert",
    kind="masked",
    body="distilbert",
    head=("vocab_transform", "activation", "vocab_layer_norm", "vocab_projector"),
    layers="distilbert.transformer.layer",
    down_projection="ffn.lin2",
    neuron_axis=1,
    pre_activation="ffn.lin1",
    up_projections=("ffn.lin1",),
    attention_output="attention.out_lin",
    inner_size="hidden_dim",
    requires=ENCODER,
)

OPT = Architecture(
    model_type="opt",
    kind="causal",
    body="model.decoder",
    head=("lm_head",),
    layers="model.decoder.layers",
    down_projection="fc2",
    neuron_axis=1,
    pre_activation="fc1",
    up_projections=("fc1",),
    attention_output="self_attn.out_proj",
    inner_size="ffn_dim",
    is_flat=True,
)

BLOOM = Architecture(
    model_type="bloom",
    kind="causal",
    body="transformer",
    head=("lm_head",),
    layers="transformer.h",
    down_projection="mlp.dense_4h_to_h",
    neuron_axis=1,
    pre_activation="mlp.dense_h_to_4h",
    up_projections=("mlp.dense_h_to_4h",),
    attention_output="self_attention.dense",
    inner_size=None,
    longest=None,
    attention="eager",
    requires=(Requirement("slow_but_exact", (False,), "the down projection would be applied in pieces"),),
)

ENCODERS = (BERT, ROBERTA, XLM_ROBERTA, DISTILBERT)
DECODERS = (GPT2, GPT_NEOX, OPT, BLOOM, LLAMA, MISTRAL, QWEN2, QWEN3, PHI3, GEMMA2, GEMMA3_TEXT)
RECORDS = (*ENCODERS, *DECODERS)
ARCHITECTURES: dict[str, Architecture] = {record.model_type: record for record in RECORDS}


def architecture_of(model_type: str, where: str = "config.json: model_type") -> Architecture:
    """The record of a model type; AtlasError that lists the known ones when there is none."""
    if model_type not in ARCHITECTURES:
        remedy = "A further model type needs a record in knatlas/models/architectures.py."
        raise AtlasError(unknown(where, model_type, "a known architecture", sorted(ARCHITECTURES), remedy))
    return ARCHITECTURES[model_type]


def check_settings(where: str, settings: Mapping[str, object], architecture: Architecture) -> None:
    """AtlasError when a configuration (its names and values) has a setting at a value that is not known to work."""
    for requirement in (UNPACKED, *architecture.requires):
        name, allowed = requirement.setting, requirement.allowed
        if name in settings and settings[name] not in allowed:
            words = " or ".join("null" if value is None else str(value).lower() for value in allowed)
            raise AtlasError(
                f"{where}: {name} is {settings[name]!r}; expected {words}, since {requirement.reason}. Use another "
                "checkpoint"
            )


@dataclass(frozen=True)
class Head:
    """A head that is not one module: the modules in order, then c * tanh(z / c) where there is a cap c."""

    modules: tuple[nn.Module, ...]
    cap: float | None

    def __call__(self, hidden: Tensor) -> Tensor:
        """Logits (..., words) of final hidden states (..., hidden)."""
        for module in self.modules:
            hidden = module(hidden)
        return hidden if self.cap is None else (hidden / self.cap).tanh() * self.cap


def head_of(model: nn.Module, architecture: Architecture) -> Callable[[Tensor], Tensor]:
    """What turns final hidden states into logits: the module itself where it is one without a cap, else a `Head`."""
    modules = tuple(module_at(model, path) for path in architecture.head)
    cap = None if architecture.logit_cap is None else getattr(model.config, architecture.logit_cap)
    return modules[0] if len(modules) == 1 and cap is None else Head(modules, cap)


def module_at(root: nn.Module, path: str) -> nn.Module:
    """The module at a dotted path below `root`; AtlasError when the path does not exist there."""
    try:
        return root.get_submodule(path)
    except AttributeError as error:
        raise AtlasError(
            f"{type(root).__name__} has no module '{path}': its record in knatlas/models/architectures.py does not fit"
        ) from error
