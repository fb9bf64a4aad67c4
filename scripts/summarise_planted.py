"""Tabulate which selection finds which kind of planted neuron, and what the planted neurons do."""

import pandas as pd

from knatlas.job import Job
from knatlas.statistics.planted import summarise_effects, summarise_planted
from knatlas.storage import read_table, write_csv

with Job(snakemake) as job:
    inputs, output, options = snakemake.input, snakemake.output, (snakemake.params.seed, snakemake.params.resamples)
    ranks, sets, plants = (
        pd.concat([read_table(path) for path in paths], ignore_index=True)
        for paths in (inputs.ranks, inputs.sets, inputs.plants)
    )
    write_csv(summarise_planted(ranks, sets, *options), output.localization)
    write_csv(summarise_effects(plants, *options), output.effects)
    job.record(ranks=len(ranks))
