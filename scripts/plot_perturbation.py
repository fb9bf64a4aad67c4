"""Draw how P(answer) changes with noise on word embeddings, per model and reading of the noise."""

from knatlas.figures.perturbation import plot_perturbation
from knatlas.job import Job
from knatlas.storage import read_csv

with Job(snakemake) as job:
    table = read_csv(snakemake.input.table)
    table = table[table["model"].isin(snakemake.params.models)]
    plot_perturbation(table, snakemake.output.pdf.removesuffix(".pdf"))
