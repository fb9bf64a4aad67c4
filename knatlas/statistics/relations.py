"""Change of P(answer) by relation, of the manipulated facts and of unrelated ones (localization paper, Figures 3, 4).

For every model, language, selection and operation:
difference: mean of P after - P before, in percentage points; prompts are averaged within a fact, facts in a relation.
relative_change: that difference in percent of the mean P before (a ratio of means).
related_minus_unrelated: mean over facts of the difference in their own prompts less that in their unrelated fact's;
where its interval holds 0, the neurons of the relation's facts are not seen to be theirs.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from knatlas.errors import AtlasError, unknown
from knatlas.statistics.bootstrap import (
    DEFAULT_RESAMPLES,
    Interval,
    bootstrap_mean,
    bootstrap_ratio,
    mean_over_facts,
)
from knatlas.statistics.edit_changes import OPERATIONS, PROBES, EditChanges
from knatlas.statistics.printed import beside_paper
from knatlas.statistics.relation_means import RelationMeans

ALL, ALL_FACTS = "all", "all_facts"
SELECTIONS = ("refined", "random", "random_layer_matched")
FIGURES = {"suppress": "figure3", "enhance": "figure4"}  # what each operation is drawn as
EMPTY_SETS = ("drop", "keep")
GROUP = ["model", "language", "selection"]
TABLE_COLUMNS = [
    *(*GROUP, "operation", "empty_sets", "relation", "probe", "statistic", "value", "lo", "hi"),
    *("n", "n_relations", "n_empty", "n_unrelated_empty", "n_neurons"),
]
# of each fact's own prompts and of its unrelated fact's first one
VALUES = ["difference", "p_before", "is_empty"]
MEASURES = ["related", "unrelated", "excess", "p_related", "p_unrelated"]
COLUMNS = [*MEASURES, "n_neurons", "is_empty", "is_unrelated_empty"]


class Statistic(NamedTuple):
    """A line of the table: its probe and name, and the measure it is the mean of, or the two it is a ratio of means."""

    probe: str
    name: str
    measures: tuple[str, ...]


STATISTICS = [
    Statistic("related", "difference", ("related",)),
    Statistic("unrelated", "difference", ("unrelated",)),
    Statistic("related", "relative_change", ("related", "p_related")),
    Statistic("unrelated", "relative_change", ("unrelated", "p_unrelated")),
    Statistic("related", "related_minus_unrelated", ("excess",)),
]


def summarise_relations(
    rows: pd.DataFrame, selections: Sequence[str] = SELECTIONS, seed: int = 0, resamples: int = DEFAULT_RESAMPLES
) -> pd.DataFrame:
    """Statistics (see the head of this file) of each relation, from the rows that `manipulate` measured.

    probe: `related`, all prompts of the fact; `unrelated`, the first prompt of one other fact of any relation, drawn as
    in `EditChanges.cells` from the seed and the fact. relation: `all` is the mean over relations, each as one, as in
    the paper; `all_facts` the mean over facts. empty_sets: facts whose set is empty, or whose unrelated fact's is, are
    left out (`drop`, the paper's) or kept (`keep`; an empty set changes P by 0). Intervals: 95% bootstrap over facts,
    within relations but for `all_facts`. Draws of random neurons are averaged within a fact.

    n, facts with the statistic; n_relations, relations with such facts; n_empty, facts with an empty set;
    n_unrelated_empty, facts with neurons whose unrelated fact has none (both counted in either reading); n_neurons,
    mean size of the set over facts that the reading keeps.

    Args: rows with a manipulation's columns; the selections to summarise, those that were not measured are left out.
    Returns: TABLE_COLUMNS; relations by number, then `all` and `all_facts`. No facts give NaN and n = 0.
    """
    lines = []
    for key, group in rows[rows["selection"].isin(list(selections))].groupby(GROUP, sort=False):
        for operation, facts in changes_by_fact(group, seed).items():
            for empty_sets in EMPTY_SETS:
                fixed = dict(zip(GROUP, key, strict=True)) | {"operation": operation, "empty_sets": empty_sets}
                lines += [{**fixed, **line} for line in _lines(facts, empty_sets, seed, resamples)]
    return pd.DataFrame(lines, columns=TABLE_COLUMNS)


def beside_figures(table: pd.DataFrame) -> pd.DataFrame:
    """The table of `summarise_relations` with the numbers printed for Figures 3 and 4 (see `beside_paper`).

    Raises: AtlasError for an operation without a figure.
    """
    for operation in table["operation"].unique():
        if operation not in FIGURES:
            raise AtlasError(unknown("the table's operation", operation, "one of a figure", FIGURES))
    parts = [beside_paper(table[table["operation"] == name], "localization", FIGURES[name]) for name in FIGURES]
    return pd.concat(parts).sort_index()


def changes_by_fact(rows: pd.DataFrame, seed: int = 0) -> dict[str, pd.DataFrame]:
    """What each operation does to every fact of one model, language and selection: one row per fact.

    Columns: relation; n_neurons, mean over draws; is_empty, no draw of the fact has neurons; is_unrelated_empty, none
    of its unrelated fact has (False where that fact's neurons were not searched); MEASURES, NaN where no unrelated fact
    was measured: related and unrelated, P after - P before in percentage points, excess = related - unrelated, and P
    before (probability).
    """
    own = rows[rows["probe"] == "own"].groupby("fact")
    facts = own.agg(relation=("relation", "first"), n_neurons=("n_neurons", "mean"), largest=("n_neurons", "max"))
    is_empty = facts.pop("largest") == 0
    measured = _with_values(rows, is_empty)
    cells = measured.groupby(["fact", "operation", "probe"])[VALUES].mean()
    shape = (len(facts), len(OPERATIONS), len(PROBES))
    keys = pd.MultiIndex.from_product([facts.index, OPERATIONS, PROBES])
    changes = EditChanges(
        facts.index.to_numpy(str),
        facts["relation"].to_numpy(str),
        is_empty.to_numpy(),
        cells.reindex(keys).to_numpy(float).reshape(*shape, len(VALUES)),
        keys.isin(cells.index).reshape(shape).any(axis=1),
    )
    by_role = changes.cells(True, seed).reshape(len(facts), len(OPERATIONS), 2, len(VALUES))
    facts = facts.assign(is_empty=is_empty)
    return {name: _with_measures(facts, by_role[:, place]) for place, name in enumerate(OPERATIONS)}


def _with_values(rows: pd.DataFrame, is_empty: pd.Series) -> pd.DataFrame:
    """The rows with VALUES: change of P in percentage points, P before, and whether the probed fact's set is empty."""
    before, after = (rows[name].to_numpy(float) for name in ("p_before", "p_after"))
    is_probed_empty = rows["probed_fact"].isin(is_empty.index[is_empty])
    values = {"difference": 100 * (after - before), "p_before": before, "is_empty": is_probed_empty.astype(float)}
    # sorted, so that a mean doesn't depend on the order of the rows
    return rows.assign(**values).sort_values(["fact", "p_after"], kind="stable")


def _with_measures(facts: pd.DataFrame, by_role: Float[np.ndarray, "fact role value"]) -> pd.DataFrame:
    (related, p_related, _), (unrelated, p_unrelated, is_empty) = by_role.transpose(1, 2, 0)
    columns = [related, unrelated, related - unrelated, p_related, p_unrelated]
    is_unrelated_empty = ~facts["is_empty"] & (is_empty == 1)
    return facts.assign(is_unrelated_empty=is_unrelated_empty, **dict(zip(MEASURES, columns, strict=True)))


def _lines(facts: pd.DataFrame, empty_sets: str, seed: int, resamples: int) -> Iterator[dict]:
    """The lines of all relations for one operation and reading of empty sets."""
    # as arrays, since a table is filtered for every line
    columns, relations = {name: facts[name].to_numpy() for name in COLUMNS}, facts["relation"].to_numpy(str)
    every, is_dropped = np.arange(len(facts)), columns["is_empty"] | columns["is_unrelated_empty"]
    groups = {name: np.flatnonzero(relations == name) for name in _in_order(facts["relation"])}
    for name, group in {**groups, ALL: every, ALL_FACTS: every}.items():
        kept = group if empty_sets == "keep" else group[~is_dropped[group]]
        sizes = {f"n_{kind}": int(columns[f"is_{kind}"][group].sum()) for kind in ("empty", "unrelated_empty")}
        sizes["n_neurons"] = mean_over_facts(columns["n_neurons"][kept])
        for statistic in STATISTICS:
            counted = kept[~np.isnan([columns[measure][kept] for measure in statistic.measures]).any(axis=0)]
            values, of = [columns[measure][counted] for measure in statistic.measures], relations[counted]
            fixed = {"relation": name, "probe": statistic.probe, "statistic": statistic.name}
            interval = _interval(values, None if name == ALL_FACTS else of, seed, resamples)._asdict()
            yield {**fixed, **interval, "n_relations": len(set(of)), **sizes}


def _in_order(relations: pd.Series) -> list[str]:
    """Relations by number: P36 before P106."""
    return sorted(relations.unique(), key=lambda name: (len(name), name))


def _interval(values: Sequence[np.ndarray], relations: np.ndarray | None, seed: int, resamples: int) -> Interval:
    """A mean, or a ratio of means, over facts, or over their relations (facts of one relation give both one value)."""
    is_ratio = len(values) == 2
    if relations is None:
        return (bootstrap_ratio if is_ratio else bootstrap_mean)(*values, seed, resamples)
    means = RelationMeans.of(relations, seed, resamples)
    return (means.ratio if is_ratio else means.mean)(*values)
