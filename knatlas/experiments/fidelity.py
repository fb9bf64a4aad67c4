"""Causal fidelity: what ablating each single neuron does to P(answer), and sets of growing size in several orders.

The model is not touched here: a function is passed in that answers a list of requests, and one that gives the neurons'
values in unchanged passes.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from knatlas.errors import AtlasError
from knatlas.experiments.ablations import Key, ValuesOf, replacements
from knatlas.experiments.measurement import NONE, Counted, Evaluate, Request
from knatlas.facts.sampling import first_queries
from knatlas.progress import Report, silent
from knatlas.selection.controls import random_stream
from knatlas.selection.neuron_sample import NeuronSample, every_neuron, stratified_sample
from knatlas.selection.rankings import OWN, RANDOM, descending, rankings
from knatlas.selection.scores import Scores

ORACLE = "oracle"
QUERY_COLUMNS = ["model", "fact", "relation", "language", "query", "ablation"]
EFFECT_COLUMNS = [*QUERY_COLUMNS, "layer", "index", "weight", "p_before", "p_after", "change_of_log_odds"]
CURVE_COLUMNS = [*QUERY_COLUMNS, "method", "ranking", "draw", "size", "p_before", "p_after"]
# P comes from a softmax in float32, which knows no number between this and 1
LARGEST, SMALLEST = 1 - 2.0**-24, 1e-300
Order = tuple[tuple[str, str, int], Int[np.ndarray, " neuron"]]


class Measured(NamedTuple):
    """Single ablations, one row per neuron (EFFECT_COLUMNS), and joint ones, one row per set (CURVE_COLUMNS)."""

    effects: pd.DataFrame
    curves: pd.DataFrame


class Case(NamedTuple):
    """One query and one kind of ablation; values that neurons are set to, (positions, layers, neurons), None for 0."""

    key: Key
    relation: str
    ablation: str
    replacement: Float[np.ndarray, "position layer neuron"] | None

    def request(self, layers: Int[np.ndarray, " neuron"], indices: Int[np.ndarray, " neuron"]) -> Request:
        """The question for P(answer) while these neurons are ablated together."""
        shift = 0.0 if self.replacement is None else self.replacement[:, layers, indices]
        return Request(*self.key, layers, indices, 0.0, shift)


def measure_fidelity(
    scores: Scores,
    prompts: pd.DataFrame,
    evaluate: Evaluate,
    values_of: ValuesOf,
    settings: Mapping,
    seed: int = 0,
    progress: Report = silent,
) -> Measured:
    """Ablate neurons of facts' first queries, one at a time and in growing sets, and measure P(answer).

    Every neuron, or where a model has too many the best of all methods and a stratified sample of the others, the same
    for all ablations that take a sample. Sets are the first of each ranking, and of the order of the true single
    effects among the neurons that were ablated alone (method `oracle`).

    Args: scores of one model; prompts of its kind (fact, relation, language, query, answer); settings with facts,
    languages (a list), ablations, exhaustive, exhaustive_up_to, top, sample, set_sizes, draws, mean_prompts.
    Raises: AtlasError when scored facts have no prompts, or no query could be ablated.
    """
    queries = _queries(scores, prompts, settings, seed)
    plans = [_plan(scores, row, settings, seed) for row in queries.itertuples(index=False)]
    plans = [plan for plan in plans if plan is not None]
    cases = replacements([(plan.key, plan.relation) for plan in plans], prompts, values_of, settings, seed)
    run = Counted(evaluate, progress, _n_requests(plans, cases))
    effects, curves = [], []
    for plan in plans:
        p_before = float(run([Request(*plan.key, NONE, NONE, 1.0)], "before")[0][0])
        for ablation, replacement in cases[plan.key].items():
            case = Case(plan.key, plan.relation, ablation, replacement)
            effects.append(_single(case, plan, p_before, run))
            curves.append(_joint(case, plan, p_before, effects[-1], run))
    if not effects:
        raise AtlasError("fidelity: no query has both scores and something to set its neurons to; take more facts")
    model = _model(scores)
    tables = (pd.concat(parts, ignore_index=True).assign(model=model) for parts in (effects, curves))
    return Measured(*(table[names] for table, names in zip(tables, (EFFECT_COLUMNS, CURVE_COLUMNS), strict=True)))


class Plan(NamedTuple):
    """What is measured of one query: the neurons that are ablated alone, by ablation, and sets of these sizes.

    orders: method, ranking and draw of each ranking, with the numbers of its first neurons.
    """

    key: Key
    relation: str
    orders: list[Order]
    neurons: dict[str, NeuronSample]
    sizes: Sequence[int]
    shape: tuple[int, int]

    @property
    def n_sets(self) -> int:
        """Sets of each ablation, the oracle's included."""
        return len(self.sizes) * (len(self.orders) + 1)


def _queries(scores: Scores, prompts: pd.DataFrame, settings: Mapping, seed: int) -> pd.DataFrame:
    """The first query of so many facts, evenly over relations, in each language."""
    missing = sorted(set(scores.facts) - set(prompts["fact"]))
    if missing:
        raise AtlasError(f"{len(missing)} facts with scores have no prompts, the first is {missing[0]}")
    known = set(settings["languages"]) & set(scores.languages)
    scored = prompts[prompts["fact"].isin(scores.facts) & prompts["language"].isin(known)]
    return first_queries(scored.sort_values(["fact", "language", "query"]), settings["facts"], 1, seed)


def _plan(scores: Scores, row: object, settings: Mapping, seed: int) -> Plan | None:
    """What is measured of a query; None where it has no scores."""
    found = rankings(scores, scores.facts.index(row.fact), row.language, settings["draws"], seed)
    if not found:
        return None
    own = [ranking.scores for ranking in found if ranking.ranking == OWN and ranking.method != RANDOM]
    stream = random_stream(seed, "fidelity", row.fact, row.language)
    sample = stratified_sample(own, settings["top"], settings["sample"], stream)
    n_layers, n_neurons = scores.shape
    exhaustive = settings["exhaustive"] if n_layers * n_neurons <= settings["exhaustive_up_to"] else []
    neurons = {name: every_neuron(scores.shape) if name in exhaustive else sample for name in settings["ablations"]}
    # of every fact the same, also where its sample is larger
    largest = min(n_layers * n_neurons, settings["top"] + settings["sample"])
    sizes = [size for size in sorted(settings["set_sizes"]) if size <= largest]
    longest = max(sizes, default=0)
    orders = [((part.method, part.ranking, part.draw), descending(part.scores)[:longest]) for part in found]
    return Plan((row.fact, row.language, row.query), row.relation, orders, neurons, sizes, scores.shape)


def _n_requests(plans: Sequence[Plan], cases: Mapping) -> int:
    return sum(1 + sum(len(plan.neurons[name].numbers) + plan.n_sets for name in cases[plan.key]) for plan in plans)


def _single(case: Case, plan: Plan, p_before: float, run: Counted) -> pd.DataFrame:
    """Each neuron ablated alone."""
    numbers, weights = plan.neurons[case.ablation]
    layers, indices = np.unravel_index(numbers, plan.shape)
    requests = [case.request(layers[[i]], indices[[i]]) for i in range(len(numbers))]
    p_after = run(requests, f"{case.ablation} ablation of single neurons")[0]
    change = log_odds(p_after) - log_odds(p_before)
    columns = {"layer": layers, "index": indices, "weight": weights, "p_before": p_before, "p_after": p_after}
    return _identified(case, pd.DataFrame({**columns, "change_of_log_odds": change}))


def _joint(case: Case, plan: Plan, p_before: float, effects: pd.DataFrame, run: Counted) -> pd.DataFrame:
    """The first neurons of every order ablated together."""
    orders = [*plan.orders, ((ORACLE, OWN, 0), _by_effect(plan, effects))]
    sets = [(*name, size, order[:size]) for name, order in orders for size in plan.sizes]
    requests = [case.request(*np.unravel_index(numbers, plan.shape)) for *_, numbers in sets]
    p_after = run(requests, f"{case.ablation} ablation of sets")[0]
    table = pd.DataFrame([row[:-1] for row in sets], columns=["method", "ranking", "draw", "size"])
    return _identified(case, table.assign(p_before=p_before, p_after=p_after))


def _by_effect(plan: Plan, effects: pd.DataFrame) -> Int[np.ndarray, " neuron"]:
    """Numbers of the neurons that were ablated alone, the one that P falls most without first."""
    numbers = np.ravel_multi_index((effects["layer"], effects["index"]), plan.shape)
    return numbers[np.argsort(effects["p_after"].to_numpy(), kind="stable")]


def _identified(case: Case, table: pd.DataFrame) -> pd.DataFrame:
    fact, language, query = case.key
    names = {"fact": fact, "relation": case.relation, "language": language, "query": query, "ablation": case.ablation}
    return table.assign(**names)


def log_odds(p: float | Float[np.ndarray, " row"]) -> Float[np.ndarray, " row"]:
    """log(p / (1 - p)), nats, of P no closer to 1 than a softmax in float32 can tell from it."""
    p = np.clip(p, SMALLEST, LARGEST)
    return np.log(p) - np.log1p(-p)


def _model(scores: Scores) -> str:
    model = scores.metadata.get("model", "")
    return model["name"] if isinstance(model, Mapping) else model
