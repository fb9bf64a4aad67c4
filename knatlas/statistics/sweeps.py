"""How the change of P(answer) and the sets' sizes depend on the settings of MATRICE that its paper leaves open."""

from collections.abc import Iterator

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
    lines = [
        {**dict(zip(POINT, key, strict=True)), **line}
        for key, group in _with_measures(rows).groupby(POINT, sort=False)
        for language, part in _languages(group)
        for line in _lines(part, language, seed, resamples)
    ]
    return pd.DataFrame(lines, columns=TABLE_COLUMNS)


def _with_measures(rows: pd.DataFrame) -> pd.DataFrame:
    is_excluded = (rows["p_before"] <= 0).to_numpy()
    change = relative_change(rows["p_before"].to_numpy(float), rows["p_after"].to_numpy(float))
    measures = {"relative_change": np.where(is_excluded, np.nan, change), "is_excluded": is_excluded}
    measures |= {"is_empty": rows["n_neurons"] == 0, "is_uncertified": ~rows["is_certified"].astype(bool)}
    measured = rows[[*POINT, "language", "fact", "operation", "n_neurons"]].assign(**measures)
    return measured.astype(dict.fromkeys(MEASURES, float))


def _languages(group: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    yield from group.groupby("language", sort=False)
    yield ALL, group


def _lines(part: pd.DataFrame, language: str, seed: int, resamples: int) -> Iterator[dict]:
    for operation, group in part.groupby("operation", sort=False):
        yield _line(group, language, operation, "mean_relative_change", "relative_change", seed, resamples)
    one = part[part["operation"] == part["operation"].iat[0]]
    yield _line(one, language, ALL, "n_neurons", "n_neurons", seed, resamples)
    yield _line(one, language, ALL, "share_empty", "is_empty", seed, resamples)


def _line(
    rows: pd.DataFrame, language: str, operation: str, statistic: str, measure: str, seed: int, resamples: int
) -> dict:
    """One statistic of one operation: the mean over facts of a measure."""
    by_fact = rows.groupby("fact")[MEASURES].mean()
    counted = by_fact[by_fact[measure].notna()]
    return {
        "language": language,
        "operation": operation,
        "statistic": statistic,
        **bootstrap_mean(counted[measure].to_numpy(), seed, resamples)._asdict(),
        "n_empty": int(counted["is_empty"].sum()),
        "n_excluded": int(rows["is_excluded"].sum()),
        "n_uncertified": int(counted["is_uncertified"].sum()),
    }
