"""P(answer) of every prompt without and with completed examples before it."""

from knatlas.experiments.context_gain import ContextGain, measure_context_gain
from knatlas.job import Job
from knatlas.models.devices import use_threads
from knatlas.models.loading import load_model
from knatlas.models.sources import model_identity, read_source_record
from knatlas.storage import read_json, read_table, write_table

with Job(snakemake) as job:
    use_threads(snakemake.threads)
    params, record = snakemake.params, read_json(snakemake.input.model[0])
    identity, settings = model_identity(record), ContextGain(**params.settings)
    model = load_model(read_source_record(record), params.dtype, snakemake.resources.device, job.log)
    prompts = read_table(snakemake.input.prompts).query("language in @params.languages and kind == @model.kind")
    templates = read_table(snakemake.input.templates)
    progress = job.progress(f"examples before the prompts of {snakemake.wildcards.model}")
    rows = measure_context_gain(
        model, prompts, settings, params.seed, progress, snakemake.resources.batch_rows, templates
    )
    write_table(rows, snakemake.output.measurements, {"model": identity, "settings": dict(params.settings)})
    job.record(
        model=identity, device=str(model.device), measurements=len(rows), too_long=int(rows["is_too_long"].sum())
    )
