"""Tabulate success and magnitude of edits on CounterFact (localization paper, Table 3)."""

import pandas as pd

from knatlas.job import Job
from knatlas.statistics.counterfact import summarise_counterfact
from knatlas.statistics.printed import beside_paper
from knatlas.storage import read_table, write_csv

with Job(snakemake) as job:
    rows = pd.concat([read_table(path) for path in snakemake.input.measurements], ignore_index=True)
    table = summarise_counterfact(rows, snakemake.params.seed, snakemake.params.resamples)
    write_csv(beside_paper(table, "localization", 3), snakemake.output.table3)
    job.record(measurements=len(rows))
