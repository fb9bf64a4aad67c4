"""The catalog: tables of models, languages, relations, data sets, one row each, as YAML."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

from knatlas.errors import AtlasError
from knatlas.yaml_files import read_yaml

FOLDER = Path(__file__).resolve().parents[1] / "catalog"
# what every row of a table needs: other keys depend on it
NEEDED = {
    "models": ("kind", "origin"),
    "languages": ("name", "family", "script", "is_latin", "separator", "blank", "cue"),
    "relations": ("name",),
    "datasets": ("name", "licence"),
}
# keys whose values are of one type, and how it is written: a text such as "no" would count as true
TYPES = {"languages": {"is_latin": (bool, "true or false, without quotes"), "separator": (str, '" " or ""')}}


def read_catalog(table: str, folder: Path | None = None) -> dict:
    """The rows of catalog/{table}.yaml by name.

    Raises: AtlasError when the file is missing or not YAML, a key stands twice, or a row lacks what every row needs.
    """
    return _read(table, FOLDER if folder is None else Path(folder))


@cache
def _read(table: str, folder: Path) -> dict:
    path = folder / f"{table}.yaml"
    try:
        rows = read_yaml(path, "Mend the file, or restore it with git.")
    except FileNotFoundError as error:
        raise AtlasError(f"{path} is not there; the catalog belongs to the repository, restore it with git") from error
    if not isinstance(rows, dict):
        raise AtlasError(f"{path} holds no mapping; expected one row per line, such as 'name: {{key: value}}'")
    if mistakes := list(_row_mistakes(rows, NEEDED.get(table, ()), TYPES.get(table, {}), path)):
        raise AtlasError("\n".join(mistakes))
    return rows


def _row_mistakes(rows: dict, needed: tuple[str, ...], types: dict[str, tuple], path: Path) -> Iterator[str]:
    for name, row in rows.items():
        if needed and not isinstance(row, dict):
            yield f"{path}: the row '{name}' is no mapping; expected the keys {' '.join(needed)}"
        elif missing := [key for key in needed if key not in row]:
            yield f"{path}: the row '{name}' has no {' and no '.join(missing)}; add it (its keys are {' '.join(row)})"
        for key, (kind, form) in types.items():
            if isinstance(row, dict) and not isinstance(row.get(key, kind()), kind):
                yield f"{path}: {key} of the row '{name}' is {row[key]!r}; expected {form}"
