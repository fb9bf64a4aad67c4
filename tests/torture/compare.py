"""What a run has left: which results are finished, whether they were touched, whether they are the right ones."""

from base64 import urlsafe_b64decode
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path

from knatlas.provenance import ENDING as RECORD
from knatlas.provenance import TIMESTAMP, file_digest
from knatlas.storage import read_json
from knatlas.writing import PARTIAL, partials

# Files of a result with time of change (ns) and number in the file system: equal as long as nobody wrote them.
Stamp = tuple[tuple[str, int, int], ...]


def is_result(path: Path, results: Path) -> bool:
    """Whether a file belongs to the results proper: no log, no provenance, nothing of Snakemake's, no litter."""
    parts = path.relative_to(results).parts
    is_beside = path.name.endswith(RECORD) or path.name == TIMESTAMP or any(map(is_litter, parts))
    return parts[0] != "logs" and not is_beside


def is_litter(name: str) -> bool:
    """Whether a name is a temporary one, of a file or folder that a killed job had not yet moved to its place."""
    return name.startswith(".") and PARTIAL in name


def digests(results: Path) -> dict[str, str]:
    """Digests of all results by their names in the folder of the study."""
    files = (path for path in sorted(results.rglob("*")) if path.is_file() and is_result(path, results))
    return {str(path.relative_to(results)): sha256(path.read_bytes()).hexdigest() for path in files}


def differences(found: Mapping[str, str], expected: Mapping[str, str]) -> list[str]:
    """Names of results that are missing, surplus, or have other bytes."""
    return sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))


def litter(results: Path) -> list[str]:
    """Names of temporary files and folders that killed jobs left."""
    return [str(path.relative_to(results)) for path in partials(results)]


def finished(folder: Path, results: Path) -> dict[Path, Stamp]:
    """The finished results, with what tells whether anybody writes them again.

    Finished is what has its provenance record with the right digest, and is no output of a job that Snakemake has
    marked as started and not ended.
    """
    running = set(started_outputs(folder))
    outputs = (Path(str(record).removesuffix(RECORD)) for record in sorted(results.rglob(f"*{RECORD}")))
    kept = (path for path in outputs if str(path.relative_to(folder)) not in running and _is_recorded(path))
    return {path: stamp(path) for path in kept}


def _is_recorded(path: Path) -> bool:
    return path.exists() and read_json(f"{path}{RECORD}").get("digest") == file_digest(path)


def started_outputs(folder: Path) -> Iterator[str]:
    """Outputs of jobs that Snakemake has marked as started and not ended, from the names of its markers."""
    markers = folder / ".snakemake" / "incomplete"
    for path in markers.rglob("*"):
        if path.is_file():
            yield decoded(path.relative_to(markers).parts)


def decoded(parts: tuple[str, ...]) -> str:
    """The output that a marker stands for: base64, cut into folders that begin with @ where it is long.

    >>> decoded(("cmVzdWx0cy94",))
    'results/x'
    """
    return urlsafe_b64decode("".join(part.removeprefix("@") for part in parts)).decode()


def stamp(path: Path) -> Stamp:
    """Name, time of change and number of a file, or of all files of a folder; empty when it is gone."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path] if path.exists() else []
    return tuple((str(file.relative_to(path)), file.stat().st_mtime_ns, file.stat().st_ino) for file in files)


def recomputed(before: Mapping[Path, Stamp]) -> list[Path]:
    """Those finished results that somebody wrote again."""
    return [path for path, earlier in before.items() if stamp(path) != earlier]
