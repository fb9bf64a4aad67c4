"""Share of a selection's neurons in each layer, with intervals over facts (AMIG Figure 3, MATRICE Figure 4)."""

from collections.abc import Iterable

import pandas as pd

from knatlas.experiments.layer_distribution import count_layers
from knatlas.selection.neuron_set import NeuronSets
from knatlas.statistics.bootstrap import DEFAULT_RESAMPLES, bootstrap_ratio

LAYER_COLUMNS = ["model", "selection", "language", "layer", "value", "lo", "hi", "n", "n_neurons", "n_empty"]


def layer_shares(counts: pd.DataFrame, seed: int = 0, resamples: int = DEFAULT_RESAMPLES) -> pd.DataFrame:
    """Share of neuron occurrences that lie in each layer, from the table of `count_layers`.

    value, a share of 1, is (occurrences in the layer) / (occurrences in all layers), over facts; lo and hi, its 95%
    bootstrap interval over facts; n, facts with attribution; n_neurons, occurrences in the layer; n_empty, facts with
    an empty set. NaN where every set is empty.
    """
    rows = []
    for key, group in counts.groupby(["model", "selection", "language"], sort=False):
        by_layer = group.pivot(index="fact", columns="layer", values="n_neurons").sort_index()
        rows += [(*key, *row) for row in _shares(by_layer, seed, resamples)]
    return pd.DataFrame(rows, columns=LAYER_COLUMNS)


def layer_distribution(sets: Iterable[NeuronSets], seed: int = 0, resamples: int = DEFAULT_RESAMPLES) -> pd.DataFrame:
    """`layer_shares` of many selections and models, one after the other."""
    parts = [layer_shares(count_layers(part), seed, resamples) for part in sets]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=LAYER_COLUMNS)


def _shares(by_layer: pd.DataFrame, seed: int, resamples: int) -> Iterable[tuple]:
    total = by_layer.sum(axis=1)
    n_empty = int((total == 0).sum())
    for layer in by_layer.columns:
        share = bootstrap_ratio(by_layer[layer].to_numpy(), total.to_numpy(), seed, resamples)
        yield layer, *share, int(by_layer[layer].sum()), n_empty
