"""Read facts and templates from the study's source, sample them, and write what every step of the cleaning kept."""

from knatlas.facts.sources import read_source
from knatlas.job import Job
from knatlas.storage import write_csv, write_table

with Job(snakemake) as job:
    settings, languages = snakemake.params.facts, snakemake.params.languages
    datasets = list(snakemake.input.datasets)
    facts, templates, steps = read_source(settings, languages, snakemake.params.seed, datasets)
    metadata = {"source": settings["source"], "languages": languages}
    write_table(facts, snakemake.output.facts, metadata)
    write_table(templates, snakemake.output.templates, metadata)
    write_csv(steps, snakemake.output.steps)
    job.record(facts=int(facts["fact"].nunique()), templates=len(templates))
