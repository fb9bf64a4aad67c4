"""What does not follow a JSON schema, as sentences: where, the value, what is allowed, the nearest match."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date

from jsonschema import ValidationError

from knatlas.errors import nearest

KINDS = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "array": "a list",
    "object": "a mapping",
    "boolean": "true or false",
}
LIMITS = {"minimum": "at least", "exclusiveMinimum": "more than", "maximum": "at most", "exclusiveMaximum": "less than"}
WORDS = ("enum", "const")


def sentences(errors: Iterable[ValidationError]) -> Iterator[str]:
    """The sentences of the errors of one validation, in the order of the places; one per mistake."""
    ordered = sorted(errors, key=lambda error: ([str(part) for part in error.absolute_path], error.validator != "type"))
    of_another_type = set()
    for error in ordered:
        place = tuple(error.absolute_path)
        # a value of another type has no other mistakes
        if place not in of_another_type:
            yield from SENTENCES.get(error.validator, _other)(error, _path(error))
        if error.validator == "type":
            of_another_type.add(place)


def _path(error: ValidationError) -> str:
    parts = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)
    return parts.lstrip(".") or "the study"


def _shown(value: object) -> str:
    """A value as YAML has it, cut where it is long."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = str(value) if isinstance(value, date) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _about(error: ValidationError) -> str:
    """What the schema says of the place; of alternatives, what it says of them all."""
    described = [error.schema] + ([error.parent.schema] if error.parent is not None else [])
    found = [schema["description"] for schema in described if "description" in schema]
    return f" ({found[0].rstrip('.')})" if found else ""


def _unknown_keys(error: ValidationError, path: str) -> Iterator[str]:
    known = list(error.schema.get("properties", {}))
    where = "" if path == "the study" else f"{path}."
    for key in error.instance:
        if key not in known:
            yield f"{where}{key}: unknown key; allowed here: {' '.join(known)}.{nearest(key, known)}"


def _missing_keys(error: ValidationError, path: str) -> Iterator[str]:
    missing = [key for key in error.validator_value if key not in error.instance]
    # an object lacks each of them once, whichever error says so
    if error.message.startswith(repr(missing[0])):
        yield f"{path}: the key {' and '.join(repr(key) for key in missing)} is missing; add it (see config.yaml)"


def _other_word(error: ValidationError, path: str) -> Iterator[str]:
    allowed = error.validator_value if error.validator == "enum" else [error.validator_value]
    names = " ".join("null" if value is None else str(value) for value in allowed)
    yield f"{path}: is {_shown(error.instance)}; expected one of {names}.{nearest(error.instance, allowed)}"


def _other_type(error: ValidationError, path: str) -> Iterator[str]:
    kinds = [error.validator_value] if isinstance(error.validator_value, str) else error.validator_value
    expected = " or ".join(KINDS.get(name, name) for name in kinds)
    if isinstance(error.instance, float) and not math.isfinite(error.instance):
        expected = f"{expected} that is finite"
    yield f"{path}: is {_shown(error.instance)}; expected {expected}{_about(error)}{_type_hint(error.instance, kinds)}"


def _type_hint(value: object, kinds: list[str]) -> str:
    """What people write who meant a value of one of these types."""
    if isinstance(value, str) and "array" in kinds:
        return f"; a list of one is written [{value}]"
    if isinstance(value, str) and {"integer", "number"} & set(kinds) and _is_number(value):
        return "; YAML reads this as text: write a number without quotes, 1e-3 as 0.001"
    if isinstance(value, bool | date) and "string" in kinds:
        kind = "a date" if isinstance(value, date) else "true or false (so are yes, no, on, off)"
        return f"; YAML reads this as {kind}: write it in quotes"
    return ""


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _out_of_range(error: ValidationError, path: str) -> Iterator[str]:
    limits = " and ".join(f"{words} {error.schema[key]}" for key, words in LIMITS.items() if key in error.schema)
    kinds = error.schema.get("type", "number")
    kind = KINDS["integer" if "integer" in ([kinds] if isinstance(kinds, str) else kinds) else "number"]
    yield f"{path}: is {_shown(error.instance)}; expected {kind}, {limits}{_about(error)}"


def _repeated(error: ValidationError, path: str) -> Iterator[str]:
    seen: list[object] = []
    for value in error.instance:
        if value in seen:
            yield f"{path}: {_shown(value)} stands twice in the list; write it once"
            return
        seen.append(value)


def _other_length(error: ValidationError, path: str) -> Iterator[str]:
    expected = f"a list of {'at least' if error.validator == 'minItems' else 'at most'} {error.validator_value}"
    yield f"{path}: is {_shown(error.instance)}; expected {expected}{_about(error)}"


def _other_form(error: ValidationError, path: str) -> Iterator[str]:
    place = f"{path}: the name" if "propertyNames" in error.absolute_schema_path else f"{path}:"
    yield f"{place} is {_shown(error.instance)}; expected {error.schema.get('title', 'another form')}{_about(error)}"


def _no_alternative(error: ValidationError, path: str) -> Iterator[str]:
    """The mistakes within the alternative whose type the value has; where it has none, what the alternatives are."""
    branches: dict[int, list[ValidationError]] = {}
    for part in error.context:
        branches.setdefault(part.relative_schema_path[0], []).append(part)
    outside = {"type", *WORDS}
    close = [
        parts
        for parts in branches.values()
        if not any(part.validator in outside and not part.relative_path for part in parts)
    ]
    if close:
        yield from sentences(close[0])
        return
    words = [word for part in error.context if part.validator in WORDS for word in _words(part.validator_value)]
    expected = error.schema.get("description", "another value").rstrip(".")
    yield f"{path}: is {_shown(error.instance)}; expected {expected}.{nearest(error.instance, words)}"


def _words(allowed: object) -> list[object]:
    return allowed if isinstance(allowed, list) else [allowed]


def _other(error: ValidationError, path: str) -> Iterator[str]:
    yield f"{path}: is {_shown(error.instance)}; {error.message}{_about(error)}"


SENTENCES: Mapping[str, Callable[[ValidationError, str], Iterator[str]]] = {
    "additionalProperties": _unknown_keys,
    "required": _missing_keys,
    **dict.fromkeys(WORDS, _other_word),
    "type": _other_type,
    **dict.fromkeys(LIMITS, _out_of_range),
    "uniqueItems": _repeated,
    **dict.fromkeys(("minItems", "maxItems"), _other_length),
    "pattern": _other_form,
    **dict.fromkeys(("oneOf", "anyOf"), _no_alternative),
}
