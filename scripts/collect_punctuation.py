"""Collect the sentences of each punctuation mark: the first ones of a text file, or sentences made of the facts."""

from knatlas.catalog import read_catalog
from knatlas.facts.punctuation_corpus import from_sentences, read_punctuation_corpus
from knatlas.facts.punctuation_sentences import punctuation_sentences
from knatlas.job import Job
from knatlas.storage import read_table, write_table

with Job(snakemake) as job:
    params = snakemake.params
    if params.corpus:
        source, corpus = "corpus", read_punctuation_corpus(params.corpus, params.per_mark)
    else:
        facts = read_table(snakemake.input.facts).query("language == 'en'")
        # held out: names that embedded models have not read in such sentences
        made = punctuation_sentences(facts, read_catalog("punctuation"), params.per_mark, params.seed, is_held_out=True)
        source, corpus = "facts", from_sentences(made, params.per_mark)
    write_table(corpus.table(source), snakemake.output.sentences, {"source": source, **corpus.counts})
    job.record(source=source, **corpus.counts)
