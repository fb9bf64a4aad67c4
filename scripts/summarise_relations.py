"""Summarise suppression and enhancement by relation, related beside unrelated facts (localization, Figures 3 and 4)."""

import pandas as pd

from knatlas.job import Job
from knatlas.statistics.relations import beside_figures, summarise_relations
from knatlas.storage import read_table, write_csv

with Job(snakemake) as job:
    params = snakemake.params
    rows = pd.concat([read_table(path) for path in snakemake.input.measurements], ignore_index=True)
    rows = rows[rows["language"].isin(params.languages)]
    table = summarise_relations(rows, params.selections, params.seed, params.resamples)
    write_csv(beside_figures(table), snakemake.output.table)
    job.record(measurements=len(rows))
