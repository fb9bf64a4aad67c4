"""Judge the study from its tables: badges that say how far to trust it, and verdicts on the papers' claims."""

from pathlib import Path

from knatlas.catalog import read_catalog
from knatlas.job import Job
from knatlas.reporting.badges import judge_badges
from knatlas.reporting.claims import judge_claims
from knatlas.storage import read_csv, write_csv

with Job(snakemake) as job:
    tables = {Path(path).stem: read_csv(path) for path in snakemake.input.tables}
    languages = snakemake.params.languages
    badges = judge_badges(tables, list(languages), snakemake.params.selection)
    several = {model: len(known) > 1 for model, known in languages.items()}
    claims = judge_claims(read_catalog("claims"), tables, several)
    write_csv(badges, snakemake.output.badges)
    write_csv(claims, snakemake.output.claims)
    job.record(badges=len(badges), claims=len(claims))
