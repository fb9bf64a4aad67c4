"""Draw the accuracy after enhancement on queries answered wrongly before, per model, language and relation."""

from knatlas.figures.enhancement import plot_enhancement
from knatlas.job import Job
from knatlas.storage import read_csv

with Job(snakemake) as job:
    table = read_csv(snakemake.input.table)
    table = table[table["model"].isin(snakemake.params.models)]
    plot_enhancement(table, snakemake.output.pdf.removesuffix(".pdf"))
