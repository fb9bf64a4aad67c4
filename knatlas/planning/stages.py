"""What each stage of one model costs: jobs, operations, seconds, memory, disk."""

from math import prod

import numpy as np

from knatlas.attribution.configured import configured_keep
from knatlas.attribution.cost import Flops, attribution_flops, n_paths
from knatlas.attribution.footprint import n_parameters, sweep_row_bytes
from knatlas.planning.experiment_stages import EXPERIMENTS
from knatlas.planning.fidelity_stage import fidelity
from knatlas.planning.forward import forward_flops, forward_work
from knatlas.planning.localization_stages import LOCALIZATION
from knatlas.planning.model_plan import GB, ModelPlan, Stage

# bytes of a row of the table of answers, after compression
KNOWN_ROW_BYTES = 10
# queries that the engine attributes together, by device
SWEEP_QUERIES = {"cpu": 1, "gpu": 16}
# sentences before the last one of a context
CONTEXT = 4
# weights on the hub are in two bytes above so many parameters, in four below
HALF_ABOVE = 2e9


def prepare(plan: ModelPlan) -> Stage:
    """Training of an embedded model, or the download of another one."""
    return _train(plan) if plan.is_trained else _resolve(plan)


def _train(plan: ModelPlan) -> Stage:
    """Training: three forward passes per sentence for one with its gradients, on one core."""
    recipe, rates = plan.record["recipe"], plan.rates.on("cpu")
    sizes = plan.sizes()
    mean = sum(n * forward_flops(plan.shape, size) for _, size, n in sizes) / sum(n for *_, n in sizes)
    # a share of the sentences comes behind four others
    n_sentences = 1 + CONTEXT * recipe.get("context_share", 0.0)
    flops = 3 * mean * n_sentences * recipe["steps"] * recipe.get("batch", 64)
    seconds, start = flops / rates("training"), rates("seconds_per_job")
    kept = 4 * n_parameters(plan.shape) / GB
    return Stage(plan.name, "train", "cpu", 1, flops, seconds, start, kept_gb=kept, held_gb=kept)


def _resolve(plan: ModelPlan) -> Stage:
    """Download into the hub's cache."""
    if plan.record["origin"] != "hub":
        return Stage(plan.name, "resolve", "cpu", 1)
    parameters, rates = n_parameters(plan.shape), plan.rates.on("cpu")
    n_bytes = parameters * (2 if parameters > HALF_ABOVE else 4)
    seconds = n_bytes / rates("download")
    gb = n_bytes / GB
    return Stage(plan.name, "resolve", "cpu", 1, 0.0, seconds, rates("seconds_per_job"), kept_gb=gb, held_gb=gb)


def measure_known(plan: ModelPlan) -> Stage:
    """All queries once, and the objects of the relation for the first query of each fact and language."""
    rows = [(size, n * plan.work.n_facts) for _, size, n in plan.sizes()]
    for language in plan.languages:
        queries = plan.work.queries(plan.shape.kind, language, plan.is_trained)
        ranked = plan.work.n_facts * _ranked_rows(plan, queries.answer_tokens)
        rows += [(size, share * ranked) for size, share in queries.sizes()]
    n_rows = plan.work.n_facts * sum(n for *_, n in plan.sizes())
    kept = n_rows * KNOWN_ROW_BYTES / GB
    return plan.model_stage("measure_known", 1, forward_work(plan, rows, "seconds_per_row"), kept_gb=kept, held_gb=kept)


def _ranked_rows(plan: ModelPlan, answer_tokens: float) -> float:
    """Forward rows that rank the objects for one query: objects of one token, or of equally many masks, share one."""
    if plan.shape.kind == "masked":
        return min(plan.work.ranked_rows, 2 * answer_tokens)
    return 1 + plan.work.ranked_rows * min(1.0, answer_tokens - 1)


def attribution(plan: ModelPlan) -> Stage:
    """All methods of the study on all queries of the searched facts."""
    jobs = plan.n_shards * n_groups(plan)
    files, kept = shard_gb(plan), plan.study["attribution"]["keep_shards"]
    # finished batches lie beside a shard until it is written, and the shard itself in memory
    others = {"kept_gb": files if kept else 0.0, "held_gb": 2 * files, "files_gb": files / jobs + _statistics_gb(plan)}
    return plan.model_stage("attribution", jobs, attribution_work(plan), rows_gb=_sweep_gb(plan), **others)


def attribution_work(plan: ModelPlan) -> tuple[float, float]:
    """Operations and seconds of all shards of a model, without their starts."""
    per_fact, completeness = Flops(), plan.study["attribution"]["completeness"]
    for _, size, n in plan.sizes():
        per_fact += attribution_flops(plan.shape, size, plan.methods, plan.points_of, completeness) * n
        if plan.check:
            reference, share = plan.check
            per_fact += attribution_flops(plan.shape, size, [reference], plan.points_of) * (n * share)
    flops = per_fact.total * plan.n_facts
    n_layers = plan.n_facts * plan.shape.n_layers * sum(n * size.n_positions for _, size, n in plan.sizes())
    return flops, flops / plan.rates("attribution") + n_layers * plan.rates("seconds_per_readout_layer")


def n_groups(plan: ModelPlan) -> int:
    """Jobs per shard: one for each language, or of candidates one for all together."""
    return 1 if plan.study["attribution"]["keep"] == "candidates" else len(plan.languages)


def _statistics_gb(plan: ModelPlan) -> float:
    """Sums over the queries of one fact in all languages: four arrays of float64 per method."""
    return (
        32 * len(plan.study["attribution"]["run"]) * plan.shape.n_layers * plan.shape.neurons * len(plan.languages) / GB
    )


def _sweep_gb(plan: ModelPlan) -> float:
    """Memory of the largest sweep: all points of its queries, if the study's rows or the free memory hold them."""
    longest = max((size for _, size, _ in plan.sizes()), key=lambda size: size.n_tokens)
    row = sweep_row_bytes(plan.shape, longest.n_tokens, 8 if plan.study["dtype"] == "float64" else 4)
    points = sum(n_paths(longest, method) * plan.points_of(method) for method in plan.methods)
    readouts = longest.n_positions if plan.shape.kind == "causal" else 1
    needed = SWEEP_QUERIES[plan.rates.device] * readouts * plan.shape.n_layers * points
    if rows := plan.study["compute"]["batch_rows"]:
        return min(rows, needed) * row / GB
    share, free = plan.rates("sweep_share"), plan.rates.memory_gb - plan.weights_gb
    return min(needed * row / GB, share * max(0.0, free) if plan.rates.memory_gb else share)


def shard_gb(plan: ModelPlan) -> float:
    """The files of all shards of a model; the gathered scores hold the same arrays."""
    settings, shape = plan.study["attribution"], plan.shape
    groups = [plan.languages] if settings["keep"] == "candidates" else [[language] for language in plan.languages]
    n_bytes = 0
    for languages in groups:
        arrays = configured_keep(settings, languages).layout(settings["run"], shape.n_layers, shape.neurons)
        n_bytes += sum(np.dtype(kind).itemsize * prod(size) for kind, size in arrays.values())
    return plan.n_facts * n_bytes / GB


def aggregate(plan: ModelPlan) -> Stage:
    """Gathering of the shards, a piece at a time."""
    gb, rates = shard_gb(plan), plan.rates.on("cpu")
    seconds, start = gb * GB / rates("aggregate"), rates("seconds_per_table_job")
    return Stage(plan.name, "aggregate", "cpu", 1, 0.0, seconds, start, kept_gb=gb, held_gb=gb)


def selection(plan: ModelPlan) -> Stage:
    """All neuron sets."""
    gb, rates = shard_gb(plan), plan.rates.on("cpu")
    seconds = gb * GB / rates("selection") + plan.n_facts * len(plan.languages) * rates("seconds_per_set")
    return Stage(plan.name, "selection", "cpu", 1, 0.0, seconds, rates("seconds_per_table_job"))


STAGES = (prepare, measure_known, attribution, aggregate, selection, *EXPERIMENTS, fidelity, *LOCALIZATION)
