"""Search each fact's AMIG neurons for degenerate ones, and as many random neurons beside them."""

from knatlas.experiments.degenerate import search_degenerate
from knatlas.experiments.evaluation import evaluate_with
from knatlas.job import Job
from knatlas.models.devices import use_threads
from knatlas.models.loading import load_model
from knatlas.models.sources import model_identity, read_source_record
from knatlas.selection.degenerate import Thresholds
from knatlas.selection.neuron_set import read_neuron_sets
from knatlas.storage import read_json, read_table, write_table

with Job(snakemake) as job:
    use_threads(snakemake.threads)
    params, output, record = snakemake.params, snakemake.output, read_json(snakemake.input.model[0])
    identity, thresholds = model_identity(record), Thresholds(**params.thresholds)
    model = load_model(read_source_record(record), params.dtype, snakemake.resources.device, job.log)
    prompts = read_table(snakemake.input.prompts).query("language in @params.languages and kind == @model.kind")
    evaluate = evaluate_with(model, prompts, snakemake.resources.batch_rows, params.positions, params.site)
    progress = job.progress(f"searching {snakemake.wildcards.model}")
    reference = read_neuron_sets(snakemake.input.neurons)
    found = search_degenerate(reference, prompts, evaluate, thresholds, params.suppress_factor, params.seed, progress)
    origin = {"model": identity, "thresholds": dict(params.thresholds), "suppress_factor": params.suppress_factor}
    write_table(found.pairs, output.pairs, origin)
    write_table(found.clusters, output.clusters, origin)
    write_table(found.facts, output.facts, origin)
    write_table(found.sets.table, output.neurons, found.sets.metadata)
    job.record(model=identity, device=str(model.device), pairs=len(found.pairs), facts=len(found.facts))
