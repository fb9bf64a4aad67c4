"""What the ablation of single neurons, and of sets of growing size, costs; None where a study does not run it."""

from knatlas.planning.forward import forward_work
from knatlas.planning.model_plan import GB, ModelPlan, Stage
from knatlas.study.fidelity import fidelity_languages

# bytes of a row of measurements, after compression
ROW_BYTES = 12
# values of neurons that are in memory together, in prompts, and their bytes
PROMPTS_IN_MEMORY, VALUE_BYTES = 64, 4


def fidelity(plan: ModelPlan) -> Stage | None:
    """First queries before, with single neurons ablated, with sets; prompts whose neurons' values are taken."""
    languages = fidelity_languages(plan.study, plan.name, plan.languages)
    if not languages:
        return None
    settings = plan.study["experiments"]["fidelity"]
    n_facts = min(settings["facts"], plan.n_facts)
    each = 1 + n_ablations(plan)
    rows, n_measured = [], 0.0
    for language in languages:
        sizes = plan.work.queries(plan.shape.kind, language, plan.is_trained).sizes()
        rows += [(size, share * (n_facts * each + settings["mean_prompts"] + 2 * n_facts)) for size, share in sizes]
        n_measured += n_facts * each
    n_neurons = plan.shape.n_layers * plan.shape.neurons
    kept = n_measured * ROW_BYTES / GB
    values = (PROMPTS_IN_MEMORY + 2 * n_facts * len(languages)) * n_neurons * VALUE_BYTES / GB
    work = forward_work(plan, rows, "seconds_per_manipulated_row")
    return plan.model_stage("fidelity", 1, work, kept_gb=kept, held_gb=kept, files_gb=values)


def n_ablations(plan: ModelPlan) -> int:
    """Ablations of a query: single neurons, all or a sample, and sets of every size and order, for each kind."""
    settings, n_neurons = plan.study["experiments"]["fidelity"], plan.shape.n_layers * plan.shape.neurons
    methods = plan.study["attribution"]["run"]
    n_sample = min(n_neurons, len(methods) * settings["top"] + settings["sample"])
    is_exhaustive = n_neurons <= settings["exhaustive_up_to"]
    exhaustive = set(settings["exhaustive"]) if is_exhaustive else set()
    single = sum(n_neurons if name in exhaustive else n_sample for name in settings["ablations"])
    # the methods, a layer-matched control of each and random orders in every draw, and the true effects
    n_orders = len(methods) + (len(methods) + 1) * settings["draws"] + 1
    return single + len(settings["ablations"]) * len(settings["set_sizes"]) * n_orders
