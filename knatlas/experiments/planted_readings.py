"""Which selections are scored on planted neurons, in which reading, and from which attribution scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from knatlas.attribution.configured import configured_methods
from knatlas.attribution.methods import AttributionMethod
from knatlas.selection.matched import smallest_share
from knatlas.selection.recipes import RECIPES
from knatlas.selection.scores import Scores
from knatlas.selection.thresholds import Choice
from knatlas.selection.uncertainty import query_uncertainty

DEFAULT = "default"
PRESETS = ("bkn", "amig", "saig", "atp")
# further methods: a preset and what differs; equal integrals are computed once
VARIANTS: Mapping[str, tuple[str, Mapping[str, object]]] = {
    "amig_zero": ("amig", {"path": "zero"}),
    "amig_full": ("amig", {"multiplier": "full"}),
    "amig_layer_sum": ("amig", {"norm": "layer_sum"}),
    "saig_zero": ("saig", {"path": "zero"}),
    "saig_full": ("saig", {"multiplier": "full"}),
    "saig_none": ("saig", {"norm": "none"}),
    "saig_layer_sum": ("saig", {"norm": "layer_sum"}),
    "saig_query_l1": ("saig", {"norm": "query_l1"}),
}


@dataclass(frozen=True)
class Reading:
    """A selection in one reading.

    recipe: the selection's name among the recipes; methods: which scores stand in for those of a preset; matrice:
    settings of MATRICE that differ from the study's.
    """

    selection: str
    name: str = DEFAULT
    recipe: str = ""
    methods: Mapping[str, str] = field(default_factory=dict)
    matrice: Mapping[str, object] = field(default_factory=dict)

    @property
    def chosen_by(self) -> str:
        """Name of the recipe."""
        return self.recipe or self.selection

    def scores(self, scores: Scores) -> Scores:
        """The scores as the recipe reads them: those of other methods under the names of the presets."""
        renamed = dict(scores.arrays)
        for preset, method in self.methods.items():
            renamed |= {
                f"{preset}.{name.split('.')[1]}": array
                for name, array in scores.arrays.items()
                if name.startswith(f"{method}.")
            }
        return replace(scores, arrays=renamed)

    def settings(self, selection: Mapping) -> dict:
        """The part `selection` of a study, with this reading's settings; nothing is stopped by the guard."""
        guard = selection["matrice"]["guard"]
        matrice = {**selection["matrice"], "guard": "raise_threshold" if guard == "stop" else guard, **self.matrice}
        return {**selection, "matrice": matrice, "selections": [self.chosen_by]}


READINGS: tuple[Reading, ...] = (
    Reading("bkn"),
    Reading("bkn", "path_tokens", methods={"bkn": "amig"}),
    Reading("refined"),
    Reading("amig"),
    Reading("amig", "path_zero", methods={"amig": "amig_zero"}),
    Reading("amig", "multiplier_full", methods={"amig": "amig_full"}),
    Reading("amig", "norm_layer_sum", methods={"amig": "amig_layer_sum"}),
    Reading("likn"),
    Reading("likn", "path_zero", methods={"amig": "amig_zero"}),
    Reading("likn", "multiplier_full", methods={"amig": "amig_full"}),
    Reading("likn", "norm_layer_sum", methods={"amig": "amig_layer_sum"}),
    Reading("matrice"),
    Reading("matrice", "eq9_axis_neuron", matrice={"eq9_axis": "neuron"}),
    Reading("matrice", "eq9_floor_min", matrice={"eq9_floor": "min"}),
    Reading("matrice", "eq9_floor_min_unguarded", matrice={"eq9_floor": "min", "guard": "off"}),
    Reading("matrice", "norm_none", methods={"saig": "saig_none"}),
    Reading("matrice", "norm_layer_sum", methods={"saig": "saig_layer_sum"}),
    Reading("matrice", "norm_query_l1", methods={"saig": "saig_query_l1"}),
    Reading("matrice", "path_zero", methods={"saig": "saig_zero"}),
    Reading("matrice", "multiplier_full", methods={"saig": "saig_full"}),
    Reading("matrice_leave_language_out"),
    Reading("matrice_without_query_uncertainty"),
    Reading("matrice_without_language_uncertainty"),
    Reading("matrice_without_query_uncertainty_matched"),
    Reading("matrice_without_language_uncertainty_matched"),
    # a screening by gradients has no threshold of its own and takes B-KN's
    Reading("atp", recipe="bkn", methods={"bkn": "atp"}),
)


def planted_methods(settings: Mapping, kind: str) -> list[AttributionMethod]:
    """The presets as the study's part `attribution` has them, and the methods of the other readings.

    Args: settings with equations, quadrature, rtol and methods; kind of the model. Raises: AtlasError.
    """
    presets = {method.name: method for method in configured_methods({**settings, "run": PRESETS}, kind)}
    variants = [replace(presets[base], name=name, **changes) for name, (base, changes) in VARIANTS.items()]
    return [*presets.values(), *variants]


def ranked(reading: Reading, scores: Scores, settings: Mapping, i: int) -> dict[str, tuple[Choice, np.ndarray]]:
    """What a reading chooses for fact number i, by language or "all", and the scores that order its neurons.

    The order is that of the chosen neurons' scores. Where sets are intersected it is that of the smallest share of a
    language's largest score: a neuron is in the intersection at threshold tau where this share lies above tau.
    """
    choices = RECIPES[reading.chosen_by].choose(scores, settings, i)
    block = _intersected(reading.chosen_by, scores, settings["matrice"], i)
    if block is None:
        return {language: (choice, choice.scores) for language, choice in choices.items()}
    share = smallest_share(block)
    return {language: (choice, share) for language, choice in choices.items()}


def _intersected(recipe: str, scores: Scores, matrice: Mapping, i: int) -> np.ndarray | None:
    """The scores (languages, layers, neurons) whose sets a recipe intersects; None where it does not."""
    if recipe == "likn":
        return scores.of("amig", "first", i)
    if recipe == "matrice_without_language_uncertainty":
        mean, std = (scores.of("saig", name, i) for name in ("mean", "std"))
        return query_uncertainty(mean, std, matrice["alpha1"], matrice["alpha2"])
    return None


def readings_of(names: Sequence[str] | str) -> list[Reading]:
    """The readings of some selections, or of "all"."""
    return [reading for reading in READINGS if names == "all" or reading.selection in names]
