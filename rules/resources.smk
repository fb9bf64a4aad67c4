# What jobs ask for: memory, time, device, rows of a forward pass. These change speed only. docs/scaling.md says how to recompute them.
import os
from functools import cache
from pathlib import Path

from snakemake.exceptions import WorkflowError

# auto means the GPU where a job asks the cluster for one: without it the job stops before it loads a model
DEVICE = config["compute"]["device"]
if DEVICE == "auto" and config["compute"]["gpus"]:
    DEVICE = "cuda"


def longest_minutes():
    """The longest time limit that the cluster allows, KNATLAS_MAX_MINUTES: a job that asks for more waits for ever."""
    given = os.environ.get("KNATLAS_MAX_MINUTES") or "0"
    if not given.isdecimal():
        raise WorkflowError(f"KNATLAS_MAX_MINUTES is '{given}'; expected a whole number of minutes, such as 1440.")
    return int(given) or float("inf")


LONGEST_MINUTES = longest_minutes()


def minutes(first):
    """Time limit of a job: so many minutes, as much again at every further attempt, and no more than the cluster allows."""
    return lambda wildcards, attempt: min(first * attempt, LONGEST_MINUTES)


def megabytes(first):
    """Memory of a job: so many MB, as much again at every further attempt."""
    return lambda wildcards, attempt: first * attempt


@cache
def planned_requests():
    """What the plan of the study lets the jobs of each stage of each model ask for first: (MB, minutes)."""
    from knatlas.planning.plan import job_requests

    return {key: (asked["job_mb"], asked["job_minutes"]) for key, asked in job_requests(config).items()}


def planned(stage, wildcards):
    """The request of a stage, or of its repetition under a control; of one that is not planned, the largest of all."""
    requests = planned_requests()
    stage = f"control_{stage}" if "control" in wildcards.keys() else stage
    return requests.get((wildcards.model, stage), max(requests.values()))


def planned_mb(stage):
    """Memory of a job that is planned, in MB; as much again at every further attempt."""
    return lambda wildcards, attempt: planned(stage, wildcards)[0] * attempt


def planned_minutes(stage):
    """Time limit of a job that is planned; as much again at every further attempt, and no more than the cluster allows."""
    return lambda wildcards, attempt: min(planned(stage, wildcards)[1] * attempt, LONGEST_MINUTES)


def batch_rows(wildcards, attempt):
    """Rows of a forward pass; halved at every new attempt, in case memory was short. 0 is 256 but for attributions."""
    return max(1, (config["compute"]["batch_rows"] or 256) // 2 ** (attempt - 1))


def attribution_rows(wildcards, attempt):
    """As `batch_rows`; 0 lets the engine choose from the memory that is free."""
    return batch_rows(wildcards, attempt) if config["compute"]["batch_rows"] else 0
