"""Reading JSON and JSON Lines of other people, with a sentence (file and line) for whatever is broken."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from knatlas.errors import AtlasError, nearest

REMEDY = "Fetch the data set again, or mend the file."


def read_json_lines(path: Path, keys: Mapping[str, type]) -> Iterator[tuple[int, dict]]:
    """Line numbers (from 1) and objects of a file with one JSON object per line; blank lines are passed over.

    Args: keys, the keys that every object needs, with their types; a string must not be empty.
    Raises: AtlasError for a line that is not JSON or not an object, and for a missing, empty or ill-typed value.
    """
    for number, line in enumerate(read_utf8(path).split("\n"), start=1):
        if line.strip():
            row = parse(line, f"{path}, line {number}", keys)
            check_keys(row, f"{path}, line {number}", keys)
            yield number, row


def read_json_object(path: Path) -> dict:
    """A file that holds one JSON object; AtlasError when it holds anything else."""
    return parse(read_utf8(path), f"{path}", {})


def read_json_list(path: Path, form: str) -> list:
    """A file that holds one JSON list that is not empty, in the form of the data set `form`; AtlasError for another."""
    try:
        content = json.loads(read_utf8(path))
    except json.JSONDecodeError as error:
        raise AtlasError(f"{path}: line {error.lineno} is not JSON ({error.msg}). {REMEDY}") from error
    if not isinstance(content, list) or not content:
        raise AtlasError(f"{path} holds no list of facts; expected a JSON list in the form of {form}. {REMEDY}")
    return content


def read_utf8(path: Path) -> str:
    """The text of a file, without the byte-order mark that some editors put first; AtlasError when it can't be read."""
    try:
        # with its mark the first line would be no JSON
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise AtlasError(f"{path} is not there; expected a file of the data set. {REMEDY}") from error
    except OSError as error:
        raise AtlasError(
            f"{path} can't be read ({error.strerror}); expected a file of the data set. {REMEDY}"
        ) from error
    except UnicodeDecodeError as error:
        raise AtlasError(f"{path} is not UTF-8 text (byte {error.start}). {REMEDY}") from error


def parse(text: str, where: str, keys: Mapping[str, type]) -> dict:
    """The JSON object in a text."""
    expected = f"one JSON object with the keys {' '.join(keys)}" if keys else "one JSON object"
    try:
        row = json.loads(text)
    except json.JSONDecodeError as error:
        place = f" at line {error.lineno}, column {error.colno}" if "\n" in text else f" at column {error.colno}"
        raise AtlasError(f"{where} is not JSON ({error.msg}{place}); expected {expected}. {REMEDY}") from error
    if not isinstance(row, dict):
        raise AtlasError(f"{where} holds {text.strip()[:40]}; expected {expected}. {REMEDY}")
    return row


def check_keys(row: Mapping, where: str, keys: Mapping[str, type]) -> None:
    """Raise AtlasError for a key that is missing, has another type, or is an empty string."""
    for key, kind in keys.items():
        if key not in row:
            raise AtlasError(f"{where} has no key '{key}'; its keys are {' '.join(row)}.{nearest(key, row)} {REMEDY}")
        value = row[key]
        if not isinstance(value, kind) or (kind is str and not value.strip()):
            kinds = {str: "a text that is not empty", bool: "true or false", list: "a list"}
            raise AtlasError(f"{where}: '{key}' is {json.dumps(value)[:60]}; expected {kinds[kind]}. {REMEDY}")
