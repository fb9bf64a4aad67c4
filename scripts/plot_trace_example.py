"""Draw the causal traces of single facts, chosen by rule, as maps of tokens by layers."""

import pandas as pd

from knatlas.figures.tracing import choose_examples, plot_trace_examples
from knatlas.job import Job
from knatlas.storage import read_table

with Job(snakemake) as job:
    rows = pd.concat([read_table(path) for path in snakemake.input.measurements], ignore_index=True)
    plot_trace_examples(rows, snakemake.output.pdf.removesuffix(".pdf"), snakemake.params.min_drop)
    job.record(examples=choose_examples(rows, snakemake.params.min_drop).to_dict("records"))
