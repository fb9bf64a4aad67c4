"""Vary tau, alpha2 and beta2 of MATRICE, and measure what the neurons so selected do to P(answer)."""

from knatlas.experiments.evaluation import evaluate_with
from knatlas.experiments.sweeps import sweep_settings
from knatlas.job import Job
from knatlas.models.devices import use_threads
from knatlas.models.loading import load_model
from knatlas.models.sources import model_identity, read_source_record
from knatlas.selection.scores import read_scores
from knatlas.storage import read_json, read_table, write_table

with Job(snakemake) as job:
    use_threads(snakemake.threads)
    params, record = snakemake.params, read_json(snakemake.input.model[0])
    identity = model_identity(record)
    model = load_model(read_source_record(record), params.dtype, snakemake.resources.device, job.log)
    prompts = read_table(snakemake.input.prompts).query("language in @params.languages and kind == @model.kind")
    evaluate = evaluate_with(model, prompts, snakemake.resources.batch_rows, params.positions, params.site)
    factors = {"suppress": params.suppress_factor, "enhance": params.enhance_factor}
    progress, scores = job.progress(f"sweeping {snakemake.wildcards.model}"), read_scores(snakemake.input.scores)
    measurements = sweep_settings(scores, params.selection, params.sweeps, prompts, evaluate, factors, progress)
    write_table(measurements, snakemake.output.measurements, {"model": identity, "factors": factors})
    job.log(f"{(~measurements['is_certified']).sum()} of {len(measurements)} measurements are of uncertified sets")
    job.record(model=identity, device=str(model.device), measurements=len(measurements))
