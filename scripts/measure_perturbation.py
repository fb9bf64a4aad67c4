"""Put noise on word embeddings and on the output matrix of a model, and measure P(answer)."""

from knatlas.experiments.perturbation import Perturbation, perturb
from knatlas.job import Job
from knatlas.models.devices import use_threads
from knatlas.models.loading import load_model
from knatlas.models.sources import model_identity, read_source_record
from knatlas.storage import read_json, read_table, write_table

with Job(snakemake) as job:
    use_threads(snakemake.threads)
    params, record = snakemake.params, read_json(snakemake.input.model[0])
    identity, settings = model_identity(record), Perturbation(**params.settings)
    model = load_model(read_source_record(record), params.dtype, snakemake.resources.device, job.log)
    prompts = read_table(snakemake.input.prompts).query("language in @params.languages and kind == @model.kind")
    progress = job.progress(f"perturbing the word embeddings of {snakemake.wildcards.model}")
    measurements = perturb(model, prompts, settings, params.seed, progress, snakemake.resources.batch_rows)
    write_table(measurements, snakemake.output.measurements, {"model": identity, "settings": dict(params.settings)})
    job.record(model=identity, device=str(model.device), measurements=len(measurements))
