"""What docs/outputs*.md say that a study holds: files by patterns of their paths, and the columns of each."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

CODE = re.compile(r"`([^`]+)`")
WORD = re.compile(r"[\w{}./-]+")
CONTROLS = "controls/{control}/"
ROW = "a row of a table of files, | `NAME` | rule | one row per | `column`, `column` (unit) |"
ENDINGS = (".csv", ".parquet")
OPTIONAL_NAME = re.compile(r"`([^`]+)` \(only\b")
OPTIONAL = re.compile(r"\bonly (with|where|of|for)\b", re.IGNORECASE)


@dataclass
class Documented:
    """A file, or a figure's csv: the pattern of its path with {wildcards}, its columns, and which of them are optional.

    sources: patterns of the tables whose columns a figure has; is_optional: not every study has the file.
    """

    pattern: str
    columns: list[str] = field(default_factory=list)
    optional: set[str] = field(default_factory=set)
    sources: list[str] = field(default_factory=list)
    is_optional: bool = False


@dataclass
class Place:
    """Where a table stands: the folder and the files of the heading, and the paragraph above the table."""

    folder: str = ""
    files: tuple[str, ...] = ()
    above: str = ""

    def path(self, name: str) -> str:
        """A name of the heading's folder, from the study's folder on."""
        return f"{self.folder}/{name}" if self.folder else name


def fits(text: str, pattern: str) -> bool:
    """Whether a text fits a pattern whose {wildcards} stand for anything but a slash."""
    return re.fullmatch(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(pattern)), text) is not None


def without_brackets(text: str) -> str:
    """The text without what stands in round brackets, those in code left alone."""
    depth, kept = 0, []
    for part in re.findall(r"`[^`]*`|[()]|[^`()]+", text):
        depth += (part == "(") - (part == ")" and depth > 0)
        if depth == 0 and part != ")":
            kept.append(part)
    return "".join(kept)


def names(text: str) -> list[str]:
    """What stands as code in a text, outside of brackets."""
    return CODE.findall(without_brackets(text))


def is_file(name: str) -> bool:
    """Whether a name is that of a table's file."""
    return name.endswith(ENDINGS)


def read_documents(folder: Path) -> list[Documented]:
    """All files that the pages docs/outputs*.md describe; of one that stands in several tables, the columns of all.

    Of a file that is described already, a table under the word "only" adds columns that not every study has.
    """
    found: dict[str, Documented] = {}
    for page in sorted(folder.glob("outputs*.md")):
        for entry in read_page(page.read_text(encoding="utf-8")):
            known = found.setdefault(entry.pattern, entry)
            if known is not entry:
                known.columns += [name for name in entry.columns if name not in known.columns]
                known.optional |= {*entry.optional, *(entry.columns if entry.is_optional else ())}
                known.sources += entry.sources
    return [_as_outside(entry, found) for entry in found.values()]


def _as_outside(entry: Documented, found: dict[str, Documented]) -> Documented:
    """A file of a control that names no columns has those of the study's own file."""
    own = found.get(entry.pattern.removeprefix(CONTROLS))
    return entry if entry.columns or own is None else replace(entry, columns=own.columns, optional=own.optional)


def read_page(text: str) -> Iterator[Documented]:
    """The files of one page, as its headings, its tables, and the paragraphs above these say."""
    place, rows = Place(), []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("| ").split(" |")])
            continue
        if rows:
            yield from _read_table(rows[0], rows[2:], place)
            place, rows = Place(place.folder, place.files), []
        if line.startswith("## "):
            place = _read_heading(line)
        elif line:
            place.above += f"{line} "
        elif place.above.endswith(" "):
            # the end of a paragraph, which the next line of text replaces
            place.above = place.above.rstrip() + "\n"
        if "\n" in place.above[:-1]:
            place.above = place.above.rpartition("\n")[2]


def _read_heading(line: str) -> Place:
    words = WORD.findall(without_brackets(CODE.sub("", line).removeprefix("## ")))
    folder, _, name = words[0].rpartition("/")
    return Place(folder, tuple(filter(is_file, [name, *words[1:]])))


def _read_table(head: list[str], rows: list[list[str]], place: Place) -> Iterator[Documented]:
    readers = {"column": _of_columns, "file": _of_files, "figure": _of_figures}
    reader = readers.get(head[0].strip("| "))
    if reader is not None:
        yield from reader([word.strip("| ") for word in head], rows, place)


def _of_columns(head: list[str], rows: list[list[str]], place: Place) -> Iterator[Documented]:
    """The files that the paragraph or the heading names; their columns are the rows."""
    columns = [(name, row) for row in rows for name in names(row[0])]
    optional = {name for name, row in columns if OPTIONAL.search(row[-1])}
    is_optional = bool(OPTIONAL.search(place.above))
    for file in [name for name in CODE.findall(place.above) if is_file(name)] or place.files:
        # a paragraph may also name a file of another folder, with the folder
        path = file if "/" in file else place.path(file)
        yield Documented(path, [name for name, _ in columns], set(optional), [], is_optional)


def _of_files(head: list[str], rows: list[list[str]], place: Place) -> Iterator[Documented]:
    """Files that are the rows, with their columns in the column of that name."""
    at = head.index("columns") if "columns" in head else len(head)
    for row in rows:
        cell = "".join(row[at : at + 1])
        columns = [name for name in names(cell) if not is_file(name)]
        is_optional = bool(OPTIONAL.search(" ".join([*head[1:at], *row[1:at]])))
        for name in filter(is_file, names(row[0])):
            optional = set(OPTIONAL_NAME.findall(cell))
            yield Documented(place.path(name), list(columns), optional, [], is_optional)


def _of_figures(head: list[str], rows: list[list[str]], place: Place) -> Iterator[Documented]:
    """Figures that are the rows: each has the columns of the tables it is from, and those that are named besides."""
    for row in rows:
        origin = names(row[2])
        sources, further = [name for name in origin if is_file(name)], [name for name in origin if not is_file(name)]
        optional = set(OPTIONAL_NAME.findall(row[2]))
        for name in names(row[0]):
            path, is_optional = f"figures/{name}.csv", bool(OPTIONAL.search(row[1]))
            yield Documented(path, list(further), set(optional), list(sources), is_optional)


def file_mistakes(documents: list[Documented], tables: dict[str, list[str]]) -> list[str]:
    """Files that are written and not described, and described and not written."""
    unknown = [path for path in tables if not any(fits(path, entry.pattern) for entry in documents)]
    needed = [entry.pattern for entry in documents if not entry.is_optional]
    missing = [pattern for pattern in needed if not any(fits(path, pattern) for path in tables)]
    return [f"{path} is described nowhere: add {ROW}" for path in unknown] + [
        f"{pattern} is described and no study writes it (or say 'only where ...')" for pattern in missing
    ]


def column_mistakes(documents: list[Documented], tables: dict[str, list[str]]) -> list[str]:
    """Columns that are written and not described, and described and not written, file by file."""
    known = {entry.pattern: entry for entry in documents}
    pairs = [(path, entry) for path in tables for entry in documents if fits(path, entry.pattern)]
    return [mistake for path, entry in pairs for mistake in _mistakes_of(path, tables[path], entry, known)]


def _mistakes_of(path: str, columns: list[str], entry: Documented, known: dict[str, Documented]) -> Iterator[str]:
    parts = [entry, *(known[source] for source in entry.sources)]
    patterns = [name for part in parts for name in part.columns]
    optional = set().union(*(part.optional for part in parts))
    yield from (f"{path}: {n} is not described" for n in columns if not any(fits(n, p) for p in patterns))
    # a figure of several tables has some columns of each
    needed = [] if len(entry.sources) > 1 else [pattern for pattern in patterns if pattern not in optional]
    missing = [pattern for pattern in needed if not any(fits(name, pattern) for name in columns)]
    yield from (f"{path}: {pattern} is described, but it is not there" for pattern in missing)
