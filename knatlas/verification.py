"""Finding files that are not what their job wrote: python -m knatlas.verification results/embedded.

A job's output is compared with the digest in its provenance before the next job reads it, and here for a whole study.
"""

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from knatlas.command import making_again
from knatlas.errors import AtlasError
from knatlas.provenance import ENDING, file_digest, record_path
from knatlas.writing import partials


class Torn(NamedTuple):
    """A file that was cut off or changed, the rule that wrote it, and a sentence that says how to make it again."""

    path: Path
    rule: str
    sentence: str


@dataclass
class Checked:
    """What a check of a folder found: files compared with their digests, their bytes, those without one, the torn."""

    n_files: int = 0
    n_bytes: int = 0
    n_unknown: int = 0
    torn: list[Torn] = ()


def checked_digests(paths: Iterable[str | Path]) -> dict[str, str]:
    """The digests of files and folders by path, each compared with the provenance beside it where there is one.

    Paths that are not there are left out. Raises: AtlasError, a sentence for each that is not what its job wrote.
    """
    digests, torn = {}, []
    for path in sorted({str(path) for path in paths}):
        if Path(path).exists():
            digests[path] = file_digest(path)
            torn += _torn(Path(path), digests[path])
    if torn:
        raise AtlasError("\n".join(found.sentence for found in torn))
    return digests


def torn_files(folder: str | Path) -> list[Torn]:
    """All files and folders below a folder that are not what their provenance says, in the order of their paths."""
    return check_folder(folder).torn


def check_folder(folder: str | Path) -> Checked:
    """Compare everything below a folder with its provenance. Raises: AtlasError where there is no such folder."""
    if not Path(folder).is_dir():
        raise AtlasError(f"{folder} is not a folder; give that of a study's results, such as results/embedded")
    checked = Checked(torn=[])
    for record in sorted(Path(folder).rglob(f"*{ENDING}")):
        path = record.with_name(record.name.removesuffix(ENDING))
        # what was there for a while only, as `temp` outputs, leaves its record
        if path.exists():
            _check(path, checked)
    return checked


def _check(path: Path, checked: Checked) -> None:
    """Add one output to what is checked."""
    torn = _torn(path, file_digest(path))
    known = not torn and "digest" in _record(path)
    checked.torn += torn
    checked.n_files += bool(torn) or known
    checked.n_unknown += not torn and not known
    parts = path.rglob("*") if path.is_dir() else [path]
    checked.n_bytes += sum(part.stat().st_size for part in parts if part.is_file())


def _torn(path: Path, digest: str) -> list[Torn]:
    """What is wrong with an output that has this digest: nothing, itself, its record, or the Markdown beside it."""
    try:
        record = _record(path)
    except ValueError as error:
        return [Torn(path, "unknown", _sentence_of_record(path, error))]
    found = {path: (digest, record.get("digest", digest))}
    for name, recorded in record.get("beside", {}).items():
        companion = path.with_name(name)
        found[companion] = (file_digest(companion) if companion.exists() else "missing", recorded)
    rule = str(record.get("rule", "unknown"))
    return [Torn(part, rule, _sentence(part, rule, path, *pair)) for part, pair in found.items() if pair[0] != pair[1]]


def _record(path: Path) -> dict:
    """The provenance of an output, empty where there is none; ValueError when it can't be read."""
    record = record_path(path)
    if not record.is_file():
        return {}
    content = json.loads(record.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"it is '{str(content)[:40]}'")
    return content


def _sentence(part: Path, rule: str, output: Path, found: str, recorded: str) -> str:
    return (
        f"{part} is not what {rule} wrote (its digest is {found}, recorded is {recorded}): it was cut off or changed. "
        f"Make it again: {making_again([output])} ; or, if you changed it on purpose, delete {record_path(output)}"
    )


def _sentence_of_record(path: Path, error: ValueError) -> str:
    return (
        f"{record_path(path)} is not JSON ({error}): it was cut off or changed, so that {path} can't be checked. "
        f"Make both again: {making_again([path])} ; or, if you trust {path}, delete its record {record_path(path)}"
    )


def report(folder: str | Path) -> tuple[str, bool]:
    """What is torn in a study's folder, in words, and whether nothing is."""
    checked, left = check_folder(folder), partials(folder)
    lines = [torn.sentence for torn in checked.torn]
    if len(checked.torn) > 1:
        lines.append(f"All of them: {making_again(sorted({str(torn.path) for torn in checked.torn}))}")
    lines += [f"{path} is left from a write that was cut off, unless a job is writing it; delete it" for path in left]
    if checked.n_unknown:
        lines.append(f"{checked.n_unknown} files can't be checked: their provenance has no digest")
    lines.append(f"{folder}: {checked.n_files} files checked ({checked.n_bytes:,} bytes), {len(checked.torn)} torn")
    return "\n".join(lines), not checked.torn


def main(arguments: list[str]) -> int:
    """Print what is torn in the folder named by the one argument; 1 if anything is, 2 for a wrong call."""
    if len(arguments) != 1:
        print("usage: python -m knatlas.verification results/STUDY", file=sys.stderr)
        return 2
    try:
        text, is_whole = report(arguments[0])
    except AtlasError as error:
        print(error, file=sys.stderr)
        return 2
    print(text)
    return 0 if is_whole else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
