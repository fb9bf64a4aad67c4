"""Write down an untrained copy of a model: its configuration and tokenizer, and the seed of its weights."""

from knatlas.job import Job
from knatlas.models.sources import model_identity, read_source_record, source_record, untrained_copy
from knatlas.storage import read_json, write_json

with Job(snakemake) as job:
    trained = read_source_record(read_json(snakemake.input.source))
    record = source_record(untrained_copy(trained, snakemake.params.seed))
    write_json(record, snakemake.output.source)
    job.record(model=model_identity(record))
