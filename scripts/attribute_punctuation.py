"""Find the neurons of punctuation marks by attribution, and those of random words beside them."""

from dataclasses import asdict

from knatlas.attribution.configured import configured_methods
from knatlas.experiments.punctuation import Punctuation, find_punctuation_neurons
from knatlas.job import Job
from knatlas.models.devices import use_threads
from knatlas.models.loading import load_model
from knatlas.models.sources import model_identity, read_source_record
from knatlas.statistics.printed import printed_neurons
from knatlas.storage import read_json, read_table, write_table

with Job(snakemake) as job:
    use_threads(snakemake.threads)
    params, resources, record = snakemake.params, snakemake.resources, read_json(snakemake.input.model[0])
    identity, settings = model_identity(record), Punctuation(**params.settings)
    model = load_model(read_source_record(record), params.dtype, resources.device, job.log)
    (method,) = configured_methods({**params.attribution, "run": ["bkn"]}, model.kind)
    sentences, watched = read_table(snakemake.input.sentences), printed_neurons(model.name)
    progress, rows = job.progress(f"attributing punctuation in {model.name}"), resources.batch_rows
    found = find_punctuation_neurons(model, sentences, settings, method, params.seed, watched, rows, progress=progress)
    metadata = {"model": identity, "dtype": params.dtype, "settings": asdict(settings)}
    metadata["method"] = asdict(method) | {"steps": settings.steps}
    write_table(found.neurons, snakemake.output.neurons, metadata | {"n_dropped": found.n_dropped})
    write_table(found.answers, snakemake.output.answers, metadata)
    n_left_out = int((found.answers["left_out"] != "").sum())
    job.record(model=identity, device=str(model.device), prompts=len(found.answers), left_out=n_left_out)
