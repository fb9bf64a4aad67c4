"""What the localization paper's experiments of one model cost, all in English; None where a study does not run one."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from knatlas.attribution.configured import configured_methods
from knatlas.attribution.cost import QuerySize, attribution_flops
from knatlas.planning.experiment_stages import is_reference_edited, rome_rows
from knatlas.planning.forward import forward_work
from knatlas.planning.model_plan import ModelPlan, Stage
from knatlas.study import ENGLISH, localized_models

FACTS, N_MARKS = "facts", 5
# prompts of a record of CounterFact (the rewrite, two paraphrases, ten neighbours), each with two objects
RECORD_PROMPTS, OBJECTS = 13, 2

Rows = list[tuple[QuerySize, float]]


def context_gain(plan: ModelPlan) -> Stage | None:
    """Every query alone and behind completed ones."""
    if not _is_localized(plan):
        return None
    settings = plan.study["experiments"]["context_gain"]
    alone = _alone(plan, _queries(plan, settings))
    longer = [(_times(size, 1 + settings["n_examples"]), n) for size, n in alone]
    return _stage(plan, "context_gain", alone + longer)


def perturbation(plan: ModelPlan) -> Stage | None:
    """Every query without noise, and for each reading, level and draw with it."""
    if not _is_localized(plan):
        return None
    settings = plan.study["experiments"]["perturbation"]
    each = 1 + len(settings["readings"]) * (1 + len(settings["relative"])) * settings["n_draws"]
    return _stage(plan, "perturbation", [(size, n * each) for size, n in _queries(plan, settings)])


def answer_case(plan: ModelPlan) -> Stage | None:
    """The queries of facts whose neurons are searched, in two cases, before and after."""
    if not _is_localized(plan):
        return None
    queries = plan.work.queries(plan.shape.kind, ENGLISH, plan.is_trained)
    rows = [(size, share * plan.n_facts * queries.per_fact * 4) for size, share in queries.sizes()]
    return _stage(plan, "answer_case", rows)


def punctuation(plan: ModelPlan) -> Stage | None:
    """B-KN's attribution of the sentences of every mark and of the control, for each reading of causal prompts."""
    if not _is_localized(plan):
        return None
    settings = plan.study["experiments"]["punctuation"]
    n_readings = len(settings["readings"]) if plan.shape.kind == "causal" else 1
    n_sentences = n_readings * (N_MARKS * settings["sentences"] + settings["n_control"])
    sizes = _alone(plan, _sizes(plan))
    flops, seconds = _attributed(plan, [(_one_token(size), n_sentences * share) for size, share in sizes])
    return plan.model_stage("punctuation", 1, (flops, seconds))


def causal_tracing(plan: ModelPlan) -> Stage | None:
    """Each token and layer restored, for every kind and draw of the noise."""
    if not _is_localized(plan):
        return None
    settings = plan.study["experiments"]["causal_tracing"]
    n_facts = min(settings["facts"] or plan.work.n_facts, plan.work.n_facts)
    each = len(settings["kinds"]) * plan.shape.n_layers * settings["n_samples"]
    sizes = _alone(plan, _sizes(plan), settings["source"] != FACTS)
    rows = [(size, share * n_facts * (1 + size.n_tokens * each)) for size, share in sizes]
    return _stage(plan, "causal_tracing", rows)


def key_statistics(plan: ModelPlan) -> Stage | None:
    """The keys of ROME's layers over the study's own sentences, or over a text of so many tokens."""
    if not _is_edited_by_rome(plan):
        return None
    settings = plan.study["experiments"]["rome"]["key_text"]
    queries = plan.work.queries(plan.shape.kind, ENGLISH, plan.is_trained)
    rows = [(size, share * plan.work.n_facts * queries.per_fact) for size, share in _sizes(plan)]
    if settings["corpus"] is not None:
        rows = [(QuerySize(settings["max_length"], 1, settings["max_length"]), float(settings["max_documents"]))]
    kept = 4 * 2 * plan.shape.neurons**2 / 1e9
    return plan.model_stage(
        "key_statistics", 1, forward_work(plan, rows, "seconds_per_row"), kept_gb=kept, held_gb=kept
    )


def counterfact(plan: ModelPlan) -> Stage | None:
    """Every record before, and after each editor; the search of neurons and values in between."""
    if not _is_localized(plan):
        return None
    settings = plan.study["experiments"]["counterfact"]
    editors = [name for name in settings["editors"] if _is_edited_by_rome(plan) or not name.startswith("rome")]
    searches = [_search_rows(plan, settings, name) for name in editors]
    asked = RECORD_PROMPTS * OBJECTS * (1 + len(editors))
    # rewrites are made of templates, never behind completed ones
    each = [(size, share * _n_records(plan, settings)) for size, share in _alone(plan, _sizes(plan))]
    rows = [(size, n * (asked + sum(search(size) for search in searches))) for size, n in each]
    edited = forward_work(plan, rows, "seconds_per_manipulated_row")
    found = _attributed(plan, each) if {"kn_e", "erase"} & set(editors) else (0.0, 0.0)
    return plan.model_stage("counterfact", 1, (edited[0] + found[0], edited[1] + found[1]))


def _n_records(plan: ModelPlan, settings: Mapping) -> float:
    """Rewrites: at most one per fact where they are made of the study's own."""
    n_records = settings["records"] or plan.work.n_facts
    return min(n_records, plan.work.n_facts) if settings["source"] == FACTS else n_records


def _search_rows(plan: ModelPlan, settings: Mapping, editor: str) -> Callable[[QuerySize], float]:
    """Forward passes with which an editor finds what it changes, of a prompt's size."""
    if editor == "cne":
        return lambda size: settings["samples"] * (size.n_tokens * plan.shape.n_layers + plan.shape.neurons)
    if editor.startswith("rome"):
        return lambda size: rome_rows(plan)
    return lambda size: 0


def _attributed(plan: ModelPlan, rows: Rows) -> tuple[float, float]:
    """Operations and seconds of B-KN's attribution of queries."""
    (method,) = configured_methods({**plan.study["attribution"], "run": ["bkn"]}, plan.shape.kind)
    flops = sum(attribution_flops(plan.shape, size, [method], plan.points_of).total * n for size, n in rows)
    n_layers = sum(n * size.n_positions * plan.shape.n_layers for size, n in rows)
    return flops, flops / plan.rates("attribution") + n_layers * plan.rates("seconds_per_readout_layer")


def _queries(plan: ModelPlan, settings: Mapping) -> Rows:
    """The queries of an experiment that takes at most so many facts and queries of each."""
    queries = plan.work.queries(plan.shape.kind, ENGLISH, plan.is_trained)
    n_facts = min(settings["max_facts"] or plan.work.n_facts, plan.work.n_facts)
    per_fact = min(settings["max_queries"] or queries.per_fact, queries.per_fact)
    return [(size, share * n_facts * per_fact) for size, share in queries.sizes()]


def _sizes(plan: ModelPlan) -> Rows:
    """Sizes of English queries with their shares."""
    return plan.work.queries(plan.shape.kind, ENGLISH, plan.is_trained).sizes()


def _alone(plan: ModelPlan, rows: Rows, is_alone: bool = True) -> Rows:
    """Queries without the study's completed ones before them, where they are asked so."""
    n_sentences = 1 + plan.study["prompts"]["context"]
    if not is_alone or n_sentences == 1:
        return rows
    return [(_shorter(size, max(1, round(size.n_own / n_sentences))), n) for size, n in rows]


def _shorter(size: QuerySize, n_own: int) -> QuerySize:
    """The query with so many tokens of its own, what the tokenizer adds and the answer as they are."""
    return replace(size, n_tokens=size.n_tokens - size.n_own + n_own, n_own=n_own)


def _times(size: QuerySize, n: int) -> QuerySize:
    """A query with n - 1 others of its size before it."""
    return _shorter(size, n * size.n_own)


def _one_token(size: QuerySize) -> QuerySize:
    """A query whose answer is one token."""
    return replace(size, n_tokens=size.n_tokens - size.n_positions + 1, n_positions=1)


def _is_localized(plan: ModelPlan) -> bool:
    """Whether the localization paper's experiments run on the model."""
    has_neurons = {"bkn", "refined"} <= set(plan.study["selection"]["selections"])
    return has_neurons and plan.name in localized_models(plan.study)


def _is_edited_by_rome(plan: ModelPlan) -> bool:
    """Whether ROME edits the model, a causal one, in this paper's experiment or as a reference in MATRICE's."""
    editors = plan.study["experiments"]["counterfact"]["editors"] if _is_localized(plan) else []
    is_here = any(name.startswith("rome") for name in editors)
    return plan.shape.kind == "causal" and (is_here or is_reference_edited(plan))


def _stage(plan: ModelPlan, name: str, rows: Rows) -> Stage:
    """A stage of queries with something changed."""
    return plan.model_stage(name, 1, forward_work(plan, rows, "seconds_per_manipulated_row"))


LOCALIZATION = (context_gain, perturbation, answer_case, punctuation, causal_tracing, key_statistics, counterfact)
