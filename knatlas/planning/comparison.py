"""The plan of a study against its run: seconds, memory and disk of every stage, as the jobs recorded them."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from knatlas.errors import AtlasError
from knatlas.planning.model_plan import Stage
from knatlas.planning.plan import plan_study
from knatlas.storage import read_json

RULES = {
    "train": "train_model",
    "resolve": "resolve_model",
    "measure_known": "measure_known",
    "attribution": "attribute_shard",
    "aggregate": "aggregate_scores",
    "selection": "select_neurons",
    "manipulation": "manipulate_activations",
    "crosslingual": "edit_across_languages",
    "degenerate": "search_degenerate",
    "fact_checking": "score_candidates",
    "weight_edits": "edit_weights",
    "enhancement": "enhance_answers",
    "injection": "inject_facts",
    "sweeps": "sweep_settings",
    "fidelity": "measure_fidelity",
    "context_gain": "measure_context_gain",
    "perturbation": "measure_perturbation",
    "answer_case": "measure_answer_case",
    "punctuation": "attribute_punctuation",
    "causal_tracing": "trace_causes",
    "key_statistics": "measure_key_statistics",
    "counterfact": "edit_counterfact",
    "control_attribution": "attribute_control",
    "control_aggregate": "aggregate_control",
    "control_selection": "select_control",
    "control_manipulation": "manipulate_control",
    "control_causal_tracing": "trace_control",
}
COLUMNS = [
    *("model", "stage", "jobs", "planned_seconds", "measured_seconds", "seconds_ratio", "cpu_seconds", "cpu_ratio"),
    *("planned_memory_gb", "measured_memory_gb", "planned_disk_gb", "measured_disk_gb", "disk_ratio"),
]
JOB_COLUMNS = ["rule", "model", "seconds", "cpu_seconds", "memory_gb", "disk_gb"]


def plan_error(study: Mapping, results: Path) -> pd.DataFrame:
    """Planned against measured, per model and stage, and in total; ratios are planned / measured.

    The plan is the one that was there before the run: nothing that the study has computed goes into it. Seconds are
    those of the jobs' work, without the start of Python; cpu_seconds the processor time of the same, which other work
    on the machine does not lengthen (missing where it was not recorded). Disk is that of the files that are there.
    Raises: AtlasError when the study has no finished job.
    """
    found = job_records(results)
    rows = [_row(stage, found) for stage in plan_study(study, results, is_counted=False).stages]
    table = pd.DataFrame([row for row in rows if row["jobs"]], columns=COLUMNS)
    if table.empty:
        raise AtlasError(f"{results} holds no record of a finished job; run the study first: snakemake --cores 2 all")
    return pd.concat([table, _totals(table)], ignore_index=True)


def job_records(results: Path) -> pd.DataFrame:
    """One row per finished job, columns `JOB_COLUMNS`, from the records beside its outputs."""
    jobs: dict[tuple, dict] = {}
    for path in sorted(results.rglob("*.provenance.json")):
        record = read_json(path)
        if "rule" not in record:
            continue
        key = (record["rule"], *sorted(record["wildcards"].items()))
        model = record["wildcards"].get("model", "")
        job = jobs.setdefault(key, {"rule": record["rule"], "model": model, "disk_gb": 0.0})
        job |= {"seconds": record["seconds"], "cpu_seconds": record.get("cpu_seconds", float("nan"))}
        job |= {"memory_gb": record["peak_memory_mb"] * 2**20 / 1e9}
        job["disk_gb"] += _bytes(path.with_name(path.name.removesuffix(".provenance.json"))) / 1e9
        jobs[key] = job
    return pd.DataFrame(jobs.values(), columns=JOB_COLUMNS)


def _bytes(path: Path) -> int:
    """Bytes of a file or of all files below a folder; 0 where it is gone."""
    if path.is_dir():
        return sum(part.stat().st_size for part in path.rglob("*") if part.is_file())
    return path.stat().st_size if path.is_file() else 0


def _row(stage: Stage, found: pd.DataFrame) -> dict[str, object]:
    """One stage of one model."""
    jobs = found[(found["rule"] == RULES[stage.stage]) & (found["model"] == stage.model)]
    row = {"model": stage.model, "stage": stage.stage, "jobs": len(jobs)}
    row |= {"planned_seconds": stage.seconds, "measured_seconds": jobs["seconds"].sum()}
    row["cpu_seconds"] = jobs["cpu_seconds"].sum(skipna=False)
    row |= {"planned_memory_gb": stage.memory_gb, "measured_memory_gb": jobs["memory_gb"].max()}
    row |= {"planned_disk_gb": stage.kept_gb, "measured_disk_gb": jobs["disk_gb"].sum()}
    return _with_ratios(row)


def _with_ratios(row: dict) -> dict:
    """The row with planned / measured of its sums."""
    pairs = {
        "seconds_ratio": ("planned_seconds", "measured_seconds"),
        "cpu_ratio": ("planned_seconds", "cpu_seconds"),
        "disk_ratio": ("planned_disk_gb", "measured_disk_gb"),
    }
    ratios = {
        name: row[planned] / row[measured] if row[measured] > 0 else float("nan")
        for name, (planned, measured) in pairs.items()
    }
    return row | ratios


def _totals(table: pd.DataFrame) -> pd.DataFrame:
    """Each stage over all models, and everything."""
    groups = [(stage, group) for stage, group in table.groupby("stage", sort=False)] + [("all", table)]
    sums = ["jobs", "planned_seconds", "measured_seconds", "planned_disk_gb", "measured_disk_gb"]
    rows = []
    for stage, group in groups:
        cpu = {"cpu_seconds": group["cpu_seconds"].sum(skipna=False)}
        largest = group[["planned_memory_gb", "measured_memory_gb"]].max()
        rows.append(_with_ratios({"model": "total", "stage": stage, **group[sums].sum(), **cpu, **largest}))
    return pd.DataFrame(rows, columns=COLUMNS)


def show(table: pd.DataFrame) -> None:
    """Print the comparison."""
    print(table.map(lambda value: f"{value:.3g}" if isinstance(value, float) else value).to_markdown(index=False))
