"""What the negative controls of one model cost: the stages that they repeat, on fewer facts, once per control."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from knatlas.planning.experiment_stages import manipulation
from knatlas.planning.localization_stages import causal_tracing
from knatlas.planning.model_plan import ModelPlan, Stage
from knatlas.planning.stages import aggregate, attribution, selection
from knatlas.study.controls import control_shards, control_tracing, controlled_models

# what grows with the number of controls
ADDED = ("jobs", "flops", "seconds", "start_seconds", "kept_gb", "held_gb")
REPEATED = {
    "control_attribution": attribution,
    "control_aggregate": aggregate,
    "control_selection": selection,
    "control_manipulation": manipulation,
    "control_causal_tracing": causal_tracing,
}


def _repeated(name: str, stage: Callable[[ModelPlan], Stage | None], plan: ModelPlan) -> Stage | None:
    """A stage under all controls of the study together; None in a model without any, or without the stage."""
    once = stage(_controlled(plan)) if plan.name in controlled_models(plan.study) else None
    if once is None:
        return None
    n_controls = len(plan.study["controls"]["kinds"])
    return replace(once, stage=name, **{key: n_controls * getattr(once, key) for key in ADDED})


def _controlled(plan: ModelPlan) -> ModelPlan:
    """The plan of a control: its facts and shards, and no random neurons."""
    most, settings = plan.study["controls"]["facts"], plan.study["selection"]
    found = [name for name in settings["selections"] if not name.startswith("random") and name != "dkn"]
    experiments = {**plan.study["experiments"], "causal_tracing": control_tracing(plan.study)}
    study = {**plan.study, "selection": {**settings, "selections": found}, "experiments": experiments}
    n_facts = min(most or plan.n_facts, plan.n_facts)
    return replace(plan, study=study, n_facts=n_facts, n_shards=control_shards(plan.study, plan.n_shards))


CONTROLS = tuple(partial(_repeated, name, stage) for name, stage in REPEATED.items())
