"""Attribute the queries of one shard of facts, combined over the paraphrases of each fact and language."""

from dataclasses import asdict

from knatlas.attribution.configured import configured_keep, configured_methods, configured_screening
from knatlas.attribution.partial import PartialResults
from knatlas.attribution.shard import Batching, attribute_shard
from knatlas.job import Job
from knatlas.models.devices import use_threads
from knatlas.models.encoding import encode_prompts
from knatlas.models.loading import load_model
from knatlas.models.sources import model_identity, read_source_record
from knatlas.storage import read_json, read_table, write_arrays, write_table

with Job(snakemake) as job:
    use_threads(snakemake.threads)
    params, resources, shard = snakemake.params, snakemake.resources, int(snakemake.wildcards.shard)
    settings, output, languages = params.attribution, snakemake.output, list(params.languages)
    record = read_json(snakemake.input.model[0])
    identity = model_identity(record)
    model = load_model(read_source_record(record), params.dtype, resources.device, job.log)
    facts = read_table(snakemake.input.facts).query("shard == @shard")["fact"]
    prompts = read_table(snakemake.input.prompts)
    prompts = prompts.query("fact in @facts and language in @languages and kind == @model.kind")
    methods, keep = configured_methods(settings, model.kind), configured_keep(settings, languages)
    metadata = {"model": identity, "dtype": params.dtype, "methods": [asdict(method) for method in methods]}
    decisive = {**settings, **metadata, "languages": languages, "code": params.code}
    partial, progress = PartialResults(output.scores, decisive, job.log), job.progress(f"attributing {model.name}")
    batching, screening = (
        Batching(resources.batch_queries, resources.batch_rows),
        configured_screening(settings, model.kind),
    )
    options = (batching, settings["completeness"], partial, progress, screening)
    queries = encode_prompts(model, prompts)
    result = attribute_shard(model, queries, methods, keep, settings["refine_threshold"], *options)
    metadata |= {"facts": result.facts, **keep.metadata(model.n_layers, model.n_neurons)}
    write_arrays(result.arrays, output.scores, metadata)
    write_table(result.queries, output.queries, {"model": identity, "languages": languages})
    partial.remove()
    job.record(model=identity, device=str(model.device), queries=len(queries), resumed_queries=result.n_resumed)
