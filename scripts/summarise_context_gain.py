"""Tabulate what examples before a prompt add to P(answer) (localization paper)."""

import pandas as pd

from knatlas.job import Job
from knatlas.statistics.context_gain import summarise_context_gain
from knatlas.storage import read_table, write_csv

with Job(snakemake) as job:
    rows = pd.concat([read_table(path) for path in snakemake.input.measurements], ignore_index=True)
    table = summarise_context_gain(rows, snakemake.params.seed, snakemake.params.resamples)
    write_csv(table, snakemake.output.table)
    job.record(measurements=len(rows))
