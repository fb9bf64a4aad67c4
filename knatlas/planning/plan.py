"""The plan of a study: one row per model and stage, totals, and a sentence for each thing that is assumed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from knatlas.planning.control_stages import CONTROLS
from knatlas.planning.model_plan import Stage
from knatlas.planning.rates import Rates
from knatlas.planning.requests import REQUESTED, job_request
from knatlas.planning.shards import shard_counts
from knatlas.planning.stages import STAGES
from knatlas.planning.study_models import NOTHING, planned_model
from knatlas.planning.workload import workload

COLUMNS = [
    *("model", "stage", "jobs", "tflop", "gpu_hours", "cpu_hours", "gpu_memory_gb", "memory_gb"),
    *("disk_kept_gb", "disk_held_gb", *REQUESTED),
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
    stages, sentences = _stages(study, results if is_counted else NOTHING)
    return Plan(stages, stage_table(stages, job_requests(study)), sentences)


def job_requests(study: Mapping) -> dict[tuple[str, str], dict[str, int]]:
    """What each job of a stage of a model asks for at its first attempt, columns `REQUESTED`, by (model, stage).

    From the plan that counts nothing: a job's request is the same before a study and in its midst.
    """
    factor = study["compute"]["time_factor"]
    return {(stage.model, stage.stage): job_request(stage, factor) for stage in _stages(study, NOTHING)[0]}


def _stages(study: Mapping, results: Path) -> tuple[list[Stage], list[str]]:
    """The stages of all models, and what is assumed."""
    work, rates = workload(study, results), Rates(device_class(study), study["dtype"])
    sentences, stages, shards = [work.sentence, TOKENS, RANKING, WEIGHTS], [], shard_counts(study)
    for name in study["models"]:
        plan, notes = planned_model(study, results, name, work, rates, shards[name])
        stages += [found for stage in (*STAGES, *CONTROLS) if (found := stage(plan)) is not None]
        sentences += notes
    return stages, list(dict.fromkeys(sentences + rates.sentences()))


def device_class(study: Mapping) -> str:
    """The class of device of jobs that run a model: "gpu" or "cpu", as in catalog/rates.yaml."""
    compute = study["compute"]
    return "gpu" if compute["device"] == "cuda" or (compute["device"] == "auto" and compute["gpus"] > 0) else "cpu"


def stage_table(stages: Sequence[Stage], requests: Mapping[tuple[str, str], Mapping[str, int]]) -> pd.DataFrame:
    """The rows of a plan and their totals; of memory and requests the largest of all, else the sum."""
    table = pd.DataFrame([_row(stage) | requests[stage.model, stage.stage] for stage in stages], columns=COLUMNS)
    total = table[ADDED].sum().to_dict() | table[["gpu_memory_gb", "memory_gb", *REQUESTED]].max().to_dict()
    whole = {name: int(total[name]) for name in ("jobs", *REQUESTED)}
    total = {"model": "total", "stage": ""} | total | whole
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
