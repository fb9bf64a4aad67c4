"""Draw in which layers the neurons of some selections lie, as in one of the papers' figures."""

from knatlas.figures.layers import plot_layers
from knatlas.job import Job
from knatlas.storage import read_csv

with Job(snakemake) as job:
    table = read_csv(snakemake.input.table)
    table = table[table["model"].isin(snakemake.params.models)]
    # one table, or none where the study has no control for these models
    controls = next(map(read_csv, snakemake.input.controls), None)
    plot_layers(table, snakemake.output.pdf.removesuffix(".pdf"), snakemake.params.selections, controls)
