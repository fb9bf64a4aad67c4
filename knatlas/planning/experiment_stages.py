"""What the experiments of one model cost; None where a study does not run one."""

from collections.abc import Mapping, Sequence
from itertools import combinations

from knatlas.attribution.configured import configured_methods
from knatlas.attribution.cost import Flops, QuerySize, attribution_flops
from knatlas.interventions.finetuning_memory import FineTuningBytes, finetuning_bytes, neuron_parameters
from knatlas.interventions.finetuning_settings import FineTuning
from knatlas.planning.forward import forward_work
from knatlas.planning.model_plan import GB, NUMBER_BYTES, ModelPlan, Stage

# neurons of a language's facts together, if all parameters are not trained
MANY_NEURONS = 500
# forward passes that an evaluation of a loss with its gradient costs
WITH_GRADIENT = 3
# bytes of a row of measurements, after compression; queries of other facts per fact; operations on every set
MEASURED_ROW_BYTES, OTHER_PROBES, OPERATIONS = 9, 2, 2


def manipulation(plan: ModelPlan) -> Stage:
    """Every probe of every fact before, and once per operation and neuron set after."""
    settings = plan.study["selection"]
    draws = [settings["random"]["draws"] if name.startswith("random") else 1 for name in settings["selections"]]
    rows = []
    for language in plan.languages:
        queries = plan.work.queries(plan.shape.kind, language, plan.is_trained)
        rows += _rows(plan, language, (queries.per_fact + OTHER_PROBES) * (1 + OPERATIONS * sum(draws)))
    return _stage(plan, "manipulation", rows)


def crosslingual(plan: ModelPlan) -> Stage | None:
    """Of each pair of languages the common neurons and both sets, and each language's own set once, in both."""
    asked = plan.study["experiments"]["crosslingual"]["pairs"]
    pairs = list(combinations(plan.languages, 2)) if asked == "all" else [tuple(pair) for pair in asked]
    pairs = [pair for pair in pairs if set(pair) <= set(plan.languages)]
    if not _has_amig(plan) or len(plan.languages) < 2:
        return None
    rows = []
    for language in plan.languages:
        partners = {other for pair in pairs if language in pair for other in pair}
        n_edits = 2 * sum(language in pair for pair in pairs) + len(partners)
        rows += _rows(plan, language, (1 + OTHER_PROBES) * (bool(partners) + OPERATIONS * n_edits))
    return _stage(plan, "crosslingual", rows)


def degenerate(plan: ModelPlan) -> Stage | None:
    """The neurons with the highest scores one by one and in pairs, and as many random ones: at most, of full sets."""
    if not _has_amig(plan):
        return None
    settings = plan.study["experiments"]["degenerate"]
    top, n_larger = settings["top"], max(0, settings["largest"] - 2)
    per_set = top + top * (top - 1) // 2 + n_larger * settings["beam"] * top
    rows = [row for language in plan.languages for row in _rows(plan, language, 1 + 2 * per_set)]
    return _stage(plan, "degenerate", rows)


def fact_checking(plan: ModelPlan) -> Stage | None:
    """AMIG's attribution for the right and the wrong objects of every fact's first query."""
    if not _has_amig(plan):
        return None
    n_candidates = 1 + plan.study["experiments"]["fact_checking"]["wrong_objects"]
    (method,) = configured_methods({**plan.study["attribution"], "run": ["amig"]}, plan.shape.kind)
    per_fact, n_layers = Flops(), 0.0
    rows = [row for language in plan.languages for row in _rows(plan, language, n_candidates)]
    for size, n in rows:
        per_fact += attribution_flops(plan.shape, size, [method], plan.points_of) * (n / max(1, plan.n_facts))
        n_layers += n * size.n_positions * plan.shape.n_layers
    flops = per_fact.total * plan.n_facts
    forward = forward_work(plan, rows, "seconds_per_row")
    seconds = flops / plan.rates("attribution") + n_layers * plan.rates("seconds_per_readout_layer") + forward[1]
    return plan.model_stage("fact_checking", 1, (flops + forward[0], seconds))


def weight_edits(plan: ModelPlan) -> Stage | None:
    """Every query of a fact, and those of unrelated facts, after each edit of each selection."""
    if not _has_matrice(plan):
        return None
    settings = plan.study["experiments"]["weight_edits"]
    n_edits = _sets(plan, settings) * len(settings["operations"]) * len(settings["scopes"])
    # ranked answers: every object of the relation is asked too
    each, rows = (1 + n_edits) * (1 + (plan.work.ranked_rows if settings["is_ranked"] else 0)), []
    for language in plan.languages:
        queries = plan.work.queries(plan.shape.kind, language, plan.is_trained)
        # one more edit, whose rows are not ranked
        by_rome = 1 if is_reference_edited(plan) else 0
        rows += _rows(plan, language, (queries.per_fact + settings["n_unrelated"]) * (each + by_rome))
    if is_reference_edited(plan):
        rows += _rows(plan, settings["source_language"], rome_rows(plan))
    return _stage(plan, "weight_edits", rows)


def is_reference_edited(plan: ModelPlan) -> bool:
    """Whether ROME stands beside the neurons in the edits of weights: in causal models, where it is asked for."""
    editors = plan.study["experiments"]["weight_edits"]["reference_editors"]
    return _has_matrice(plan) and plan.shape.kind == "causal" and "rome" in editors


def rome_rows(plan: ModelPlan) -> float:
    """Forward passes with which ROME finds the new value of a fact: every prompt at every step, with gradients."""
    settings = plan.study["experiments"]["rome"]
    n_templates = 1 + sum(n for _, n in settings["prefix_lengths"])
    return WITH_GRADIENT * settings["steps"] * (n_templates + 1)


def enhancement(plan: ModelPlan) -> Stage | None:
    """Every query in the low-resource languages before, and for every set after; twice where answers are noted."""
    if not _has_matrice(plan):
        return None
    settings = plan.study["experiments"]["enhancement"]
    each, rows = (1 + _sets(plan, settings)) * (2 if settings["is_predicted"] else 1), []
    for language in [language for language in plan.languages if language in settings["languages"]]:
        queries = plan.work.queries(plan.shape.kind, language, plan.is_trained)
        rows += _rows(plan, language, queries.per_fact * each)
    return _stage(plan, "enhancement", rows)


def injection(plan: ModelPlan) -> Stage | None:
    """Epochs over a language's queries for each selection and rate, three forward passes a query and epoch: at most."""
    if not _has_matrice(plan):
        return None
    settings, rows = plan.study["experiments"]["injection"], []
    n_trainings = len(_chosen(plan, settings)) * _n_rates(settings, "chosen")
    n_trainings += _n_rates(settings, "all") if settings["has_direct"] else 0
    for language in plan.languages:
        queries = plan.work.queries(plan.shape.kind, language, plan.is_trained)
        most = settings["max_queries"] or plan.n_facts * queries.per_fact
        n_queries = min(most, plan.n_facts * queries.per_fact) / max(1, plan.n_facts)
        rows += _rows(plan, language, n_queries * n_trainings * (3 * settings["epochs"] + 2))
    needed = _training_bytes(plan, settings)
    work = forward_work(plan, rows, "seconds_per_manipulated_row")
    beside = {"rows_gb": (needed.total - needed.weights) / GB, "files_gb": needed.host_copy / GB}
    return plan.model_stage("injection", 1, work, **beside)


def _training_bytes(plan: ModelPlan, settings: Mapping) -> FineTuningBytes:
    """Memory of the largest fine-tuning: of all parameters, or of some hundred neurons."""
    kind, most = plan.shape.kind, max((size for _, size, _ in plan.sizes()), key=lambda size: size.n_tokens)
    training = FineTuning(epochs=settings["epochs"], batch=settings["batch"], checkpointing=settings["checkpointing"])
    n_trained = None if settings["has_direct"] else neuron_parameters(plan.shape, MANY_NEURONS)
    n_tokens = most.n_tokens if kind == "masked" else most.n_tokens + 1
    n_bytes = NUMBER_BYTES[plan.study["dtype"]]
    return finetuning_bytes(plan.shape, n_trained, training, n_tokens, most.n_positions, n_bytes)


def sweeps(plan: ModelPlan) -> Stage | None:
    """First queries before, and for every value of a setting and operation after."""
    if not _has_matrice(plan):
        return None
    n_values = sum(len(values) for values in plan.study["experiments"]["sweeps"].values())
    rows = [row for language in plan.languages for row in _rows(plan, language, 1 + OPERATIONS * n_values)]
    return _stage(plan, "sweeps", rows)


def _n_rates(settings: Mapping, name: str) -> int:
    """Learning rates that are tried."""
    rates = settings["learning_rates"][name]
    return len(rates) if isinstance(rates, list) else 1


def _chosen(plan: ModelPlan, settings: Mapping) -> list[str]:
    """The selections of an experiment that the study has."""
    return [name for name in settings["selections"] if name in plan.study["selection"]["selections"]]


def _sets(plan: ModelPlan, settings: Mapping) -> int:
    """Neuron sets per fact of an experiment's selections, the draws of random ones counted."""
    return sum(settings["draws"] if name.startswith("random") else 1 for name in _chosen(plan, settings))


def _has_matrice(plan: ModelPlan) -> bool:
    """Whether the study has the neurons that the MATRICE paper's experiments start from, in several languages."""
    return "matrice" in plan.study["selection"]["selections"] and len(plan.languages) > 1


def _has_amig(plan: ModelPlan) -> bool:
    """Whether the study has the neurons that the AMIG paper's experiments start from."""
    return "amig" in plan.study["selection"]["selections"]


def _rows(plan: ModelPlan, language: str, per_fact: float) -> list[tuple[QuerySize, float]]:
    """Sizes of a language's sentences with so many of them for each searched fact."""
    queries = plan.work.queries(plan.shape.kind, language, plan.is_trained)
    return [(size, share * plan.n_facts * per_fact) for size, share in queries.sizes()]


def _stage(plan: ModelPlan, name: str, rows: Sequence[tuple[QuerySize, float]]) -> Stage:
    """A stage of sentences with neurons changed, a measurement kept of each."""
    kept = sum(n for _, n in rows) * MEASURED_ROW_BYTES / GB
    work = forward_work(plan, rows, "seconds_per_manipulated_row")
    return plan.model_stage(name, 1, work, kept_gb=kept, held_gb=kept)


EXPERIMENTS = (
    manipulation,
    crosslingual,
    degenerate,
    fact_checking,
    weight_edits,
    enhancement,
    injection,
    sweeps,
)
