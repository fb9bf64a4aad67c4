"""Gather a model's attribution shards into one file of scores over facts and languages."""

from knatlas.job import Job
from knatlas.selection.scores import gather_shards
from knatlas.storage import write_arrays, write_table

with Job(snakemake) as job:
    scores, metadata, queries = gather_shards(list(snakemake.input.shards), snakemake.params.languages)
    write_arrays(scores, snakemake.output.scores, metadata)
    write_table(queries, snakemake.output.queries, {"model": metadata["model"]})
    job.record(facts=len(metadata["facts"]))
