"""Reading the configuration of a study: defaults filled in, every mistake found and said at once.

The schema (schemas/study.schema.yaml) describes every key; what a schema can't say (names of the catalog, folders that
must exist, selections that depend on each other) is checked here.
"""

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path

from knatlas.catalog import read_catalog
from knatlas.errors import AtlasError, unknown
from knatlas.selection.needs import NORMALISED, SEARCHED, methods_of
from knatlas.study_schema import read_schema, schema_mistakes, with_defaults

ENGLISH = "en"  # the language of the localization paper's experiments
# keys of experiments that name a file, and the words that stand for none or for one that a rule downloads
SOURCES = {
    "punctuation.corpus": (None,),
    "causal_tracing.source": ("facts", "known_1000"),
    "counterfact.source": ("facts", "counterfact"),
    "rome.key_text.corpus": (None,),
}


def read_study(config: Mapping, root: str | Path = ".") -> dict:
    """The study with all defaults filled in.

    Args: config, the mapping that a configuration file holds; root, the folder that relative paths start from.
    Raises: AtlasError that lists every mistake as "path: sentence".
    """
    mistakes = schema_mistakes(config)
    if not mistakes:
        study = with_defaults(copy.deepcopy(dict(config)), read_schema())
        mistakes = list(_catalog_mistakes(study, Path(root)))
    if mistakes:
        listing = "\n".join(f"  {mistake}" for mistake in mistakes)
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
    unused = ["shards", "keep_shards"] + (["candidates"] if attribution["keep"] == "all" else [])
    settings = {key: value for key, value in attribution.items() if key not in [*unused, "screening"]}
    if attribution["screening"]["reference"] is not None:
        settings["screening"] = {**attribution["screening"], "seed": study["seed"]}
    return settings


def _catalog_mistakes(study: dict, root: Path) -> Iterator[str]:
    yield from _language_mistakes(study)
    yield from _model_mistakes(study, root)
    yield from _fact_mistakes(study, root)
    yield from _selection_mistakes(study)
    yield from _localization_mistakes(study, root)


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
        if model not in known:
            remedy = "Models of your own go into additional_models."
            yield unknown(f"models[{i}]", model, "a model of catalog/models.yaml", known, remedy)
        elif not languages_of(study, model):
            own = " ".join(known[model]["languages"])
            yield f"models[{i}]: '{model}' is studied in {own} only, and none of these is in languages"
        elif known[model]["origin"] == "embedded" and study["facts"]["source"] != "cldr":
            source = study["facts"]["source"]
            yield f"models[{i}]: '{model}' is trained on the facts of source 'cldr', but facts.source is '{source}'"
    for name, record in study["additional_models"].items():
        yield from _own_model_mistakes(name, record, root)


def _own_model_mistakes(name: str, record: dict, root: Path) -> Iterator[str]:
    needed = {"hub": "id", "folder": "folder"}[record["origin"]]
    if needed not in record:
        yield f"additional_models.{name}: origin '{record['origin']}' needs the key '{needed}'"
    elif record["origin"] == "folder" and not (root / record["folder"]).is_dir():
        folder = record["folder"]
        yield f"additional_models.{name}.folder: '{folder}' is not a folder; give one that save_pretrained wrote"


def _fact_mistakes(study: dict, root: Path) -> Iterator[str]:
    facts, known = study["facts"], read_catalog("relations")
    if facts["relations"] != "all":
        offered = {name: row for name, row in known.items() if facts["source"] != "cldr" or "cldr" in row}
        for i, relation in enumerate(facts["relations"]):
            if relation not in offered:
                yield unknown(f"facts.relations[{i}]", relation, f"a relation of source '{facts['source']}'", offered)
    if facts["folder"] is not None and not (root / facts["folder"]).is_dir():
        yield f"facts.folder: '{facts['folder']}' is not there; give the folder of the data set, or null to download it"


def _selection_mistakes(study: dict) -> Iterator[str]:
    known = [*read_schema()["properties"]["selection"]["properties"]["selections"]["default"], *SEARCHED]
    chosen = study["selection"]["selections"]
    for i, selection in enumerate(chosen):
        if selection not in known:
            yield unknown(f"selection.selections[{i}]", selection, "a selection", known)
    reference = study["selection"]["random"]["reference"]
    is_found = reference in chosen and reference not in SEARCHED and not reference.startswith("random")
    if any(name.startswith("random") for name in chosen) and not is_found:
        yield f"selection.random.reference: is '{reference}'; expected a found one of selection.selections"
    if set(SEARCHED) & set(chosen) and "amig" not in chosen:
        yield "selection.selections: has 'dkn', which is searched among the neurons of 'amig'; add amig to it"
    yield from _attribution_mistakes(study)
    yield from _pair_mistakes(study)


def _localization_mistakes(study: dict, root: Path) -> Iterator[str]:
    experiments = study["experiments"]
    named = experiments["localization"]["models"]
    for i, model in enumerate(named if isinstance(named, list) else []):
        where = f"experiments.localization.models[{i}]"
        if model not in study["models"]:
            yield unknown(where, model, "a model of the study", study["models"])
        elif model in all_models(study) and ENGLISH not in languages_of(study, model):
            yield f"{where}: '{model}' is not studied in English (en), in which these experiments are"
    for key, words in SOURCES.items():
        *parents, name = key.split(".")
        given = experiments
        for parent in parents:
            given = given[parent]
        if given[name] not in words and not (root / given[name]).is_file():
            listed = " ".join(str(word) for word in words if word is not None)
            remedy = f"one of {listed}, or a file" if listed else "a file, or null"
            yield f"experiments.{key}: '{given[name]}' is not there; give {remedy} (docs/data.md says where to get it)"


def _pair_mistakes(study: dict) -> Iterator[str]:
    pairs = study["experiments"]["crosslingual"]["pairs"]
    for i, pair in enumerate([] if pairs == "all" else pairs):
        for language in pair:
            if language not in study["languages"]:
                where = f"experiments.crosslingual.pairs[{i}]"
                yield unknown(where, language, "a language of the study", study["languages"])


def _attribution_mistakes(study: dict) -> Iterator[str]:
    attribution, chosen = study["attribution"], study["selection"]["selections"]
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
