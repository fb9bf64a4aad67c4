"""Counterfactual rewrites in CounterFact's form: the first of a file, or made from the study's own facts."""

from knatlas.facts.counterfact import as_counterfact, counterfact_of_facts, facts_known, read_counterfact
from knatlas.job import Job
from knatlas.storage import read_table, write_text

with Job(snakemake) as job:
    params, given = snakemake.params, snakemake.input
    if params.path is None:
        asked = facts_known([read_table(path) for path in given.known], params.language, params.known_by)
        facts, templates = read_table(given.facts), read_table(given.templates)
        records = counterfact_of_facts(facts, templates, params.seed, params.records, params.language, asked)
    else:
        records = read_counterfact(params.path, params.records)
    write_text(as_counterfact(records), snakemake.output.counterfact)
    n_alone = sum(not record.neighbours for record in records)
    job.log(f"{len(records)} records, {n_alone} of them without neighbourhood prompts")
    job.record(records=len(records), without_neighbours=n_alone)
