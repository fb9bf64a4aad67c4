"""Count what facts and queries consist of, language by language, beside what MATRICE's Table I prints."""

import pandas as pd

from knatlas.catalog import read_catalog
from knatlas.facts.composition import as_printed, compose
from knatlas.job import Job
from knatlas.statistics.printed import beside_paper
from knatlas.storage import read_csv, read_table, write_csv

with Job(snakemake) as job:
    facts, prompts = read_table(snakemake.input.facts), read_table(snakemake.input.prompts)
    known = pd.concat([read_table(path) for path in snakemake.input.known], ignore_index=True)
    known = known[known["model"].isin(snakemake.params.models)]
    languages = {code: read_catalog("languages")[code] for code in snakemake.params.languages}
    table = compose(facts, prompts, languages, known, read_csv(snakemake.input.cleaning))
    table = beside_paper(table, "matrice", 1)
    write_csv(table, snakemake.output.table, as_printed(table))
    job.record(facts=int(prompts["fact"].nunique()), queries=len(prompts))
