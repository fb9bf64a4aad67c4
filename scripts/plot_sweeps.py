"""Draw how changes of P(answer) and sizes of neuron sets depend on the settings of MATRICE."""

from knatlas.figures.sweeps import plot_sweeps
from knatlas.job import Job
from knatlas.storage import read_csv

with Job(snakemake) as job:
    table = read_csv(snakemake.input.table)
    table = table[table["model"].isin(snakemake.params.models)]
    plot_sweeps(table, snakemake.output.pdf.removesuffix(".pdf"))
