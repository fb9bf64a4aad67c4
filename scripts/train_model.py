"""Train an embedded model on the facts, and stop the study with the figures when it misses one of its gates."""

from knatlas.job import Job
from knatlas.models.embedded.gates import require_gates
from knatlas.models.embedded.recipe import read_recipe
from knatlas.models.embedded.training import train_embedded
from knatlas.models.sources import resolve_model, source_record
from knatlas.storage import read_table, write_csv, write_json, write_table

with Job(snakemake) as job:
    name, params, output = snakemake.wildcards.model, snakemake.params, snakemake.output
    facts, templates = read_table(snakemake.input.facts), read_table(snakemake.input.templates)
    recipe = read_recipe(params.recipe, f"catalog/models.yaml: {name}.recipe")
    progress = job.progress(f"training {name}")
    report = train_embedded(recipe, facts, templates, params.languages, params.seed, output.weights, progress)
    job.log(report.gates.to_string())
    require_gates(report.gates, name)
    write_table(report.splits, output.splits, {"model": name, "seed": params.seed})
    write_csv(report.gates, output.gates)
    write_json(source_record(resolve_model(name, "folder", output.weights)), output.source)
    job.record(steps=report.steps, loss=report.loss, vocabulary=report.n_tokens, sentences=report.n_sentences)
