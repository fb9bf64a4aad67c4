"""Summarise what the models know, by language, with intervals over facts."""

import pandas as pd

from knatlas.job import Job
from knatlas.statistics.knowledge import summarise_known
from knatlas.storage import read_table, write_csv

with Job(snakemake) as job:
    known = pd.concat([read_table(path) for path in snakemake.input.known], ignore_index=True)
    write_csv(summarise_known(known, snakemake.params.seed, snakemake.params.resamples), snakemake.output.table)
