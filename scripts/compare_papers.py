"""Set every number that the three papers print beside this study's own, one table per paper."""

from pathlib import Path

from knatlas.job import Job
from knatlas.statistics.paper_comparison import compare_paper, for_reading
from knatlas.statistics.printed_cells import PAPERS
from knatlas.storage import read_csv, write_csv

with Job(snakemake) as job:
    tables = {Path(path).stem: read_csv(path) for path in snakemake.input.tables}
    for paper in PAPERS:
        comparison = compare_paper(paper, tables, snakemake.params.study)
        write_csv(comparison, snakemake.output[paper], for_reading(comparison))
        job.record(**{paper: len(comparison)})
