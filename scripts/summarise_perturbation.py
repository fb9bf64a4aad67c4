"""Tabulate how P(answer) changes with noise on word embeddings (localization paper, perturbation test)."""

import pandas as pd

from knatlas.job import Job
from knatlas.statistics.perturbation import summarise_perturbation
from knatlas.statistics.printed import beside_paper
from knatlas.storage import read_table, write_csv

with Job(snakemake) as job:
    rows = pd.concat([read_table(path) for path in snakemake.input.measurements], ignore_index=True)
    table = summarise_perturbation(rows, snakemake.params.seed, snakemake.params.resamples)
    write_csv(beside_paper(table, "localization", "perturbation"), snakemake.output.table)
    job.record(measurements=len(rows))
