"""Enhance each fact's neurons in low-resource languages: its answers before and after, and facts to look at."""

from knatlas.experiments.cases import show_cases
from knatlas.experiments.enhancement import Enhancement, enhance_answers
from knatlas.experiments.evaluation import evaluate_with
from knatlas.experiments.top_answers import predict_with, top_of_with
from knatlas.job import Job
from knatlas.models.devices import use_threads
from knatlas.models.loading import load_model
from knatlas.models.sources import model_identity, read_source_record
from knatlas.selection.neuron_set import read_neuron_sets
from knatlas.storage import read_json, read_table, write_table

with Job(snakemake) as job:
    use_threads(snakemake.threads)
    params, record = snakemake.params, read_json(snakemake.input.model[0])
    settings, identity = Enhancement(**params.settings), model_identity(record)
    model = load_model(read_source_record(record), params.dtype, snakemake.resources.device, job.log)
    prompts = read_table(snakemake.input.prompts).query("language in @params.languages and kind == @model.kind")
    sets = [read_neuron_sets(path) for path in snakemake.input.neurons]
    how = (model, prompts, snakemake.resources.batch_rows, params.positions, params.site)
    predict = predict_with(*how, settings.notion) if settings.is_predicted else None
    progress = job.progress(f"enhancing {snakemake.wildcards.model}")
    measurements = enhance_answers(sets, prompts, evaluate_with(*how), settings, predict, progress)
    cases = show_cases(measurements, sets, prompts, top_of_with(*how, settings.top), settings)
    origin = {"model": identity, "settings": dict(params.settings)}
    write_table(measurements, snakemake.output.measurements, origin)
    write_table(cases, snakemake.output.cases, origin)
    job.record(model=identity, device=str(model.device), measurements=len(measurements))
