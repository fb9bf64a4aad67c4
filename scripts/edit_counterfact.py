"""Edit each fact of CounterFact by every editor, and measure the true and the new object."""

from knatlas.experiments.counterfact import askable_requests, edit_records
from knatlas.experiments.counterfact_settings import CounterfactEdits, editors_of
from knatlas.facts.counterfact import read_counterfact
from knatlas.interventions.key_statistics import read_key_statistics
from knatlas.job import Job
from knatlas.models.devices import use_threads
from knatlas.models.loading import load_model
from knatlas.models.sources import model_identity, read_source_record
from knatlas.storage import read_json, write_table

with Job(snakemake) as job:
    use_threads(snakemake.threads)
    params, record, resources = snakemake.params, read_json(snakemake.input.model[0]), snakemake.resources
    identity, settings = model_identity(record), CounterfactEdits(**params.settings)
    model = load_model(read_source_record(record), params.dtype, resources.device, job.log)
    records = read_counterfact(snakemake.input.counterfact, settings.records)
    statistics = [read_key_statistics(path) for path in snakemake.input.statistics]
    given = (statistics[0] if statistics else None, params.seed, resources.batch_rows)
    progress = job.progress(f"coarse sets of {model.name}")
    editors = editors_of(model, askable_requests(model, records), settings, *given, progress=progress, log=job.log)
    progress = job.progress(f"editing {model.name} on CounterFact")
    rows = edit_records(model, records, editors, params.language, resources.batch_rows, progress, job.log)
    write_table(rows, snakemake.output.measurements, {"model": identity, "settings": dict(params.settings)})
    job.record(model=identity, device=str(model.device), records=len(records), measurements=len(rows))
