"""Write knowledge into small models, localise it by every selection, and place the planted neurons among all."""

from knatlas.experiments.planted import localise_families
from knatlas.job import Job
from knatlas.models.devices import use_threads
from knatlas.storage import write_table

with Job(snakemake) as job:
    use_threads(snakemake.threads)
    params, output = snakemake.params, snakemake.output
    settings = {**params.planted, "attribution": params.attribution, "selection": params.selection, "seed": params.seed}
    settings["families"] = [snakemake.wildcards.family]
    found = localise_families(settings, job.progress(f"planting {snakemake.wildcards.family}"))
    origin = {"planted": dict(params.planted), "seed": params.seed}
    for name, table in found._asdict().items():
        write_table(table, output[name], origin)
    n_failed = int((~found.plants["is_acting"]).sum())
    job.log(f"{n_failed} of {len(found.plants)} planted neurons, by fact and language, do not do what they shall")
    job.record(facts=found.plants["fact"].nunique(), not_acting=n_failed)
