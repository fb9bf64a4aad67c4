"""Tabulate reliability, generality and locality of erased and updated facts (MATRICE, Tables III and IV)."""

import pandas as pd

from knatlas.job import Job
from knatlas.statistics.printed import beside_paper
from knatlas.statistics.weight_edits import EditSummary, summarise_edits
from knatlas.storage import read_table, write_csv

with Job(snakemake) as job:
    params, output = snakemake.params, snakemake.output
    rows = pd.concat([read_table(path) for path in snakemake.input.measurements], ignore_index=True)
    tables = summarise_edits(rows, EditSummary(**params.settings), params.seed, params.resamples)
    write_csv(beside_paper(tables.erase, "matrice", 3), output.table3)
    write_csv(beside_paper(tables.update, "matrice", 4), output.table4)
    job.record(measurements=len(rows))
