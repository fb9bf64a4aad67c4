"""Write the headline numbers and the sentences that say them."""

from knatlas.job import Job
from knatlas.statistics.headlines import headlines
from knatlas.storage import read_csv, write_csv

with Job(snakemake) as job:
    separation, sizes = read_csv(snakemake.input.separation), read_csv(snakemake.input.selection)
    write_csv(headlines(separation, sizes, snakemake.params.models), snakemake.output.table)
