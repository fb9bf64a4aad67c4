"""Tabulate how changes of P(answer) and sizes of neuron sets depend on the settings of MATRICE."""

import pandas as pd

from knatlas.job import Job
from knatlas.statistics.sweeps import summarise_sweeps
from knatlas.storage import read_table, write_csv

with Job(snakemake) as job:
    rows = pd.concat([read_table(path) for path in snakemake.input.measurements], ignore_index=True)
    write_csv(summarise_sweeps(rows, snakemake.params.seed, snakemake.params.resamples), snakemake.output.table)
    job.record(measurements=len(rows))
