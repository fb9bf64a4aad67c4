"""Draw the change of P(answer) by suppression and enhancement, per model, language and selection."""

from knatlas.figures.manipulation import plot_manipulation
from knatlas.job import Job
from knatlas.storage import read_csv

with Job(snakemake) as job:
    table = read_csv(snakemake.input.table)
    table = table[table["model"].isin(snakemake.params.models)]
    smallest = snakemake.params.min_p_before
    # one table, or none where the study has no control for these models
    controls = next(map(read_csv, snakemake.input.controls), None)
    plot_manipulation(table, snakemake.output.pdf.removesuffix(".pdf"), min_p_before=smallest, controls=controls)
