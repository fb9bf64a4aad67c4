"""Read neurons that other code found, and write them as a selection of the study."""

from knatlas.job import Job
from knatlas.provenance import file_digest
from knatlas.selection.exchange import import_sets
from knatlas.selection.importers.json_files import read_listed
from knatlas.selection.importers.keys import keys_of
from knatlas.selection.importers.language_lists import language_sets
from knatlas.selection.neuron_set import read_neuron_sets
from knatlas.storage import read_table, write_table

with Job(snakemake) as job:
    params, source = snakemake.params, snakemake.input
    reference, path = read_neuron_sets(source.reference), str(source.listed)
    if params.format == "lape":
        from knatlas.models.index_lists import read_index_lists  # torch, which no other format needs

        listed = language_sets(read_index_lists(path), reference.n_layers, path, params.languages)
    else:
        listed = read_listed(path, params.format, params.languages)
    keys = keys_of(read_table(source.facts), reference.facts, source.datasets, source.mapping)
    record = {"format": params.format, "digest": file_digest(path)}
    sets = import_sets(listed, snakemake.wildcards.name, reference, keys, record, path)
    write_table(sets.table, snakemake.output.neurons, sets.metadata)
    counts = sets.origin["imported"]
    job.log(f"{counts['n_known']} of {counts['n_keys']} keys are known, {len(sets.not_searched)} facts have none")
    job.record(model=sets.origin["model"], neurons=len(sets.table), imported=counts)
