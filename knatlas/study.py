"""Reading the configuration of a study: defaults filled in, every mistake found and said at once.

The schema (schemas/study.schema.yaml) describes every key; what a schema can't say (names of the catalog, folders that
must exist, selections that depend on each other) is checked here.
"""

import copy
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator, ValidationError

from knatlas.catalog import read_catalog
from knatlas.errors import AtlasError, nearest, unknown
from knatlas.selection.needs import NORMALISED, SEARCHED, methods_of

SCHEMA_PATH = Path(__file__).resolve().parents[1] / "schemas" / "study.schema.yaml"

ABSENT = ("no default",)


@cache
def read_schema() -> dict:
    """The JSON schema of a study."""
    return yaml.safe_load(SCHEMA_PATH.read_text(encoding="utf-8"))


def read_study(config: Mapping, root: str | Path = ".") -> dict:
    """The study with all defaults filled in.

    Args: config, the mapping that a configuration file holds; root, the folder that relative paths start from.
    Raises: AtlasError that lists every mistake as "path: sentence".
    """
    mistakes = [_sentence(error) for error in _schema_errors(config)]
    if not mistakes:
        study = _with_defaults(copy.deepcopy(dict(config)), read_schema())
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


def attribution_settings(study: Mapping) -> dict:
    """What of the part `attribution` decides numbers; how the work is cut and how long shards are kept does not."""
    attribution = dict(study["attribution"])
    unused = ["shards", "keep_shards"] + (["candidates"] if attribution["keep"] == "all" else [])
    settings = {key: value for key, value in attribution.items() if key not in [*unused, "screening"]}
    if attribution["screening"]["reference"] is not None:
        settings["screening"] = {**attribution["screening"], "seed": study["seed"]}
    return settings


def _schema_errors(config: Mapping) -> list[ValidationError]:
    errors = Draft202012Validator(read_schema()).iter_errors(dict(config))
    return sorted(errors, key=lambda error: [str(part) for part in error.absolute_path])


def _with_defaults(value: object, schema: Mapping) -> object:
    """The value with the defaults of the schema, keys in the schema's order: the order of a file changes nothing."""
    schema = _resolved(schema)
    if not isinstance(value, dict):
        return value
    parts = schema.get("properties", {})
    given = {key: value.get(key, _default(parts[key])) for key in parts}
    known = {key: _with_defaults(part, parts[key]) for key, part in given.items() if part is not ABSENT}
    others = schema.get("additionalProperties")
    rest = {key: part for key, part in sorted(value.items()) if key not in parts}
    if isinstance(others, dict):
        rest = {key: _with_defaults(part, others) for key, part in rest.items()}
    return known | rest


def _default(schema: Mapping) -> object:
    return copy.deepcopy(schema["default"]) if "default" in schema else ABSENT


def _resolved(schema: Mapping) -> Mapping:
    reference = schema.get("$ref")
    return {**read_schema()["$defs"][reference.split("/")[-1]], **schema} if reference else schema


def _path(error: ValidationError) -> str:
    parts = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)
    return parts.lstrip(".") or "the study"


def _sentence(error: ValidationError) -> str:
    path, schema = _path(error), error.schema
    about = f" ({schema['description']})" if "description" in schema else ""
    if error.validator == "additionalProperties":
        return _unknown_key(error, path)
    if error.validator == "required":
        missing = [key for key in error.validator_value if key not in error.instance]
        return f"{path}: the key {' and '.join(repr(key) for key in missing)} is missing; add it (see config.yaml)"
    if error.validator in ("enum", "const"):
        allowed = error.validator_value if error.validator == "enum" else [error.validator_value]
        hint = nearest(error.instance, allowed)
        names = " ".join("null" if value is None else str(value) for value in allowed)
        return f"{path}: is '{error.instance}'; expected one of {names}.{hint}"
    if error.validator == "type":
        return f"{path}: is {error.instance!r}; expected {_type_name(error.validator_value)}{about}"
    if error.validator == "oneOf":
        return f"{path}: is {error.instance!r}; expected {schema.get('description', 'another value')}"
    return f"{path}: is {error.instance!r}; {error.message}{about}"


def _unknown_key(error: ValidationError, path: str) -> str:
    known = list(error.schema.get("properties", {}))
    extra = [key for key in error.instance if key not in known]
    where = "" if path == "the study" else f"{path}."
    hints = [f"{where}{key}: unknown key; allowed here: {' '.join(known)}.{nearest(key, known)}" for key in extra]
    return "\n  ".join(hints)


def _type_name(kind: str | list[str]) -> str:
    names = {
        "integer": "a whole number",
        "number": "a number",
        "string": "text",
        "array": "a list",
        "object": "a mapping",
    }
    kinds = [kind] if isinstance(kind, str) else kind
    return " or ".join(names.get(name, name) for name in kinds)


def _catalog_mistakes(study: dict, root: Path) -> Iterator[str]:
    yield from _language_mistakes(study)
    yield from _model_mistakes(study, root)
    yield from _fact_mistakes(study, root)
    yield from _selection_mistakes(study)


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
