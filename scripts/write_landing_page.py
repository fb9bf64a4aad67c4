"""Write the study's landing page: badges, claims, figures, tables and methods in one HTML file."""

from pathlib import Path

from knatlas.job import Job
from knatlas.provenance import ROOT
from knatlas.reporting.page import Results, landing_page
from knatlas.storage import read_csv, read_json, write_text

with Job(snakemake) as job:
    inputs, page = snakemake.input, Path(str(snakemake.output.page))
    sources = [read_json(path) for path in inputs.sources]
    results = Results(
        folder=page.parent,
        tables={Path(path): read_csv(path) for path in inputs.tables},
        figures=[Path(path) for path in inputs.figures],
        beside=[Path(path) for path in inputs.beside],
        captions=ROOT / "report",
        study=snakemake.params.study,
        revisions={source["name"]: source["revision"] for source in sources},
    )
    write_text(landing_page(read_csv(inputs.badges), read_csv(inputs.claims), results), page)
    job.record(tables=len(results.tables), figures=len(results.figures))
