"""Badges: whether a study's numbers can be trusted, one answer per question and model, each from rows of a table."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from knatlas.reporting.claims import MIN_FACTS, rows_of

GREEN, AMBER, RED, GREY = "green", "amber", "red", "grey"
STATES = {GREEN: "yes", AMBER: "partly", RED: "no", GREY: "cannot be judged"}
BADGE_COLUMNS = ["badge", "model", "state", "value", "threshold", "n", "sentence"]
# badges and the questions that they answer
BADGES = {
    "completeness": "Are the attributions complete?",
    "control": "Do random neurons do less?",
    "enough_facts": "Are there enough facts?",
    "stability": "Are the neurons the same with other paraphrases?",
    "answers_known": "Does the model know the answers?",
    "planted_found": "Does the method find planted neurons?",
    "planted_confusion": "Does it keep kinds of planted neurons apart?",
}
# share of queries above the tolerance of summarise_exactness: one in twenty passes, one in four is for the eye
COMPLETE, COMPLETE_AMBER = 0.05, 0.25
SEPARATION = 10  # times the control, as in control_separation.csv
# the 95% interval of a share of one half is about 1 / sqrt(n) wide to either side: 0.1 with 100 facts, 0.22 with 20
ENOUGH_FACTS, FEW_FACTS = 100, 20
STABLE = 0.5  # Jaccard
KNOWN = 0.5  # share of facts whose first query is answered rightly
PLANTED_FOUND, PLANTED_CONFUSION = 0.9, 0.2
PLANTED = "planted"
# a screening has no completeness: its scores are not integrals
WITHOUT_INTEGRAL = ("atp",)


class Judgement(NamedTuple):
    """What a badge says of a model; n is the number of facts, of queries for completeness."""

    state: str
    sentence: str
    value: float = np.nan
    threshold: float = np.nan
    n: float = np.nan


def judge_badges(tables: Mapping[str, pd.DataFrame], models: list[str], selection: str = "matrice") -> pd.DataFrame:
    """BADGE_COLUMNS: one row per badge and model; the two of planted knowledge have the model "planted".

    Args: tables by file name without ".csv", those the study has; models of the study; selection, whose stability and
    whose finding of planted neurons is judged. A badge without its table is grey, and says what is missing.
    """
    judges = {
        "completeness": _completeness,
        "control": _control,
        "enough_facts": _enough_facts,
        "stability": lambda tables, model: _stability(tables, model, selection),
        "answers_known": _answers_known,
    }
    rows = [(badge, model, judge(tables, model)) for badge, judge in judges.items() for model in models]
    rows += [(badge, PLANTED, judgement) for badge, judgement in _planted(tables, selection)]
    return pd.DataFrame([{"badge": badge, "model": model, **of._asdict()} for badge, model, of in rows])[BADGE_COLUMNS]


def state_of(row: Mapping, threshold: float, is_wanted_above: bool = True) -> str:
    """green: the whole interval (lo, hi) is on the wanted side of the threshold; amber: the value alone; red: not even.

    A value on the threshold is on the wanted side. With fewer than MIN_FACTS facts no interval makes green: where all
    of few facts agree, resampling them shows no doubt.
    """
    sign = 1 if is_wanted_above else -1
    value, *ends = (sign * (row[name] - threshold) for name in ("value", "lo", "hi"))
    if np.isnan(value):
        return GREY
    return RED if value < 0 else GREEN if min(ends) >= 0 and row["n"] >= MIN_FACTS else AMBER


def _rows(tables: Mapping, table: str, **where: object) -> pd.DataFrame:
    """The rows of a table with these values; none where the study lacks the table."""
    return rows_of(tables[table], where) if table in tables else pd.DataFrame()


def _missing(table: str, tables: Mapping, model: str) -> Judgement:
    return Judgement(GREY, f"{table}.csv has no row for {model}" if table in tables else f"there is no {table}.csv")


def _completeness(tables: Mapping, model: str) -> Judgement:
    rows = _rows(tables, "exactness", model=model, language="all")
    rows = rows[~rows["method"].isin(WITHOUT_INTEGRAL)].dropna(subset=["above_tolerance"]) if len(rows) else rows
    if not len(rows):
        return _missing("exactness", tables, model)
    worst = rows.loc[rows["above_tolerance"].idxmax()]
    share = worst["above_tolerance"]
    state = GREEN if share <= COMPLETE else AMBER if share <= COMPLETE_AMBER else RED
    sentence = f"{share:.1%} of the queries of {worst['method']}, the least exact method, miss the change of P(answer) "
    sentence += f"by more than 5%; at most {COMPLETE:.0%} should"
    return Judgement(state, sentence, share, COMPLETE, worst["n_queries"])


def _control(tables: Mapping, model: str) -> Judgement:
    where = {"language": "all", "operation": "suppress", "control": "random_layer_matched"}
    rows = _rows(tables, "control_separation", model=model, **where)
    if not len(rows) or rows[["value", "control_value"]].isna().any(axis=None):
        return _missing("control_separation", tables, model)
    row = rows.iloc[0]
    is_apart = row["hi"] < row["control_lo"] or row["control_hi"] < row["lo"]
    state = GREEN if _is_true(row["is_separated"]) else AMBER if is_apart else RED
    sentence = f"suppressing the neurons of {row['selection']} changes P(answer) by {_percent(row)}, as many random "
    sentence += f"neurons of the same layers by {_percent(row, 'control_')}: "
    apart = f"intervals apart, but less than {SEPARATION} times" if is_apart else "the intervals overlap"
    sentence += f"at least {SEPARATION} times, intervals apart" if state == GREEN else apart
    return Judgement(state, sentence, min(row["ratio"], row["size_ratio"]), SEPARATION, row["n"])


def _enough_facts(tables: Mapping, model: str) -> Judgement:
    rows = _rows(tables, "control_separation", model=model, language="all", operation="suppress")
    if not len(rows):
        return _missing("control_separation", tables, model)
    n = rows["n"].max()
    state = GREEN if n >= ENOUGH_FACTS else AMBER if n >= FEW_FACTS else RED
    sentence = (
        f"{int(n)} facts were searched; with {ENOUGH_FACTS} the interval of a share is at most 0.1 to either side"
    )
    return Judgement(state, sentence, n, ENOUGH_FACTS, n)


def _stability(tables: Mapping, model: str, selection: str) -> Judgement:
    """The lowest overlap of the selection's sets with those of fewer paraphrases."""
    rows = _rows(tables, "stability", model=model, selection=selection, statistic="paraphrases")
    rows = rows.dropna(subset=["value"]) if len(rows) else rows
    if not len(rows):
        return _missing("stability", tables, model)
    row = rows.loc[rows["value"].idxmin()]
    sentence = f"sets of all paraphrases and of the first alone share {_interval(row)} of their neurons (Jaccard); "
    return Judgement(
        state_of(row, STABLE), sentence + f"at least {STABLE} is asked for", row["value"], STABLE, row["n"]
    )


def _answers_known(tables: Mapping, model: str) -> Judgement:
    rows = _rows(tables, "known", model=model, language="all", statistic="answered_rightly")
    if not len(rows):
        return _missing("known", tables, model)
    row = rows.iloc[0]
    sentence = f"the model answers {_interval(row)} of the facts rightly; at least {KNOWN} is asked for"
    return Judgement(state_of(row, KNOWN), sentence, row["value"], KNOWN, row["n"])


def _planted(tables: Mapping, selection: str) -> Iterator[tuple[str, Judgement]]:
    """The two badges of planted knowledge: over all families, neurons of medium strength, default reading."""
    table, where = "planted_localization", {"family": "all", "network": "reference", "selection": selection}
    where["reading"] = "default"
    asked = {
        "planted_found": ("agnostic", "average_precision", PLANTED_FOUND, True, "average precision", "at least"),
        "planted_confusion": ("specific", "confusion", PLANTED_CONFUSION, False, "share of other kind", "at most"),
    }
    for badge, (kind, measure, threshold, is_above, name, side) in asked.items():
        rows = _rows(tables, table, **where, strength="medium", kind=kind, measure=measure)
        if not len(rows):
            yield badge, _missing(table, tables, selection)
            continue
        row = rows.iloc[0]
        sentence = f"{selection} on planted language-agnostic neurons of medium strength: {name} {_interval(row)}; "
        sentence += f"{side} {threshold} is asked for"
        yield badge, Judgement(state_of(row, threshold, is_above), sentence, row["value"], threshold, row["n"])


def _is_true(value: object) -> bool:
    return str(value) == "True"


def _interval(row: Mapping) -> str:
    return f"{row['value']:.2f} (95% interval {row['lo']:.2f} to {row['hi']:.2f}, n = {int(row['n'])})"


def _percent(row: Mapping, prefix: str = "") -> str:
    value, lo, hi = (row[f"{prefix}{name}"] for name in ("value", "lo", "hi"))
    return f"{value:+.1%} ({lo:+.1%} to {hi:+.1%})"
