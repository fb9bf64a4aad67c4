"""Tabulate the mean indirect effects of hidden states under each negative control."""

import pandas as pd

from knatlas.job import Job
from knatlas.statistics.causal_tracing import summarise_tracing
from knatlas.storage import read_table, write_csv

with Job(snakemake) as job:
    params, parts = snakemake.params, []
    for control in params.controls:
        rows = pd.concat([read_table(path) for path in snakemake.input[control]], ignore_index=True)
        # the facts were chosen by the real trace, not by what the control does
        parts.append(summarise_tracing(rows, None, params.seed, params.resamples).assign(control=control))
    write_csv(pd.concat(parts, ignore_index=True), snakemake.output.table)
    job.record(controls=list(params.controls))
