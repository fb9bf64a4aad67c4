"""The models of a study as plans see them: facts that are searched and points of a path, counted or expected."""

from collections.abc import Callable, Mapping
from pathlib import Path

from knatlas.attribution.cost import paid_points
from knatlas.attribution.methods import AttributionMethod
from knatlas.catalog import read_catalog
from knatlas.planning.model_plan import ModelPlan
from knatlas.planning.rates import Rates
from knatlas.planning.shapes import model_shape
from knatlas.planning.workload import Workload
from knatlas.storage import read_table
from knatlas.study import all_models, languages_of

# a folder that holds nothing: what is planned from it does not depend on what a study has computed
NOTHING = Path("/nonexistent")


def planned_model(
    study: Mapping, results: Path, name: str, work: Workload, rates: Rates, n_shards: int
) -> tuple[ModelPlan, list[str]]:
    """One model of a study, and what is assumed of it.

    Args: results, the study's folder, whose parts that are there take the place of what is expected, or `NOTHING`;
    n_shards, into which its facts are dealt out.
    """
    record = all_models(study)[name]
    shape, guess = model_shape(record, results, name)
    n_facts, facts_sentence = _searched_facts(study, results, name, work)
    points_of, points_sentence = _points(results, name)
    languages = languages_of(study, name)
    plan = ModelPlan(name, record, shape, study, languages, work, rates, n_facts, n_shards, points_of)
    notes = [guess, facts_sentence, points_sentence if _is_checked(study["attribution"]) else ""]
    return plan, [sentence for sentence in notes if sentence]


def _is_checked(settings: Mapping) -> bool:
    """Whether any method of a study takes fewer points than its rule."""
    kinds = [settings["quadrature"], *(own.get("quadrature", "full") for own in settings["methods"].values())]
    return "checked" in kinds


def _searched_facts(study: Mapping, results: Path, name: str, work: Workload) -> tuple[int, str]:
    """How many facts are searched in a model: those chosen, or as many as may be."""
    path = results / "localisation" / f"{name}.parquet"
    if path.is_file():
        return len(read_table(path)), ""
    settings = study["localisation"]
    most = work.n_facts if settings["facts"] is None else min(settings["facts"], work.n_facts)
    may_fail = settings["known_languages"] > 0 or settings["min_probability"] > 0
    return most, f"{most:,} facts are searched per model, if so many qualify" if may_fail else ""


def _points(results: Path, name: str) -> tuple[Callable[[AttributionMethod], float], str]:
    """The points that are evaluated of a path: of the rule, or those that the checked quadrature needs.

    Their share of the rule's is counted in the model's gathered queries where they are there; else they are a row of
    catalog/rates.yaml.
    """
    path, table = results / "scores" / f"{name}.queries.parquet", read_catalog("rates")["checked_points"]
    if path.is_file() and {"n_points", "n_full_points"} <= set(queries := read_table(path)):
        sums = queries[["n_points", "n_full_points"]].sum()
        share = float(sums["n_points"] / sums["n_full_points"])
        sentence = f"{name}: quadrature checked took {share:.3f} of the rule's points, counted"
        return lambda method: paid_points(method) * (share if method.quadrature == "checked" else 1.0), sentence

    def points(method: AttributionMethod) -> float:
        paid = paid_points(method)
        return min(paid, table[method.path]["value"]) if method.quadrature == "checked" else paid

    values = ", ".join(f"{row['value']:g} ({kind})" for kind, row in table.items())
    return points, f"points per path that quadrature checked takes: {values}; {table['zero']['how']}"
