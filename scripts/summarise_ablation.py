"""Tabulate what each uncertainty of MATRICE is worth, beside what its Table II prints."""

import pandas as pd

from knatlas.job import Job
from knatlas.statistics.ablation import summarise_ablation
from knatlas.statistics.arrangement import arranged
from knatlas.statistics.printed import beside_paper
from knatlas.storage import read_table, write_csv

with Job(snakemake) as job:
    rows = pd.concat([read_table(path) for path in snakemake.input.measurements], ignore_index=True)
    table = summarise_ablation(rows, snakemake.params.seed, snakemake.params.resamples)
    table = beside_paper(table, "matrice", 2)
    shown = table[(table["statistic"] == "ratio") & (table["language"] == "all")]
    write_csv(table, snakemake.output.table, arranged(shown, ["selection", "operation"], "model"))
    job.record(measurements=len(rows))
