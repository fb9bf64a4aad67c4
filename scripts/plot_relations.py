"""Draw the change of P(answer) by relation: the figure that the rule names."""

from knatlas.figures.relations import FIGURES
from knatlas.job import Job
from knatlas.storage import read_csv

with Job(snakemake) as job:
    table = read_csv(snakemake.input.table)
    table = table[table["model"].isin(snakemake.params.models)]
    # one table, or none where the study has no control for these models
    nulls = dict(zip(["controls"], map(read_csv, snakemake.input.controls), strict=False))
    FIGURES[snakemake.params.figure](table, snakemake.output.pdf.removesuffix(".pdf"), **nulls)
