"""Suppress and enhance the neurons of every selection, and measure P(answer) (Figure 5 of MATRICE).

The model is not touched here: a function is passed in that answers a list of requests.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from knatlas.experiments.measurement import (
    QUERY,
    Counted,
    Evaluate,
    Request,
    measure_before,
    searched_facts,
)
from knatlas.experiments.probes import plan_probes
from knatlas.progress import Report, silent
from knatlas.selection.neuron_set import NeuronSets

FACTORS = {"suppress": 0.0, "enhance": 2.0}
COLUMNS = [
    "model",
    "selection",
    "draw",
    "language",
    "fact",
    "relation",
    "probe",
    "probed_fact",
    "query",
    "operation",
    "n_neurons",
    "p_before",
    "p_after",
    "is_right_before",
    "is_right_after",
]


def manipulate(
    sets: Sequence[NeuronSets],
    prompts: pd.DataFrame,
    evaluate: Evaluate,
    factors: Mapping[str, float] = FACTORS,
    seed: int = 0,
    progress: Report = silent,
) -> pd.DataFrame:
    """Measure P(answer) before and after each operation on each fact's neurons, one row per measurement.

    For every selection, draw, language and fact: all queries of the fact itself (probe `own`), and the first query of
    one other fact of the same relation and of one of another relation, chosen with the seed. P before is measured once
    per query. A fact with an empty set has p_after = p_before and is not run.

    Args: sets, all of one model; prompts, the queries of that model's kind (fact, relation, language, query, answer);
    evaluate, from requests to P(answer) and whether every answer token is the argmax, both of the requests' length;
    factors, by operation. Raises: AtlasError when a searched fact has no prompts.
    """
    probes = plan_probes(prompts, searched_facts(sets, prompts), seed)
    plans = [_plan(part, draw, probes) for part in sets for draw in range(part.n_draws)]
    run = Counted(evaluate, progress, _n_requests(probes, plans, len(factors)))
    before = measure_before(probes, run)
    parts = [_measure(plan, before, run, factors) for plan in plans]
    return pd.concat(parts, ignore_index=True)[COLUMNS]


def _plan(sets: NeuronSets, draw: int, probes: pd.DataFrame) -> pd.DataFrame:
    """The probes of one selection and draw, with the set of each as arrays."""
    pairs = zip(probes["fact"], probes["language"], strict=True)
    plan = probes[[sets.is_searched(fact, language) for fact, language in pairs]].copy()
    pairs = zip(plan["fact"], plan["language"], strict=True)
    neurons = [sets.of(fact, language, draw) for fact, language in pairs]
    plan["layers"], plan["indices"] = _column(part[0] for part in neurons), _column(part[1] for part in neurons)
    plan["n_neurons"] = np.array([len(part[0]) for part in neurons], dtype=np.int64)
    return plan.assign(model=sets.model, selection=sets.selection, draw=draw).reset_index(drop=True)


def _column(arrays: Iterator[np.ndarray]) -> np.ndarray:
    arrays = list(arrays)
    column = np.empty(len(arrays), dtype=object)
    column[:] = arrays
    return column


def _n_requests(probes: pd.DataFrame, plans: list[pd.DataFrame], n_factors: int) -> int:
    n_clean = len(probes.drop_duplicates(QUERY))
    return n_clean + n_factors * sum(int((plan["n_neurons"] > 0).sum()) for plan in plans)


def _measure(plan: pd.DataFrame, before: pd.DataFrame, run: Counted, factors: Mapping[str, float]) -> pd.DataFrame:
    plan = plan.merge(before, on=QUERY, how="left", validate="many_to_one")
    parts = [_measure_after(plan, name, factor, run) for name, factor in factors.items()]
    return pd.concat(parts, ignore_index=True)[COLUMNS]


def _measure_after(plan: pd.DataFrame, operation: str, factor: float, run: Counted) -> pd.DataFrame:
    rows = plan.assign(operation=operation, p_after=plan["p_before"], is_right_after=plan["is_right_before"])
    is_run = (rows["n_neurons"] > 0).to_numpy()
    if is_run.any():
        fields = rows.loc[is_run, [*QUERY, "layers", "indices"]].itertuples(index=False, name=None)
        p, is_right = run([Request(*values, factor) for values in fields], f"{rows['selection'].iat[0]} {operation}")
        rows.loc[is_run, "p_after"], rows.loc[is_run, "is_right_after"] = p, is_right
    return rows
