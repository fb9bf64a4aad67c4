"""Plan a study before it is run: jobs, operations, hours, memory and disk of every model and stage."""

from pathlib import Path

from knatlas.job import Job
from knatlas.planning.plan import plan_study
from knatlas.storage import write_csv, write_text

with Job(snakemake) as job:
    study, output = snakemake.params.study, snakemake.output
    plan = plan_study(study, Path(output.table).parent)
    write_csv(plan.table, output.table)
    write_text(plan.text(study["study"]), output.text)
    plan.show(study["study"])
