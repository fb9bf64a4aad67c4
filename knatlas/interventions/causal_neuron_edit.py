"""CNE: the neuron whose restoration brings back most of the answer is edited with the formula of KN-E."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from knatlas.errors import AtlasError, unknown
from knatlas.interventions.editing import Edit, Editor, EditRequest, prompt_of
from knatlas.interventions.knowledge_edit import KnowledgeEdit, object_replaced
from knatlas.interventions.tracing import TraceSettings, neuron_effects, trace
from knatlas.interventions.weights import Neurons
from knatlas.models.language_model import LanguageModel

# What a variant finds in a request, and the numbers that tell how.
Found = tuple[Neurons, dict[str, float]]
NO_NEURONS = (np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))


@dataclass(frozen=True)
class CausalNeurons:
    """Which neurons CNE edits.

    variant `neuron_ie`: of all positions and layers the one where restoring the output of the MLP brings back most; of
    the neurons there the `top_k` that bring back most when restored alone. `code_literal`, as the released code hands
    its trace on: with blocks restored, the position and the layer that bring back most are taken for the layer and the
    index of a neuron; none where there is no such layer.

    Raises: AtlasError for another variant, or a top_k below 1.
    """

    variant: str = "neuron_ie"
    top_k: int = 1

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise AtlasError(unknown("counterfact: cne_variant", self.variant, "a way to find neurons", VARIANTS))
        if self.top_k < 1:
            raise AtlasError(f"counterfact: cne_top_k is {self.top_k}; expected a whole number of at least 1")


def cne(settings: CausalNeurons, formula: KnowledgeEdit, tracing: TraceSettings) -> Editor:
    """The editor CNE: causal tracing of a request's prompt, then W - lambda1 E(o_true) + lambda2 E(o_new).

    A state or neuron whose restoration brings nothing back is not edited. tracing, of which `kinds` doesn't count. The
    details of an edit: position, layer and effect of the state, and effect of the first neuron.
    """

    def editor(lm: LanguageModel, request: EditRequest) -> Edit:
        neurons, details = VARIANTS[settings.variant](lm, request, tracing, settings.top_k)
        return replace(object_replaced(lm, request, neurons, formula), details=details)

    return editor


def causal_neurons(lm: LanguageModel, request: EditRequest, tracing: TraceSettings, top_k: int) -> Found:
    """The `top_k` neurons of the layer and position with the largest indirect effect of an MLP's output."""
    prompt = prompt_of(request, request.target_true, lm.kind)
    effects = trace(lm, prompt, request.subject, replace(tracing, kinds=["mlp"])).effect("mlp")
    position, layer, details = _largest(effects)
    if details["state_effect"] <= 0:
        return NO_NEURONS, details
    of_neurons = neuron_effects(lm, prompt, request.subject, tracing, layer, position)
    best = np.argsort(-of_neurons, kind="stable")[:top_k]
    best = best[of_neurons[best] > 0]
    return (np.full(len(best), layer), best), {**details, "neuron_effect": float(of_neurons.max())}


def literal_neuron(lm: LanguageModel, request: EditRequest, tracing: TraceSettings, top_k: int) -> Found:
    """The neuron (layer: the position, index: the layer) of the block with the largest indirect effect; one at most."""
    prompt = prompt_of(request, request.target_true, lm.kind)
    effects = trace(lm, prompt, request.subject, replace(tracing, kinds=["block"])).effect("block")
    position, layer, details = _largest(effects)
    if position >= lm.n_layers:
        return NO_NEURONS, details
    return (np.array([position]), np.array([layer])), details


def _largest(effects: Float[np.ndarray, "position layer"]) -> tuple[int, int, dict[str, float]]:
    """Position and layer of the largest effect, of equal ones the first, and these as details."""
    position, layer = np.unravel_index(np.argmax(effects), effects.shape)
    effect = float(effects[position, layer])
    return int(position), int(layer), {"position": float(position), "layer": float(layer), "state_effect": effect}


VARIANTS: dict[str, Callable[[LanguageModel, EditRequest, TraceSettings, int], Found]] = {
    "neuron_ie": causal_neurons,
    "code_literal": literal_neuron,
}
