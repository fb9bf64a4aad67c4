"""In which layers the neurons of a selection lie."""

import numpy as np
import pandas as pd

from knatlas.selection.neuron_set import NeuronSets

COUNT_COLUMNS = ["model", "selection", "language", "fact", "layer", "n_neurons"]


def count_layers(sets: NeuronSets) -> pd.DataFrame:
    """Neurons of each fact in each layer: a row for every fact, language and layer, 0 where a set has none there.

    A neuron counts once per fact and language (or "all"); several draws of a random control are added up. Facts
    without attribution are left out, facts with an empty set are not.
    """
    searched = [(fact, lang) for fact in sets.facts for lang in sets.languages if sets.is_searched(fact, lang)]
    facts, languages = [fact for fact, _ in searched], [language for _, language in searched]
    counts = [_count(sets, fact, language) for fact, language in searched]
    columns = {
        "model": sets.model,
        "selection": sets.selection,
        "language": np.repeat(languages, sets.n_layers),
        "fact": np.repeat(facts, sets.n_layers),
        "layer": np.tile(np.arange(sets.n_layers), len(searched)),
        "n_neurons": np.concatenate([np.zeros(0, dtype=np.int64), *counts]),
    }
    return pd.DataFrame(columns)[COUNT_COLUMNS]


def _count(sets: NeuronSets, fact: str, language: str) -> np.ndarray:
    layers = np.concatenate([sets.of(fact, language, draw)[0] for draw in range(sets.n_draws)])
    return np.bincount(layers, minlength=sets.n_layers)
