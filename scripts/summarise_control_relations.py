"""Summarise by relation what neurons that are found under each negative control do to the real prompts."""

import pandas as pd

from knatlas.job import Job
from knatlas.statistics.relations import summarise_relations
from knatlas.storage import read_table, write_csv

with Job(snakemake) as job:
    params, parts = snakemake.params, []
    for control in params.controls:
        rows = pd.concat([read_table(path) for path in snakemake.input[control]], ignore_index=True)
        rows = rows[rows["language"].isin(params.languages)]
        table = summarise_relations(rows, params.selections, params.seed, params.resamples)
        parts.append(table.assign(control=control))
    write_csv(pd.concat(parts, ignore_index=True), snakemake.output.table)
    job.record(controls=list(params.controls))
