"""What a job asks the cluster for: memory and time, from the plan of its stage (docs/scaling.md)."""

from math import ceil

from knatlas.planning.model_plan import Stage

# columns of a plan: what the first attempt of a stage's jobs asks for; further attempts ask for that many times as much
REQUESTED = ("job_mb", "job_minutes")

# Snakemake runs twice in a SLURM job and takes 350 MB; the rest is room for libraries of the GPU
EXTRA_MB, MEMORY_FACTOR, MB_STEP = 2000, 1.25, 100
# a plan errs by less than a factor of two in most stages (docs/planning.md); a job waits for files and caches too
EXTRA_MINUTES, TIME_FACTOR, MINUTES_STEP = 15, 2.0, 5


def job_request(stage: Stage, time_factor: float = 1.0) -> dict[str, int]:
    """Memory (MB) and time limit (minutes) of each job of a stage, columns `REQUESTED`.

    Args: time_factor, how many times slower than in catalog/rates.yaml the study's devices are (compute.time_factor).
    """
    seconds = (stage.seconds + stage.start_seconds) / max(1, stage.jobs)
    minutes = EXTRA_MINUTES + TIME_FACTOR * time_factor * seconds / 60
    megabytes = EXTRA_MB + MEMORY_FACTOR * 1000 * stage.memory_gb
    return {"job_mb": _up(megabytes, MB_STEP), "job_minutes": _up(minutes, MINUTES_STEP)}


def _up(value: float, step: int) -> int:
    """The next multiple of a step."""
    return step * ceil(value / step)
