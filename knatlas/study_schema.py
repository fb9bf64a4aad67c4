"""The JSON schema of a study (schemas/study.schema.yaml): defaults filled in, and its mistakes as sentences."""

import copy
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator, ValidationError

from knatlas.errors import nearest

SCHEMA_PATH = Path(__file__).resolve().parents[1] / "schemas" / "study.schema.yaml"
ABSENT = ("no default",)


@cache
def read_schema() -> dict:
    """The JSON schema of a study."""
    return yaml.safe_load(SCHEMA_PATH.read_text(encoding="utf-8"))


def schema_mistakes(config: Mapping) -> list[str]:
    """One sentence per place where a configuration does not follow the schema, in the order of its keys."""
    return [_sentence(error) for error in _schema_errors(config)]


def _schema_errors(config: Mapping) -> list[ValidationError]:
    errors = Draft202012Validator(read_schema()).iter_errors(dict(config))
    return sorted(errors, key=lambda error: [str(part) for part in error.absolute_path])


def with_defaults(value: object, schema: Mapping) -> object:
    """The value with the defaults of the schema, keys in the schema's order: the order of a file changes nothing."""
    schema = _resolved(schema)
    if not isinstance(value, dict):
        return value
    parts = schema.get("properties", {})
    given = {key: value.get(key, _default(parts[key])) for key in parts}
    known = {key: with_defaults(part, parts[key]) for key, part in given.items() if part is not ABSENT}
    others = schema.get("additionalProperties")
    rest = {key: part for key, part in sorted(value.items()) if key not in parts}
    if isinstance(others, dict):
        rest = {key: with_defaults(part, others) for key, part in rest.items()}
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
