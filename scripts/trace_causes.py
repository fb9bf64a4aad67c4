"""Trace which hidden states a model recalls facts with, under noise on the subject's embeddings."""

from knatlas.experiments.causal_tracing import CausalTracing, trace_causes
from knatlas.facts.known_1000 import read_known_1000
from knatlas.job import Job
from knatlas.models.devices import use_threads
from knatlas.models.loading import load_model
from knatlas.models.sources import model_identity, read_source_record
from knatlas.storage import read_json, read_table, write_table

with Job(snakemake) as job:
    use_threads(snakemake.threads)
    params, record = snakemake.params, read_json(snakemake.input.model[0])
    identity, settings = model_identity(record), CausalTracing(**params.settings)
    model = load_model(read_source_record(record), params.dtype, snakemake.resources.device, job.log)
    if known := params.known:
        prompts, facts = read_known_1000(known, model.kind), None
    else:
        prompts, facts = read_table(snakemake.input.prompts), read_table(snakemake.input.facts)
        prompts = prompts.query("language in @params.languages and kind == @model.kind")
    progress = job.progress(f"tracing causes in {snakemake.wildcards.model}")
    rows = trace_causes(model, prompts, facts, settings, params.seed, progress, snakemake.resources.batch_rows)
    write_table(rows, snakemake.output.measurements, {"model": identity, "settings": dict(params.settings)})
    job.record(model=identity, device=str(model.device), measurements=len(rows))
