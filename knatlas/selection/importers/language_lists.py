"""Language-specific neurons of LAPE: one list of neurons per language and layer, which belong to no fact."""

from collections.abc import Sequence

import numpy as np

from knatlas.errors import AtlasError
from knatlas.selection.importers.listed import ListedSet
from knatlas.selection.neuron_set import ALL

# the order that the README of LAPE's code gives for its files
LANGUAGES = ("en", "zh", "fr", "es", "vi", "id", "ja")
IndexLists = Sequence[Sequence[Sequence[int]]]  # language, layer, neurons


def language_sets(
    lists: IndexLists, n_layers: int, where: str, languages: Sequence[str] | None = None
) -> list[ListedSet]:
    """One set per language, under the key "all".

    Args: lists, `lists[language][layer]` the indices of neurons; n_layers, of the model; where, for the sentences;
    languages, in the order of the file (default: that of LAPE's README, for files with seven languages).
    Raises: AtlasError when the numbers of languages or layers are others.
    """
    named = list(languages or LANGUAGES)
    if len(lists) != len(named):
        raise AtlasError(
            f"{where} holds neurons of {len(lists)} languages, but {len(named)} are named ({' '.join(named)}); name "
            "the languages of the file in its order"
        )
    if {len(layers) for layers in lists} != {n_layers}:
        lengths = " ".join(sorted({str(len(layers)) for layers in lists}))
        raise AtlasError(f"{where} has lists for {lengths} layers; the model has {n_layers}: it is of another model")
    return [_one_set(language, layers) for language, layers in zip(named, lists, strict=True)]


def _one_set(language: str, layers: Sequence[Sequence[int]]) -> ListedSet:
    parts = [np.unique(np.asarray(indices, dtype=np.int64)) for indices in layers]
    sizes = [len(part) for part in parts]
    indices = np.concatenate([np.zeros(0, dtype=np.int64), *parts])
    return ListedSet(ALL, language, np.repeat(np.arange(len(parts)), sizes), indices, np.full(len(indices), np.nan))
