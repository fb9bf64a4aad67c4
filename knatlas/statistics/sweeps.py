"""How the change of P(answer) and the sets' sizes depend on the settings of MATRICE that its paper leaves open."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from knatlas.statistics.bootstrap import DEFAULT_RESAMPLES, bootstrap_mean
from knatlas.statistics.summaries import relative_change

ALL = "all"
POINT = ["model", "setting", "setting_value", "is_study"]
TABLE_COLUMNS = [
    *(*POINT, "language", "operation", "statistic", "value", "lo", "hi", "n"),
    *("n_empty", "n_excluded", "n_uncertified"),
]
MEASURES = ["relative_change", "n_neurons", "is_empty", "is_excluded", "is_uncertified"]


def summarise_sweeps(rows: pd.DataFrame, seed: int = 0, resamples: int = DEFAULT_RESAMPLES) -> pd.DataFrame:
    """Means over facts at every point of a sweep, with 95% bootstrap intervals, from the rows of `sweep_settings`.

    statistic: mean_relative_change of P(answer) by operation (-1 = vanished, 0 = unchanged); n_neurons, size of a
    fact's set, and share_empty, the share of facts without neurons, both for operation "all", since every operation
    has the same sets. Language "all": the mean over a fact's languages first.
    n, facts that count; n_empty, those without neurons; n_excluded, facts in a language with P before = 0, whose change
    is not defined; n_uncertified, facts whose set may lack neurons that were no candidates.

    Returns: TABLE_COLUMNS, points and languages in the order of the rows.
    """
    lines = []
    for point, languages in _groups(_with_measures(rows)).items():
        fixed = dict(zip(POINT, point, strict=True))
        for language, operations in languages.items():
            lines += [{**fixed, "language": language, **line} for line in _lines(operations, seed, resamples)]
    return pd.DataFrame(lines, columns=TABLE_COLUMNS)


class _Group(NamedTuple):
    """Means of each fact's MEASURES, facts in the order of their names, and how many rows are excluded."""

    by_fact: dict[str, np.ndarray]
    n_excluded: int


def _with_measures(rows: pd.DataFrame) -> pd.DataFrame:
    is_excluded = (rows["p_before"] <= 0).to_numpy()
    change = relative_change(rows["p_before"].to_numpy(float), rows["p_after"].to_numpy(float))
    measures = {"relative_change": np.where(is_excluded, np.nan, change), "is_excluded": is_excluded}
    measures |= {"is_empty": rows["n_neurons"] == 0, "is_uncertified": ~rows["is_certified"].astype(bool)}
    measured = rows[[*POINT, "language", "fact", "operation", "n_neurons"]].assign(**measures)
    return measured.astype(dict.fromkeys(MEASURES, float))


def _groups(measured: pd.DataFrame) -> dict[tuple, dict[str, dict[str, _Group]]]:
    """The groups of each point, language (the pooled ones last) and operation, in the order of the rows."""
    keys = [*POINT, "language", "operation"]
    rows = pd.concat([measured, measured.assign(language=ALL)], ignore_index=True)
    excluded = rows.groupby(keys, sort=False)["is_excluded"].sum()
    facts = rows.groupby([*keys, "fact"])[MEASURES].mean().reset_index()
    places, values = facts.groupby(keys).indices, {name: facts[name].to_numpy(float) for name in MEASURES}
    found = {}
    for key, n_excluded in excluded.items():
        *point, language, operation = key
        group = _Group({name: column[places[key]] for name, column in values.items()}, int(n_excluded))
        found.setdefault(tuple(point), {}).setdefault(language, {})[operation] = group
    return found


def _lines(operations: dict[str, _Group], seed: int, resamples: int) -> Iterator[dict]:
    for operation, group in operations.items():
        yield _line(group, operation, "mean_relative_change", "relative_change", seed, resamples)
    one = next(iter(operations.values()))
    yield _line(one, ALL, "n_neurons", "n_neurons", seed, resamples)
    yield _line(one, ALL, "share_empty", "is_empty", seed, resamples)


def _line(group: _Group, operation: str, statistic: str, measure: str, seed: int, resamples: int) -> dict:
    """One statistic of one operation: the mean over facts of a measure."""
    is_counted = ~np.isnan(group.by_fact[measure])
    counted = {name: column[is_counted] for name, column in group.by_fact.items()}
    return {
        "operation": operation,
        "statistic": statistic,
        **bootstrap_mean(counted[measure], seed, resamples)._asdict(),
        "n_empty": int(counted["is_empty"].sum()),
        "n_excluded": group.n_excluded,
        "n_uncertified": int(counted["is_uncertified"].sum()),
    }
