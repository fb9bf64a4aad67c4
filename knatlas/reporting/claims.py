"""What the papers claim, judged from the study's tables: every verdict follows from rows, and flips with them.

A claim (catalog/claims.yaml) names rows of one table, the side of a reference on which their values should lie, and the
reference: a number, or the rows of a control. One function judges all of them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from knatlas.errors import AtlasError, unknown

HOLDS, FAILS, UNDECIDED, NOT_STUDIED = "holds here", "does not hold here", "undecided", "not studied"
VERDICTS = (HOLDS, FAILS, UNDECIDED, NOT_STUDIED)
NUMBERS = ["value", "lo", "hi", "n"]
CONTROL = ["control_value", "control_lo", "control_hi"]
CLAIM_COLUMNS = ["claim", "paper", "sentence", "model", "verdict", *NUMBERS, "unit", "expected", *CONTROL]
CLAIM_COLUMNS += ["table", "row", "n_rows", "why"]
# a bootstrap over fewer facts has an interval too short to be believed
MIN_FACTS = 5
SIGNS = {"above": 1, "below": -1}
QUANTIFIERS = ("every", "some")


class Judged(NamedTuple):
    """One row of a claim: its verdict, how far its interval lies beyond the reference at either end, what is shown."""

    verdict: str
    nearest: float
    farthest: float
    shown: dict


def judge_claims(claims: Mapping, tables: Mapping[str, pd.DataFrame], models: Mapping[str, bool]) -> pd.DataFrame:
    """CLAIM_COLUMNS: one row per claim and model for which the study could decide it, or one that says why none could.

    Args: claims, by id, as in catalog/claims.yaml; tables by file name without ".csv", those the study has; models of
    the study, and whether they know several languages.
    Raises: AtlasError when a claim names a column that its table lacks, or a word that no claim can use.
    """
    rows = [row for name, claim in claims.items() for row in _judge(name, claim, tables, models)]
    return pd.DataFrame(rows, columns=CLAIM_COLUMNS)


def judge_row(expected: str, found: Mapping, reference: Mapping) -> Judged:
    """Whether the found row's interval lies on the expected side of the reference's; both have NUMBERS.

    holds here: the whole interval lies beyond the whole interval of the reference, on the expected side; does not hold
    here: on the other side; undecided: they overlap, or there are fewer than MIN_FACTS facts, or no interval.
    """
    sign = SIGNS[expected]
    ends = sorted(sign * (found[end] - reference[other]) for end, other in (("lo", "hi"), ("hi", "lo")))
    if np.isnan(found["value"]) or np.isnan(reference["value"]):
        return Judged(NOT_STUDIED, np.nan, np.nan, {"why": "nothing could be measured"})
    if np.isnan(ends).any():
        return Judged(UNDECIDED, 0.0, 0.0, {"why": "no interval"})
    n = min(found["n"], reference["n"])
    if n < MIN_FACTS:
        return Judged(UNDECIDED, *ends, {"why": f"{int(n)} facts, fewer than the {MIN_FACTS} that a verdict needs"})
    verdict = HOLDS if ends[0] > 0 else FAILS if ends[1] < 0 else UNDECIDED
    return Judged(verdict, *ends, {"why": "" if verdict != UNDECIDED else "the interval includes no effect"})


def _judge(name: str, claim: Mapping, tables: Mapping, models: Mapping[str, bool]) -> Iterator[dict]:
    """The rows of one claim."""
    _check(name, claim)
    base = {
        "claim": name,
        "expected": _expectation(claim),
        **{key: claim[key] for key in ("paper", "sentence", "unit")},
    }
    base |= {"table": f"tables/{claim['table']}.csv", "row": _text(claim["where"]), "n_rows": 0}
    table = tables.get(claim["table"])
    if table is None:
        yield {**base, "model": "", "verdict": NOT_STUDIED, "why": f"the study has no {claim['table']}.csv"}
        return
    is_asked = [model for model, knows_several in models.items() if knows_several or claim.get("models") is None]
    found = [(model, _of_model(claim, table, model)) for model in is_asked]
    studied = [(model, judged) for model, judged in found if judged]
    if not studied:
        yield {**base, "model": "", "verdict": NOT_STUDIED, "why": f"no row with {_text(claim['where'])}"}
    for model, judged in studied:
        yield {**base, "model": model, "n_rows": len(judged), **_together(claim.get("quantifier", "every"), judged)}


def _check(name: str, claim: Mapping) -> None:
    """Refuse a claim with a word that the judge does not know."""
    where = f"catalog/claims.yaml: {name}"
    if claim["expected"] not in SIGNS:
        raise AtlasError(unknown(f"{where}: expected", claim["expected"], "a side", SIGNS))
    if claim.get("quantifier", "every") not in QUANTIFIERS:
        raise AtlasError(unknown(f"{where}: quantifier", claim["quantifier"], "a quantifier", QUANTIFIERS))
    if ("reference" in claim) == ("control" in claim):
        raise AtlasError(f"{where} needs either a reference (a number) or a control (values of columns); give it one")


def _of_model(claim: Mapping, table: pd.DataFrame, model: str) -> list[Judged]:
    """Every found row of a model, judged against its own reference."""
    table = rows_of(table, {"model": model})
    each, control = claim.get("each", []), claim.get("control")
    found = rows_of(table, claim["where"], claim.get("except", {}))
    judged = []
    for row in found.to_dict("records"):
        reference = {"value": claim.get("reference"), "lo": claim.get("reference"), "hi": claim.get("reference")}
        reference["n"] = row["n"]
        if control is not None:
            keys = {**claim["where"], **{name: row[name] for name in each}, **control}
            rows = rows_of(table, {key: value for key, value in keys.items() if value is not None})
            reference = rows.iloc[0].to_dict() if len(rows) == 1 else dict.fromkeys(NUMBERS, np.nan)
        verdict, nearest, farthest, shown = judge_row(claim["expected"], row, reference)
        shown |= {**{key: row[key] for key in NUMBERS}, "row": _text({**claim["where"], **_keys(row, each)})}
        if control is not None:
            shown |= dict(zip(CONTROL, (reference[key] for key in NUMBERS[:3]), strict=True))
        judged.append(Judged(verdict, nearest, farthest, shown))
    return judged


def rows_of(table: pd.DataFrame, where: Mapping, without: Mapping | None = None) -> pd.DataFrame:
    """The rows whose columns have the values of `where` (a list allows several), and none of those of `without`.

    Values are compared as text, numbers as numbers. Raises: AtlasError for a column that the table lacks.
    """
    kept = np.ones(len(table), dtype=bool)
    for name, value in where.items():
        kept &= _has(table, name, value)
    for name, value in (without or {}).items():
        kept &= ~_has(table, name, value)
    return table[kept]


def _has(table: pd.DataFrame, name: str, value: object) -> np.ndarray:
    if name not in table:
        raise AtlasError(unknown("catalog/claims.yaml: a column", name, "a column of the table", table.columns))
    values = value if isinstance(value, list) else [value]
    column, is_flag = table[name], pd.api.types.is_bool_dtype(table[name])
    if pd.api.types.is_numeric_dtype(column) and not is_flag:
        return column.isin(values).to_numpy()
    # columns of text are compared as they are: turning each into text again would cost most of a judgement's time
    texts = column if isinstance(column.dtype, pd.StringDtype) else column.astype(str)
    return texts.isin([str(entry) for entry in values]).to_numpy()


def _together(quantifier: str, judged: Sequence[Judged]) -> dict:
    """The verdict over all rows of a claim, with the numbers of the row that decides it."""
    measured = [row for row in judged if row.verdict != NOT_STUDIED]
    if not measured:
        return {"verdict": NOT_STUDIED, **judged[0].shown}
    pick: Callable = max if quantifier == "some" else min
    verdicts = {row.verdict for row in measured}
    if quantifier == "some":
        verdict = HOLDS if HOLDS in verdicts else UNDECIDED if UNDECIDED in verdicts else FAILS
    else:
        verdict = FAILS if FAILS in verdicts else UNDECIDED if UNDECIDED in verdicts else HOLDS
    shown = pick((row for row in measured if row.verdict == verdict), key=lambda row: (row.nearest, row.farthest)).shown
    n_missing = len(judged) - len(measured)
    if quantifier == "every" and verdict == HOLDS and n_missing:
        return {**shown, "verdict": UNDECIDED, "why": f"{n_missing} of {len(judged)} rows could not be measured"}
    return {**shown, "verdict": verdict, "why": shown["why"] or _counted(measured, verdict)}


def _counted(measured: Sequence[Judged], verdict: str) -> str:
    """How many of a claim's rows have the verdict, where there are several."""
    agreeing = sum(row.verdict == verdict for row in measured)
    return f"{agreeing} of {len(measured)} rows" if len(measured) > 1 else ""


def _expectation(claim: Mapping) -> str:
    """The comparison in words."""
    return f"{claim['expected']} {claim['reference'] if 'reference' in claim else _text(claim['control'])}"


def _keys(row: Mapping, names: Sequence[str]) -> dict:
    return {name: row[name] for name in names}


def _text(keys: Mapping) -> str:
    return " ".join(f"{name}={'any' if value is None else value}" for name, value in keys.items())
