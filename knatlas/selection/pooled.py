"""The neurons of many facts together, and random controls of just as many."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool

from knatlas.errors import AtlasError
from knatlas.selection.controls import CONTROLS, random_stream
from knatlas.selection.neuron_set import NeuronSets

IsChosen = Bool[np.ndarray, "layer neuron"]


def pooled(sets: NeuronSets, facts: Sequence[str], language: str, min_facts: int = 1) -> IsChosen:
    """The neurons in the sets (draw 0) of at least `min_facts` of the facts; facts that were not searched have none."""
    counts = np.zeros(sets.shape, dtype=np.int64)
    for fact in facts:
        if sets.is_searched(fact, language):
            np.add.at(counts, sets.of(fact, language), 1)
    return counts >= min_facts


def pooled_neurons(
    name: str, sets: Mapping[str, NeuronSets], facts: Sequence[str], language: str, min_facts: int, seed: int
) -> tuple[IsChosen, int]:
    """The pooled neurons of the selection `name`; of a random control as many as its reference has.

    A control takes neurons of its own draw 0 first, then any others, then (only where too few are left) those of its
    reference; which ones is drawn with the seed. `random_layer_matched` has the reference's number in every layer.

    Returns: the neurons, and how many a control shares with its reference (0 for others).
    Raises: AtlasError when a control's reference is not among the sets.
    """
    if name not in CONTROLS:
        return pooled(sets[name], facts, language, min_facts), 0
    reference = sets[name].origin.get("reference", "matrice")
    if reference not in sets:
        raise AtlasError(
            f"selection {name} is the control of {reference}, which is not among those compared ({' '.join(sets)}); "
            f"add {reference} to the selections"
        )
    is_found = pooled(sets[reference], facts, language, min_facts)
    is_drawn = pooled(sets[name], facts, language)
    # rows are filled one by one: a row per layer, or one row of all neurons
    rows = is_found.shape if name == "random_layer_matched" else (1, is_found.size)
    pairs = zip(is_drawn.reshape(rows), is_found.reshape(rows), strict=True)
    random = random_stream(seed, "pooled", name, language)
    is_chosen = np.stack([_as_many(*pair, random) for pair in pairs]).reshape(is_found.shape)
    return is_chosen, int((is_chosen & is_found).sum())


def _as_many(is_drawn: np.ndarray, is_found: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """As many neurons of one row as are found in it, those drawn before first, the found ones last."""
    order = random.permutation(len(is_found))
    rank = np.where(is_found, 2, np.where(is_drawn, 0, 1))[order]
    chosen = order[np.argsort(rank, kind="stable")][: is_found.sum()]
    return np.isin(np.arange(len(is_found)), chosen)
