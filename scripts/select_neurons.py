"""Choose neurons by every selection of the study, and write how each set came about."""

import pandas as pd

from knatlas.job import Job
from knatlas.selection.scores import read_scores
from knatlas.selection.select import select
from knatlas.storage import write_csv, write_table

with Job(snakemake) as job:
    scores = read_scores(snakemake.input.scores)
    settings, summaries = snakemake.params.selection, []
    chosen = select(scores, settings, snakemake.params.seed)
    for path, (sets, summary) in zip(snakemake.output.neurons, chosen, strict=True):
        write_table(sets.table, path, sets.metadata)
        summaries.append(summary)
        job.log(f"{sets.selection}: {(~summary['is_certified']).sum()} of {len(summary)} sets are not certified")
    write_csv(pd.concat(summaries, ignore_index=True), snakemake.output.summary)
