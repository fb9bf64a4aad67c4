"""Summarise the sizes of the neuron sets of all models."""

import pandas as pd

from knatlas.job import Job
from knatlas.statistics.set_sizes import summarise_sizes
from knatlas.storage import read_csv, write_csv

with Job(snakemake) as job:
    pairs = zip(snakemake.params.models, snakemake.input.summaries, strict=True)
    summaries = pd.concat([read_csv(path).assign(model=model) for model, path in pairs], ignore_index=True)
    write_csv(summarise_sizes(summaries, snakemake.params.seed, snakemake.params.resamples), snakemake.output.table)
