"""Sentences that end in a punctuation mark, for syntactic neurons: from a text file, or made from facts.

The text file is the English Dataset for Punctuation Prediction (`English-OPUS.txt`), one sentence per line.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from knatlas.errors import AtlasError, unknown
from knatlas.facts.punctuation_sentences import PUNCTUATION as MARKS

PER_MARK = 200
CORPUS_COLUMNS = ["mark", "sentence", "number", "line", "source"]
BYTE_ORDER_MARK = "\ufeff"
REMEDY = "Fetch the file again, or mend it."


@dataclass(frozen=True)
class PunctuationCorpus:
    """The sentences of each mark, and what was passed over on the way to them.

    sentences: mark, sentence (without the mark, stripped), number (from 0, of the mark's sentences, in file order),
    line (from 1), sorted by mark as in MARKS, then by number. n_lines: lines that were read; of those n_blank are
    blank, n_bare hold a mark alone, n_other end in none of the marks, n_further are of a mark that is full.
    """

    sentences: pd.DataFrame
    n_lines: int
    n_blank: int
    n_bare: int
    n_other: int
    n_further: int

    @property
    def counts(self) -> dict[str, int]:
        """Lines read and passed over, and the number of sentences by mark."""
        lines = {name: getattr(self, name) for name in ("n_lines", "n_blank", "n_bare", "n_other", "n_further")}
        return lines | {
            f"sentences {mark}": int(n) for mark, n in self.sentences.groupby("mark", sort=False).size().items()
        }

    def table(self, source: str) -> pd.DataFrame:
        """The sentences as they are kept, CORPUS_COLUMNS; source, where they come from ("corpus" or "facts")."""
        return self.sentences.assign(source=source)[CORPUS_COLUMNS]


def read_punctuation_corpus(path: str | Path, per_mark: int = PER_MARK) -> PunctuationCorpus:
    """The first `per_mark` lines of each mark, in file order; a line's mark is its last character, blanks stripped.

    The file is read line by line, and no further than needed: until every mark has its sentences, or to the end. A mark
    may have fewer sentences than asked for. Equal lines stay, as in the paper's selection.
    Args: path of a text file in UTF-8, one sentence per line; per_mark, at least 1.
    Raises: AtlasError for a missing file, a line that is not UTF-8, a mark without any sentence, or per_mark below 1.
    """
    path = Path(path)
    if not path.is_file():
        raise AtlasError(f"{path} is not there; expected a text file with one sentence per line. {REMEDY}")
    with path.open("rb") as file:
        return _collect(_decoded(file, path), per_mark, str(path))


def from_sentences(sentences: pd.DataFrame, per_mark: int = PER_MARK) -> PunctuationCorpus:
    """The first `per_mark` rows of each mark of a table mark, sentence, whose sentences end in their marks.

    `line` is then the row's number, from 1.
    Raises: AtlasError for a sentence that does not end in its mark, a mark that is none of MARKS, a mark without any
    sentence, or per_mark below 1.
    """
    rows = list(zip(sentences["mark"], sentences["sentence"], strict=True))
    for number, (mark, sentence) in enumerate(rows):
        if mark not in MARKS:
            raise AtlasError(unknown(f"The mark of sentence {number}", mark, "one of", MARKS))
        if not sentence.rstrip().endswith(mark):
            raise AtlasError(f"Sentence {number} is '{sentence}'; expected one that ends in its mark '{mark}'.")
    return _collect((sentence for _, sentence in rows), per_mark, "The table of sentences")


def _decoded(lines: Iterable[bytes], path: Path) -> Iterator[str]:
    """The lines as text. Raises: AtlasError for one that is not UTF-8."""
    for number, line in enumerate(lines, start=1):
        try:
            yield line.decode("utf-8")
        except UnicodeDecodeError as error:
            where = f"{path}, line {number}"
            raise AtlasError(f"{where} is not UTF-8 text (byte {error.start} of the line). {REMEDY}") from error


def _collect(lines: Iterable[str], per_mark: int, where: str) -> PunctuationCorpus:
    """The sentences of the first lines of each mark."""
    if per_mark < 1:
        raise AtlasError(f"per_mark is {per_mark}; expected at least 1 sentence per mark.")
    found: dict[str, list[tuple[str, int]]] = {mark: [] for mark in MARKS}
    counts = dict.fromkeys(("n_lines", "n_blank", "n_bare", "n_other", "n_further"), 0)
    for number, line in enumerate(lines, start=1):
        counts["n_lines"] = number
        kind, mark, sentence = _classify(line)
        if kind is None and len(found[mark]) < per_mark:
            found[mark].append((sentence, number))
        else:
            counts[kind or "n_further"] += 1
        if kind is None and all(len(of_mark) == per_mark for of_mark in found.values()):
            break
    _check_complete(found, counts["n_lines"], where)
    rows = [(mark, text, i, line) for mark, of_mark in found.items() for i, (text, line) in enumerate(of_mark)]
    return PunctuationCorpus(pd.DataFrame(rows, columns=["mark", "sentence", "number", "line"]), **counts)


def _classify(line: str) -> tuple[str | None, str, str]:
    """Why a line is passed over (None: it is not), its mark, and its sentence without the mark."""
    text = line.strip().lstrip(BYTE_ORDER_MARK)
    if not text:
        return "n_blank", "", ""
    if text[-1] not in MARKS:
        return "n_other", "", ""
    sentence = text[:-1].strip()
    return None if sentence else "n_bare", text[-1], sentence


def _check_complete(found: dict[str, Sequence], n_lines: int, where: str) -> None:
    """Raise AtlasError for a mark without any sentence."""
    missing = [mark for mark, of_mark in found.items() if not of_mark]
    if missing:
        raise AtlasError(
            f"{where} has no sentence that ends in {' '.join(missing)} ({n_lines} lines read); expected at least one "
            f"for each of {' '.join(MARKS)}, the mark being a line's last character. {REMEDY}"
        )
