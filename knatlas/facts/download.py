"""Downloading a public data set: the needed files of a GitHub repository at one commit."""

import hashlib
import os
import shutil
import zipfile
from collections.abc import Mapping
from fnmatch import fnmatchcase
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from urllib.error import HTTPError
from urllib.request import urlopen

from knatlas.errors import AtlasError
from knatlas.progress import Report, silent
from knatlas.storage import read_json, write_json

CHUNK = 1 << 20  # bytes
SECONDS = 60  # without a byte until a download is given up


def download_dataset(
    row: Mapping, folder: str | Path, progress: Report = silent, address: str = "https://github.com"
) -> dict:
    """Fetch a data set of catalog/datasets.yaml into a folder, which appears only when it is complete.

    The digest of the files is compared with the row's `sha256` and with the record of an earlier download, which lies
    beside the folder as NAME.download.json and outlives it. The digest is over the files kept, not over the archive:
    the host may pack the same commit differently.

    Args: row with repository (owner/name), commit, paths (path in the repository -> path in the folder) and, if known,
    sha256; progress, called with megabytes; address of the host.
    Returns: the record: repository, commit, licence, url, n_files, sha256, archive_sha256.
    Raises: AtlasError for a folder in use, a failing network or archive, a missing path, or a digest that differs.
    """
    folder = Path(folder)
    refuse_occupied(folder)
    url = f"{address}/{row['repository']}/archive/{row['commit']}.zip"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.partial-") as partial:
        archive, files = Path(partial) / "archive.zip", Path(partial) / "files"
        archive_sha256 = fetch(url, archive, folder, progress)
        n_files = extract(archive, row["paths"], files, url)
        record = {name: row.get(name) for name in ("repository", "commit", "licence")}
        record |= {"url": url, "n_files": n_files, "sha256": digest(files), "archive_sha256": archive_sha256}
        check_digest(record, row.get("sha256"), record_path(folder))
        write_json(record, record_path(folder))
        os.replace(files, folder)
    return record


def record_path(folder: Path) -> Path:
    """Where the record of a download lies: beside its folder."""
    return folder.with_name(f"{folder.name}.download.json")


def refuse_occupied(folder: Path) -> None:
    """Raise AtlasError when the folder holds something already."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise AtlasError(f"{folder} is there already; a data set is downloaded into a new folder. Remove it or use it.")


def fetch(url: str, path: Path, folder: Path, progress: Report) -> str:
    """Stream a URL into a file; the sha256 of its bytes. AtlasError when it does not arrive whole."""
    try:
        with urlopen(url, timeout=SECONDS) as response:
            expected = int(response.headers.get("Content-Length") or 0)
            n_bytes, sha256 = copy(response, path, expected, progress)
    except HTTPError as error:
        raise AtlasError(
            f"{url} answered {error.code} ({error.reason}); expected the archive of a commit. Compare repository and "
            "commit of the row in catalog/datasets.yaml with the repository's page."
        ) from error
    except (OSError, HTTPException) as error:
        raise AtlasError(no_network(url, folder, str(error) or type(error).__name__)) from error
    if n_bytes < expected:
        raise AtlasError(no_network(url, folder, f"{n_bytes} of {expected} bytes arrived"))
    return sha256


def no_network(url: str, folder: Path, reason: str) -> str:
    """The sentence for a download that failed on its way."""
    return (
        f"{url} could not be downloaded ({reason}); nothing was kept. Run the workflow again where the network reaches "
        f"it, or bring a copy: give the folder that contains '{folder.name}' as facts.folder in the configuration."
    )


def copy(response: HTTPResponse, path: Path, expected: int, progress: Report) -> tuple[int, str]:
    """Write a response to a file; number and sha256 of its bytes."""
    n_bytes, sha256 = 0, hashlib.sha256()
    with path.open("wb") as file:
        while chunk := response.read(CHUNK):
            file.write(chunk)
            sha256.update(chunk)
            n_bytes += len(chunk)
            # a host that does not say the length gets one that is never reached
            progress(n_bytes // CHUNK, expected // CHUNK if expected else n_bytes // CHUNK + 1, "MB")
    return n_bytes, sha256.hexdigest()


def extract(archive: Path, paths: Mapping[str, str], folder: Path, url: str) -> int:
    """Unpack the paths into a folder; how many files. AtlasError for a broken archive and for a path it lacks."""
    try:
        with zipfile.ZipFile(archive) as content:
            wanted = choose_members(content.namelist(), paths, url)
            for member, target in wanted.items():
                (folder / target).parent.mkdir(parents=True, exist_ok=True)
                with content.open(member) as source, (folder / target).open("wb") as file:
                    shutil.copyfileobj(source, file)
    except zipfile.BadZipFile as error:
        raise AtlasError(f"{url} is no whole zip archive ({error}); nothing was kept. Download it again.") from error
    return len(wanted)


def choose_members(members: list[str], paths: Mapping[str, str], url: str) -> dict[str, str]:
    """Members of the archive and the paths they get; AtlasError for a path that matches no file."""
    wanted, missing = {}, []
    for path, target in paths.items():
        # the archive has one folder at its top, named after repository and commit
        files = {member: member.partition("/")[2] for member in members if not member.endswith("/")}
        found = {member: place for member, inside in files.items() if (place := place_of(inside, path, target))}
        wanted |= found
        if not found:
            missing.append(f"{url} has no file at '{path}'; mend the paths of the row in catalog/datasets.yaml.")
    if missing:
        raise AtlasError("\n".join(missing))
    return wanted


def place_of(file: str, path: str, target: str) -> str | None:
    """Where a file of the repository goes: `path` is the file itself, a folder of it, or a pattern with a star.

    >>> place_of("data/en/P36.jsonl", "data/en", "tuples/en"), place_of("a/P1.jsonl", "a/P*.jsonl", "ids")
    ('tuples/en/P36.jsonl', 'ids/P1.jsonl')
    """
    if ".." in PurePosixPath(file).parts:
        return None
    if file == path:
        return target
    if "*" in path:
        return f"{target}/{PurePosixPath(file).name}" if fnmatchcase(file, path) else None
    return target + file.removeprefix(path) if file.startswith(f"{path}/") else None


def digest(folder: Path) -> str:
    """One sha256 of all files of a folder: of the lines 'sha256 of the file, two blanks, path', sorted by path."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    lines = [f"{hashlib.sha256(files[name].read_bytes()).hexdigest()}  {name}\n" for name in sorted(files)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def check_digest(record: Mapping, expected: str | None, earlier: Path) -> None:
    """Raise AtlasError when the files are not those of the catalog, or not those of an earlier download."""
    if expected and record["sha256"] != expected:
        raise AtlasError(
            f"{record['url']}: the files have the digest {record['sha256']}; catalog/datasets.yaml expects {expected}. "
            "They are not the data that the study is about: check the row, and who answers at this address."
        )
    known = read_json(earlier)["sha256"] if earlier.exists() else record["sha256"]
    if record["sha256"] != known:
        raise AtlasError(
            f"{record['url']}: the files have the digest {record['sha256']}; those of an earlier download had {known} "
            f"({earlier}). To accept the new ones, delete that record and download again."
        )
