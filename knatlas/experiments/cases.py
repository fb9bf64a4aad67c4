"""Facts to look at one by one, chosen by a rule from the enhancement's measurements (Figure 7 of MATRICE).

The rule: of each model, the facts of which the most low-resource queries turned from wrong to right, and those of which
the most stayed wrong or were lost though the fact has neurons. No fact is shown twice.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import pandas as pd

from knatlas.experiments.enhancement import Enhancement
from knatlas.experiments.measurement import NONE, Request
from knatlas.selection.neuron_set import NeuronSets

SELECTION = "matrice"
CASE_COLUMNS = ["model", "case", "fact", "relation", "n_queries", "n_helped", "n_failed", "p_gain"]
TABLE_COLUMNS = [
    *("model", "case", "fact", "relation", "language", "query", "prompt", "answer", "rank"),
    *("token_before", "p_before", "is_answer_before", "token_after", "p_after", "is_answer_after"),
]
BLANK = "___"


class Top(NamedTuple):
    """A token that a model may say first: its text, probability, and whether the right answer begins with it."""

    token: str
    p: float
    is_answer: bool


# From requests to the most probable tokens of each, the most probable first.
TopOf = Callable[[Sequence[Request]], list[list[Top]]]


def choose_cases(rows: pd.DataFrame, n: int, selection: str = SELECTION) -> pd.DataFrame:
    """Of each model, the `n` facts that were helped the most, and of the others the `n` that failed the most.

    n_helped, low-resource queries that turned from wrong to right; n_failed, those that stayed wrong or were lost. Ties
    go to the larger (failed: the smaller) p_gain, the mean change of P(answer) over the fact's queries, then to the
    name. Facts with an empty set, and those with none helped (or failed), are no cases, so that there may be fewer.
    Args: rows of `enhance_answers`; selection whose first draw is looked at.
    Returns: CASE_COLUMNS, case `helped` or `failed`, the first of each kind first.
    """
    measured = rows[(rows["selection"] == selection) & (rows["draw"] == 0)]
    facts = _by_fact(measured[measured["n_neurons"] > 0])
    parts = [_choose(of_model, n) for _, of_model in facts.groupby("model", sort=False)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=CASE_COLUMNS)


def tabulate_cases(
    cases: pd.DataFrame,
    rows: pd.DataFrame,
    sets: NeuronSets,
    prompts: pd.DataFrame,
    top_of: TopOf,
    settings: Enhancement,
) -> pd.DataFrame:
    """The most probable tokens before and after, in every language of the prompts: a row per case, language and rank.

    In a low-resource language the query is the first that was helped (case `failed`: that failed), where there is one;
    else the language's first. The tokens are those at the first position of the answer.

    Args: cases of `choose_cases`, of the model of `sets`; rows, the measurements; sets, of the cases' selection;
    prompts of the model's kind; top_of, from requests to the most probable tokens of each.
    Returns: TABLE_COLUMNS; prompt, the query with a blank for the answer; rank, from 1; is_answer, whether the right
    answer begins with the token.
    """
    asked = list(_asked(cases, rows[(rows["selection"] == sets.selection) & (rows["draw"] == 0)], prompts))
    before = top_of([Request(row.fact, row.language, row.query, NONE, NONE, 1.0) for _, row in asked])
    factor = settings.enhance_factor
    after = top_of(
        [Request(row.fact, row.language, row.query, *sets.of(row.fact, row.language), factor) for _, row in asked]
    )
    lines = [
        line
        for (case, row), *tops in zip(asked, before, after, strict=True)
        for line in _lines(sets.model, case, row, *tops)
    ]
    return pd.DataFrame(lines, columns=TABLE_COLUMNS)


def show_cases(
    rows: pd.DataFrame, sets: Sequence[NeuronSets], prompts: pd.DataFrame, top_of: TopOf, settings: Enhancement
) -> pd.DataFrame:
    """`choose_cases`, then `tabulate_cases`; an empty table when there are no cases, or no sets to choose them by."""
    cases = choose_cases(rows, settings.n_cases)
    if cases.empty:
        return pd.DataFrame(columns=TABLE_COLUMNS)
    chosen = next(part for part in sets if part.selection == SELECTION)
    return tabulate_cases(cases, rows, chosen, prompts, top_of, settings)


def _by_fact(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per model and fact: how many of its queries were helped and failed, and the gain of P."""
    was_right, is_right = rows["is_right_before"].astype(bool), rows["is_right_after"].astype(bool)
    counted = rows.assign(
        n_queries=1, n_helped=~was_right & is_right, n_failed=~is_right, p_gain=rows["p_after"] - rows["p_before"]
    )
    sums = {"n_queries": "sum", "n_helped": "sum", "n_failed": "sum", "p_gain": "mean"}
    return counted.groupby(["model", "fact", "relation"], sort=False).agg(sums).reset_index()


def _choose(facts: pd.DataFrame, n: int) -> pd.DataFrame:
    best = facts[facts["n_helped"] > 0].sort_values(["n_helped", "p_gain", "fact"], ascending=[False, False, True])
    helped = best.head(n).assign(case="helped")
    others = facts[(facts["n_failed"] > 0) & ~facts["fact"].isin(helped["fact"])]
    worst = others.sort_values(["n_failed", "p_gain", "fact"], ascending=[False, True, True])
    return pd.concat([helped, worst.head(n).assign(case="failed")])[CASE_COLUMNS]


def _asked(cases: pd.DataFrame, rows: pd.DataFrame, prompts: pd.DataFrame) -> Iterator[tuple[str, object]]:
    """The kind of case and the prompt of every case and language."""
    for case in cases.itertuples(index=False):
        of_fact = prompts[prompts["fact"] == case.fact].sort_values("query", kind="stable")
        telling = _telling(rows[(rows["fact"] == case.fact) & (rows["model"] == case.model)], case.case)
        for language, queries in of_fact.groupby("language", sort=False):
            is_told = queries["query"].isin(telling.get(language, []))
            chosen = queries[is_told] if is_told.any() else queries
            yield case.case, next(chosen.itertuples(index=False))


def _telling(rows: pd.DataFrame, case: str) -> dict[str, list[int]]:
    """By language the queries that were helped, or that failed."""
    was_right, is_right = rows["is_right_before"].astype(bool), rows["is_right_after"].astype(bool)
    told = rows[~was_right & is_right if case == "helped" else ~is_right]
    return told.groupby("language")["query"].agg(list).to_dict()


def _lines(model: str, case: str, row: object, before: list[Top], after: list[Top]) -> Iterator[dict]:
    fixed = {"model": model, "case": case} | {name: getattr(row, name) for name in ("fact", "relation", "language")}
    fixed |= {"query": row.query, "answer": row.answer}
    fixed["prompt"] = row.before + row.separator + BLANK + row.after
    for rank, (old, new) in enumerate(zip(before, after, strict=True), start=1):
        values = {f"{name}_before": value for name, value in old._asdict().items()}
        values |= {f"{name}_after": value for name, value in new._asdict().items()}
        yield {**fixed, "rank": rank, **values}
