"""Do a paper's printed numbers agree with each other? Every check allows for the rounding of all numbers in it.

A check of catalog/paper_results names the cells that it judges and their parts: the same cell with other keys, or in
another place. A cell whose check fails is `inconsistent`; its parts are not judged by it: any of them may be wrong.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from math import sqrt
from statistics import fmean, harmonic_mean
from typing import NamedTuple

from knatlas.errors import AtlasError, unknown
from knatlas.statistics.printed_cells import PrintedCell, is_one_of, paper_results, read_cells

CONSISTENT, DOUBTFUL, INCONSISTENT, NOT_CHECKABLE = "consistent", "doubtful", "inconsistent", "not checkable"
SEVERITY = (NOT_CHECKABLE, CONSISTENT, DOUBTFUL, INCONSISTENT)
# of floating-point arithmetic, relative to the numbers compared
EPSILON = 1e-9


class Verdict(NamedTuple):
    """What the checks say of a printed number, and why, where they object."""

    verdict: str
    why: str = ""


# what a number must be, of its parts; each is monotone in every part, so that the extremes are those of rounded parts
FORMULAS: dict[str, tuple[Callable, str]] = {
    "mean": (lambda *parts: fmean(parts), "the mean of {}"),
    "harmonic_mean": (lambda *parts: harmonic_mean([max(part, 0) for part in parts]), "the harmonic mean of {}"),
    "difference": (lambda a, b: a - b, "the difference of {}"),
    "gain": (lambda a, b: (a - b) / b, "the gain by {}"),
    "percent_gain": (lambda a, b: 100 * (a - b) / b, "the gain in percent by {}"),
    "percent_loss": (lambda a, b: 100 * (a - b) / a, "the loss in percent by {}"),
    "percent_of": (lambda part: 100 * part, "the same number in percent"),
    "f1": (lambda p, r: 2 * p * r / (p + r), "F1 by {}"),
    "same": (lambda part: part, "the same number elsewhere"),
}


def check_paper(paper: str) -> dict[PrintedCell, Verdict]:
    """The verdict on every printed number of a paper.

    consistent: all checks of it hold; doubtful: possible, but the catalog or a check says why it is hard to believe;
    inconsistent: it can't be right beside the other numbers; not checkable: nothing printed follows from it, or it
    can't be read. Raises: AtlasError for a check that names an unknown kind or cell.
    """
    return check_cells(read_cells(paper), paper_results(paper).get("checks", []))


def check_cells(cells: Sequence[PrintedCell], checks: Iterable[Mapping]) -> dict[PrintedCell, Verdict]:
    """As `check_paper`, of given cells and checks."""
    verdicts, book = dict.fromkeys(cells, Verdict(NOT_CHECKABLE)), _Book(cells)
    for check in checks:
        for cell in book.judged(check["cells"]):
            parts = [book.part(cell, part) for part in check.get("parts", [])]
            if all(each.is_legible for each in [cell, *parts]):
                verdict = _judge(cell, parts, check, book)
                for each in [cell, *parts] if verdict.verdict == CONSISTENT else [cell]:
                    verdicts[each] = _worse(verdicts[each], verdict)
    return verdicts


class _Book:
    """The cells of a paper, found by place and keys."""

    def __init__(self, cells: Sequence[PrintedCell]):
        self.cells = cells
        self.index = {(cell.place, *map(str, cell.keys.values())): cell for cell in cells}
        self.names = {cell.place: tuple(cell.keys) for cell in cells}

    def judged(self, wanted: Mapping) -> Iterator[PrintedCell]:
        return (cell for cell in self.cells if is_one_of({"place": cell.place, **cell.keys}, wanted))

    def part(self, cell: PrintedCell, change: Mapping) -> PrintedCell:
        """The cell with some keys exchanged; keys that its place lacks don't count."""
        wanted = {"place": cell.place, **cell.keys, **change}
        place = wanted["place"]
        key = (place, *(str(wanted.get(name)) for name in self.names.get(place, ())))
        if key not in self.index:
            where = f"catalog/paper_results/{cell.paper}.yaml: a check of {cell.place} {dict(cell.keys)}"
            raise AtlasError(f"{where} names the part {dict(change)}; {place} has no such cell. Mend `checks`.")
        return self.index[key]


def _worse(one: Verdict, other: Verdict) -> Verdict:
    """The more severe of two verdicts, with both reasons where they are equally severe."""
    if one.verdict == other.verdict:
        return Verdict(one.verdict, "; ".join(dict.fromkeys(why for why in (one.why, other.why) if why)))
    return max(one, other, key=lambda verdict: SEVERITY.index(verdict.verdict))


def _judge(cell: PrintedCell, parts: list, check: Mapping, book: _Book) -> Verdict:
    kind = check["kind"]
    if kind in FORMULAS:
        return _follows(cell, parts, check)
    if kind == "repeated":
        return _repeated(cell, parts[0], [(book.part(cell, of), book.part(parts[0], of)) for of in check["of"]])
    if kind not in JUDGES:
        raise AtlasError(
            unknown("catalog/paper_results: a check's kind", kind, "one of", [*FORMULAS, *JUDGES, "repeated"])
        )
    return JUDGES[kind](cell, parts, check)


def _follows(cell: PrintedCell, parts: list, check: Mapping) -> Verdict:
    """Whether some numbers that round to the printed ones fulfil the formula."""
    formula, words = FORMULAS[check["kind"]]
    values = [formula(*corner) for corner in product(*(part.bounds for part in parts))]
    low, high = cell.bounds
    slack = EPSILON * max(abs(low), abs(high), 1)
    if min(values) <= high + slack and max(values) >= low - slack:
        return Verdict(CONSISTENT)
    number = f"{formula(*(part.value for part in parts)):.{cell.decimals}f}"
    if "claim" in check:
        return Verdict(INCONSISTENT, f"{check['claim']}, but {parts[0].row} has {number}")
    return Verdict(INCONSISTENT, f"{words.format(check.get('named', 'its parts'))} is {number}")


def _repeated(cell: PrintedCell, other: PrintedCell, pairs: list) -> Verdict:
    """Two numbers that agree although all the numbers behind them differ."""
    if cell.value != other.value or any(one.value == two.value for one, two in pairs):
        return Verdict(NOT_CHECKABLE)
    why = f"{other.table} has the same {cell.text}, although all {len(pairs)} numbers behind it differ"
    return Verdict(DOUBTFUL, why)


def _stated(cell: PrintedCell, parts: list, check: Mapping) -> Verdict:
    return Verdict(DOUBTFUL, check["why"])


def _above(cell: PrintedCell, parts: list, check: Mapping) -> Verdict:
    if cell.value > parts[0].value:
        return Verdict(CONSISTENT)
    return Verdict(INCONSISTENT, f"{check['claim']}, but {parts[0].row} has {parts[0].text}")


def _precision(cell: PrintedCell, parts: list, check: Mapping) -> Verdict:
    """Whether a precision is possible beside a recall when as many wrong as true facts are asked about."""
    accepted = _wrong_accepted(cell, parts[0])
    if accepted <= 1:
        return Verdict(CONSISTENT)
    why = f"beside this recall at least {accepted:.3g} wrong facts would be accepted for each one asked about"
    is_possible = _wrong_accepted(parts[0], cell) <= 1
    return Verdict(INCONSISTENT, f"{why}; with P and R exchanged both are possible" if is_possible else why)


def _wrong_accepted(precision: PrintedCell, recall: PrintedCell) -> float:
    """The least share of wrong facts that are accepted: recall (1 - precision) / precision."""
    return recall.bounds[0] * (1 / precision.bounds[1] - 1)


def _whole(cell: PrintedCell, parts: list, check: Mapping) -> Verdict:
    total = sum(part.value for part in parts)
    if total == cell.value:
        return Verdict(CONSISTENT)
    why = f"its parts sum to {total}; {cell.value - total} are not accounted for"
    return Verdict(INCONSISTENT if total > cell.value else DOUBTFUL, why)


def _exceeded(cell: PrintedCell, parts: list, check: Mapping) -> Verdict:
    total = sum(part.value for part in parts)
    return Verdict(CONSISTENT) if total > cell.value else Verdict(INCONSISTENT, f"its parts sum to {total}")


def _interval(cell: PrintedCell, parts: list, check: Mapping) -> Verdict:
    """Whether a number can be half the 95 % interval of a mean over records, in percent between `least` and 100.

    Of a share of records (`is_binary`) the standard deviation is known, of other means only the largest it can be.
    """
    least, root, is_known = check["least"], sqrt(check["records"]), check.get("is_binary", False)
    means = [max(least, min(100, mean)) for mean in (parts[0].value, *parts[0].bounds)]
    spreads = [sqrt((mean - least) * (100 - mean)) for mean in means]
    halves = [1.96 * spread / root for spread in spreads]
    low, high = cell.bounds
    if low > max(halves) + EPSILON or (is_known and high < min(halves) - EPSILON):
        bound, number = ("", f"{spreads[0]:.1f}") if is_known else ("at most ", f"at most {spreads[0]:.1f}")
        why = f"half the 95% interval over {check['records']} records is {bound}{halves[0]:.1f}"
        return Verdict(INCONSISTENT, f"{why} (the standard deviation: {number})")
    return Verdict(CONSISTENT if is_known else NOT_CHECKABLE)


JUDGES: dict[str, Callable[[PrintedCell, list, Mapping], Verdict]] = {
    "stated": _stated,
    "above": _above,
    "precision": _precision,
    "whole": _whole,
    "exceeded": _exceeded,
    "interval": _interval,
}
