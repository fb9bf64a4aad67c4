"""Suppress and enhance the neurons of every selection, and measure P(answer) of their fact and of other facts."""

from knatlas.experiments.evaluation import evaluate_with
from knatlas.experiments.manipulation import manipulate
from knatlas.job import Job
from knatlas.models.devices import use_threads
from knatlas.models.loading import load_model
from knatlas.models.sources import model_identity, read_source_record
from knatlas.selection.neuron_set import read_neuron_sets
from knatlas.storage import read_json, read_table, write_table

with Job(snakemake) as job:
    use_threads(snakemake.threads)
    params, record = snakemake.params, read_json(snakemake.input.model[0])
    identity = model_identity(record)
    model = load_model(read_source_record(record), params.dtype, snakemake.resources.device, job.log)
    prompts = read_table(snakemake.input.prompts).query("language in @params.languages and kind == @model.kind")
    sets = [read_neuron_sets(path) for path in snakemake.input.neurons]
    evaluate = evaluate_with(model, prompts, snakemake.resources.batch_rows, params.positions, params.site)
    factors = {"suppress": params.suppress_factor, "enhance": params.enhance_factor}
    progress = job.progress(f"manipulating {snakemake.wildcards.model}")
    measurements = manipulate(sets, prompts, evaluate, factors, params.seed, progress)
    write_table(measurements, snakemake.output.measurements, {"model": identity, "factors": factors})
    job.record(model=identity, device=str(model.device), measurements=len(measurements))
