"""The part `facts` of a study: the public data sets that its source reads, their files, and mistakes in it."""

from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path

from knatlas.catalog import read_catalog
from knatlas.errors import unknown

ENGLISH = "en"  # the language of the localization paper's experiments
# source of facts -> the data sets that it reads, by the names of their folders
DATA_SETS = {
    "cldr": [],
    "mpararel": ["mpararel"],
    "multilingual_pararel": ["multilingual_pararel", "pararel", "mpararel"],
    "context_pararel": ["pararel"],
}


def own_data_files(study: Mapping) -> list[str]:
    """The files of the data sets in a folder of the user's own; none where they are downloaded.

    They are inputs of what reads them: the time of a folder does not tell that a file in it was edited. What is hidden,
    such as the records of git in a clone, does not count.
    """
    folder, names = study["facts"]["folder"], DATA_SETS[study["facts"]["source"]]
    return [] if folder is None else sorted(path for name in names for path in _shown_files(Path(folder) / name))


def _shown_files(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*"):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield str(path)


def fact_mistakes(study: Mapping, root: Path) -> Iterator[str]:
    """A sentence per mistake that the schema can't see. Args: root, the folder that paths start from."""
    facts, known = study["facts"], read_catalog("relations")
    if facts["relations"] != "all":
        offered = {name: row for name, row in known.items() if facts["source"] != "cldr" or "cldr" in row}
        for i, relation in enumerate(facts["relations"]):
            if relation not in offered:
                yield unknown(f"facts.relations[{i}]", relation, f"a relation of source '{facts['source']}'", offered)
    if facts["folder"] is not None:
        yield from _folder_mistakes(facts["folder"], DATA_SETS[facts["source"]], root)
    if facts["source"] == "context_pararel" and study["languages"] != [ENGLISH]:
        given = " ".join(study["languages"])
        yield f"languages: is {given}, but facts.source 'context_pararel' is in English alone; set languages to [en]"
    try:
        date.fromisoformat(facts["as_of"])
    except ValueError as error:
        yield f"facts.as_of: is '{facts['as_of']}', which is no day of the calendar ({error})"


def _folder_mistakes(folder: str, needed: list[str], root: Path) -> Iterator[str]:
    """The folder, or a data set's own in it, is not there."""
    if not (root / folder).is_dir():
        yield f"facts.folder: '{folder}' is not there; give the folder of the data set, or null to download it"
        return
    for name in needed:
        if not (root / folder / name).is_dir():
            above = Path(folder).name == name
            remedy = f"give the folder above it, '{Path(folder).parent}'" if above else "put the data set there"
            yield f"facts.folder: '{folder}' has no folder {name} in it; {remedy}"
