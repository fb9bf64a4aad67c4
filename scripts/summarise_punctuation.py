"""Tabulate the neurons of punctuation marks beside what Table 2 of the localization paper prints."""

import pandas as pd

from knatlas.job import Job
from knatlas.statistics.arrangement import arranged
from knatlas.statistics.printed import beside_paper
from knatlas.statistics.punctuation import PunctuationSummary, punctuation_table, summarise_punctuation
from knatlas.storage import read_table, write_csv

with Job(snakemake) as job:
    params, output, settings = snakemake.params, snakemake.output, PunctuationSummary(**snakemake.params.settings)
    neurons = pd.concat([read_table(path) for path in snakemake.input.neurons], ignore_index=True)
    answers = pd.concat([read_table(path) for path in snakemake.input.answers], ignore_index=True)
    table = beside_paper(punctuation_table(neurons, settings), "localization", 2)
    lines = ["model", "reading", "mark", "layer", "index", "rank", "n_marks_shared", "shown_as"]
    write_csv(table, output.table, arranged(table, lines, "statistic"))
    summary = summarise_punctuation(neurons, answers, settings, params.seed, params.resamples)
    write_csv(summary, output.summary, arranged(summary, ["model", "reading", "mark"], "statistic"))
    job.record(neurons=len(neurons), answers=len(answers))
