"""Change the facts into those of a negative control: other answers, or made-up subjects."""

from knatlas.facts.controls import control_facts
from knatlas.job import Job
from knatlas.storage import read_metadata, read_table, write_csv, write_table

with Job(snakemake) as job:
    given, output, control = snakemake.input.facts, snakemake.output, snakemake.wildcards.control
    facts, changes = control_facts(control, read_table(given), snakemake.params.seed)
    write_table(facts, output.facts, read_metadata(given))
    write_csv(changes, output.changes)
    total = changes.set_index("relation").loc["all"]
    job.log(f"{control}: {total['changed']} facts changed, {total['left_out']} left out that could not be")
    job.record(facts=int(total["changed"]), left_out=int(total["left_out"]))
