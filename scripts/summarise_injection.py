"""Tabulate what models learned and forgot when chosen neurons were fine-tuned (Table V of MATRICE)."""

import pandas as pd

from knatlas.job import Job
from knatlas.statistics.injection import summarise_curves, summarise_injection
from knatlas.statistics.printed import beside_paper
from knatlas.storage import read_table, write_csv

with Job(snakemake) as job:
    params, output = snakemake.params, snakemake.output
    rows = pd.concat([read_table(path) for path in snakemake.input.measurements], ignore_index=True)
    curves = pd.concat([read_table(path) for path in snakemake.input.curves], ignore_index=True)
    table = summarise_injection(rows, params.seed, params.resamples)
    write_csv(beside_paper(table, "matrice", 5), output.table)
    write_csv(summarise_curves(curves), output.curves_table)
    job.record(measurements=len(rows), steps=len(curves))
