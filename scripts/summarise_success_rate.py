"""Tabulate AMIG's success rate in three readings, beside what its Table 1 prints."""

import pandas as pd

from knatlas.job import Job
from knatlas.statistics.arrangement import arranged
from knatlas.statistics.printed import beside_paper
from knatlas.statistics.success_rate import readings_with, success_rates
from knatlas.storage import read_table, write_csv

with Job(snakemake) as job:
    params = snakemake.params
    rows = pd.concat([read_table(path) for path in snakemake.input.measurements], ignore_index=True)
    rows = rows[rows["selection"].isin(params.selections) & (rows["language"] != "all")]
    readings = readings_with(params.settings)
    table = success_rates(rows, ["model", "language", "selection"], readings, params.seed, params.resamples)
    table = beside_paper(table, "amig", 1)
    shown = arranged(table[table["statistic"] == "sr"], ["reading", "language", "selection"], "model")
    write_csv(table, snakemake.output.table, shown)
    job.record(measurements=len(rows))
