"""The plan of a study: one row per model and stage, totals, and a sentence for each thing that is assumed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from knatlas.attribution.cost import paid_points
from knatlas.attribution.methods import AttributionMethod
from knatlas.catalog import read_catalog
from knatlas.planning.model_plan import ModelPlan, Stage
from knatlas.planning.rates import Rates
from knatlas.planning.shapes import model_shape
from knatlas.planning.stages import STAGES
from knatlas.planning.workload import Workload, workload
from knatlas.storage import read_table
from knatlas.study import all_models, languages_of

COLUMNS = [
    *("model", "stage", "jobs", "tflop", "gpu_hours", "cpu_hours", "gpu_memory_gb", "memory_gb"),
    *("disk_kept_gb", "disk_held_gb"),
]
ADDED = ["jobs", "tflop", "gpu_hours", "cpu_hours", "disk_kept_gb", "disk_held_gb"]

# assumptions of every plan
TOKENS = "tokens: estimated from characters (hub models) or words (trained here), catalog/sizes.yaml; lengths are means"
RANKING = "measure_known: objects of several tokens are ranked one row each; those that begin alike share a row in fact"
WEIGHTS = "disk of resolve: weights in the hub's cache, two bytes per number above two billion of them, else four"


@dataclass(frozen=True)
class Plan:
    """A plan. stages: what the table is made of; table: columns `COLUMNS`; assumptions: sentences."""

    stages: list[Stage]
    table: pd.DataFrame
    assumptions: list[str]

    def show(self, title: str) -> None:
        """Print the plan."""
        print(self.text(title))

    def text(self, title: str) -> str:
        """The table and its assumptions for people."""
        numbers = self.table.map(lambda value: _short(value) if isinstance(value, float) else value)
        lines = [f"# Plan of {title}", "", numbers.to_markdown(index=False, disable_numparse=True), ""]
        return "\n".join([*lines, *(f"- {sentence}" for sentence in self.assumptions), ""])


def _short(value: float) -> str:
    """Three digits; what is too small to matter as such."""
    if value == 0:
        return "0"
    return "<0.001" if abs(value) < 1e-3 else f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def plan_study(study: Mapping, results: Path, is_counted: bool = True) -> Plan:
    """The plan of a study, without a network, a GPU or any earlier step.

    Args: study, with all defaults (`read_study`); results, its folder, which need not be there; is_counted, whether
    what the study has computed so far (prompts, models, finished shards) takes the place of what is expected.
    """
    work, rates = workload(study, results, is_counted), Rates(_device(study), study["dtype"])
    sentences, stages = [work.sentence, TOKENS, RANKING, WEIGHTS], []
    for name in study["models"]:
        plan, notes = _model_plan(study, results if is_counted else Path("/nonexistent"), name, work, rates)
        stages += [found for stage in STAGES if (found := stage(plan)) is not None]
        sentences += notes
    sentences += rates.sentences()
    return Plan(stages, stage_table(stages), list(dict.fromkeys(sentences)))


def _device(study: Mapping) -> str:
    """The class of device of jobs that run a model."""
    compute = study["compute"]
    return "gpu" if compute["device"] == "cuda" or compute["gpus"] > 0 else "cpu"


def _model_plan(study: Mapping, results: Path, name: str, work: Workload, rates: Rates) -> tuple[ModelPlan, list[str]]:
    """One model of a study, and what is assumed of it."""
    record = all_models(study)[name]
    shape, guess = model_shape(record, results, name)
    n_facts, facts_sentence = _searched_facts(study, results, name, work)
    points_of, points_sentence = _points(results, name)
    is_checked = _is_checked(study["attribution"])
    plan = ModelPlan(name, record, shape, study, languages_of(study, name), work, rates, n_facts, points_of)
    notes = [guess, facts_sentence, points_sentence if is_checked else ""]
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


def stage_table(stages: Sequence[Stage]) -> pd.DataFrame:
    """The rows of a plan and their totals; memory is the largest of all, everything else the sum."""
    table = pd.DataFrame([_row(stage) for stage in stages], columns=COLUMNS)
    total = table[ADDED].sum().to_dict() | table[["gpu_memory_gb", "memory_gb"]].max().to_dict()
    total = {"model": "total", "stage": ""} | total | {"jobs": int(total["jobs"])}
    return pd.concat([table, pd.DataFrame([total], columns=COLUMNS)], ignore_index=True)


def _row(stage: Stage) -> dict[str, object]:
    """A stage as a row of the table."""
    hours, is_gpu = (stage.seconds + stage.start_seconds) / 3600, stage.device == "gpu"
    return {
        "model": stage.model,
        "stage": stage.stage,
        "jobs": stage.jobs,
        "tflop": stage.flops / 1e12,
        "gpu_hours": hours if is_gpu else 0.0,
        "cpu_hours": 0.0 if is_gpu else hours,
        "gpu_memory_gb": stage.gpu_gb,
        "memory_gb": stage.memory_gb,
        "disk_kept_gb": stage.kept_gb,
        "disk_held_gb": stage.held_gb,
    }
