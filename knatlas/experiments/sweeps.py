"""How MATRICE's neurons, and what they do to P(answer), depend on tau, alpha2 and beta2.

One setting is varied at a time around the study's own values. Selections are made from the scores that the attribution
wrote, so that nothing is attributed again; equal sets are measured once. The model is not touched here: a function is
passed in that answers a list of requests.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from knatlas.errors import AtlasError, unknown
from knatlas.experiments.measurement import QUERY, Counted, Evaluate, Request, measure_before
from knatlas.progress import Report, silent
from knatlas.selection.neuron_set import ALL
from knatlas.selection.scores import INDICES, Scores
from knatlas.selection.select import select

SWEPT = ("tau", "alpha2", "beta2")
SELECTION = "matrice"
FACTORS = {"suppress": 0.0, "enhance": 2.0}
COLUMNS = [
    *("model", "setting", "setting_value", "is_study", "language", "fact", "relation", "operation"),
    *("n_neurons", "is_certified", "p_before", "p_after"),
]


class Point(NamedTuple):
    """One value of one setting, all others being the study's."""

    setting: str
    setting_value: float
    is_study: bool


def sweep_points(matrice: Mapping, sweeps: Mapping[str, Sequence[float]]) -> list[Point]:
    """The values to take of each setting, ascending, each once; the study's own is always among them.

    Args: matrice, the study's settings of MATRICE; sweeps, values by setting, a name of SWEPT.
    Raises: AtlasError for another setting.
    """
    for name in sweeps:
        if name not in SWEPT:
            raise AtlasError(unknown("sweeps: a setting", name, "one that can be swept", SWEPT))
    return [
        Point(name, value, value == float(matrice[name]))
        for name, values in sweeps.items()
        for value in sorted({float(matrice[name]), *map(float, values)})
    ]


def select_swept(scores: Scores, selection: Mapping, points: Sequence[Point]) -> pd.DataFrame:
    """MATRICE's neurons of every fact at every point: the fields of a point, fact, layers, indices, n_neurons,
    is_certified.

    Scores are read once per fact. Guard `stop` raises the threshold here, and sets that candidates can't certify are
    flagged whatever the study says: a sweep goes where these things happen. Facts without attribution have no row.
    """
    lines = [line for i in range(len(scores.facts)) for line in _of_fact(_only(scores, i), selection, points)]
    return pd.DataFrame(lines, columns=[*Point._fields, "fact", "layers", "indices", "n_neurons", "is_certified"])


def _of_fact(scores: Scores, selection: Mapping, points: Sequence[Point]) -> Iterator[dict]:
    (fact,) = scores.facts
    for point in points:
        ((sets, summary),) = select(scores, _settings(selection, point))
        if sets.is_searched(fact, ALL):
            layers, indices = sets.of(fact, ALL)
            row = {**point._asdict(), "fact": fact, "layers": layers, "indices": indices, "n_neurons": len(layers)}
            yield {**row, "is_certified": bool(summary["is_certified"].item())}


def _settings(selection: Mapping, point: Point) -> dict:
    matrice = {**selection[SELECTION], point.setting: point.setting_value}
    matrice["guard"] = "raise_threshold" if matrice["guard"] == "stop" else matrice["guard"]
    return {**selection, "selections": [SELECTION], SELECTION: matrice, "uncertified": "flag"}


def _only(scores: Scores, i: int) -> Scores:
    """The scores of one fact that MATRICE reads, in memory."""
    names = [name for name in scores.arrays if name == INDICES or name.startswith("saig.")]
    arrays = {name: np.asarray(scores.arrays[name][i : i + 1]) for name in names}
    return replace(scores, arrays=arrays, facts=[scores.facts[i]], layers_and_neurons=scores.shape)


def sweep_settings(
    scores: Scores,
    selection: Mapping,
    sweeps: Mapping[str, Sequence[float]],
    prompts: pd.DataFrame,
    evaluate: Evaluate,
    factors: Mapping[str, float] = FACTORS,
    progress: Report = silent,
) -> pd.DataFrame:
    """Measure P(answer) of each fact's first query in every language at every point, one row per measurement.

    Args: scores of one model; selection, that part of the study; sweeps, values by setting; prompts of the model's
    kind (fact, relation, language, query); evaluate, from requests to P(answer) and whether it is the argmax; factors,
    by operation. A fact with an empty set has p_after = p_before and is not run; is_certified is False where neurons
    that are no candidates may belong to the set.
    Returns: COLUMNS. Raises: AtlasError for an unknown setting, or facts without prompts.
    """
    found = select_swept(scores, selection, sweep_points(selection[SELECTION], sweeps))
    first = _first_queries(prompts, list(found["fact"].unique()))
    plan = found.merge(first, on="fact").merge(pd.DataFrame({"operation": list(factors)}), how="cross")
    plan["key"] = [_key(*values) for values in plan[["layers", "indices"]].itertuples(index=False)]
    unique = plan[plan["n_neurons"] > 0].drop_duplicates([*QUERY, "operation", "key"]).reset_index(drop=True)
    run = Counted(evaluate, progress, len(first) + len(unique))
    plan = plan.merge(measure_before(first, run), on=QUERY, how="left", validate="many_to_one")
    unique["p_after"] = _measure(unique, factors, run)
    plan = plan.merge(unique[[*QUERY, "operation", "key", "p_after"]], how="left", validate="many_to_one")
    plan["p_after"] = plan["p_after"].where(plan["n_neurons"] > 0, plan["p_before"])
    return plan.assign(model=_model(scores))[COLUMNS]


def _first_queries(prompts: pd.DataFrame, facts: Sequence[str]) -> pd.DataFrame:
    """The query with the lowest number of each fact and language: QUERY, fact, relation."""
    missing = sorted(set(facts) - set(prompts["fact"]))
    if missing:
        raise AtlasError(f"{len(missing)} facts with scores have no prompts, the first is {missing[0]}")
    of_facts = prompts[prompts["fact"].isin(facts)].sort_values("query", kind="stable")
    first = of_facts.drop_duplicates(["fact", "language"])[["fact", "relation", "language", "query"]]
    return first.assign(probed_fact=first["fact"]).sort_index().reset_index(drop=True)


def _key(layers: np.ndarray, indices: np.ndarray) -> tuple:
    """The same for sets of the same neurons, in whatever order."""
    return tuple(sorted(zip(layers.tolist(), indices.tolist(), strict=True)))


def _measure(plan: pd.DataFrame, factors: Mapping[str, float], run: Counted) -> np.ndarray:
    fields = plan[[*QUERY, "layers", "indices", "operation"]].itertuples(index=False, name=None)
    return run([Request(*values, factors[operation]) for *values, operation in fields], "sweeping")[0]


def _model(scores: Scores) -> str:
    model = scores.metadata.get("model", "")
    return model["name"] if isinstance(model, Mapping) else model
