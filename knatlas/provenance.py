"""Where a result comes from: digests of files and of source code, and the record of the run that wrote it."""

import ast
import hashlib
import json
import platform
import resource
import sys
from collections.abc import Collection, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from knatlas.errors import AtlasError
from knatlas.yaml_files import read_yaml

ROOT = Path(__file__).resolve().parents[1]
ENDING = ".provenance.json"
# Snakemake touches it in an output that is a folder, after the job
TIMESTAMP = ".snakemake_timestamp"
RECORDED_PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "pandas", "babel")


def digest(content: object) -> str:
    """A short digest (sha256, 16 hexadecimal digits) of JSON-like content or of bytes."""
    raw = content if isinstance(content, bytes) else json.dumps(content, sort_keys=True, default=str).encode()
    return hashlib.sha256(raw).hexdigest()[:16]


def file_digest(path: str | Path) -> str:
    """Digest of a file's bytes, or of all files below a folder with their relative names."""
    path = Path(path)
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file() and p.name != TIMESTAMP)
        return digest([[str(p.relative_to(path)), file_digest(p)] for p in files])
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def record_path(output: str | Path) -> Path:
    """Where the provenance of an output lies: beside it."""
    return Path(f"{output}{ENDING}")


def code_digest(script: str | Path, root: Path = ROOT) -> str:
    """Digest of the library modules that a script imports, directly or through others.

    Snakemake sees changes of a script but not of the modules it imports; rules pass this as a parameter. Comments,
    docstrings and layout don't count: the digest is of the syntax tree.
    """
    modules = sorted(imported_modules(Path(root) / script, Path(root)))
    return digest([[str(path.relative_to(root)), _tree_digest(path)] for path in modules])


def catalog_digest(*names: str, rows: Mapping[str, Collection[str]] | None = None, root: Path = ROOT) -> str:
    """Digest of what files or folders of the catalog say, by their names in it; a parameter of rules that read them.

    Comments and layout don't count, the order of rows does. Args: rows, for a file the names of the rows that are read
    of it, such as those of a study's languages; of other files all rows count.
    """
    rows = rows or {}
    return digest([[name, _said_in(Path(root) / "catalog" / name, rows.get(name))] for name in names])


def _said_in(path: Path, rows: Collection[str] | None) -> object:
    """A digest of the parsed content; a file that is missing or no YAML is for the job that reads it to refuse."""
    if path.is_dir():
        return [[part.name, _said_in(part, rows)] for part in sorted(path.glob("*.yaml"))]
    try:
        content = read_yaml(path)
    except FileNotFoundError:
        return "missing"
    except AtlasError:
        return file_digest(path)
    if rows is not None and isinstance(content, dict):
        content = {name: row for name, row in content.items() if name in rows}
    # not as JSON with sorted keys: keys may be of several types, and their order is the order of results
    return digest(repr(content).encode())


def imported_modules(source: Path, root: Path = ROOT) -> set[Path]:
    """The files of the package `knatlas` that `source` imports, transitively (without `source` itself)."""
    found: set[Path] = set()
    waiting = [source]
    while waiting:
        for path in _direct_imports(waiting.pop(), root):
            if path not in found:
                found.add(path)
                waiting.append(path)
    return found


@cache
def _direct_imports(source: Path, root: Path) -> tuple[Path, ...]:
    names: list[str] = []
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(path for name in names if name.split(".")[0] == "knatlas" for path in _files_of(name, root))


def _files_of(module: str, root: Path) -> list[Path]:
    """The module's file and the `__init__` files that importing it runs."""
    parts = module.split(".")
    candidates = [root.joinpath(*parts[:i], "__init__.py") for i in range(1, len(parts) + 1)]
    candidates.append(root.joinpath(*parts).with_suffix(".py"))
    return [path for path in candidates if path.is_file()]


@cache
def _tree_digest(path: Path) -> str:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return digest(ast.dump(tree))


def run_record(inputs: Mapping[str, str], settings: Mapping, seconds: float) -> dict:
    """What was run on what: settings, digests of the inputs, versions, machine, seconds, peak memory in MB."""
    return {
        "settings": dict(settings),
        "inputs": dict(inputs),
        "packages": {name: _version(name) for name in RECORDED_PACKAGES},
        "python": sys.version.split()[0],
        "machine": {"system": platform.system(), "processor": platform.machine()},
        "seconds": round(seconds, 3),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
