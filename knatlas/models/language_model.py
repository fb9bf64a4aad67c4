"""A model with its tokenizer and the record of its architecture: what every measurement works on."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from knatlas.errors import AtlasError
from knatlas.models.architectures import Architecture, architecture_of, check_settings, head_of, module_at

# names under which configurations keep their activation function
ACTIVATION_SETTINGS = ("hidden_act", "activation_function", "hidden_activation", "activation")


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A loaded model, in evaluation mode and without gradients of its weights.

    Layers and neurons are counted from 0. `n_neurons` is per layer. `revision` names the exact weights.
    """

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    architecture: Architecture
    revision: str
    n_layers: int
    n_neurons: int

    @property
    def kind(self) -> str:
        """ "masked" or "causal"."""
        return self.architecture.kind

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """The number format of the weights."""
        return self.model.dtype

    @cached_property
    def n_vocabulary(self) -> int:
        """Number of rows of the input embedding: token ids must be below it."""
        return self.model.get_input_embeddings().num_embeddings

    @cached_property
    def n_positions(self) -> int | None:
        """The most tokens that the model reads at once; None where nothing sets a limit (ALiBi)."""
        if self.architecture.longest is None:
            return None
        config = self.model.config
        n_skipped = config.pad_token_id + 1 if self.architecture.skips_padding_positions else 0
        return min([getattr(config, self.architecture.longest) - n_skipped, *_short_ropes(config)])

    @property
    def is_smooth(self) -> bool:
        """Whether P is a smooth function of the neurons: no activation of the model has a kink (ReLU and its kin)."""
        names = [str(getattr(self.model.config, setting, None)).lower() for setting in ACTIVATION_SETTINGS]
        return not any("relu" in name for name in names)

    @property
    def body(self) -> nn.Module:
        """The module that turns token ids into final hidden states."""
        return module_at(self.model, self.architecture.body)

    @property
    def head(self) -> Callable[[Tensor], Tensor]:
        """What turns final hidden states (..., hidden) into logits (..., words)."""
        return head_of(self.model, self.architecture)

    def hidden_states(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The final hidden states (rows, tokens, hidden) of token ids (rows, tokens): the head makes logits of them."""
        no_cache = {"use_cache": False} if self.kind == "causal" else {}
        return self.body(input_ids=input_ids, attention_mask=attention_mask, **no_cache).last_hidden_state

    def layers(self) -> list[nn.Module]:
        """The layers, first to last."""
        return list(module_at(self.model, self.architecture.layers))

    def down_projections(self) -> list[nn.Module]:
        """The second matrix of the feed-forward network of each layer; its input coordinates are the neurons."""
        return [module_at(layer, self.architecture.down_projection) for layer in self.layers()]

    def pre_activations(self) -> list[nn.Module]:
        """The module of each layer whose output, or the first part of it, goes into the non-linearity."""
        return [module_at(layer, self.architecture.pre_activation) for layer in self.layers()]

    def up_projections(self, layer: int) -> list[nn.Module]:
        """The modules of one layer whose output coordinates are the neurons (gated: two, or the two parts of one)."""
        return [module_at(self.layers()[layer], path) for path in self.architecture.up_projections]

    def value_vector(self, layer: int, index: int) -> Tensor:
        """What neuron (layer, index) writes to the residual stream: a view (hidden,) of the down projection."""
        return self.down_projections()[layer].weight.select(self.architecture.neuron_axis, index)

    def incoming_weights(self, layer: int, index: int) -> list[Tensor]:
        """What neuron (layer, index) reads: one view (hidden,) of each up projection (gated: of gate and up)."""
        axis = 1 - self.architecture.neuron_axis
        places = range(index, self.architecture.fused_parts * self.n_neurons, self.n_neurons)
        return [module.weight.select(axis, place) for module in self.up_projections(layer) for place in places]

    def is_blank(self, token: int) -> bool:
        """Whether a token alone is no text, or only blanks."""
        if token not in self._blank:
            self._blank[token] = not self.tokenizer.decode([token]).strip()
        return self._blank[token]

    @cached_property
    def _blank(self) -> dict[int, bool]:
        """What `is_blank` found so far."""
        return {}

    @cached_property
    def replacement_id(self) -> int:
        """The token that stands for a missing one: the mask token (masked) or the end-of-text token (causal).

        Raises AtlasError when the tokenizer has no such token or its id lies outside the model's vocabulary.
        """
        return self.mask_id if self.kind == "masked" else self._special_id("eos_token", "end-of-text token")

    @cached_property
    def mask_id(self) -> int:
        """The mask token's id; AtlasError when there is none inside the model's vocabulary."""
        return self._special_id("mask_token", "mask token")

    def _special_id(self, attribute: str, words: str) -> int:
        token, token_id = getattr(self.tokenizer, attribute), getattr(self.tokenizer, f"{attribute}_id")
        if token is None or not isinstance(token_id, int):
            raise AtlasError(f"{self.name}: the tokenizer has no {words}; set {attribute} in tokenizer_config.json")
        if not 0 <= token_id < self.n_vocabulary:
            raise AtlasError(
                f"{self.name}: the {words} '{token}' has id {token_id}, but the model's vocabulary has "
                f"{self.n_vocabulary} entries; set {attribute} in tokenizer_config.json to one of them"
            )
        return token_id


def as_language_model(
    name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, revision: str
) -> LanguageModel:
    """A LanguageModel from a model with its head and a fast tokenizer: freezes the model and checks its shapes.

    Raises AtlasError for an unknown architecture, a setting of its configuration that is not known to work, a slow
    tokenizer, or weights that do not fit the record.
    """
    architecture = architecture_of(model.config.model_type, f"{name}: model_type")
    check_settings(name, model.config.to_dict(), architecture)
    if not tokenizer.is_fast:
        raise AtlasError(
            f"{name}: the tokenizer is a slow one without character offsets; save a fast one beside it (tokenizer.json)"
        )
    lm = LanguageModel(
        name=name,
        model=model.eval().requires_grad_(False),
        tokenizer=tokenizer,
        architecture=architecture,
        revision=revision,
        n_layers=model.config.num_hidden_layers,
        n_neurons=_configured_neurons(model.config, architecture),
    )
    _check_shapes(lm)
    return lm


def _short_ropes(config: object) -> list[int]:
    """Lengths beyond which a rotary embedding takes other angles, so that tokens read before no longer fit."""
    rope = getattr(config, "rope_parameters", None) or {}
    per_layer_type = [part for part in rope.values() if isinstance(part, dict)]
    long = [part for part in per_layer_type or [rope] if part.get("rope_type") == "longrope"]
    return [part["original_max_position_embeddings"] for part in long]


def _configured_neurons(config: object, architecture: Architecture) -> int:
    configured = getattr(config, architecture.inner_size) if architecture.inner_size else None
    return configured or 4 * config.hidden_size


def _check_shapes(lm: LanguageModel) -> None:
    n_found = len(lm.layers())
    if n_found != lm.n_layers:
        raise AtlasError(f"{lm.name}: the configuration has {lm.n_layers} layers, the model {n_found}")
    axis, hidden = lm.architecture.neuron_axis, lm.model.config.hidden_size
    n_rows = lm.architecture.fused_parts * lm.n_neurons
    expected = {lm.architecture.down_projection: _shape(lm.n_neurons, hidden, axis)}
    expected |= dict.fromkeys(lm.architecture.up_projections, _shape(n_rows, hidden, 1 - axis))
    for number, layer in enumerate(lm.layers()):
        for path, shape in expected.items():
            _check_weight(f"{lm.name}: layer {number}", layer, path, shape)


def _shape(n_neurons: int, hidden: int, neuron_axis: int) -> tuple[int, int]:
    return (n_neurons, hidden) if neuron_axis == 0 else (hidden, n_neurons)


def _check_weight(where: str, layer: nn.Module, path: str, expected: tuple[int, int]) -> None:
    shape = tuple(module_at(layer, path).weight.shape)
    if shape != expected:
        raise AtlasError(
            f"{where}: {path}.weight has shape {shape}; by the configuration's number of neurons and hidden size "
            f"it should be {expected}. Weights in a compressed format are not supported"
        )
