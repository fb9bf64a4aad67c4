"""Write the data card of a study: what its facts and queries are made of, what was dropped, and how to build them."""

from pathlib import Path

from knatlas.facts.card import Build, data_card
from knatlas.facts.parts import read_parts, sha256_of
from knatlas.job import Job
from knatlas.storage import read_csv, read_table, write_text

with Job(snakemake) as job:
    given, params = snakemake.input, snakemake.params
    settings = {name: params[name] for name in ("study", "seed", "languages", "models", "facts", "prompts")}
    built = [given.facts, given.templates, given.prompts]
    tables = [read_table(path) for path in built] + [
        read_csv(path) for path in (given.cleaning, given.prompt_steps, given.modes)
    ]
    parts = read_parts(params.facts["source"], list(given.datasets))
    files = {Path(path).name: sha256_of(path) for path in built}
    write_text(data_card(Build(settings, *tables, parts, files)), snakemake.output.card)
    job.record(parts=[part.name for part in parts])
