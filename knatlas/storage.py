"""Kept files: parquet tables, safetensors arrays, csv tables; the same bytes for the same content, written by rename.

A file is written under a temporary name in its own folder and moved (`writing`): a killed job leaves no torn file.
The metadata in a file is part of its content: it holds no times, no machine, no path.
"""

import json
import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from knatlas.command import making_again
from knatlas.errors import AtlasError
from knatlas.markdown import markdown_table
from knatlas.provenance import record_path
from knatlas.writing import replacing

METADATA_KEY = "knatlas"
SAFETENSORS_TYPES = {"float64": "F64", "float32": "F32", "int64": "I64", "int32": "I32"}

# Type and shape of an array that is still to be written.
Layout = tuple[str, tuple[int, ...]]
# Name of an array, number of its first element that is written (in C order), and the elements from there on.
Block = tuple[str, int, np.ndarray]


def _write(path: str | Path, write: Callable[[Path], None]) -> None:
    with replacing(path) as partial:
        write(partial)


def _packed(metadata: Mapping) -> str:
    return json.dumps(dict(metadata), sort_keys=True, ensure_ascii=False)


def _readable(path: str | Path) -> Path:
    path = Path(path)
    if not path.exists():
        raise AtlasError(f"{path} is not there; run the rule that makes it: {making_again([path])}")
    return path


def _unreadable(path: str | Path, kind: str, error: Exception) -> AtlasError:
    is_kept = record_path(path).is_file()
    remedy = f"make it again: {making_again([path])}" if is_kept else "delete it and rerun the rule that makes it"
    return AtlasError(f"{path} can't be read as {kind} ({error}); {remedy}")


def write_text(text: str, path: str | Path) -> None:
    """Write a text file (UTF-8)."""
    _write(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def copy_file(source: str | Path, path: str | Path) -> None:
    """Write a copy of a file."""
    _write(path, lambda partial: shutil.copyfile(source, partial))


def as_json(content: Mapping) -> str:
    """A mapping as the text of a kept file: indented JSON with sorted keys."""
    return json.dumps(dict(content), sort_keys=True, ensure_ascii=False, indent=2) + "\n"


def write_json(content: Mapping, path: str | Path) -> None:
    """Write a mapping as indented JSON with sorted keys."""
    write_text(as_json(content), path)


def read_json(path: str | Path) -> dict:
    """Read a JSON object; AtlasError when the file is missing or is not JSON."""
    try:
        return json.loads(_readable(path).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise AtlasError(f"{path}: line {error.lineno} is not JSON ({error.msg}); delete the file and rerun") from error
    except UnicodeDecodeError as error:
        raise _unreadable(path, "JSON", error) from error


def write_table(frame: pd.DataFrame, path: str | Path, metadata: Mapping | None = None) -> None:
    """Write a table as parquet, with `metadata` (JSON-like) in the file's schema."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), METADATA_KEY: _packed(metadata or {})})
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
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, "parquet", error) from error


def write_arrays(arrays: Mapping[str, np.ndarray], path: str | Path, metadata: Mapping | None = None) -> None:
    """Write named arrays as safetensors; the metadata is one JSON string under one key, so that its order is fixed."""
    contiguous = {name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)}
    _write(path, lambda partial: save_file(contiguous, partial, metadata={METADATA_KEY: _packed(metadata or {})}))


def write_array_blocks(
    layout: Mapping[str, Layout], blocks: Iterable[Block], path: str | Path, metadata: Mapping | None = None
) -> None:
    """Write named arrays as safetensors block by block: only one block at a time need be in memory.

    Args: layout, type and shape of every array; blocks in any order, elements that no block holds are 0; the metadata
    as in `write_arrays`. Raises: KeyError for a block of an array that the layout lacks.
    """
    header, starts = _header(layout, metadata or {})

    def write(partial: Path) -> None:
        with partial.open("wb") as file:
            file.write(header)
            file.truncate(len(header) + sum(_n_bytes(layout[name]) for name in layout))
            for name, start, values in blocks:
                kind = np.dtype(layout[name][0]).newbyteorder("<")
                file.seek(len(header) + starts[name] + start * kind.itemsize)
                file.write(np.ascontiguousarray(values, dtype=kind).tobytes())

    _write(path, write)


def _header(layout: Mapping[str, Layout], metadata: Mapping) -> tuple[bytes, dict[str, int]]:
    """The header of a safetensors file, and where each array begins behind it."""
    entries, starts, end = {"__metadata__": {METADATA_KEY: _packed(metadata)}}, {}, 0
    # wide types first, so that every array begins at a multiple of its type's size
    for name in sorted(layout, key=lambda name: (-np.dtype(layout[name][0]).itemsize, name)):
        starts[name], end = end, end + _n_bytes(layout[name])
        kind, shape = layout[name]
        entries[name] = {"dtype": SAFETENSORS_TYPES[kind], "shape": list(shape), "data_offsets": [starts[name], end]}
    text = json.dumps(entries, ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, starts


def _n_bytes(layout: Layout) -> int:
    kind, shape = layout
    return np.dtype(kind).itemsize * math.prod(shape)


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
        raise _unreadable(path, "safetensors", error) from error


class SlicedArrays(Mapping):
    """The arrays of a safetensors file, read slice by slice: a file need not fit into memory."""

    def __init__(self, path: str | Path):
        try:
            self.file = safe_open(_readable(path), framework="numpy")
        except (SafetensorError, OSError) as error:
            raise _unreadable(path, "safetensors", error) from error
        self.names = sorted(self.file.keys())

    def __getitem__(self, name: str) -> object:
        if name not in self.names:
            raise KeyError(name)
        return self.file.get_slice(name)

    def kind(self, name: str) -> str:
        """The type of an array."""
        kinds = {code: kind for kind, code in SAFETENSORS_TYPES.items()}
        return kinds[self.file.get_slice(name).get_dtype()]

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of an array."""
        return tuple(self.file.get_slice(name).get_shape())

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def write_csv(frame: pd.DataFrame, path: str | Path, shown: pd.DataFrame | None = None) -> None:
    """Write a table as csv with six significant digits, and as Markdown beside it (same name, `.md`).

    shown: what the Markdown holds, where that is not the table itself.
    """
    _write(path, lambda partial: frame.to_csv(partial, index=False, float_format="%.6g"))
    shown = frame if shown is None else shown
    short = shown.map(lambda value: f"{value:.4g}" if isinstance(value, float) else value)
    write_text(markdown_table(short) + "\n", Path(path).with_suffix(".md"))


def read_csv(path: str | Path) -> pd.DataFrame:
    """Read a csv table that `write_csv` wrote; AtlasError when the file is missing or torn."""
    try:
        return pd.read_csv(_readable(path), keep_default_na=False, na_values=[""])
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise _unreadable(path, "csv", error) from error
