"""Compare pairs of neuron sets of a model: what they share beyond chance, and in which layers they lie."""

from knatlas.job import Job
from knatlas.selection.neuron_set import read_neuron_sets
from knatlas.statistics.set_comparison import compare_pairs, layer_profiles
from knatlas.storage import write_csv

with Job(snakemake) as job:
    paths = zip(snakemake.input.first, snakemake.input.second, strict=True)
    pairs = [(read_neuron_sets(first), read_neuron_sets(second)) for first, second in paths]
    settings = snakemake.params.seed, snakemake.params.resamples
    write_csv(compare_pairs(pairs, *settings), snakemake.output.table)
    write_csv(layer_profiles(pairs, *settings), snakemake.output.layers)
    job.record(pairs=len(pairs))
