"""Tabulate cross-lingual edits in three readings, beside what AMIG's Table 2 prints, and sizes of common sets."""

import pandas as pd

from knatlas.job import Job
from knatlas.statistics.arrangement import arranged
from knatlas.statistics.crosslingual import likn_sizes, summarise_crosslingual
from knatlas.statistics.printed import beside_paper
from knatlas.storage import read_table, write_csv

with Job(snakemake) as job:
    params, output = snakemake.params, snakemake.output
    rows = pd.concat([read_table(path) for path in snakemake.input.measurements], ignore_index=True)
    settings = {**params.success_rate, "facts": params.facts}
    table = beside_paper(summarise_crosslingual(rows, settings, params.seed, params.resamples), "amig", 2)
    shown = arranged(table[table["statistic"] == "sr"], ["reading", "pair", "language", "method"], "model")
    write_csv(table, output.table, shown)
    write_csv(likn_sizes(rows), output.sizes)
    job.record(measurements=len(rows))
