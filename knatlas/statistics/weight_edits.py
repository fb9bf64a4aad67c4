"""Reliability, generality and locality of facts that were erased or updated (Eqs 16-18; Tables III, IV of MATRICE).

The statistics, in percent of queries:
reliability, of the edited query, and generality, of the others: after an erasure the answer is no longer o, among those
answered rightly before; after an update it is o' (Eqs 16, 17).
reliability_all, generality_all: no longer o, among all, also those whose answer never was o.
reliability_right, generality_right: o', among those answered rightly before.
reliability_before, generality_before: what reliability_all (erasure) or reliability (update) is without an edit.
old_lost: no longer o after an update, among edited queries answered rightly before.
locality (Eq. 18): unrelated queries whose prediction is that before the edit, the preserved share; changed_share is 100
less that; locality_right: still answered rightly, among those that were before.
p_old_change, p_new_change: mean change of P(o), P(o') in the edited query, in percentage points.
excess_reliability, excess_generality, excess_locality: those of the control's neurons subtracted, over facts with both.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from knatlas.errors import AtlasError, unknown
from knatlas.statistics.bootstrap import DEFAULT_RESAMPLES, bootstrap_mean, mean_over_facts

# Notions of a right answer, with the part of the name that their columns have.
PARTS = {"exact": "", "first_token": "first_", "ranked": "ranked_"}
NOTIONS = tuple(PARTS)
GROUP = ["model", "selection", "language", "operation", "scope"]
TABLE_COLUMNS = [
    *GROUP,
    *("subset", "notion", "statistic", "is_in_sample", "value", "lo", "hi"),
    *("n", "n_empty", "n_no_object", "n_neurons", "n_edited"),
]
# given for every notion and subset, and set beside random neurons
MAIN = ["reliability", "generality", "locality"]
OPERATION_STATISTICS = {
    "erase": [
        *(*MAIN, "reliability_all", "generality_all", "reliability_before", "generality_before"),
        *("locality_right", "changed_share", "p_old_change"),
    ],
    "update": [
        *(*MAIN, "reliability_right", "generality_right", "reliability_before", "generality_before", "old_lost"),
        *("locality_right", "changed_share", "p_old_change", "p_new_change"),
    ],
}
STATISTICS = list(dict.fromkeys([name for names in OPERATION_STATISTICS.values() for name in names]))
SIZES = ["n_neurons", "n_edited"]
SUBSETS = ["all", "non_empty", "same_as_english", "other_than_english"]
Columns = dict[str, np.ndarray]  # one value per fact


@dataclass(frozen=True)
class EditSummary:
    """How edits are summarised.

    notions of a right answer: `exact`, every token is the argmax; `first_token`, the first is; `ranked`, no object of
    the relation has a larger P. Those that were not measured are left out; the first of the others is the main one, in
    which all statistics are. control, the selection whose result the others exceed, or don't.

    Raises: AtlasError for another notion, or none.
    """

    notions: Sequence[str] = NOTIONS
    control: str = "random"

    def __post_init__(self) -> None:
        for notion in self.notions or [""]:
            if notion not in NOTIONS:
                raise AtlasError(unknown("weight_edits: notions", notion, "a notion of the right answer", NOTIONS))


class EditTables(NamedTuple):
    """Tables III (facts erased) and IV (facts updated) of MATRICE."""

    erase: pd.DataFrame
    update: pd.DataFrame


def summarise_edits(
    rows: pd.DataFrame, settings: EditSummary | None = None, seed: int = 0, resamples: int = DEFAULT_RESAMPLES
) -> EditTables:
    """Statistics over facts, in percent, from the rows that `edit_facts` measured; one row per statistic and group.

    Queries that count are averaged within fact, language and draw; for language "all" the languages of a fact; then
    draws; the statistic (see the head of this file) is the mean over facts, its 95% interval by drawing facts again.

    subset: `all`; `non_empty` sets; languages where the target object (o, or o' of an update) is written
    `same_as_english` or `other_than_english`. Main statistics are given for all notions and subsets, others for the
    first notion and all facts. n, facts that have the statistic; n_empty, facts without neurons; n_no_object, facts
    that no update could be made of, which no statistic counts; n_neurons, n_edited, means over facts.

    Raises: AtlasError when none of the notions was measured.
    """
    settings = settings or EditSummary()
    lines = []
    for number, notion in enumerate(_measured(rows, settings.notions)):
        measured = _with_statistics(rows, notion)
        for subset in SUBSETS:
            names = STATISTICS if number == 0 and subset == "all" else MAIN
            facts = _per_fact(measured[_is_in(rows, subset)])
            fixed = {"subset": subset, "notion": notion}
            lines += [{**line, **fixed} for line in _lines(facts, names, settings.control, seed, resamples)]
    table = _ordered(pd.DataFrame(lines, columns=TABLE_COLUMNS))
    return EditTables(*(table[table["operation"] == name].reset_index(drop=True) for name in EditTables._fields))


def main_statistics(rows: pd.DataFrame, notion: str = NOTIONS[0]) -> pd.DataFrame:
    """The main statistics of each fact, in percent of queries, as `summarise_edits` averages them over facts.

    Args: rows of `edit_facts`; notion, what a right answer is. Returns: GROUP, fact and MAIN, draws averaged, for each
    language and all of them; NaN where a fact has no query that counts. Raises: AtlasError for a notion not measured.
    """
    (notion,) = _measured(rows, [notion])
    return _per_fact(_with_statistics(rows, notion))[[*GROUP, "fact", *MAIN]]


def _measured(rows: pd.DataFrame, notions: Sequence[str]) -> list[str]:
    """Those of the notions that all rows have."""
    measured = [notion for notion in notions if set(_columns(notion)) <= set(rows.columns)]
    measured = [notion for notion in measured if rows[_columns(notion)].notna().all(axis=None)]
    if not measured:
        raise AtlasError(
            f"weight_edits: notions are {', '.join(notions)}, which were not measured; set is_ranked of "
            "experiments.weight_edits to true for ranked, or name exact"
        )
    return measured


def _columns(notion: str) -> list[str]:
    """Whether the old object and the new one are right before and after, and whether the answer is unchanged."""
    part = PARTS[notion]
    right = [f"is_{name}_{part}{when}" for name in ("old", "new") for when in ("before", "after")]
    return [*right, f"is_{part}unchanged"]


def _ordered(table: pd.DataFrame) -> pd.DataFrame:
    """What belongs to one model, selection, scope and language together, each in the order of first appearance."""
    columns = ["model", "selection", "scope", "language"]
    order = {name: {value: place for place, value in enumerate(dict.fromkeys(table[name]))} for name in columns}
    return table.sort_values(columns, key=lambda column: column.map(order[column.name]), kind="stable")


def _is_in(rows: pd.DataFrame, subset: str) -> pd.Series:
    if subset == "non_empty":
        return rows["n_neurons"] > 0
    is_same = rows["is_same_as_english"].astype(bool)
    is_in = {"same_as_english": is_same, "other_than_english": ~is_same & (rows["object"] != "")}
    return is_in.get(subset, pd.Series(True, index=rows.index))


def _with_statistics(rows: pd.DataFrame, notion: str) -> pd.DataFrame:
    """The rows with a column for each statistic, in percent (points); NaN where it says nothing of a row."""
    old, old_after, new, new_after, unchanged = (rows[name].to_numpy(bool) for name in _columns(notion))
    is_erased, is_made = (rows["operation"] == "erase").to_numpy(), (rows["object"] != "").to_numpy()
    statistics = {}
    for probe in ("reliability", "generality"):
        asked = (rows["probe"] == probe).to_numpy() & is_made
        statistics[probe] = _share(np.where(is_erased, ~old_after, new_after), asked & (old | ~is_erased))
        statistics[f"{probe}_all"] = _share(~old_after, asked & is_erased)
        statistics[f"{probe}_right"] = _share(new_after, asked & old & ~is_erased)
        statistics[f"{probe}_before"] = _share(np.where(is_erased, ~old, new), asked)
    edited, unrelated = ((rows["probe"] == probe).to_numpy() & is_made for probe in ("reliability", "locality"))
    statistics |= {
        "old_lost": _share(~old_after, edited & old),
        "locality": _share(unchanged, unrelated),
        "changed_share": _share(~unchanged, unrelated),
        "locality_right": _share(old_after, unrelated & old),
    }
    for name in ("old", "new"):
        change = rows[f"p_{name}_after"].to_numpy(float) - rows[f"p_{name}_before"].to_numpy(float)
        statistics[f"p_{name}_change"] = _share(change, edited)
    in_sample = {
        f"in_sample_{probe}": (rows["probe"] == probe).to_numpy() & rows["is_in_sample"].to_numpy(bool)
        for probe in MAIN
    }
    return rows[[*GROUP, "fact", "draw", *SIZES]].assign(is_made=is_made, **in_sample, **statistics)


def _share(values: np.ndarray, is_counted: np.ndarray) -> np.ndarray:
    return np.where(is_counted, 100.0 * values, np.nan)


def _per_fact(measured: pd.DataFrame) -> pd.DataFrame:
    """Means over queries, languages (for "all") and draws: one row per group and fact."""
    how = {name: (name, "mean") for name in [*STATISTICS, *SIZES]}
    how |= {name: (name, "max") for name in ["is_made", *(f"in_sample_{probe}" for probe in MAIN)]}
    by_language = measured.groupby([*GROUP, "fact", "draw"], sort=False).agg(**how).reset_index()
    without = [name for name in GROUP if name != "language"]
    pooled = by_language.groupby([*without, "fact", "draw"], sort=False).agg(**how).reset_index()
    both = pd.concat([by_language, pooled.assign(language="all")], ignore_index=True)
    return both.groupby([*GROUP, "fact"], sort=False).agg(**how).reset_index()


def _lines(facts: pd.DataFrame, names: Sequence[str], control: str, seed: int, resamples: int) -> Iterator[dict]:
    groups = _by_group(facts)
    for key, group in groups.items():
        fixed = {**dict(zip(GROUP, key, strict=True)), **_sizes(group)}
        of_operation = [name for name in names if name in OPERATION_STATISTICS[fixed["operation"]]]
        values = {name: group[name] for name in of_operation}
        if fixed["selection"] != control and (beside := groups.get((key[0], control, *key[2:]))) is not None:
            values |= {f"excess_{name}": group[name] - _of_facts(group["fact"], beside, name) for name in MAIN}
        for name, of_facts in values.items():
            interval = bootstrap_mean(of_facts, seed, resamples)
            is_in_sample = bool(group[f"in_sample_{_probe_of(name)}"].any())
            yield {**fixed, "statistic": name, "is_in_sample": is_in_sample, **interval._asdict()}


def _by_group(facts: pd.DataFrame) -> dict[tuple, Columns]:
    """The columns of each group as arrays, its facts, as numbers, in the order of their names."""
    number = pd.factorize(facts["fact"].to_numpy(str), sort=True)[0]
    columns = {name: facts[name].to_numpy(float) for name in facts.columns if name not in (*GROUP, "fact", "draw")}
    positions = facts.groupby(GROUP, sort=False).indices
    groups = {}
    for key in sorted(positions, key=lambda key: positions[key][0]):  # in the order of the rows
        order = positions[key][np.argsort(number[positions[key]], kind="stable")]
        groups[key] = {name: column[order] for name, column in (columns | {"fact": number}).items()}
    return groups


def _of_facts(facts: np.ndarray, group: Columns, name: str) -> np.ndarray:
    """A column of a group for some facts; NaN for those that the group lacks."""
    place = np.searchsorted(group["fact"], facts).clip(max=len(group["fact"]) - 1)
    return np.where(group["fact"][place] == facts, group[name][place], np.nan)


def _probe_of(statistic: str) -> str:
    """The probe whose queries a statistic is about."""
    of_others = {"changed_share": "locality"}
    return next((probe for probe in MAIN if probe in statistic), of_others.get(statistic, "reliability"))


def _sizes(group: Columns) -> dict:
    return {
        "n_empty": int((group["n_neurons"] == 0).sum()),
        "n_no_object": int((group["is_made"] == 0).sum()),
        **{name: mean_over_facts(group[name]) for name in SIZES},
    }
