"""Trace which hidden states a model recalls facts with, under noise on the subject's embeddings."""

from knatlas.experiments.causal_tracing import CausalTracing, trace_causes
from knatlas.experiments.traced_facts import usable_facts
from knatlas.facts.controls import PROMPT_CONTROLS
from knatlas.facts.known_1000 import controlled_known_1000, read_known_1000
from knatlas.job import Job
from knatlas.models.devices import use_threads
from knatlas.models.loading import load_model
from knatlas.models.sources import model_identity, read_source_record
from knatlas.storage import read_json, read_table, write_table

with Job(snakemake) as job:
    use_threads(snakemake.threads)
    params, record, control = snakemake.params, read_json(snakemake.input.model[0]), snakemake.wildcards.get("control")
    identity, settings = model_identity(record), CausalTracing(**params.settings)
    model = load_model(read_source_record(record), params.dtype, snakemake.resources.device, job.log)
    if known := params.known:
        prompts, facts = read_known_1000(known, model.kind), None
        prompts = controlled_known_1000(prompts, control, params.seed) if control in PROMPT_CONTROLS else prompts
    else:
        prompts, facts = read_table(snakemake.input.prompts), read_table(snakemake.input.facts)
        prompts = prompts.query("language in @params.languages and kind == @model.kind")
    # a control takes the facts that count in the real trace
    only = usable_facts(read_table(snakemake.input.traced), settings.min_drop) if control else None
    progress = job.progress(f"tracing causes in {snakemake.wildcards.model}")
    rows = trace_causes(model, prompts, facts, settings, params.seed, progress, snakemake.resources.batch_rows, only)
    write_table(rows, snakemake.output.measurements, {"model": identity, "settings": dict(params.settings)})
    job.record(model=identity, device=str(model.device), measurements=len(rows))
