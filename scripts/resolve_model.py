"""Find the weights of a model on the hub or in a folder, and write down which they are."""

from knatlas.job import Job
from knatlas.models.sources import check_kind, resolve_model, source_record
from knatlas.storage import write_json

with Job(snakemake) as job:
    record, name = snakemake.params.record, snakemake.wildcards.model
    location = record["id"] if record["origin"] == "hub" else record["folder"]
    revision = record.get("revision") if record["origin"] == "hub" else None
    source = resolve_model(name, record["origin"], location, revision, record.get("weights", "safetensors"))
    check_kind(source, record["kind"])
    write_json(source_record(source), snakemake.output.source)
    job.record(model=source_record(source))
