"""Choose the facts whose neurons are searched in a model, and deal them out to shards."""

from knatlas.job import Job
from knatlas.models.known import choose_facts
from knatlas.storage import read_table, write_table

with Job(snakemake) as job:
    known = read_table(snakemake.input.known)
    facts = choose_facts(known, snakemake.params.localisation, snakemake.params.shards, snakemake.params.seed)
    write_table(facts, snakemake.output.facts, {"model": snakemake.wildcards.model})
    job.record(facts=len(facts))
