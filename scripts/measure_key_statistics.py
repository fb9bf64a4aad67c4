"""The second moment of a model's keys (the neurons of a layer) over a text: what ROME weighs directions by."""

from pathlib import Path

from knatlas.interventions.key_statistics import (
    OWN_TEXT,
    KeyText,
    completed_sentences,
    measure_key_statistics,
    read_documents,
    write_key_statistics,
)
from knatlas.interventions.rome import layer_number
from knatlas.job import Job
from knatlas.models.devices import use_threads
from knatlas.models.loading import load_model
from knatlas.models.sources import model_identity, read_source_record
from knatlas.storage import read_json, read_table

with Job(snakemake) as job:
    use_threads(snakemake.threads)
    params, record = snakemake.params, read_json(snakemake.input.model[0])
    identity, settings = model_identity(record), KeyText(**params.settings)
    model = load_model(read_source_record(record), params.dtype, snakemake.resources.device, job.log)
    layers = sorted({layer_number(layer, model.n_layers, f"key_statistics: {model.name}") for layer in params.layers})
    if settings.corpus is None:
        prompts = read_table(snakemake.input.prompts).query("language in @params.languages and kind == @model.kind")
        texts, source = completed_sentences(prompts), OWN_TEXT
    else:
        texts, source = read_documents(settings.corpus, settings.max_documents, params.seed), Path(settings.corpus).name
    progress, rows = job.progress(f"key statistics of {model.name}"), snakemake.resources.batch_rows
    statistics = measure_key_statistics(model, texts, layers, settings, source, rows, progress)
    write_key_statistics(statistics, snakemake.output.statistics)
    job.record(model=identity, device=str(model.device), tokens=statistics.n_tokens, layers=layers)
