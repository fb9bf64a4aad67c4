"""Score right and wrong objects of every fact at the degenerate neurons of its relation."""

from dataclasses import asdict

from knatlas.attribution.configured import configured_methods
from knatlas.experiments.fact_checking import choose_objects, degenerate_neurons, score_candidates
from knatlas.job import Job
from knatlas.models.devices import use_threads
from knatlas.models.loading import load_model
from knatlas.models.sources import model_identity, read_source_record
from knatlas.storage import read_json, read_table, write_table

with Job(snakemake) as job:
    use_threads(snakemake.threads)
    params, resources, record = snakemake.params, snakemake.resources, read_json(snakemake.input.model[0])
    identity = model_identity(record)
    model = load_model(read_source_record(record), params.dtype, resources.device, job.log)
    (method,) = configured_methods({**params.attribution, "run": ["amig"]}, model.kind)
    prompts = read_table(snakemake.input.prompts).query("language in @params.languages and kind == @model.kind")
    objects = choose_objects(prompts, read_table(snakemake.input.facts), params.wrong_objects, params.seed)
    neurons = degenerate_neurons(read_table(snakemake.input.clusters))
    progress, rows = job.progress(f"scoring {model.name}"), resources.batch_rows
    found = score_candidates(model, prompts, objects, neurons, method, rows, progress=progress)
    metadata = {"model": identity, "dtype": params.dtype, "method": asdict(method)}
    write_table(found.candidates, snakemake.output.candidates, metadata)
    write_table(found.scores, snakemake.output.scores, metadata)
    n_wrong = (objects.groupby(["fact", "language"]).size() - 1).tolist()
    n_short = sum(n < params.wrong_objects for n in n_wrong)
    job.record(model=identity, device=str(model.device), candidates=len(objects), with_fewer_objects=n_short)
