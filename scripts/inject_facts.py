"""Teach a model what it answers wrongly by fine-tuning chosen neurons alone, and ask for the new and the old."""

from knatlas.experiments.injection import inject
from knatlas.experiments.injection_settings import injection_of
from knatlas.job import Job
from knatlas.models.devices import use_threads
from knatlas.models.loading import load_model
from knatlas.models.sources import model_identity, read_source_record
from knatlas.selection.neuron_set import read_neuron_sets
from knatlas.storage import read_json, read_table, write_table

with Job(snakemake) as job:
    use_threads(snakemake.threads)
    params, output, record = snakemake.params, snakemake.output, read_json(snakemake.input.model[0])
    identity, settings = model_identity(record), injection_of(params.settings)
    model = load_model(read_source_record(record), params.dtype, snakemake.resources.device, job.log)
    prompts = read_table(snakemake.input.prompts).query("language in @params.languages and kind == @model.kind")
    sets = {part.selection: part for part in map(read_neuron_sets, snakemake.input.neurons)}
    progress = job.progress(f"injecting into {snakemake.wildcards.model}")
    injected = inject(model, sets, prompts, settings, params.seed, progress, snakemake.resources.batch_rows)
    origin = {"model": identity, "settings": dict(params.settings)}
    write_table(injected.measurements, output.measurements, origin)
    write_table(injected.curves, output.curves, origin)
    job.record(model=identity, device=str(model.device), measurements=len(injected.measurements))
