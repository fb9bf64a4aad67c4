"""Into how many shards the facts of a model are dealt out, where a study gives the minutes of a shard instead."""

from collections.abc import Mapping
from math import ceil

from knatlas.planning.rates import Rates
from knatlas.planning.stages import attribution_work, n_groups
from knatlas.planning.study_models import NOTHING, planned_model
from knatlas.planning.workload import workload


def shard_counts(study: Mapping) -> dict[str, int]:
    """Shards of each model: `attribution.shards`, or with `auto` as many as keep one near `shard_minutes`.

    Sized for the GPU of catalog/rates.yaml and for the catalog's counts of facts and queries: wherever a study runs and
    whatever it has computed, it has the same shards. A shard holds at least one fact.
    """
    settings = study["attribution"]
    if settings["shards"] != "auto":
        return dict.fromkeys(study["models"], settings["shards"])
    work, rates, counts = workload(study, NOTHING), Rates("gpu", study["dtype"]), {}
    for name in study["models"]:
        plan, _ = planned_model(study, NOTHING, name, work, rates, n_shards=1)
        seconds = attribution_work(plan)[1] / n_groups(plan)
        counts[name] = max(1, min(plan.n_facts, ceil(seconds / 60 / settings["shard_minutes"])))
    return counts
