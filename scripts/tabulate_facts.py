"""Put the counts after every step of the data preparation into one table, with the kinds of prompts that came out."""

import pandas as pd

from knatlas.job import Job
from knatlas.storage import read_csv, write_csv

with Job(snakemake) as job:
    stages = {"facts": snakemake.input.cleaning, "prompts": snakemake.input.prompts, "modes": snakemake.input.modes}
    tables = [read_csv(path).assign(stage=stage) for stage, path in stages.items()]
    table = pd.concat(tables, ignore_index=True)
    write_csv(table[["stage", *(name for name in table if name != "stage")]], snakemake.output.table)
