"""Which modules of an architecture hold the neurons: one record per model type, read by all code that opens a model."""

from dataclasses import dataclass, replace

from torch import nn

from knatlas.errors import AtlasError, unknown


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
    head: str  # from the model with its head: the module that turns final hidden states into logits
    layers: str  # from the model with its head: the list of layers
    down_projection: str  # inside a layer
    neuron_axis: int  # axis of the down projection's weight along which neurons lie: 1 in Linear, 0 in Conv1D
    pre_activation: str  # inside a layer: the module whose output goes into the non-linearity
    up_projections: tuple[str, ...]  # inside a layer: the modules whose output coordinates are the neurons
    inner_size: str  # name in the configuration of the number of neurons per layer; None there means 4 * hidden_size
    skips_padding_positions: bool = False  # the first token's position is the padding token's id + 1, not 0


BERT = Architecture(
    model_type="bert",
    kind="masked",
    body="bert",
    head="cls",
    layers="bert.encoder.layer",
    down_projection="output.dense",
    neuron_axis=1,
    pre_activation="intermediate.dense",
    up_projections=("intermediate.dense",),
    inner_size="intermediate_size",
)

GPT2 = Architecture(
    model_type="gpt2",
    kind="causal",
    body="transformer",
    head="lm_head",
    layers="transformer.h",
    down_projection="mlp.c_proj",
    neuron_axis=0,
    pre_activation="mlp.c_fc",
    up_projections=("mlp.c_fc",),
    inner_size="n_inner",
)

LLAMA = Architecture(
    model_type="llama",
    kind="causal",
    body="model",
    head="lm_head",
    layers="model.layers",
    down_projection="mlp.down_proj",
    neuron_axis=1,
    pre_activation="mlp.gate_proj",
    up_projections=("mlp.gate_proj", "mlp.up_proj"),
    inner_size="intermediate_size",
)

ROBERTA = replace(
    BERT,
    model_type="roberta",
    body="roberta",
    head="lm_head",
    layers="roberta.encoder.layer",
    skips_padding_positions=True,
)
XLM_ROBERTA = replace(ROBERTA, model_type="xlm-roberta")

GPT_NEOX = Architecture(
    model_type="gpt_neox",
    kind="causal",
    body="gpt_neox",
    head="lm_head",
    layers="gpt_neox.layers",
    down_projection="mlp.dense_4h_to_h",
    neuron_axis=1,
    pre_activation="mlp.dense_h_to_4h",
    up_projections=("mlp.dense_h_to_4h",),
    inner_size="intermediate_size",
)

# the modules of these have the names of llama's
MISTRAL, QWEN2, QWEN3 = (replace(LLAMA, model_type=name) for name in ("mistral", "qwen2", "qwen3"))

RECORDS = (BERT, ROBERTA, XLM_ROBERTA, GPT2, GPT_NEOX, LLAMA, MISTRAL, QWEN2, QWEN3)
ARCHITECTURES: dict[str, Architecture] = {record.model_type: record for record in RECORDS}


def architecture_of(model_type: str, where: str = "config.json: model_type") -> Architecture:
    """The record of a model type; AtlasError that lists the known ones when there is none."""
    if model_type not in ARCHITECTURES:
        remedy = "A further model type needs a record in knatlas/models/architectures.py."
        raise AtlasError(unknown(where, model_type, "a known architecture", sorted(ARCHITECTURES), remedy))
    return ARCHITECTURES[model_type]


def module_at(root: nn.Module, path: str) -> nn.Module:
    """The module at a dotted path below `root`; AtlasError when the path does not exist there."""
    try:
        return root.get_submodule(path)
    except AttributeError as error:
        raise AtlasError(
            f"{type(root).__name__} has no module '{path}': its record in knatlas/models/architectures.py does not fit"
        ) from error
