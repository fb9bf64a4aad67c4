"""Downloading a public data set: the needed files of a GitHub repository at one commit, or one file at an address."""

import hashlib
import os
import shutil
import zipfile
import zlib
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from knatlas.errors import AtlasError
from knatlas.facts.fetching import Limit, Source, fetch
from knatlas.progress import Report, silent
from knatlas.storage import read_json, write_json

# of an archive, or of files of which no size is known: a host can't fill the disk with more
LARGEST = Limit(4 << 30, "the most that a download of unknown size may have (n_bytes of the row allows more)")


def download_dataset(
    row: Mapping, folder: str | Path, progress: Report = silent, address: str = "https://github.com"
) -> dict:
    """Fetch a data set of catalog/datasets.yaml into a folder, which appears only when it is complete.

    The digest of the files is compared with the row's `sha256` and with the record of an earlier download, which lies
    beside the folder as NAME.download.json and outlives it. It is the sha256 of the bytes of a single file. Of a
    repository it is over the files kept, not over the archive: the host may pack the same commit differently.

    Args: row with repository (owner/name), commit and paths (path in the repository -> path in the folder), or with url
    and file (its name in the folder), or with instructions alone; and, if known, sha256 and n_bytes of the files kept;
    progress, called with megabytes; address of the host of repositories.
    Returns: the record: licence, url, n_files, n_bytes, sha256; repository, commit, archive_sha256; or file.
    Raises: AtlasError for a folder in use, a failing network or archive, a missing path, a digest that differs, more
    bytes than are known of, an address that is not https, or a data set that can only be fetched by hand.
    """
    folder = Path(folder)
    refuse_occupied(folder)
    if "url" not in row and "repository" not in row:
        raise AtlasError(by_hand(row, folder))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.partial-") as partial:
        files = Path(partial) / "files"
        if "url" in row:
            record = fetch_file(row, files, folder, progress)
        else:
            record = fetch_repository(row, Path(partial) / "archive.zip", files, folder, progress, address)
        check_digest(record, row.get("sha256"), record_path(folder))
        write_json(record, record_path(folder))
        os.replace(files, folder)
    return record


def fetch_repository(
    row: Mapping, archive: Path, files: Path, folder: Path, progress: Report, address: str
) -> dict[str, str | int]:
    """Fetch the archive of a commit and unpack the row's paths; the record of it."""
    url = f"{address}/{row['repository']}/archive/{row['commit']}.zip"
    remedy = f"give the folder that contains '{folder.name}' as facts.folder in the configuration"
    source = Source(url, "the archive of a commit", "repository and commit", remedy)
    # the host may pack the same files into more bytes: only those kept have a known size
    archive_sha256 = fetch(source, archive, LARGEST, progress)
    n_files, n_bytes = extract(archive, row["paths"], files, url, limit_of(row, folder))
    record = {name: row.get(name) for name in ("repository", "commit", "licence")} | {"url": url}
    return record | {"n_files": n_files, "n_bytes": n_bytes, "sha256": digest(files), "archive_sha256": archive_sha256}


def fetch_file(row: Mapping, files: Path, folder: Path, progress: Report) -> dict[str, str | int]:
    """Fetch the one file of a row; the record of it."""
    files.mkdir()
    path = inside(files, row["file"])
    setting = row.get("setting")
    remedy = f"give its path as {setting} in the configuration" if setting else f"put it at {folder / row['file']}"
    sha256 = fetch(Source(row["url"], "a file", "the url", remedy), path, limit_of(row, folder), progress)
    record = {name: row.get(name) for name in ("url", "file", "licence")}
    return record | {"n_files": 1, "n_bytes": path.stat().st_size, "sha256": sha256}


def by_hand(row: Mapping, folder: Path) -> str:
    """The sentence for a data set that no rule can fetch."""
    return (
        f"{folder}: the data set '{row['name']}' can't be downloaded by a rule. {row['instructions']} "
        f"Then give its path as {row['setting']} in the configuration."
    )


def record_path(folder: Path) -> Path:
    """Where the record of a download lies: beside its folder."""
    return folder.with_name(f"{folder.name}.download.json")


def limit_of(row: Mapping, folder: Path) -> Limit:
    """Bytes that the files kept may have: what the row or an earlier download says, else the general limit."""
    if "n_bytes" in row:
        return Limit(row["n_bytes"], "which catalog/datasets.yaml says the files have (n_bytes)")
    path = record_path(folder)
    known = read_json(path).get("n_bytes") if path.exists() else None
    reason = f"which those of an earlier download had ({path}). To accept more, delete that record and download again"
    return LARGEST if known is None else Limit(known, reason)


def inside(folder: Path, target: str) -> Path:
    """The path of a file in a folder; AtlasError for a name that leads out of it."""
    path = folder / target
    if ".." in PurePosixPath(target).parts or not path.is_relative_to(folder) or path == folder:
        raise AtlasError(f"catalog/datasets.yaml: a file is to be kept as '{target}'; expected a path in data/NAME.")
    return path


def refuse_occupied(folder: Path) -> None:
    """Raise AtlasError when the folder holds something already."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise AtlasError(f"{folder} is there already; a data set is downloaded into a new folder. Remove it or use it.")


def extract(archive: Path, paths: Mapping[str, str], folder: Path, url: str, limit: Limit) -> tuple[int, int]:
    """Unpack the paths into a folder, as plain files whatever the archive calls them (a link becomes a text).

    Returns: how many files, how many bytes. Raises: AtlasError for a broken archive, a path it lacks, or files that
    are larger together than the limit.
    """
    try:
        with zipfile.ZipFile(archive) as content:
            wanted = choose_members(content.namelist(), paths, url)
            # no more than so many bytes come out of a member, whatever it holds
            n_bytes = sum(content.getinfo(member).file_size for member in wanted)
            limit.check(url, n_bytes)
            for member, target in wanted.items():
                unpack(content, member, inside(folder, target))
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:  # the last: a locked member
        raise AtlasError(f"{url} is no whole zip archive ({error}); nothing was kept. Download it again.") from error
    return len(wanted), n_bytes


def unpack(content: zipfile.ZipFile, member: str, path: Path) -> None:
    """Write one member of an archive to a path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with content.open(member) as source, path.open("wb") as file:
        shutil.copyfileobj(source, file)


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
    known = read_json(earlier).get("sha256") if earlier.exists() else record["sha256"]
    if record["sha256"] != known:
        raise AtlasError(
            f"{record['url']}: the files have the digest {record['sha256']}; those of an earlier download had {known} "
            f"({earlier}). To accept the new ones, delete that record and download again."
        )
