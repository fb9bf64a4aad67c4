"""Tabulate the mean indirect effects of hidden states by class of token and layer."""

import pandas as pd

from knatlas.job import Job
from knatlas.statistics.causal_tracing import summarise_tracing
from knatlas.storage import read_table, write_csv

with Job(snakemake) as job:
    params = snakemake.params
    rows = pd.concat([read_table(path) for path in snakemake.input.measurements], ignore_index=True)
    write_csv(summarise_tracing(rows, params.min_drop, params.seed, params.resamples), snakemake.output.table)
    job.record(measurements=len(rows))
