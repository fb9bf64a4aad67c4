"""Edit facts with the neurons of one language, of two, or common to both, and measure P(answer) in either language."""

from knatlas.experiments.crosslingual import edit_across
from knatlas.experiments.evaluation import evaluate_with
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
    sets = read_neuron_sets(snakemake.input.neurons)
    evaluate = evaluate_with(model, prompts, snakemake.resources.batch_rows, params.positions, params.site)
    factors = {"suppress": params.suppress_factor, "enhance": params.enhance_factor}
    progress = job.progress(f"editing {snakemake.wildcards.model} across languages")
    edits = edit_across(sets, prompts, params.pairs, evaluate, factors, params.overlap, params.seed, progress)
    origin = {"model": identity, "selection": sets.selection, "factors": factors, "overlap": params.overlap}
    write_table(edits, snakemake.output.measurements, origin)
    job.record(model=identity, device=str(model.device), measurements=len(edits))
    missing = [pair for pair in map("-".join, params.pairs) if pair not in set(edits["pair"])]
    job.record(pairs_without_facts=missing)  # they have no rows
