"""Gather a model's attribution shards into one file of scores over facts and languages."""

from knatlas.job import Job
from knatlas.selection.gathering import gather_shards
from knatlas.storage import write_table

with Job(snakemake) as job:
    shards, output = list(snakemake.input.shards), snakemake.output
    metadata, queries = gather_shards(shards, list(snakemake.params.languages), output.scores)
    write_table(queries, output.queries, {"model": metadata["model"]})
    job.record(facts=len(metadata["facts"]))
