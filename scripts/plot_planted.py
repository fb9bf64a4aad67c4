"""Draw which selection finds which kind of planted neuron."""

from knatlas.figures.planted import plot_planted
from knatlas.job import Job
from knatlas.storage import read_csv

with Job(snakemake) as job:
    plot_planted(read_csv(snakemake.input.table), snakemake.output.pdf.removesuffix(".pdf"))
