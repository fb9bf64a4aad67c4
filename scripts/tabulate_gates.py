"""Put the gates of all trained models into one table."""

import pandas as pd

from knatlas.job import Job
from knatlas.storage import read_csv, write_csv

with Job(snakemake) as job:
    pairs = zip(snakemake.params.models, snakemake.input.gates, strict=True)
    tables = [read_csv(path).assign(model=model) for model, path in pairs]
    gates = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["model", "gate"])
    write_csv(gates[["model", *(name for name in gates if name != "model")]], snakemake.output.table)
