"""Draw what the models say before and after enhancement, for the facts chosen by rule."""

import pandas as pd

from knatlas.figures.cases import plot_cases
from knatlas.job import Job
from knatlas.storage import read_table, write_csv

with Job(snakemake) as job:
    cases = pd.concat([read_table(path) for path in snakemake.input.cases], ignore_index=True)
    write_csv(cases, snakemake.output.table)
    plot_cases(cases, snakemake.output.pdf.removesuffix(".pdf"))
