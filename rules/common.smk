# The study's configuration, checked, and small helpers that say what a study consists of.
import sys
from pathlib import Path

BASE = Path(workflow.basedir)
sys.path.insert(0, str(BASE))

from snakemake.exceptions import WorkflowError

from knatlas.errors import AtlasError
from knatlas.job import share_library
from knatlas.provenance import catalog_digest, code_digest
from knatlas.study import all_models, attribution_settings, languages_of, read_study

share_library(BASE)
try:
    config.update(read_study(config))
except AtlasError as error:
    raise WorkflowError(str(error))

MODELS = {name: all_models(config)[name] for name in config["models"]}
TRAINED = [name for name, record in MODELS.items() if record["origin"] == "embedded"]
GIVEN = [name for name in MODELS if name not in TRAINED]
MULTILINGUAL = [name for name in MODELS if len(languages_of(config, name)) > 1]
MONOLINGUAL = [name for name in MODELS if name not in MULTILINGUAL]
SELECTIONS = config["selection"]["selections"]
DATASETS = {
    "cldr": [],
    "mpararel": ["mpararel"],
    "multilingual_pararel": ["multilingual_pararel", "pararel", "mpararel"],
}[config["facts"]["source"]]
KEEPS_CANDIDATES = config["attribution"]["keep"] == "candidates"

# Figures by name: the models and the selections they show.
FIGURES = {
    "amig_figure3": (MULTILINGUAL, ["amig", "likn"]),
    "matrice_figure4": (MULTILINGUAL, ["matrice"]),
    "matrice_figure5": (MULTILINGUAL, ["matrice", "likn", "random"]),
    "localization_figure5": (MONOLINGUAL, ["bkn", "refined"]),
}
# those for which this study has models and selections
FIGURES = {name: shown for name, shown in FIGURES.items() if shown[0] and set(shown[1]) <= set(SELECTIONS)}
TABLES = [
    "exactness",
    "facts",
    "known",
    "gates",
    "manipulation",
    "control_separation",
    "layer_distribution",
    "selection",
    "headlines",
]
# only where something is checked
TABLES += ["screening"] if config["attribution"]["screening"]["reference"] else []


def any_of(names):
    """A wildcard pattern that matches exactly these names, and nothing when there are none."""
    return "|".join(sorted(names)) or "(?!)"


def code_of(script):
    """Digest of the library modules that a script uses; a parameter, so that their changes are noticed."""
    return code_digest(f"scripts/{script}", BASE)


def figures_of(paper):
    """Names of the figures of a paper that this study can draw."""
    return [name for name in FIGURES if name.startswith(paper)]


def paper_results(paper):
    """Figures (pdf, png, csv) of one paper, with the tables on which its numbers stand."""
    figures = expand("<results>/figures/{figure}.{ext}", figure=figures_of(paper), ext=["pdf", "png", "csv"])
    return figures + expand("<results>/tables/{table}.csv", table=["known", "manipulation", "layer_distribution"])


def catalog_of(*names):
    """Digest of parts of the catalog that a script reads; a parameter, so that their changes are noticed."""
    return catalog_digest(*names, root=BASE)


def figure_models(wildcards):
    """Models that a figure shows."""
    return FIGURES[wildcards.figure][0]


def figure_selections(wildcards):
    """Selections that a figure shows."""
    return FIGURES[wildcards.figure][1]


def dataset_folders(wildcards):
    """Folders of the public data sets that the source of the facts reads."""
    parent = config["facts"]["folder"] or "data"
    return [f"{parent}/{name}" for name in DATASETS]


def model_files(wildcards):
    """What a job needs to load a model: where it is, and its weights where the workflow trains them."""
    folder = f"<results>/models/{wildcards.model}"
    trained = wildcards.model in TRAINED
    return [f"{folder}/source.json"] + ([f"{folder}/weights"] if trained else [])


def model_languages(wildcards):
    """Languages in which a model is studied."""
    return languages_of(config, wildcards.model)


def model_shards(model, ending="safetensors"):
    """Attribution shards of a model: for each of its languages, or of candidates for all together."""
    return expand(
        "<results>/attribution/{model}/{language}/{shard}.{ending}",
        model=model,
        ending=ending,
        language="all" if KEEPS_CANDIDATES else languages_of(config, model),
        shard=range(config["attribution"]["shards"]),
    )


def shard_languages(wildcards):
    """Languages of one shard: its own, or for candidates all of the model, whose union they are."""
    return languages_of(config, wildcards.model) if KEEPS_CANDIDATES else [wildcards.language]


def shards_of(wildcards):
    """Attribution shards of the model of a job."""
    return model_shards(wildcards.model)


def shard_tables_of(wildcards):
    """The tables of queries beside these shards."""
    return model_shards(wildcards.model, "queries.parquet")


def kept_shards():
    """All shards that stay: as targets, so that one that was lost is computed again."""
    return [shard for model in MODELS for shard in model_shards(model) if config["attribution"]["keep_shards"]]


def model_memory(wildcards, attempt):
    """Memory in MB of a job that runs a model: weights in float32 twice, and 2 GB for what surrounds them."""
    millions = MODELS[wildcards.model].get("parameters_millions", 2)
    return int(attempt * (2000 + 8 * millions))


def shard_memory(wildcards, attempt):
    """Memory in MB of an attribution job: a model's, what is kept of its facts, and the dense statistics of one fact."""
    record, attribution = MODELS[wildcards.model], config["attribution"]
    languages = len(shard_languages(wildcards))
    facts = (config["localisation"]["facts"] or 10_000) / attribution["shards"]
    neurons = record.get("neurons", 40 * record.get("parameters_millions", 50))
    kept = (24 * languages + 4) * attribution["candidates"] if KEEPS_CANDIDATES else 48 * neurons
    return model_memory(wildcards, attempt) + int(attempt * (facts * kept + 300 * neurons * languages) / 1e6)


def shard_file(path):
    """An output that is removed once the scores are gathered, where the study says so."""
    return path if config["attribution"]["keep_shards"] else temp(path)


def batch_rows(wildcards, attempt):
    """Rows of a forward pass; halved at every new attempt, in case memory was short. 0 is 256 but for attributions."""
    return max(1, (config["compute"]["batch_rows"] or 256) // 2 ** (attempt - 1))


def attribution_rows(wildcards, attempt):
    """As `batch_rows`; 0 lets the engine choose from the memory that is free."""
    return batch_rows(wildcards, attempt) if config["compute"]["batch_rows"] else 0
