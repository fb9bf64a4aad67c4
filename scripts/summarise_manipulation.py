"""Summarise suppression and enhancement over facts, and set the found neurons against their controls."""

import pandas as pd

from knatlas.job import Job
from knatlas.statistics.separation import separate_controls
from knatlas.statistics.summaries import SENSITIVITY, summarise_by_relation, summarise_manipulation
from knatlas.storage import read_table, write_csv

with Job(snakemake) as job:
    params = snakemake.params
    rows = pd.concat([read_table(path) for path in snakemake.input.measurements], ignore_index=True)
    smallest = (params.min_p_before, SENSITIVITY)
    write_csv(summarise_manipulation(rows, params.seed, params.resamples, smallest), snakemake.output.table)
    relations = summarise_by_relation(rows, params.seed, params.resamples, params.min_p_before)
    write_csv(relations, snakemake.output.relations)
    separation = separate_controls(rows, params.reference, params.seed, params.resamples, params.min_p_before)
    write_csv(separation, snakemake.output.separation)
    job.record(measurements=len(rows))
