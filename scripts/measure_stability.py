"""Measure how stable neuron sets are, and what depends on objects that are written alike in several languages."""

import pandas as pd

from knatlas.job import Job
from knatlas.selection.neuron_set import read_neuron_sets
from knatlas.selection.scores import read_scores
from knatlas.statistics.paraphrases import query_counts, resampled_refined
from knatlas.statistics.shared_names import name_pairs, shared_names_table
from knatlas.statistics.stability import stability_table, summarised
from knatlas.storage import read_table, write_csv

with Job(snakemake) as job:
    given, params = snakemake.input, snakemake.params
    seeds, facts = (params.seed, params.resamples), read_table(given.facts)
    relations = facts.drop_duplicates("fact").set_index("fact")["relation"].to_dict()
    sets, stability, shared = [read_neuron_sets(path) for path in given.neurons], [], []
    for model in params.models:
        own, place = [part for part in sets if part.model == model], list(params.models).index(model)
        stability.append(stability_table(own, relations, params.pairs, *seeds))
        if "refined" in params.selections:
            scores, counts = read_scores(given.scores[place]), query_counts(read_table(given.queries[place]))
            stability.append(summarised(model, resampled_refined(scores, counts, params.refined_share), *seeds))
        searched = [fact for fact in own[0].facts if fact in relations]
        pairs = name_pairs(facts[facts["fact"].isin(searched)], params.languages[model])
        own, rows = [part for part in own if part.selection in params.shared], read_table(given.measurements[place])
        rows = rows[rows["selection"].isin(params.shared)]
        shared.append(shared_names_table(own, rows, pairs, *seeds, params.min_p_before))
    stability, shared = (pd.concat(parts, ignore_index=True) for parts in (stability, shared))
    write_csv(stability, snakemake.output.stability)
    write_csv(shared, snakemake.output.shared, shared[shared["pair"] == "all"])
    job.record(sets=len(sets))
