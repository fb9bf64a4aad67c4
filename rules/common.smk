# The study's configuration, checked, and small helpers that say what a study consists of.
import re
import sys
from functools import cache
from itertools import combinations
from pathlib import Path

from snakemake.exceptions import WorkflowError

BASE = Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).parent
if not BASE.is_dir():
    raise WorkflowError(f"{BASE} is no folder of this machine; clone the repository and name its Snakefile in `module`")
sys.path.insert(0, str(BASE))

from knatlas.catalog import read_catalog
from knatlas.errors import AtlasError
from knatlas.job import share_library
from knatlas.models.embedded.recipe import recipe_in
from knatlas.models.folder_files import wanted_files
from knatlas.provenance import catalog_digest, code_digest, file_digest
from knatlas.study import ENGLISH, all_models, attribution_settings, languages_of, localized_models, read_study
from knatlas.study.facts import DATA_SETS, own_data_files
from knatlas.writing import replacing
from knatlas.yaml_files import read_yaml

share_library(BASE)
try:
    if IS_MODULE:
        config.update(read_study(config or read_yaml(BASE / "config.yaml", "Restore it with git.")))
    else:
        config.update(read_study(config, files=workflow.overwrite_configfiles or workflow.configfiles))
except AtlasError as error:
    raise WorkflowError(str(error))

MODELS = {name: all_models(config)[name] for name in config["models"]}
TRAINED = [name for name, record in MODELS.items() if record["origin"] == "embedded"]
GIVEN = [name for name in MODELS if name not in TRAINED]
MULTILINGUAL = [name for name in MODELS if len(languages_of(config, name)) > 1]
MONOLINGUAL = [name for name in MODELS if name not in MULTILINGUAL]
SELECTIONS = config["selection"]["selections"]
# those that scores decide; degenerate neurons are searched with the model
SCORED = [name for name in SELECTIONS if name != "dkn"]
DATASETS = DATA_SETS[config["facts"]["source"]]
KEEPS_CANDIDATES = config["attribution"]["keep"] == "candidates"


def require_writable(folder):
    """Stop with a sentence where nothing can be written below a folder, before Snakemake stumbles over it."""
    probe = Path(folder) / ".writable"
    try:
        with replacing(probe) as partial:
            partial.touch()
        probe.unlink()
    except AtlasError as error:
        raise WorkflowError(str(error))


def any_of(names):
    """A wildcard pattern that matches exactly these names, and nothing when there are none."""
    return "|".join(re.escape(name) for name in sorted(names)) or "(?!)"


def code_of(script):
    """Digest of the library modules that a script uses; a parameter, so that their changes are noticed.

    Asked for only where a job is planned, and once for all jobs of a rule: a run of one job needs one digest, not those
    of all rules.
    """
    digest = cache(lambda: code_digest(f"scripts/{script}", BASE))
    return lambda wildcards: digest()


def catalog_of(*names, rows=None):
    """Digest of parts of the catalog that a script reads, asked for as `code_of` is; rows: those read of a file."""
    digest = cache(lambda: catalog_digest(*names, rows=rows, root=BASE))
    return lambda wildcards: digest()


def language_pairs(wildcards):
    """The pairs of languages between which facts of a model are edited."""
    known, pairs = languages_of(config, wildcards.model), config["experiments"]["crosslingual"]["pairs"]
    pairs = list(combinations(known, 2)) if pairs == "all" else pairs
    return [list(pair) for pair in pairs if set(pair) <= set(known)]


def dataset_folders(wildcards):
    """Folders of the public data sets that the source of the facts reads."""
    parent = config["facts"]["folder"] or "data"
    return [f"{parent}/{name}" for name in DATASETS]


def dataset_files(wildcards):
    """Files of data sets in the study's own folder, whose edits are to be noticed."""
    return own_data_files(config)


def given_files(wildcards):
    """Files of a model that lies in a folder of the user's own, whose changes are to be noticed."""
    record = MODELS[wildcards.model]
    if record["origin"] != "folder":
        return []
    return [str(path) for path in wanted_files(record["folder"], record.get("weights", "safetensors"))]


def own_recipe(wildcards):
    """The recipe of an embedded model in the languages that it is trained in: others of the catalog change nothing."""
    return recipe_in(MODELS[wildcards.model]["recipe"], languages_of(config, wildcards.model))


def model_files(wildcards):
    """What a job needs to load a model: where it is, and its weights where the workflow trains them."""
    folder = f"<results>/models/{wildcards.model}"
    trained = wildcards.model in TRAINED
    return [f"{folder}/source.json"] + ([f"{folder}/weights"] if trained else [])


def model_languages(wildcards):
    """Languages in which a model is studied."""
    return languages_of(config, wildcards.model)


@cache
def shard_count(model):
    """Shards into which the facts of a model are dealt out."""
    given = config["attribution"]["shards"]
    if given != "auto":
        return given
    from knatlas.planning.shards import shard_counts

    return shard_counts(config)[model]


def model_shards(model, ending="safetensors"):
    """Attribution shards of a model: for each of its languages, or of candidates for all together."""
    return expand(
        "<results>/attribution/{model}/{language}/{shard}.{ending}",
        model=model,
        ending=ending,
        language="all" if KEEPS_CANDIDATES else languages_of(config, model),
        shard=range(shard_count(model)),
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


def kept_shards(wildcards):
    """All shards that stay: as targets, so that one that was lost is computed again."""
    return [shard for model in MODELS for shard in model_shards(model) if config["attribution"]["keep_shards"]]


def shard_file(path):
    """An output that is removed once the scores are gathered, where the study says so."""
    return path if config["attribution"]["keep_shards"] else temp(path)
