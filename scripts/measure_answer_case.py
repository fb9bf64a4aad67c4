"""Measure P of answers as written and in lower case, before and after a fact's neurons are suppressed."""

from knatlas.experiments.answer_case import AnswerCase, measure_answer_case
from knatlas.job import Job
from knatlas.models.devices import use_threads
from knatlas.models.loading import load_model
from knatlas.models.sources import model_identity, read_source_record
from knatlas.selection.neuron_set import read_neuron_sets
from knatlas.storage import read_json, read_table, write_table

with Job(snakemake) as job:
    use_threads(snakemake.threads)
    params, record = snakemake.params, read_json(snakemake.input.model[0])
    identity, settings = model_identity(record), AnswerCase(**params.settings)
    model = load_model(read_source_record(record), params.dtype, snakemake.resources.device, job.log)
    prompts = read_table(snakemake.input.prompts).query("language in @params.languages and kind == @model.kind")
    sets, progress = read_neuron_sets(snakemake.input.neurons), job.progress("measuring answers in both cases")
    places = {"positions": params.positions, "site": params.site}
    rows = measure_answer_case(model, sets, prompts, settings, progress, snakemake.resources.batch_rows, **places)
    write_table(rows, snakemake.output.measurements, {"model": identity, "settings": dict(params.settings)})
    job.record(model=identity, device=str(model.device), measurements=len(rows))
