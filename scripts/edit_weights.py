"""Erase and update facts in the value vectors of every selection's neurons, and measure the answers."""

from knatlas.experiments.weight_edits import WeightEdits, edit_facts
from knatlas.interventions.key_statistics import read_key_statistics
from knatlas.job import Job
from knatlas.models.devices import use_threads
from knatlas.models.loading import load_model
from knatlas.models.sources import model_identity, read_source_record
from knatlas.selection.neuron_set import read_neuron_sets
from knatlas.storage import read_json, read_table, write_table

with Job(snakemake) as job:
    use_threads(snakemake.threads)
    params, record = snakemake.params, read_json(snakemake.input.model[0])
    identity, settings = model_identity(record), WeightEdits(**params.settings)
    model = load_model(read_source_record(record), params.dtype, snakemake.resources.device, job.log)
    prompts = read_table(snakemake.input.prompts).query("language in @params.languages and kind == @model.kind")
    sets = [read_neuron_sets(path) for path in snakemake.input.neurons]
    statistics = [read_key_statistics(path) for path in snakemake.input.get("statistics", [])]
    facts = read_table(snakemake.input.facts) if snakemake.input.get("facts") else None
    progress = job.progress(f"editing the weights of {snakemake.wildcards.model}")
    given = (params.seed, progress, snakemake.resources.batch_rows, statistics[0] if statistics else None, facts)
    edits = edit_facts(model, sets, prompts, settings, *given, job.log)
    write_table(edits, snakemake.output.measurements, {"model": identity, "settings": dict(params.settings)})
    job.record(model=identity, device=str(model.device), measurements=len(edits))
