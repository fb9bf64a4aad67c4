"""Ablate neurons one at a time and in growing sets, and measure P(answer)."""

from knatlas.experiments.ablations import values_with
from knatlas.experiments.evaluation import evaluate_with
from knatlas.experiments.fidelity import measure_fidelity
from knatlas.job import Job
from knatlas.models.devices import use_threads
from knatlas.models.loading import load_model
from knatlas.models.sources import model_identity, read_source_record
from knatlas.selection.scores import read_scores
from knatlas.storage import read_json, read_table, write_table

with Job(snakemake) as job:
    use_threads(snakemake.threads)
    params, record, output = snakemake.params, read_json(snakemake.input.model[0]), snakemake.output
    identity = model_identity(record)
    model = load_model(read_source_record(record), params.dtype, snakemake.resources.device, job.log)
    prompts = read_table(snakemake.input.prompts).query("language in @params.languages and kind == @model.kind")
    how = (snakemake.resources.batch_rows, params.positions, params.site)
    evaluate, values_of = evaluate_with(model, prompts, *how), values_with(model, prompts, *how)
    scores, settings = read_scores(snakemake.input.scores), {**params.settings, "languages": params.languages}
    progress = job.progress(f"ablating neurons of {snakemake.wildcards.model}")
    measured = measure_fidelity(scores, prompts, evaluate, values_of, settings, params.seed, progress)
    write_table(measured.effects, output.effects, {"model": identity, "shape": list(scores.shape)})
    write_table(measured.curves, output.curves, {"model": identity})
    job.record(model=identity, device=str(model.device), measurements=len(measured.effects) + len(measured.curves))
