"""The JSON files in which EleutherAI's knowledge-neurons and AMIG's released code write their neurons.

Both name a fact by PARAREL's uuid, and count layers and neurons from 0.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from knatlas.errors import AtlasError, unknown
from knatlas.facts.json_lines import read_json_object
from knatlas.selection.importers.listed import ListedSet, listed_set, sets_as_listed
from knatlas.selection.neuron_set import read_neuron_sets


class JsonFormat(NamedTuple):
    """The names of a format's files in a folder, how an entry lists its neurons, and the language if it has but one."""

    pattern: str
    neurons_of: Callable[[object, str], object]
    language: str | None


def _plain(entry: object, where: str) -> object:
    """EleutherAI's entry: the list itself."""
    if isinstance(entry, Mapping):
        reason = (
            "this is a file of results, not of neurons: take the one with _neurons_ in its name"
            if "suppression" in entry and "neurons" not in entry
            else "expected a list of pairs [[layer, index], ...]. If AMIG's code wrote the file, set format to amig"
        )
        raise AtlasError(f"{where} is an object with the keys {' '.join(entry)}; {reason}")
    return entry


def _named(entry: object, where: str) -> object:
    """AMIG's entry: an object that has the list under `neurons`."""
    if not isinstance(entry, Mapping) or "neurons" not in entry:
        raise AtlasError(
            f"{where} is no object with the key 'neurons', as AMIG's code writes it; a file whose entries are plain "
            "lists has the format eleutherai"
        )
    return entry["neurons"]


FORMATS = {
    "eleutherai": JsonFormat("*_pararel_neurons_*.json", _plain, "en"),
    "amig": JsonFormat("pararel_neurons_*.json", _named, None),
}


def read_listed(path: str | Path, format_name: str, languages: Sequence[str] | None = None) -> list[ListedSet]:
    """The sets of a file, or of all files of the format in a folder.

    Args: format_name, `eleutherai`, `amig`, or `atlas` for a file of this workflow; languages, the one language that
    the neurons were found in ("all": the same neurons in all languages), which only `amig` needs.
    Raises: AtlasError for another format, a missing or broken file, a key in two files, a wrong number of languages.
    """
    path = Path(path)
    if format_name == "atlas":
        return sets_as_listed(read_neuron_sets(path), str(path))
    if format_name not in FORMATS:
        raise AtlasError(unknown("the format of imported neurons", format_name, "a format", [*FORMATS, "atlas"]))
    language = _language(format_name, languages, path)
    found: dict[str, tuple[Path, ListedSet]] = {}
    for file in _files(path, format_name):
        for part in _read(file, format_name, language):
            if part.key in found:
                raise AtlasError(f"{part.key} stands in {found[part.key][0]} and in {file}; remove one of the files")
            found[part.key] = file, part
    return [part for _, part in found.values()]


def _files(path: Path, format_name: str) -> list[Path]:
    if path.is_file():
        return [path]
    pattern = FORMATS[format_name].pattern
    files = sorted(path.glob(pattern))
    if not files:
        raise AtlasError(f"{path} has no file {pattern}, the names of the format {format_name}; name the file itself")
    return files


def _read(file: Path, format_name: str, language: str) -> list[ListedSet]:
    neurons_of = FORMATS[format_name].neurons_of
    parts = []
    for key, entry in read_json_object(file).items():
        where = f"{file}: the entry {key}"
        parts.append(listed_set(key, language, neurons_of(entry, where), where))
    return parts


def _language(format_name: str, languages: Sequence[str] | None, path: Path) -> str:
    own = FORMATS[format_name].language
    named = list(languages or ([own] if own else []))
    if len(named) != 1:
        raise AtlasError(
            f"{path}: {' '.join(named) or 'no language'} named for the format {format_name}, whose files hold the "
            "neurons of one language and don't say which; name one, or `all` for neurons that serve all languages"
        )
    return named[0]
