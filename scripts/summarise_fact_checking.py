"""Tabulate how well degenerate neurons tell right objects from wrong ones, beside what AMIG's Table 3 prints."""

import pandas as pd

from knatlas.job import Job
from knatlas.statistics.arrangement import arranged
from knatlas.statistics.fact_checking import check_facts, coverage
from knatlas.statistics.printed import beside_paper
from knatlas.storage import read_table, write_csv

with Job(snakemake) as job:
    params, files, tables, covered = snakemake.params, snakemake.input, [], []
    # one model after the other: scores are many rows
    for paths in zip(files.candidates, files.scores, files.clusters, files.facts, strict=True):
        candidates, scores, clusters, facts = (read_table(path) for path in paths)
        tables.append(check_facts(candidates, scores, clusters, params.settings, params.seed, params.resamples))
        covered.append(coverage(candidates, clusters, facts, params.settings, params.seed))
    table = beside_paper(pd.concat(tables, ignore_index=True), "amig", 3)
    shown = table[table["statistic"] != "threshold"]
    shown = arranged(shown, ["model", "language", "reading", "detector"], "statistic")
    write_csv(table, snakemake.output.table, shown)
    write_csv(pd.concat(covered, ignore_index=True), snakemake.output.coverage)
    job.record(models=len(tables), relations=sum(len(part) for part in covered))
