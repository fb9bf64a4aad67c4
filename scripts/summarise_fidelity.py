"""Tabulate how well attribution scores rank neurons by their causal effects, and the suppression curves."""

from knatlas.job import Job
from knatlas.selection.scores import read_scores
from knatlas.statistics.fidelity import fidelity_tables
from knatlas.storage import read_table, write_csv

with Job(snakemake) as job:
    inputs, output, params = snakemake.input, snakemake.output, snakemake.params
    paths = zip(inputs.effects, inputs.curves, inputs.scores, strict=True)
    parts = [(read_table(effects), read_table(curves), read_scores(scores)) for effects, curves, scores in paths]
    table, curves = fidelity_tables(parts, params.settings, params.seed, params.resamples, params.permutations)
    write_csv(table, output.table)
    write_csv(curves, output.curves)
    job.record(models=len(parts))
