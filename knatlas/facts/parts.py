"""The public parts of a build: where each comes from, under which licence, and the digest of what was read."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import babel
from babel.core import get_cldr_version

from knatlas.catalog import FOLDER, read_catalog
from knatlas.facts.download import digest, record_path
from knatlas.storage import read_json

LOCALES = Path(babel.__file__).parent / "locale-data"  # what CLDR says, as Babel brings it along
TERMS = {
    "cldr": (
        "Anyone may use, change and pass on this build: names and pairs of ids under the Unicode License v3 (keep its "
        "notice), templates and lists under the licence of this project (MIT)."
    ),
    "mpararel": (
        "Research on a machine of one's own. mParaRel states no licence, so no right to pass its sentences and names "
        "on is given; mLAMA, from which its facts come, asks for non-commercial use (CC BY-NC 4.0). Do not "
        "redistribute the files above; pass on this card, with which anyone can build them again."
    ),
    "multilingual_pararel": (
        "Non-commercial research, with attribution. The data set states CC BY 4.0, but is made from mLAMA, which asks "
        "for non-commercial use (CC BY-NC 4.0), and its subjects and its Chinese come from mParaRel, which states no "
        "licence. Until its owners settle this, do not redistribute the files above; pass on this card, with which "
        "anyone can build them again."
    ),
    "context_pararel": (
        "Anyone may use, change and pass on this build under the MIT licence of PARAREL (keep its notice)."
    ),
}


@dataclass(frozen=True)
class Part:
    """A public part: its name, where it is, commit or version, stated licence, sha256, and a remark on the digest."""

    name: str
    where: str
    version: str
    licence: str
    sha256: str
    remark: str


def read_parts(source: str, folders: Sequence[str | Path]) -> list[Part]:
    """The parts of a source of facts; of data sets, with the digest of the files that lie in `folders` now.

    Args: source, one of TERMS; folders, those of the source's data sets, each named as its row in the catalog.
    """
    return embedded_parts() if source == "cldr" else [dataset_part(Path(folder)) for folder in folders]


def embedded_parts() -> list[Part]:
    """Unicode CLDR in the package that brings it along, and this project's own lists and templates."""
    return [
        Part(
            "Unicode CLDR",
            f"in the Python package Babel {babel.__version__} (BSD-3-Clause), pinned in requirements.txt",
            f"CLDR {get_cldr_version()}",
            "Unicode License v3",
            digest(LOCALES),
            "babel/locale-data, as installed",
        ),
        Part("templates", "catalog/templates", "", "MIT", digest(FOLDER / "templates"), "of this project"),
        Part("capitals", "catalog/capitals.yaml", "", "MIT", sha256_of(FOLDER / "capitals.yaml"), "of this project"),
    ]


def dataset_part(folder: Path) -> Part:
    """A data set of catalog/datasets.yaml, as it lies in a folder."""
    row = read_catalog("datasets")[folder.name]
    found = digest(folder)
    return Part(
        row["name"], f"github.com/{row['repository']}", row["commit"], row["licence"], found, remark(row, folder, found)
    )


def remark(row: dict, folder: Path, found: str) -> str:
    """Whether the files are those that the catalog names, or those that the record of their download names."""
    record = record_path(folder)
    came = "downloaded by the workflow" if record.exists() else "a copy at hand, not downloaded by the workflow"
    expected = row.get("sha256") or (read_json(record)["sha256"] if record.exists() else None)
    if expected is None:
        return f"{came}; no digest to compare with"
    if found == expected:
        return f"{came}; as expected"
    why = "other content, or files missing or added; commit and licence may not be theirs"
    return f"{came}; NOT the files expected ({expected}): {why}"


def sha256_of(path: str | Path) -> str:
    """The sha256 of a file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
