"""Download a public data set as the catalog names it: files of a repository at a commit, or one file."""

from knatlas.catalog import read_catalog
from knatlas.facts.download import download_dataset
from knatlas.job import Job

with Job(snakemake) as job:
    name = snakemake.wildcards.dataset
    record = download_dataset(read_catalog("datasets")[name], snakemake.output[0], progress=job.progress(name))
    job.record(**record)
