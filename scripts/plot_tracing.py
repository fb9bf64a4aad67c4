"""Draw the mean indirect effects of hidden states over layers, per model, kind of state and class of token."""

from knatlas.figures.tracing import plot_tracing
from knatlas.job import Job
from knatlas.storage import read_csv

with Job(snakemake) as job:
    table = read_csv(snakemake.input.table)
    table = table[table["model"].isin(snakemake.params.models)]
    # one table, or none where the study has no control for these models
    controls = next(map(read_csv, snakemake.input.controls), None)
    plot_tracing(table, snakemake.output.pdf.removesuffix(".pdf"), controls)
