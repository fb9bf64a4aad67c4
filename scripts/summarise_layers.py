"""Count the neurons of every selection by layer, with intervals over facts."""

from knatlas.job import Job
from knatlas.selection.neuron_set import read_neuron_sets
from knatlas.statistics.layers import layer_distribution
from knatlas.storage import write_csv

with Job(snakemake) as job:
    sets = [read_neuron_sets(path) for path in snakemake.input.neurons]
    write_csv(layer_distribution(sets, snakemake.params.seed, snakemake.params.resamples), snakemake.output.table)
