"""Take the facts of a negative control from those that are localised in the real model."""

from knatlas.job import Job
from knatlas.models.known import cut_facts
from knatlas.storage import read_table, write_table

with Job(snakemake) as job:
    given, params = snakemake.input, snakemake.params
    facts = cut_facts(read_table(given.facts), read_table(given.prompts), params.facts, params.shards)
    write_table(facts, snakemake.output.facts, {"model": snakemake.wildcards.model})
    job.record(facts=len(facts))
