"""Test what figures and tables show by permutation over facts, with Holm's correction per figure and statistic."""

import pandas as pd

from knatlas.job import Job
from knatlas.statistics.significance import contrast_pairs, figure_values, significance_table
from knatlas.statistics.table_contrasts import table_contrasts
from knatlas.storage import read_table, write_csv


def measured(paths: list[str]) -> pd.DataFrame:
    """The measurements of all models."""
    return pd.concat([read_table(path) for path in paths], ignore_index=True)


with Job(snakemake) as job:
    given, params, pairs = snakemake.input, snakemake.params, {}
    sources = {"manipulation": given.measurements, "enhancement": given.enhanced, "weight_edits": given.edited}
    tables = {name: measured(paths) for name, paths in sources.items() if paths}
    for figure, shown in params.figures.items():
        rows, selections = tables[shown["from"]], [*shown["selections"], *params.random]
        rows = rows[rows["model"].isin(shown["models"]) & rows["selection"].isin(selections)]
        rows = rows[rows["language"].isin(shown.get("languages", rows["language"].unique()))]
        values = figure_values(figure, rows, params.seed, params.min_p_before)
        pairs[figure] = contrast_pairs(values, shown["selections"], params.reference)
    settings = {"reference": params.reference, "success_rate": {**params.success_rate, "facts": params.facts}}
    contrasts = {
        name: table_contrasts(name, measured(given[experiment]), settings, params.seed)
        for name, experiment in params.tables.items()
    }
    table = significance_table(pairs, contrasts, params.seed, params.resamples, params.permutations)
    has_all = table["figure"].isin(table.loc[table["language"] == "all", "figure"])
    write_csv(table, snakemake.output.table, table[~has_all | (table["language"] == "all")])
    job.record(tests=len(table))
