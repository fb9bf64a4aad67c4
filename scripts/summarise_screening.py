"""Summarise what a screening by atp misses, over the checked queries of all models."""

import pandas as pd

from knatlas.job import Job
from knatlas.statistics.screening import summarise_screening
from knatlas.storage import read_table, write_csv

with Job(snakemake) as job:
    params = snakemake.params
    pairs = zip(params.models, snakemake.input.queries, strict=True)
    queries = pd.concat([read_table(path).assign(model=model) for model, path in pairs], ignore_index=True)
    table = summarise_screening(queries, params.reference, params.kept, params.seed, params.resamples)
    write_csv(table, snakemake.output.table)
