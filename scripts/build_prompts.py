"""Fill the templates with the facts: one prompt table for masked and for causal models."""

from knatlas.catalog import read_catalog
from knatlas.facts.contexts import PromptForm, form_prompts
from knatlas.facts.prompts import build_prompts, mode_shares
from knatlas.job import Job
from knatlas.storage import read_metadata, read_table, write_csv, write_table

with Job(snakemake) as job:
    facts, templates = read_table(snakemake.input.facts), read_table(snakemake.input.templates)
    languages = {code: read_catalog("languages")[code] for code in read_metadata(snakemake.input.facts)["languages"]}
    params = snakemake.params
    form = dict(params.prompts)
    ar_prompt = form.pop("ar_prompt")
    prompts, steps = build_prompts(facts, templates, languages, ar_prompt, params.min_queries, tuple(params.kinds))
    prompts, steps = form_prompts(prompts, steps, templates, PromptForm(**form), params.seed)
    write_table(prompts, snakemake.output.prompts, read_metadata(snakemake.input.facts))
    write_csv(steps, snakemake.output.steps)
    write_csv(mode_shares(prompts), snakemake.output.modes)
    job.record(facts=int(prompts["fact"].nunique()), prompts=len(prompts))
