"""ROME: one rank-one update of one down projection, by which a layer writes a new value for a subject's key."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from knatlas.errors import AtlasError
from knatlas.interventions.editing import Edit, Editor, EditRequest, edit_of
from knatlas.interventions.key_statistics import KeyStatistics
from knatlas.interventions.rome_prefixes import Template, essence_of, sample_prefixes, templates_of
from knatlas.interventions.rome_settings import Rome, layer_number
from knatlas.interventions.rome_value import find_value, keys_and_values
from knatlas.interventions.weights import ValueEdit
from knatlas.models.language_model import LanguageModel
from knatlas.models.subjects import read_position

__all__ = ["Rome", "layer_number", "rank_one", "rome_editor"]


def rome_editor(lm: LanguageModel, settings: Rome, statistics: KeyStatistics, seed: int = 0) -> Editor:
    """ROME for one causal model: its prefixes are drawn and its moment is factorised once, then requests are edited.

    With the key k* of the subject's last token (or of the prompt's, fact_token "end"), averaged over the bare prompt
    and those behind prefixes, C = E[k k'], u = C^-1 k* / |C^-1 k*| and the new value v*:
    W += u (v* - W k)' / (u . k), where k is the key of the bare prompt (rome_key "bare") or k* ("mean"), and W k holds
    the bias of the matrix. The mean square of (W' - W) k over the text of C is smallest under W' k = v* if u belongs to
    the same key as k, which it does with "mean", or without prefixes.

    Returns: an Editor, whose edits hold all neurons of the layer and the details of `find_value`, n_templates, old_norm
    |v0|, change_norm |v* - v0| and key_product u . k.
    Raises: AtlasError for a masked model, a layer that it lacks, statistics of another model or without the layer, or a
    moment that has no inverse. The editor raises one for another model, a prompt without the subject or too long, or
    the last layer where the subject doesn't end the prompt.
    """
    if lm.kind != "causal":
        raise AtlasError(
            f"{lm.name} is a masked model; ROME writes what a later token reads and is defined for causal models "
            "only. Leave it out for this model"
        )
    layer = layer_number(settings.layer, lm.n_layers, f"{lm.name}: rome: layer")
    factor = _factorised(lm, layer, settings, statistics)
    prefixes = sample_prefixes(lm, settings.prefix_lengths, settings.top_k, seed)
    return _RomeEditor(lm, settings, layer, factor, prefixes)


def _factorised(
    lm: LanguageModel, layer: int, settings: Rome, statistics: KeyStatistics
) -> Float[Tensor, "neuron neuron"]:
    """The Cholesky factor of C with its ridge, in float64."""
    moment = torch.as_tensor(statistics.of(lm, layer), dtype=torch.float64, device=lm.device).clone()
    moment.diagonal().add_(settings.ridge * moment.diagonal().mean())
    factor, info = torch.linalg.cholesky_ex(moment)
    is_short = settings.ridge == 0 and statistics.n_tokens < lm.n_neurons
    if int(info) != 0 or is_short:
        raise AtlasError(
            f"{lm.name}: the second moment of layer {layer} over {statistics.n_tokens} tokens has no inverse for "
            f"{lm.n_neurons} neurons at rome: ridge {settings.ridge}; measure it over more text, or set ridge to 1e-4"
        )
    return factor


@dataclass(frozen=True, eq=False)
class _RomeEditor:
    """An Editor; see `rome_editor`."""

    lm: LanguageModel
    settings: Rome
    layer: int
    factor: Float[Tensor, "neuron neuron"]
    prefixes: tuple[str, ...]

    def __call__(self, lm: LanguageModel, request: EditRequest) -> Edit:
        """The rank-one update for a request."""
        if lm is not self.lm:
            raise AtlasError(
                f"this ROME editor was made for {self.lm.name}, not for {lm.name}; make one for each model"
            )
        templates = templates_of(lm, request, self.prefixes, self.settings.fact_token)
        self._check_reach(request, templates[0])
        keys, values = keys_and_values(lm, self.layer, templates)
        mean_key, old = keys.mean(dim=0), values[0]
        direction = self._direction(request, mean_key)
        found = find_value(
            lm, self.layer, templates, essence_of(lm, request, self.settings.fact_token), old, self.settings
        )
        key, written = (keys[0], old) if self.settings.rome_key == "bare" else (mean_key, values.mean(dim=0))
        product = float(direction @ key)
        details = {"old_norm": float(old.norm()), "change_norm": float(found.change.norm()), "key_product": product}
        details |= {"n_templates": float(len(templates)), **found.details}
        gap = old + found.change.double() - written
        return edit_of(rank_one(self.layer, direction, gap / product), details)

    def _direction(self, request: EditRequest, key: Float[Tensor, " neuron"]) -> Float[Tensor, " neuron"]:
        """u: C^-1 k, normalised."""
        solved = torch.cholesky_solve(key[:, None], self.factor)[:, 0]
        norm = solved.norm()
        if not norm > 0:
            raise AtlasError(
                f"{self.lm.name}: {request.where}: no neuron of layer {self.layer} is active at the "
                f"{self.settings.fact_token} of '{request.text}', so no value can be written for it; edit another layer"
            )
        return solved / norm

    def _check_reach(self, request: EditRequest, bare: Template) -> None:
        """AtlasError where the edit can't reach the answer: no attention follows the last layer."""
        is_last = self.layer == self.lm.n_layers - 1
        if is_last and bare.place != read_position(bare.query) and not self.settings.is_last_allowed:
            raise AtlasError(
                f"{self.lm.name}: {request.where}: rome: layer is {self.layer}, the last one, and the prompt "
                f"'{request.text}' goes on after its subject, so what is written there can't reach the answer; set "
                f"layer to {self.lm.n_layers - 2} or below, or fact_token to end"
            )


def rank_one(layer: int, direction: Float[Tensor, " neuron"], change: Float[Tensor, " hidden"]) -> ValueEdit:
    """The value vector of neuron j of a layer gains direction_j times `change`, for all neurons; summed in float64."""
    n_neurons = len(direction)

    def add(current: Tensor, original: Tensor) -> Tensor:
        added = torch.outer(direction, change).to(current.device)
        return (current.double() + added).to(current.dtype)

    return ValueEdit(np.full(n_neurons, layer), np.arange(n_neurons), add)
