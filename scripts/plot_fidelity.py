"""Draw suppression curves, and how well attribution scores rank neurons by their causal effects."""

from knatlas.figures.fidelity import plot_fidelity
from knatlas.job import Job
from knatlas.storage import read_csv

with Job(snakemake) as job:
    inputs = snakemake.input
    plot_fidelity(read_csv(inputs.table), read_csv(inputs.curves), snakemake.output.pdf.removesuffix(".pdf"))
