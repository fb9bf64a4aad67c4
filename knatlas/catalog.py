"""The catalog: tables of models, languages, relations, data sets, one row each, as YAML."""

from functools import cache
from pathlib import Path

import yaml

from knatlas.errors import AtlasError

FOLDER = Path(__file__).resolve().parents[1] / "catalog"


@cache
def read_catalog(table: str, folder: Path = FOLDER) -> dict:
    """The rows of catalog/{table}.yaml by name; AtlasError when the file is missing or is not YAML."""
    path = folder / f"{table}.yaml"
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError as error:
        raise AtlasError(f"{path} is not there; the catalog belongs to the repository, restore it with git") from error
    except yaml.YAMLError as error:
        raise AtlasError(f"{path} is not YAML: {error}") from error
