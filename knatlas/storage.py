"""Kept files: parquet tables, safetensors arrays, csv tables; the same bytes for the same content, written by rename.

A file is written under a temporary name in its own folder and moved, so that a killed job leaves no torn file.
The metadata in a file is part of its content: it holds no times, no machine, no path.
"""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import safe_open
from safetensors.numpy import save_file

from knatlas.errors import AtlasError

METADATA_KEY = "knatlas"


def _write(path: str | Path, write: Callable[[Path], None]) -> None:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        write(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _as_json(metadata: Mapping) -> str:
    return json.dumps(dict(metadata), sort_keys=True, ensure_ascii=False)


def _readable(path: str | Path) -> Path:
    path = Path(path)
    if not path.exists():
        raise AtlasError(f"{path} is not there; run the rule that makes it: snakemake --cores 2 {path}")
    return path


def write_text(text: str, path: str | Path) -> None:
    """Write a text file (UTF-8)."""
    _write(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def write_json(content: Mapping, path: str | Path) -> None:
    """Write a mapping as indented JSON with sorted keys."""
    write_text(json.dumps(dict(content), sort_keys=True, ensure_ascii=False, indent=2) + "\n", path)


def read_json(path: str | Path) -> dict:
    """Read a JSON object; AtlasError when the file is missing or is not JSON."""
    try:
        return json.loads(_readable(path).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise AtlasError(f"{path}: line {error.lineno} is not JSON ({error.msg}); delete the file and rerun") from error


def write_table(frame: pd.DataFrame, path: str | Path, metadata: Mapping | None = None) -> None:
    """Write a table as parquet, with `metadata` (JSON-like) in the file's schema."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), METADATA_KEY: _as_json(metadata or {})})
    _write(path, lambda partial: pq.write_table(table, partial))


def read_table(path: str | Path) -> pd.DataFrame:
    """Read a parquet table; AtlasError when the file is missing or torn."""
    return _parquet(path).to_pandas()


def read_metadata(path: str | Path) -> dict:
    """The metadata that `write_table` or `write_arrays` put into a file."""
    if Path(path).suffix == ".safetensors":
        return read_arrays(path, names=[])[1]
    return json.loads((_parquet(path).schema.metadata or {}).get(METADATA_KEY.encode(), b"{}"))


def _parquet(path: str | Path) -> pa.Table:
    try:
        return pq.read_table(_readable(path), partitioning=None)
    except (pa.ArrowInvalid, OSError) as error:
        raise AtlasError(
            f"{path} can't be read as parquet ({error}); delete it and rerun the rule that makes it"
        ) from error


def write_arrays(arrays: Mapping[str, np.ndarray], path: str | Path, metadata: Mapping | None = None) -> None:
    """Write named arrays as safetensors; the metadata is one JSON string under one key, so that its order is fixed."""
    contiguous = {name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)}
    _write(path, lambda partial: save_file(contiguous, partial, metadata={METADATA_KEY: _as_json(metadata or {})}))


def read_arrays(path: str | Path, names: list[str] | None = None) -> tuple[dict[str, np.ndarray], dict]:
    """The arrays of a safetensors file (all, or those in `names`) and its metadata; AtlasError when missing or torn."""
    try:
        with safe_open(_readable(path), framework="numpy") as file:
            wanted = file.keys() if names is None else names
            arrays = {name: file.get_tensor(name) for name in wanted}
            return arrays, json.loads((file.metadata() or {}).get(METADATA_KEY, "{}"))
    except AtlasError:
        raise
    except Exception as error:
        raise AtlasError(f"{path} can't be read as safetensors ({error}); delete it and rerun the rule") from error


def write_csv(frame: pd.DataFrame, path: str | Path) -> None:
    """Write a table as csv, and as Markdown beside it (same name, `.md`), numbers with six significant digits."""
    _write(path, lambda partial: frame.to_csv(partial, index=False, float_format="%.6g"))
    short = frame.map(lambda value: f"{value:.4g}" if isinstance(value, float) else value)
    write_text(short.to_markdown(index=False, disable_numparse=True) + "\n", Path(path).with_suffix(".md"))


def read_csv(path: str | Path) -> pd.DataFrame:
    """Read a csv table that `write_csv` wrote."""
    return pd.read_csv(_readable(path), keep_default_na=False, na_values=[""])
