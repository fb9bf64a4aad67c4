"""Attribute the queries of one shard of facts in one language, combined over the paraphrases of each fact."""

from dataclasses import asdict, replace

import torch

from knatlas.attribution.methods import preset
from knatlas.attribution.shard import attribute_shard
from knatlas.job import Job
from knatlas.models.encoding import encode_prompts
from knatlas.models.loading import load_model
from knatlas.models.sources import model_identity, read_source_record
from knatlas.storage import read_json, read_table, write_arrays, write_table

with Job(snakemake) as job:
    torch.set_num_threads(snakemake.threads)
    params, language, shard = snakemake.params, snakemake.wildcards.language, int(snakemake.wildcards.shard)
    record = read_json(snakemake.input.model[0])
    identity = model_identity(record)
    model = load_model(read_source_record(record), params.dtype, snakemake.resources.device)
    facts = read_table(snakemake.input.facts).query("shard == @shard")["fact"]
    prompts = read_table(snakemake.input.prompts)
    prompts = prompts.query("fact in @facts and language == @language and kind == @model.kind")
    methods = [replace(preset(name, params.equations, model.kind), **own) for name, own in params.methods.items()]
    progress, rows = job.progress(f"attributing {model.name} {language}"), snakemake.resources.batch_rows
    queries = encode_prompts(model, prompts)
    result = attribute_shard(model, queries, methods, rows, params.refine_threshold, progress)
    metadata = {"model": identity, "language": language, "facts": result.facts, "dtype": params.dtype}
    metadata["methods"] = [asdict(method) for method in methods]
    write_arrays(result.named_arrays(), snakemake.output.scores, metadata)
    write_table(result.queries, snakemake.output.queries, {"model": identity, "language": language})
    job.record(model=identity, device=str(model.device), queries=len(queries))
