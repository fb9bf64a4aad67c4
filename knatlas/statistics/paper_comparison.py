"""Every number that a paper prints beside this study's own, how they differ, and whether the print can be right.

Ours is looked up in the study's tables by the keys of the printed number. Where the study lacks the paper's model, each
embedded model of the same family stands in its place, and the row says that it is another one.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd

from knatlas.catalog import read_catalog
from knatlas.statistics.printed import rows_with
from knatlas.statistics.printed_cells import PrintedCell, is_one_of, paper_results, read_cells
from knatlas.statistics.printed_checks import check_paper

COMPARISON_COLUMNS = [
    *("paper", "table", "where", "row", "column", "model", "our_model", "is_same_model", "language", "measure", "unit"),
    *("printed", "shows", "ours", "lo", "hi", "n", "difference", "agrees_in_direction"),
    *("verdict", "verdict_why", "doubt", "why_not", "source", "study"),
]
SHOWN_COLUMNS = ["table", "row", "column", "measure", "unit", "printed", "our_model", "ours", "verdict"]
NOTHING = {"ours": np.nan, "lo": np.nan, "hi": np.nan, "n": np.nan, "why_not": "", "source": ""}


def compare_paper(paper: str, tables: Mapping[str, pd.DataFrame], study: str) -> pd.DataFrame:
    """One row per number that the paper prints and model of the study that stands beside it (columns: docs/papers.md).

    Args: paper, of catalog/paper_results; tables, the study's, by file name without ".csv", and only those it has.
    Returns: COMPARISON_COLUMNS. `ours` is missing where the study has no counterpart, and then `why_not` says why.
    Raises: AtlasError for an unknown paper, or a table that lacks a column that the catalog asks for.
    """
    verdicts, rows = check_paper(paper), []
    for name, place in paper_results(paper)["places"].items():
        cells = read_cells(paper, name)
        for cell, found in _counterparts(cells, place, tables):
            verdict, why = verdicts[cell]
            rows.append({**_printed(cell), **found, "verdict": verdict, "verdict_why": why, "study": study})
    return pd.DataFrame(rows, columns=COMPARISON_COLUMNS)


def for_reading(comparison: pd.DataFrame) -> pd.DataFrame:
    """The comparison as people read it: rows with both numbers, ours as "value (lo to hi)"."""
    both = comparison[comparison["ours"].notna() & (comparison["printed"] != "")]
    texts = [_text(*numbers) for numbers in both[["ours", "lo", "hi"]].itertuples(index=False)]
    return both.assign(ours=texts)[SHOWN_COLUMNS]


def _text(value: float, lo: float, hi: float) -> str:
    return f"{value:.3g}" if np.isnan(lo) else f"{value:.3g} ({lo:.3g} to {hi:.3g})"


def _printed(cell: PrintedCell) -> dict:
    """What the comparison says of a printed number by itself."""
    names = ("paper", "table", "where", "row", "column", "unit", "shows", "doubt")
    statistic, of = cell.keys.get("statistic", ""), cell.keys.get("measure")
    return {
        **{name: getattr(cell, name) for name in names},
        "model": cell.keys.get("model", ""),
        "language": cell.keys.get("language", ""),
        "measure": f"{statistic} ({of})" if of else statistic,
        "printed": cell.text,
    }


class _Question(NamedTuple):
    """A printed number and the row of our table that is to stand beside it; `why_not` where none can."""

    cell: PrintedCell
    model: str | None
    keys: dict
    source: str = ""
    why_not: str = ""


def _counterparts(cells: Sequence[PrintedCell], place: Mapping, tables: Mapping) -> Iterator[tuple[PrintedCell, dict]]:
    """Each printed number with each of the study's numbers that stands beside it, or the reason why none does."""
    why = place.get("why_not") or _missing(place["ours"]["table"], tables)
    if why:
        yield from ((cell, {**NOTHING, "why_not": why}) for cell in cells)
        return
    table = tables[place["ours"]["table"]]
    models = _study_models(cells, table)
    questions = [_question(cell, model, place) for cell in cells for model in models[cell.keys.get("model")]]
    answers = list(_answers(questions, place["ours"], table))
    values = {
        (question.model, *_texts(question.cell.keys)): (question.cell.value, answer["ours"])
        for question, answer in zip(questions, answers, strict=True)
    }
    for question, answer in zip(questions, answers, strict=True):
        agreement = _agreement(question.cell, answer, _reference(question.cell, question.model, place, values))
        yield question.cell, {**answer, **_beside(question, answer["ours"]), "agrees_in_direction": agreement}


def _missing(table: str, tables: Mapping) -> str:
    return "" if table in tables else f"{table}.csv is not among this study's tables"


def _beside(question: _Question, ours: float) -> dict:
    cell, model = question.cell, question.model
    difference = ours - cell.value if cell.is_legible else np.nan
    is_same = "" if model is None else model == cell.keys["model"]
    return {"our_model": model or "", "is_same_model": is_same, "difference": difference}


def _study_models(cells: Iterable[PrintedCell], table: pd.DataFrame) -> dict[str | None, list[str | None]]:
    """For each of the paper's models those of the study that stand beside it; [None] where none does."""
    ours = list(table["model"].dropna().astype(str).unique()) if "model" in table else []
    found: dict[str | None, list[str | None]] = {None: [None]}
    for cell in cells:
        model = cell.keys.get("model")
        if model not in found:
            stand_ins = [name for name in ours if name in _stand_ins(cell.paper, model)]
            found[model] = [model] if model in ours else stand_ins or [None]
    return found


@cache
def _stand_ins(paper: str, model: str) -> frozenset[str]:
    """The embedded models of the family of a paper's model, multilingual ones for a multilingual one."""
    wanted = paper_results(paper)["models"][model]
    return frozenset(
        name
        for name, entry in read_catalog("models").items()
        if entry.get("recipe", {}).get("family") == wanted["family"]
        and (entry.get("languages") == "all") == wanted["multilingual"]
    )


def _question(cell: PrintedCell, model: str | None, place: Mapping) -> _Question:
    of_paper, rule = cell.keys.get("model"), place["ours"]
    if of_paper is not None and model is None:
        why = f"this study has neither {of_paper} nor an embedded model of its family"
        return _Question(cell, None, {}, why_not=why)
    stands = place.get("stand_in", {}) if model != of_paper else {}
    without = [*rule.get("without", []), *stands.get("without", [])]
    where = {**rule.get("where", {}), **stands.get("where", {})}
    keys = {name: value for name, value in cell.keys.items() if name not in without}
    column = [rule["value"]] if "value" in rule else []
    source = " ".join([f"{rule['table']}.csv", *column, *_named(where)])
    return _Question(cell, model, {**keys, **({"model": model} if model else {}), **where}, source)


def _answers(questions: Sequence[_Question], rule: Mapping, table: pd.DataFrame) -> Iterator[dict]:
    """Our number, its interval and n for each question, or why there is none."""
    numbers, texts = _numbers(table, rule), _Texts(table)
    positions = rows_with(table, [question.keys for question in questions if not question.why_not])
    for question in questions:
        rows = [] if question.why_not else next(positions)
        why = question.why_not or _why_none(rows, question.keys, rule, numbers, texts)
        if why:
            yield {**NOTHING, "n": numbers[rows[0], 3] if len(rows) == 1 else np.nan, "why_not": why}
        else:
            ours, lo, hi, n = numbers[rows[0]]
            yield {"ours": ours, "lo": lo, "hi": hi, "n": n, "why_not": "", "source": question.source}


class _Texts(dict):
    """The texts in each column of a table, made when first asked for."""

    def __init__(self, table: pd.DataFrame):
        self.table = table

    def __missing__(self, column: str) -> set[str]:
        self[column] = set(self.table[column].astype(str))
        return self[column]

    def absent(self, keys: Mapping) -> str:
        """The keys that no row of the table has, or all, where no row has them together."""
        absent = {name: value for name, value in keys.items() if str(value) not in self[name]}
        return ", ".join(_named(absent or keys))


def _numbers(table: pd.DataFrame, rule: Mapping) -> np.ndarray:
    """Number, lower and upper end, n of every row of our table, in the unit of the print: (rows, 4)."""
    column, factor = rule.get("value", "value"), rule.get("factor", 1)
    numbers = table[[column, "lo", "hi", "n"]].astype(float).to_numpy() * [factor, factor, factor, 1]
    if column != "value":
        numbers[:, 1:3] = np.nan  # the interval is that of the value alone
    return numbers


def _why_none(rows: list[int], keys: Mapping, rule: Mapping, numbers: np.ndarray, texts: _Texts) -> str:
    """Why a printed number has no counterpart of ours, or an empty text."""
    name = f"{rule['table']}.csv"
    if not rows:
        return f"{name} has no row with {texts.absent(keys)}"
    if len(rows) > 1 and rule.get("several") != "first":
        return f"{name} has {len(rows)} rows for it"
    return f"{name} has the row, but nothing could be measured" if np.isnan(numbers[rows[0], 0]) else ""


def _named(keys: Mapping) -> list[str]:
    return [f"{name}={value}" for name, value in keys.items()]


def _agreement(cell: PrintedCell, found: Mapping, reference: tuple[float, float]) -> str:
    """Whether ours lies on the same side of its reference as the printed number does of its own.

    yes, no, unclear (our interval holds our reference); empty where nothing is compared.
    """
    printed, ours = reference
    side = np.sign((cell.value if cell.is_legible else np.nan) - printed)
    if side == 0 or np.isnan(side) or np.isnan(found["ours"] - ours):
        return ""
    if found["lo"] <= ours <= found["hi"]:
        return "unclear"
    return "yes" if np.sign(found["ours"] - ours) == side else "no"


def _reference(cell: PrintedCell, model: str | None, place: Mapping, values: Mapping) -> tuple[float, float]:
    """What a direction is counted from, printed and ours: a number, or another row of the same place; NaN for none."""
    against = place.get("against")
    if against is None or not is_one_of(cell.keys, place.get("against_of", {})):
        return np.nan, np.nan
    if not isinstance(against, Mapping):
        return float(against), float(against)
    printed, ours = values.get((model, *_texts({**cell.keys, **against})), (None, np.nan))
    return (np.nan if printed is None else printed), ours


def _texts(keys: Mapping) -> tuple[str, ...]:
    return tuple(str(value) for value in keys.values())
