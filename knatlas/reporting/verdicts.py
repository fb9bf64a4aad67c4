"""The parts of the landing page that say what was found: a line per paper, badges, and claims beside their numbers."""

from collections.abc import Iterator

import pandas as pd

from knatlas.reporting.badges import BADGES, STATES
from knatlas.reporting.claims import FAILS, HOLDS, NOT_STUDIED, UNDECIDED
from knatlas.reporting.html import element, escape, link, number, paragraph, sortable

PAPERS = {"amig": "AMIG paper", "matrice": "MATRICE paper", "localization": "Localization paper"}
CLASSES = {HOLDS: "holds", FAILS: "fails", UNDECIDED: "undecided", NOT_STUDIED: "unstudied"}
EXPLAINED = (
    "“holds here”: the 95% interval lies wholly on the claimed side of the reference; “does not hold here”: wholly on "
    "the other; “undecided”: the interval includes no effect, or there are too few facts. A claim about every language "
    "shows the weakest of its rows. Empty: the model was not asked."
)
HEADS = ["claim", "model", "verdict", "value", "unit", "lo", "hi", "n", "control", "expected", "rows", "why", "source"]
KINDS = (
    "held in every model asked",
    "held in some models and stayed undecided in others",
    "failed in at least one model",
    "stayed undecided in every model",
    "not studied",
)


def summary_lines(claims: pd.DataFrame) -> list[str]:
    """One line per paper: how many of its claims held in every model that was asked, in some, failed, or are open."""
    lines = []
    for paper, part in claims.groupby("paper", sort=False):
        found = [_over_models(set(rows["verdict"])) for _, rows in part.groupby("claim", sort=False)]
        counts = [(found.count(kind), kind) for kind in KINDS if kind in found]
        words = ", ".join(f"{n} {kind}" for n, kind in counts)
        lines.append(f"{PAPERS.get(paper, paper)}, {_count(len(found))}: {words}.")
    return lines


def _count(n: int) -> str:
    return "1 claim" if n == 1 else f"{n} claims"


def _over_models(verdicts: set[str]) -> str:
    """Which of KINDS a claim is, from its verdicts in all models."""
    if verdicts == {NOT_STUDIED}:
        return KINDS[4]
    if FAILS in verdicts:
        return KINDS[2]
    if HOLDS in verdicts:
        return KINDS[1] if UNDECIDED in verdicts else KINDS[0]
    return KINDS[3]


def badge_section(badges: pd.DataFrame) -> Iterator[str]:
    """Badges by question and model, and the reason of each."""
    yield element("h2", "Badges: how far to trust it", id="badges")
    models = list(dict.fromkeys(badges["model"]))
    found = {(row.badge, row.model): row for row in badges.itertuples()}
    rows = []
    for badge, question in BADGES.items():
        cells = [found.get((badge, model)) for model in models]
        rows.append([escape(question), *("" if row is None else _badge(row) for row in cells)])
    yield sortable(rows, ["question", *map(escape, models)])
    words = {key: escape(f"{BADGES[row.badge]} {row.model}: {row.sentence}") for key, row in found.items()}
    reasons = [element("li", f"{_badge(row)} {words[key]}") for key, row in found.items()]
    yield element("details", "<summary>Why each badge has its state</summary>" + element("ul", "".join(reasons)))
    yield element("p", f"All numbers: {link('tables/badges.csv')}", class_="small")


def _badge(row: object) -> str:
    return element("span", STATES[row.state], class_=f"mark {row.state}", title=row.sentence)


def claim_section(claims: pd.DataFrame) -> Iterator[str]:
    """Claims by paper, with verdict and number for every model, and behind them all numbers."""
    yield element("h2", "Claims of the papers, judged by this study’s tables", id="claims")
    yield paragraph(EXPLAINED, class_="small")
    for paper, part in claims.groupby("paper", sort=False):
        part = part.fillna({"model": ""})
        models = [model for model in dict.fromkeys(part["model"]) if model]
        yield element("h3", escape(PAPERS.get(paper, paper)))
        rows = [_across_models(of_claim, models) for _, of_claim in part.groupby("claim", sort=False)]
        yield sortable(rows, ["claim", *map(escape, models)], class_="sortable claims")
        table = sortable([_claim(row) for row in part.itertuples()], HEADS)
        yield element("details", f"<summary>Numbers, controls and sources</summary>{table}")
    yield element("p", f"All numbers: {link('tables/claims.csv')}", class_="small")


def _across_models(of_claim: pd.DataFrame, models: list[str]) -> list[str]:
    """A claim's sentence and its verdicts in the models; one that was not studied says why in its sentence."""
    found = {row.model: row for row in of_claim.itertuples()}
    sentence = escape(of_claim["sentence"].iloc[0])
    if set(found) == {""}:
        sentence += f" {_mark(found[''].verdict)} {escape(_text(found[''].why))}"
    return [sentence, *(_short(found[model]) if model in found else "" for model in models)]


def _short(row: object) -> str:
    interval = f"[{_value(row.lo)}, {_value(row.hi)}]"
    numbers = f"{_value(row.value)} {escape(row.unit)} {interval}, n&nbsp;=&nbsp;{_value(row.n)}"
    return _mark(row.verdict) + ("" if pd.isna(row.value) else f"<br>{numbers}")


def _mark(verdict: str) -> str:
    return element("span", escape(verdict), class_=f"mark {CLASSES[verdict]}")


def _claim(row: object) -> list[str]:
    """The cells of HEADS for one claim and model."""
    control = f"{_value(row.control_value)} [{_value(row.control_lo)}, {_value(row.control_hi)}]"
    where = f"<details><summary>row</summary>{escape(row.row)}</details>"
    source = where if row.verdict == NOT_STUDIED else f"{link(row.table)} {where}"
    cells = [escape(row.sentence), escape(row.model), _mark(row.verdict), _value(row.value), escape(row.unit)]
    cells += [_value(row.lo), _value(row.hi), _value(row.n), "" if pd.isna(row.control_value) else control]
    return [*cells, escape(row.expected), str(row.n_rows), escape(_text(row.why)), source]


def _value(value: float) -> str:
    return number(float(value))


def _text(value: object) -> str:
    return "" if pd.isna(value) else str(value)
