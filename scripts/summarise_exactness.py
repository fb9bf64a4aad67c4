"""Summarise the completeness errors of the attributions of all models."""

import pandas as pd

from knatlas.job import Job
from knatlas.statistics.exactness import summarise_exactness
from knatlas.storage import read_table, write_csv

with Job(snakemake) as job:
    pairs = zip(snakemake.params.models, snakemake.input.queries, strict=True)
    queries = pd.concat([read_table(path).assign(model=model) for model, path in pairs], ignore_index=True)
    write_csv(summarise_exactness(queries, snakemake.params.seed, snakemake.params.resamples), snakemake.output.table)
