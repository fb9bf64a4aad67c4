"""Files and folders that appear whole or not at all: written under a temporary name beside their place, then moved.

A killed job leaves its temporary file `.NAME.partial-*`, which nothing reads, and never half a NAME.
"""

import errno
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from knatlas.errors import AtlasError

PARTIAL = ".partial-"
DAY = 24 * 3600  # seconds
AGAIN = "run the same command again: what is finished stays"
MOVE = "or let the results folder be a link to a place where you may write"
# what is wrong, and what to do, by the number of the system's error
REMEDIES = {
    errno.ENOSPC: ("the disk is full", "Free some space"),
    errno.EDQUOT: ("your quota there is used up", "Remove files of yours, or ask for a larger quota"),
    errno.EFBIG: ("it is larger than the system allows", "Raise the limit (ulimit -f), or take smaller shards"),
    errno.EROFS: ("the file system is read-only", f"Make it writable, {MOVE}"),
    errno.EACCES: ("you may not write there", f"Get the permission, {MOVE}"),
    errno.EPERM: ("the system forbids it", f"Get the permission, {MOVE}"),
}


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` for a file or a folder, which takes its place when the block ends without error.

    What is written is on the disk before it gets its name: a machine that dies may lose the file, but leaves no empty
    one under this name. Raises: AtlasError where there is no space, or no permission to write.
    """
    path = Path(path)
    # by chance, too: in containers many processes have the same number
    partial = path.with_name(f".{path.name}{PARTIAL}{os.getpid()}-{os.urandom(3).hex()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(path)
        yield partial
        _move(partial, path)
    except Exception as error:
        sentence = unwritable(path, error)
        if sentence is None:
            raise
        raise AtlasError(sentence) from error
    finally:
        _remove(partial)


def partials(folder: str | Path) -> list[Path]:
    """The temporary files and folders below `folder` that writers left, or that are being written."""
    return sorted(Path(folder).rglob(f".*{PARTIAL}*"))


def unwritable(path: Path, error: BaseException) -> str | None:
    """The sentence for a full disk, a quota, a read-only folder or a lack of permission; None for other errors."""
    number = _error_number(error)
    if number not in REMEDIES:
        return None
    reason, remedy = REMEDIES[number]
    return f"{path} can't be written: {reason} ({_free(path)}). {remedy}, and {AGAIN}."


def _error_number(error: BaseException) -> int | None:
    if isinstance(error, OSError):
        return error.errno
    # safetensors' own error, which says the number in words
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found.group(1)) if found else None


def _free(path: Path) -> str:
    """How much is free on the disk of `path`, in words."""
    there = next(folder for folder in path.absolute().parents if folder.exists())
    return f"{shutil.disk_usage(there).free / 1e6:,.1f} MB are free in {there}"


def _move(partial: Path, path: Path) -> None:
    """Bring what was written to the disk, and give it its name."""
    for part in (partial, *partial.rglob("*")):
        descriptor = os.open(part, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    if path.is_dir() and partial.is_dir():
        # a folder that is not empty can't be replaced; the job that writes it is marked as unfinished meanwhile
        shutil.rmtree(path)
    os.replace(partial, path)


def _remove_stale(path: Path) -> None:
    """Remove temporary files of this name that nobody has written to for a day: their writer was killed."""
    prefix = f".{path.name}{PARTIAL}"
    for name in os.listdir(path.parent):
        if name.startswith(prefix) and _age(path.with_name(name)) > DAY:
            _remove(path.with_name(name))


def _age(path: Path) -> float:
    """Seconds since a file or folder changed; 0 where it is gone."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _remove(partial: Path) -> None:
    """Remove a temporary file or folder where that is possible: what kept it from being written matters more."""
    if partial.is_dir():
        shutil.rmtree(partial, ignore_errors=True)
    else:
        with suppress(OSError):
            partial.unlink()
