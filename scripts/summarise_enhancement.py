"""Summarise what enhancement does to answers in low-resource languages, by language and relation (Figure 6)."""

import pandas as pd

from knatlas.job import Job
from knatlas.statistics.enhancement import summarise_enhancement
from knatlas.storage import read_table, write_csv

with Job(snakemake) as job:
    rows = pd.concat([read_table(path) for path in snakemake.input.measurements], ignore_index=True)
    write_csv(summarise_enhancement(rows, snakemake.params.seed, snakemake.params.resamples), snakemake.output.table)
    job.record(measurements=len(rows))
