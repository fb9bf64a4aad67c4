"""Tabulate what lower-casing answers does to the effect of suppressed neurons (localization paper)."""

import pandas as pd

from knatlas.job import Job
from knatlas.statistics.answer_case import summarise_answer_case
from knatlas.storage import read_table, write_csv

with Job(snakemake) as job:
    rows = pd.concat([read_table(path) for path in snakemake.input.measurements], ignore_index=True)
    write_csv(summarise_answer_case(rows, snakemake.params.seed, snakemake.params.resamples), snakemake.output.table)
    job.record(measurements=len(rows))
