"""Set what is found in real facts and models beside what is found under each negative control."""

import pandas as pd

from knatlas.job import Job
from knatlas.selection.neuron_set import read_neuron_sets
from knatlas.statistics.controls import compared_values, controls_table, pooled_layers
from knatlas.statistics.summaries import summarise_manipulation
from knatlas.storage import read_table, write_csv

with Job(snakemake) as job:
    given, params, output = snakemake.input, snakemake.params, snakemake.output
    seeds, smallest = (params.seed, params.resamples), params.min_p_before
    real = [read_neuron_sets(path) for path in given.neurons]
    measured = pd.concat([read_table(path) for path in given.measurements], ignore_index=True)
    values, layers, changes = [], [], []
    for control in params.controls:
        sets = [read_neuron_sets(path) for path in given[f"{control}_neurons"]]
        rows = pd.concat([read_table(path) for path in given[f"{control}_measurements"]], ignore_index=True)
        rows = rows[rows["probe"] == "own"]
        values.append(compared_values(real, sets, measured, rows, smallest).assign(control=control))
        layers.append(pooled_layers(sets, *seeds).assign(control=control))
        shown = rows[rows["selection"].isin(params.shown)]
        changes.append(summarise_manipulation(shown, *seeds, [smallest]).assign(control=control))
    values, layers, changes = (pd.concat(parts, ignore_index=True) for parts in (values, layers, changes))
    write_csv(controls_table(values, *seeds, params.permutations), output.table)
    write_csv(layers, output.layers)
    write_csv(changes, output.manipulation)
    job.record(controls=list(params.controls))
