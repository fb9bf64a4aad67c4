"""The JSON schema of a study (schemas/study.schema.yaml): defaults filled in, and its mistakes as sentences."""

import copy
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from jsonschema import Draft202012Validator, TypeChecker
from jsonschema.validators import extend

from knatlas.study.sentences import sentences
from knatlas.yaml_files import read_yaml

SCHEMA_PATH = Path(__file__).resolve().parents[2] / "schemas" / "study.schema.yaml"
ABSENT = ("no default",)


@cache
def read_schema() -> dict:
    """The JSON schema of a study."""
    return read_yaml(SCHEMA_PATH)


def schema_mistakes(config: Mapping) -> list[str]:
    """One sentence per mistake of a configuration that the schema knows of, in the order of its keys."""
    return list(sentences(VALIDATOR(read_schema()).iter_errors(dict(config))))


def _is_whole(checker: TypeChecker, value: object) -> bool:
    # the schema's own integers include 1.0 and its numbers NaN, of which jobs make other names, or nothing
    return isinstance(value, int) and not isinstance(value, bool)


def _is_finite(checker: TypeChecker, value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


NUMBERS = Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_whole).redefine("number", _is_finite)
VALIDATOR = extend(Draft202012Validator, type_checker=NUMBERS)


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
