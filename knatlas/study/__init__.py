"""Reading the configuration of a study: defaults filled in, every mistake found and said at once.

The schema (schemas/study.schema.yaml) describes every key; what a schema can't say (names of the catalog, folders that
must exist, selections that depend on each other) is checked here.
"""

import copy
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from knatlas.catalog import read_catalog
from knatlas.errors import AtlasError, unknown
from knatlas.models.embedded.recipe import missing_patterns, read_recipe
from knatlas.selection.needs import NEEDS, NORMALISED, SEARCHED, methods_of
from knatlas.study.controls import control_mistakes
from knatlas.study.exchange import exchange_mistakes
from knatlas.study.experiments import experiment_mistakes, known_selections
from knatlas.study.facts import ENGLISH, fact_mistakes
from knatlas.study.paths import path_mistakes
from knatlas.study.schema import read_schema, schema_mistakes, with_defaults
from knatlas.yaml_files import repeated_keys

KINDS = ("masked", "causal")
ORIGINS = ("embedded", "hub", "folder")
LOCATIONS = {"hub": "id", "folder": "folder"}  # the key that says where a model of an origin is


def read_study(config: Mapping, root: str | Path = ".", files: Iterable[str | Path] = ()) -> dict:
    """The study with all defaults filled in.

    Args: config, the mapping that configuration files hold; root, the folder that relative paths start from; files,
    those files: of a key that stands twice in one of them `config` has the last alone.
    Raises: AtlasError that lists every mistake as "path: sentence".
    """
    mistakes = [sentence for path in files for sentence in repeated_keys(path)] + schema_mistakes(config)
    if not mistakes:
        study = with_defaults(copy.deepcopy(dict(config)), read_schema())
        mistakes = list(path_mistakes(study)) or list(_catalog_mistakes(study, Path(root)))
    if mistakes:
        listing = "\n".join(f"  {line}" for mistake in mistakes for line in mistake.split("\n"))
        raise AtlasError(f"the study's configuration has {len(mistakes)} mistake(s):\n{listing}")
    return study


def all_models(study: Mapping) -> dict:
    """Records of the catalog's models and of the study's own, by name."""
    return {**read_catalog("models"), **study.get("additional_models", {})}


def languages_of(study: Mapping, model: str) -> list[str]:
    """The study's languages in which a model is studied, in the study's order."""
    own = all_models(study)[model].get("languages", "all")
    return [language for language in study["languages"] if own == "all" or language in own]


def localized_models(study: Mapping) -> list[str]:
    """Models of the localization paper's experiments: those named, all studied in English, or in English alone."""
    named = study["experiments"]["localization"]["models"]
    if isinstance(named, list):
        return list(named)
    languages = {name: languages_of(study, name) for name in study["models"]}
    return [name for name, known in languages.items() if known == [ENGLISH] or (named == "all" and ENGLISH in known)]


def attribution_settings(study: Mapping) -> dict:
    """What of the part `attribution` decides numbers; how the work is cut and how long shards are kept does not."""
    attribution = dict(study["attribution"])
    unused = ["shards", "shard_minutes", "keep_shards"] + (["candidates"] if attribution["keep"] == "all" else [])
    settings = {key: value for key, value in attribution.items() if key not in [*unused, "screening"]}
    if attribution["screening"]["reference"] is not None:
        settings["screening"] = {**attribution["screening"], "seed": study["seed"]}
    return settings


def _catalog_mistakes(study: dict, root: Path) -> Iterator[str]:
    yield from _language_mistakes(study)
    yield from _model_mistakes(study, root)
    yield from fact_mistakes(study, root)
    yield from _selection_mistakes(study)
    yield from _localization_mistakes(study)
    yield from experiment_mistakes(study, list(all_models(study)), root)
    yield from exchange_mistakes(study, root)
    yield from control_mistakes(study)


def _language_mistakes(study: dict) -> Iterator[str]:
    known = read_catalog("languages")
    for i, language in enumerate(study["languages"]):
        if language not in known:
            yield unknown(f"languages[{i}]", language, "a language of catalog/languages.yaml", known)
    for selection in ("bkn", "amig"):
        for language in study["selection"][selection]["tau"]:
            if language != "default" and language not in known:
                yield unknown(f"selection.{selection}.tau", language, "`default` or a language", known)


def _model_mistakes(study: dict, root: Path) -> Iterator[str]:
    known = all_models(study)
    for i, model in enumerate(study["models"]):
        if model in known:
            yield from _record_mistakes(study, f"models[{i}]: '{model}'", model, known[model])
        else:
            remedy = "Models of your own go into additional_models."
            yield unknown(f"models[{i}]", model, "a model of catalog/models.yaml", known, remedy)
    for name, record in study["additional_models"].items():
        yield from _own_model_mistakes(f"additional_models.{name}", name, record, root)


def _record_mistakes(study: dict, where: str, model: str, record: Mapping) -> Iterator[str]:
    """Mistakes of a row of the catalog, and of its use in the study."""
    place, mistakes = f"catalog/models.yaml: {model}", []
    for key, allowed in (("kind", KINDS), ("origin", ORIGINS)):
        if record[key] not in allowed:
            mistakes.append(unknown(f"{place}.{key}", record[key], "one of", allowed))
    if (needed := LOCATIONS.get(record["origin"])) and needed not in record:
        mistakes.append(f"{place}: origin '{record['origin']}' needs the key '{needed}'")
    if record["origin"] == "embedded":
        languages = [name for name in languages_of(study, model) if name in read_catalog("languages")]
        mistakes += _recipe_mistakes(record.get("recipe"), f"{place}.recipe", languages)
        if study["facts"]["source"] != "cldr":
            source = study["facts"]["source"]
            mistakes.append(f"{where} is trained on the facts of source 'cldr', but facts.source is '{source}'")
    if not languages_of(study, model):
        own = " ".join(record["languages"])
        mistakes.append(f"{where} is studied in {own} only, and none of these is in languages")
    yield from mistakes


def _recipe_mistakes(recipe: object, where: str, languages: list[str]) -> list[str]:
    if not isinstance(recipe, dict):
        return [f"{where}: is {recipe!r}; expected a mapping, as of the other embedded models"]
    try:
        missing = missing_patterns(read_recipe(recipe, where).dictionary, languages)
    except AtlasError as error:
        return str(error).split("\n")
    except TypeError as error:
        return [f"{where}: has a value of another type than its key takes ({error})"]
    add = 'add a line such as en: "[X] in English is [Y]"'
    return [f"{where}.dictionary has no pattern for {' '.join(missing)}; {add} for each"] if missing else []


def _own_model_mistakes(where: str, name: str, record: dict, root: Path) -> Iterator[str]:
    """Mistakes of one record of additional_models."""
    needed, other = LOCATIONS[record["origin"]], LOCATIONS[{"hub": "folder", "folder": "hub"}[record["origin"]]]
    if name in read_catalog("models"):
        yield f"{where}: catalog/models.yaml has a model of this name; take another one"
    if needed not in record:
        yield f"{where}: origin '{record['origin']}' needs the key '{needed}'"
    elif record["origin"] == "folder" and not (root / record["folder"]).is_dir():
        yield f"{where}.folder: '{record['folder']}' is not a folder; give one that save_pretrained wrote"
    if other in record:
        yield f"{where}.{other}: is of no use with origin '{record['origin']}'; remove it, or take the other origin"
    known = read_catalog("languages")
    for i, language in enumerate([] if record["languages"] == "all" else record["languages"]):
        if language not in known:
            yield unknown(f"{where}.languages[{i}]", language, "a language of catalog/languages.yaml", known)


def _selection_mistakes(study: dict) -> Iterator[str]:
    known = known_selections()
    chosen = study["selection"]["selections"]
    for i, selection in enumerate(chosen):
        where = f"selection.selections[{i}]"
        if selection not in known:
            yield unknown(where, selection, "a selection", known)
        elif selection not in NEEDS and not selection.startswith("random"):
            yield f"{where}: '{selection}' has no row in NEEDS of knatlas/selection/needs.py; add the scores it reads"
    reference = study["selection"]["random"]["reference"]
    is_found = reference in chosen and reference not in SEARCHED and not reference.startswith("random")
    if any(name.startswith("random") for name in chosen) and not is_found:
        found = [name for name in chosen if name not in SEARCHED and not name.startswith("random")]
        where = "selection.random.reference:"
        if found:
            yield unknown(where, reference, "a found one of selection.selections", found)
        else:
            yield f"{where} is '{reference}', but nothing is found in this study; add it to selection.selections"
    if set(SEARCHED) & set(chosen) and "amig" not in chosen:
        yield "selection.selections: has 'dkn', which is searched among the neurons of 'amig'; add amig to it"
    yield from _attribution_mistakes(study)


def _localization_mistakes(study: dict) -> Iterator[str]:
    named = study["experiments"]["localization"]["models"]
    for i, model in enumerate(named if isinstance(named, list) else []):
        where = f"experiments.localization.models[{i}]"
        if model not in study["models"]:
            yield unknown(where, model, "a model of the study", study["models"])
        elif model in all_models(study) and ENGLISH not in languages_of(study, model):
            yield f"{where}: '{model}' is not studied in English (en), in which these experiments are"


def _attribution_mistakes(study: dict) -> Iterator[str]:
    attribution, chosen = study["attribution"], study["selection"]["selections"]
    shards, facts = attribution["shards"], study["localisation"]["facts"]
    if shards != "auto" and facts is not None and shards > facts:
        yield f"attribution.shards: is {shards}, but only {facts} facts are searched (localisation.facts); take no more"
    for i, selection in enumerate(chosen):
        for method in sorted(set(methods_of(selection)) - set(attribution["run"])):
            run = " ".join(attribution["run"])
            yield (
                f"selection.selections[{i}]: '{selection}' reads the scores of '{method}', which is not in "
                f"attribution.run ({run}); add {method} to it, or leave the selection out"
            )
    reference = attribution["screening"]["reference"]
    if reference is not None and "atp" not in attribution["run"]:
        run = " ".join(attribution["run"])
        yield (
            f"attribution.screening.reference: is '{reference}', but atp, which it checks, is not in attribution.run "
            f"({run}); add atp to it, or set the reference to null"
        )
    is_per_neuron = study["selection"]["matrice"]["eq9_axis"] == "neuron" and set(NORMALISED) & set(chosen)
    if attribution["keep"] == "candidates" and is_per_neuron:
        yield (
            "selection.matrice.eq9_axis: is 'neuron', which can't be told from candidates: a small score can be the "
            "largest of its neuron; take 'language', or attribution.keep 'all'"
        )
