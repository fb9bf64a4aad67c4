"""Compare what the jobs of a study took with its plan."""

from pathlib import Path

from knatlas.job import Job
from knatlas.planning.comparison import plan_error, show
from knatlas.storage import write_csv

with Job(snakemake) as job:
    table = plan_error(snakemake.params.study, Path(snakemake.output.table).parent)
    write_csv(table, snakemake.output.table)
    show(table)
