"""Permutation tests of what figures and tables show: found neurons against random ones, a fact against other facts.

Every test is paired over facts: what a fact's neurons do to it, less what the control does, signs flipped over facts
(`sign_flip`). Holm's correction is over the tests of one figure and one statistic.

contrast: `random_layer_matched` and `random`, the mean over draws of random neurons, as many as were found;
`random_unmatched`, the first of these that was measured, for a selection that it was not drawn for: neurons of another
number; `same_relation`, `other_relation`, `unrelated`: the same neurons, another fact's answer.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from knatlas.errors import AtlasError, unknown
from knatlas.statistics.bootstrap import DEFAULT_RESAMPLES, bootstrap_mean
from knatlas.statistics.multiple_tests import with_holm
from knatlas.statistics.paired_tests import Contrast, PairedTest, paired_test
from knatlas.statistics.permutation import DEFAULT_PERMUTATIONS, ROUNDING, rank_p, rank_share, sign_flip
from knatlas.statistics.relations import changes_by_fact
from knatlas.statistics.summaries import per_fact, relative_change
from knatlas.statistics.weight_edits import MAIN, main_statistics

GROUP = ["figure", "model", "selection", "language", "operation", "statistic", "contrast"]
SIGNIFICANCE_COLUMNS = [
    *("figure", "model", "selection", "language", "operation", "condition", "statistic", "contrast"),
    *("value", "lo", "hi", "n", "n_nonzero", "p", "p_holm", "n_tests", "method"),
]
FAMILY = ["figure", "statistic"]
MEASURED = ["model", "selection", "language", "operation", "statistic", "probe", "fact", "draw", "value"]
CELL = ["model", "language", "operation", "statistic", "fact"]
RANDOM = ("random_layer_matched", "random")
OTHER_FACTS = ("same_relation", "other_relation", "unrelated")
FIGURE5_MEASURES = ["relative_change", "is_lost", "is_gained"]
TABLE1_MEASURES = ["relative_change", "absolute_change"]
RANKED = "relative_change"
LEVEL = 0.05


def figure5_values(rows: pd.DataFrame, min_p_before: float = 0.0) -> pd.DataFrame:
    """MATRICE's Figure 5: relative change of P(answer), and the shares of queries whose answer was lost or gained.

    Args: rows of `manipulate`. Returns: MEASURED, one value per fact, language (and "all"), draw and probe.
    """
    changes = per_fact(rows, min_p_before)
    names = [name for name in MEASURED if name not in ("statistic", "value")]
    return changes.melt(names, FIGURE5_MEASURES, "statistic", "value")[MEASURED]


def table1_values(rows: pd.DataFrame) -> pd.DataFrame:
    """AMIG's Table 1: the change of P(answer) in the first query, relative and absolute, none excluded as extreme.

    Args: rows of `manipulate`. Returns: MEASURED, one value per fact, language, draw and probe.
    """
    keys = ["model", "selection", "language", "fact"]
    is_own = rows["probe"] == "own"
    first = rows["query"].where(is_own).groupby([rows[key] for key in keys]).transform("min")
    rows = rows[(~is_own | (rows["query"] == first)) & (rows["p_before"] > 0)]
    before, after = rows["p_before"].to_numpy(float), rows["p_after"].to_numpy(float)
    rows = rows.assign(relative_change=relative_change(before, after), absolute_change=after - before)
    names = [name for name in MEASURED if name not in ("statistic", "value")]
    return rows.melt(names, TABLE1_MEASURES, "statistic", "value")[MEASURED]


def relation_values(rows: pd.DataFrame, operation: str, seed: int = 0) -> pd.DataFrame:
    """Figures 3 (suppress) and 4 (enhance) of the localization paper: difference of P in percentage points.

    Facts with an empty set, or whose unrelated fact has one, are left out, as in the figures.

    Args: rows of `manipulate`. Returns: MEASURED, draws averaged.
    """
    parts = []
    for (model, selection, language), group in rows.groupby(["model", "selection", "language"], sort=False):
        facts = changes_by_fact(group, seed)[operation]
        facts = facts[~facts["is_empty"] & ~facts["is_unrelated_empty"]]
        for probe, measure in (("own", "related"), ("unrelated", "unrelated")):
            names = (model, selection, language, operation, "difference", probe)
            parts.append(_frame(names, facts.index.to_numpy(str), facts[measure].to_numpy(float)))
    return _joined(parts)


def enhancement_values(rows: pd.DataFrame) -> pd.DataFrame:
    """MATRICE's Figure 6: of each fact's queries answered wrongly before, those right after; and the reverse (shares).

    Args: rows of `enhance_answers`. Returns: MEASURED; facts without such queries are left out.
    """
    keys, parts = ["model", "selection", "language", "fact", "draw"], []
    for language in (None, "all"):
        part = rows if language is None else rows.assign(language=language)
        is_right = part["is_right_before"].to_numpy(bool)
        for name, kept, value in (
            ("accuracy_on_wrong", ~is_right, part["is_right_after"].astype(float)),
            ("lost_on_right", is_right, 1.0 - part["is_right_after"].astype(float)),
        ):
            means = part.assign(value=value)[kept].groupby(keys, sort=False)["value"].mean().reset_index()
            parts.append(means.assign(statistic=name, operation="enhance", probe="own")[MEASURED])
    return pd.concat(parts, ignore_index=True)


def edit_values(rows: pd.DataFrame, operation: str) -> pd.DataFrame:
    """MATRICE's Tables III (erase) and IV (update): reliability, generality and locality in percent of queries.

    Facts that were edited together are apart, as operation `erase_batch` or `update_batch`.

    Args: rows of `edit_facts`. Returns: MEASURED, draws averaged; a fact without queries that count is left out.
    """
    facts = main_statistics(rows[rows["operation"] == operation])
    names = np.where(facts["scope"] == "single", operation, f"{operation}_" + facts["scope"].astype(str))
    facts = facts.assign(operation=names, probe="own", draw=0)
    names = [name for name in MEASURED if name not in ("statistic", "value")]
    return facts.melt(names, MAIN, "statistic", "value").dropna(subset="value")[MEASURED]


# what each figure or table measures, from the rows of its experiment, the seed and the smallest P before
VALUES: dict[str, Callable[[pd.DataFrame, int, float], pd.DataFrame]] = {
    "matrice_figure5": lambda rows, _, smallest: figure5_values(rows, smallest),
    "matrice_figure6": lambda rows, *_: enhancement_values(rows),
    "matrice_table3": lambda rows, *_: edit_values(rows, "erase"),
    "matrice_table4": lambda rows, *_: edit_values(rows, "update"),
    "amig_table1": lambda rows, *_: table1_values(rows),
    "localization_figure3": lambda rows, seed, _: relation_values(rows, "suppress", seed),
    "localization_figure4": lambda rows, seed, _: relation_values(rows, "enhance", seed),
}


def figure_values(figure: str, rows: pd.DataFrame, seed: int = 0, min_p_before: float = 0.0) -> pd.DataFrame:
    """The values per fact that a figure of VALUES is made of; AtlasError for another figure."""
    if figure not in VALUES:
        raise AtlasError(unknown("significance: a figure", figure, "one whose contrasts are tested", VALUES))
    return VALUES[figure](rows, seed, min_p_before)


def contrast_pairs(measured: pd.DataFrame, selections: Sequence[str], reference: str) -> pd.DataFrame:
    """Each fact's difference between the found neurons and each control that was measured (see the head of this file).

    Besides, for random neurons with several draws, statistics of the size of the change of P(answer):
    `size_rank`, the share of draws that it exceeds, less 1/2; and with at least 19 draws `size_extreme`, whether its p
    among the draws is at most 0.05, less 0.05.

    Args: measured, with the columns MEASURED; reference, the selection that the random neurons are as many as.
    Returns: model, selection, language, operation, statistic, contrast, fact, value.
    """
    by_set = measured.pivot_table("value", CELL, ["selection", "probe"], aggfunc="mean", sort=False, observed=True)
    parts = []
    for selection in selections:
        for contrast, column in _controls(by_set, selection, reference):
            difference = _difference(by_set[selection, "own"], by_set[column]).dropna().rename("value").reset_index()
            parts.append(difference.assign(selection=selection, contrast=contrast))
    parts += _ranks(measured, reference) if reference in selections else []
    columns = [*(name for name in GROUP if name != "figure"), "fact", "value"]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def significance_table(
    pairs: Mapping[str, pd.DataFrame],
    contrasts: Mapping[str, Sequence[Contrast]] | None = None,
    seed: int = 0,
    resamples: int = DEFAULT_RESAMPLES,
    permutations: int = DEFAULT_PERMUTATIONS,
) -> pd.DataFrame:
    """A test per figure and contrast: mean difference over facts, bootstrap interval, permutation p, Holm's p.

    value, lo, hi are in the unit of the statistic; n, facts with both; n_nonzero, those whose difference isn't 0;
    n_tests, the tests of the same figure and statistic, over which p_holm is corrected; method, `exact` or `drawn` with
    the number of assignments of signs.

    Args: pairs, what `contrast_pairs` returns, by figure; contrasts, of rows of a table whose statistic is no mean over
    facts, by table (`table_contrasts`), each with its test by `paired_test`. Returns: SIGNIFICANCE_COLUMNS; condition
    is empty where the figure has none.
    """
    lines = []
    for figure, table in pairs.items():
        for key, group in table.groupby(GROUP[1:], sort=False):
            values = group["value"].to_numpy(float)
            test = sign_flip(values, seed, permutations)
            names = dict(zip(GROUP, (figure, *key), strict=True)) | {"condition": ""}
            tested = PairedTest(*bootstrap_mean(values, seed, resamples), test.n_nonzero, test.p, test.method)
            lines.append(names | tested._asdict())
    for table, listed in (contrasts or {}).items():
        for names, paired in listed:
            lines.append({"figure": table, **names, **paired_test(paired, seed, resamples, permutations)._asdict()})
    columns = [name for name in SIGNIFICANCE_COLUMNS if name not in ("p_holm", "n_tests")]
    return with_holm(pd.DataFrame(lines, columns=columns), FAMILY)[SIGNIFICANCE_COLUMNS]


def _difference(found: pd.Series, control: pd.Series) -> pd.Series:
    """Found minus control; 0 where they differ by rounding alone."""
    difference = found - control
    return difference.mask(difference.abs() <= ROUNDING * np.maximum(found.abs(), control.abs()), 0.0)


def _controls(by_set: pd.DataFrame, selection: str, reference: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """The contrasts of a selection that were measured, with the column of the control."""
    if (selection, "own") not in by_set:
        return
    matched = {name: (name, "own") for name in RANDOM}
    measured = [column for column in matched.values() if column in by_set]
    unmatched = {"random_unmatched": measured[0]} if measured else {}
    random = matched if selection == reference else unmatched
    controls = random | {probe: (selection, probe) for probe in OTHER_FACTS}
    yield from ((name, column) for name, column in controls.items() if column in by_set)


def _ranks(measured: pd.DataFrame, reference: str) -> list[pd.DataFrame]:
    """How the size of the found neurons' change of P ranks among the draws of random ones, per fact."""
    own = measured[(measured["probe"] == "own") & (measured["statistic"] == RANKED)]
    sizes = own.assign(value=own["value"].abs()).set_index([*CELL, "draw"])
    found = sizes.loc[sizes["selection"] == reference, "value"].unstack("draw")
    parts = []
    for control in RANDOM:
        draws = sizes.loc[sizes["selection"] == control, "value"].unstack("draw").reindex(found.index)
        if draws.shape[1] < 2 or found.empty:
            continue
        one, many = found.iloc[:, 0].to_numpy(), draws.to_numpy()
        values = {"size_rank": rank_share(one, many) - 0.5}
        if 1 / (1 + many.shape[1]) <= LEVEL:
            p = rank_p(one, many)
            values["size_extreme"] = np.where(np.isnan(p), np.nan, p <= LEVEL) - LEVEL
        for name, value in values.items():
            part = pd.DataFrame({"value": value}, index=found.index).dropna().reset_index()
            parts.append(part.assign(statistic=name, selection=reference, contrast=control))
    return parts


def _frame(names: tuple, facts: np.ndarray, values: np.ndarray) -> pd.DataFrame:
    fixed = dict(zip(MEASURED[:6], names, strict=True))
    return pd.DataFrame({"fact": facts, "value": values}).assign(**fixed, draw=0)[MEASURED]


def _joined(parts: list[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=MEASURED)
