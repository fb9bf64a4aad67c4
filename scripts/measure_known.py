"""P(answer) of every query, whether the model answers it rightly, and the rank among the relation's objects."""

from knatlas.job import Job
from knatlas.models.answers import known_facts
from knatlas.models.devices import use_threads
from knatlas.models.loading import load_model
from knatlas.models.sources import model_identity, read_source_record
from knatlas.storage import read_json, read_table, write_table

with Job(snakemake) as job:
    use_threads(snakemake.threads)
    record = read_json(snakemake.input.model[0])
    identity = model_identity(record)
    model = load_model(read_source_record(record), snakemake.params.dtype, snakemake.resources.device, job.log)
    prompts = read_table(snakemake.input.prompts).query(
        "language in @snakemake.params.languages and kind == @model.kind"
    )
    known = known_facts(model, prompts, snakemake.resources.batch_rows)
    write_table(known, snakemake.output.known, {"model": identity})
    job.record(model=identity, device=str(model.device), dtype=snakemake.params.dtype)
