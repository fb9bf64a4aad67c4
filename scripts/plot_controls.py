"""Draw what is found in real facts and models beside what is found under each negative control."""

from knatlas.figures.controls import plot_controls
from knatlas.job import Job
from knatlas.storage import read_csv

with Job(snakemake) as job:
    plot_controls(read_csv(snakemake.input.table), snakemake.output.pdf.removesuffix(".pdf"))
