"""Summarise degenerate neurons over facts, beside random neurons, and count them by layer."""

import pandas as pd

from knatlas.job import Job
from knatlas.selection.neuron_set import read_neuron_sets
from knatlas.statistics.degenerate import degenerate_layers, summarise_degenerate
from knatlas.storage import read_table, write_csv

with Job(snakemake) as job:
    inputs, params = snakemake.input, snakemake.params
    pairs, clusters, facts = (
        pd.concat([read_table(path) for path in paths], ignore_index=True)
        for paths in (inputs.pairs, inputs.clusters, inputs.facts)
    )
    n_layers = {sets.model: sets.n_layers for sets in map(read_neuron_sets, inputs.neurons)}
    write_csv(summarise_degenerate(pairs, facts, params.seed, params.resamples), snakemake.output.table)
    layers = degenerate_layers(clusters, facts, n_layers, params.seed, params.resamples)
    write_csv(layers, snakemake.output.layers)
    job.record(pairs=len(pairs), facts=len(facts))
