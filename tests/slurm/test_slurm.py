"""The SLURM profile on a real SLURM of one node, which the fixtures bring up and down."""

import os
import re
from collections import Counter
from datetime import datetime
from pathlib import Path

import pytest

from knatlas.storage import read_table

from ..workflow.conftest import planned_jobs
from .cluster import GPUS, until
from .conftest import CARD, KNOWN, PROFILE, RESULTS, need_slurm

pytestmark = pytest.mark.slurm

GPU_RULES = {"measure_known": 1, "attribute_shard": 4}
CPU_RULES = ("read_facts", "build_prompts", "train_model", "choose_facts", "aggregate_scores", "select_neurons")


def artefacts(folder: Path) -> dict[str, bytes]:
    """Contents of all results, but for what records seconds: provenance and logs."""
    root = folder / RESULTS
    paths = [path.relative_to(root) for path in root.rglob("*") if path.is_file()]
    kept = [path for path in paths if path.parts[0] != "logs" and not path.name.endswith(".provenance.json")]
    return {str(path): (root / path).read_bytes() for path in kept}


def most_at_once(jobs: list[dict[str, str]]) -> int:
    """The largest number of jobs that ran at the same second."""
    times = [[datetime.fromisoformat(job[key]) for key in ("StartTime", "EndTime")] for job in jobs]
    return max(sum(start <= moment < end for start, end in times) for moment, _ in times)


def rule_of(job: dict[str, str]) -> str:
    return re.sub(r"^rule_(\w+?)(_wildcards_.*)?$", r"\1", job["Comment"])


def states(cluster, call) -> Counter:
    return Counter(job["JobState"] for job in cluster.jobs(call))


def test_a_study_through_slurm_has_the_bytes_of_a_local_one(calls):
    there, here = artefacts(calls.there.succeed().folder), artefacts(calls.here.folder)
    assert len(here) > 20 and set(there) == set(here)
    assert [name for name in here if there[name] != here[name]] == []


def test_every_job_went_through_slurm_to_the_partition_of_its_rule(cluster, calls):
    jobs = cluster.jobs(calls.there.succeed())
    expected = {(rule, "a100"): n for rule, n in GPU_RULES.items()} | {(rule, "short"): 1 for rule in CPU_RULES}
    assert Counter((rule_of(job), job["Partition"]) for job in jobs) == expected
    listed = cluster.completed(calls.there)
    assert len(listed) == len(jobs) and {job["JobState"] for job in listed} == {"COMPLETED"}


def test_jobs_of_models_ask_for_one_gpu_each_and_others_for_none(cluster, calls):
    jobs = cluster.jobs(calls.there.succeed())
    for job in jobs:
        assert job.get("TresPerJob") == ("gres:gpu:1" if rule_of(job) in GPU_RULES else None), job["Comment"]
    assert 1 <= most_at_once([job for job in jobs if rule_of(job) in GPU_RULES]) <= GPUS


def test_a_second_call_has_nothing_to_do(cluster, calls):
    again = cluster.snakemake(calls.there.succeed().folder, *PROFILE, "selection").succeed()
    assert "Nothing to be done" in again.text and not cluster.jobs(again)


def test_a_job_without_enough_memory_gets_more_and_a_failing_one_shows_its_log_while_others_finish(cluster, calls):
    call, computed = calls.troubled.finish(), calls.here.folder
    small, large = cluster.jobs(call, "measure_known")
    assert [job["JobState"] for job in (small, large)] == ["FAILED", "COMPLETED"]
    assert [job["MinMemoryNode"] for job in (small, large)] == ["466M", "932M"]
    assert small["StdOut"] in call.text  # the log that says why
    assert re.search(r"oom-kill|[Ee]xceeded .*memory limit", Path(small["StdOut"]).read_text())
    # the study's 64 rows per pass, halved
    assert "batch_rows=32" in (call.folder / RESULTS / "logs" / "measure_known" / "smoke-gpt2.log").read_text()
    assert_same_measurements(read_table(call.folder / KNOWN), read_table(computed / KNOWN))

    assert call.process.returncode == 1 and not (call.folder / CARD).exists()
    assert [job["JobState"] for job in cluster.jobs(call, "write_data_card")] == ["FAILED", "FAILED"]
    log = f"{RESULTS}/logs/write_data_card.log"
    last_line = (call.folder / log).read_text().strip().splitlines()[-1]
    assert "Error" in last_line and last_line in call.text and log in call.text


def assert_same_measurements(now, before):
    """Equal but for the last digits: half the rows per pass sum the same numbers in another order."""
    exact = now.select_dtypes(exclude="float").columns
    assert now[exact].equals(before[exact])
    for name in now.columns.difference(exact):
        assert now[name].to_numpy() == pytest.approx(before[name].to_numpy(), rel=1e-4, abs=1e-7, nan_ok=True)


def test_a_job_without_enough_time_gets_more_and_half_the_rows(cluster, calls):
    jobs = cluster.jobs(calls.limited.succeed())
    assert [job["TimeLimit"] for job in jobs] == ["00:01:00", "00:02:00"]
    assert [job["JobState"] for job in jobs] == ["TIMEOUT", "COMPLETED"]
    assert [job["MinMemoryNode"] for job in jobs] == ["2016M", "4032M"]
    assert (calls.limited.folder / "computed" / "toy.txt").read_text() == "32 rows\n"


def test_a_killed_run_resumes_with_what_was_unfinished_and_bears_a_requeued_job_and_a_drained_node(cluster, copy):
    # three shards on two GPUs: the third starts when the first is done
    shards = [f"{RESULTS}/attribution/smoke-gpt2/{name}.safetensors" for name in ("en/0", "en/1", "fr/0")]
    before = {name: (copy / name).read_bytes() for name in shards}
    for name in shards:
        (copy / name).unlink()
    killed = cluster.snakemake(copy, *PROFILE, *shards)
    until(lambda: {"COMPLETED", "RUNNING"} <= set(states(cluster, killed)), "one is done and one runs", 120)
    killed.kill()
    cluster.tell("scancel", "--name", killed.run)
    until(lambda: not {"RUNNING", "PENDING", "COMPLETING"} & set(states(cluster, killed)), "the orphans are gone")
    done = {name: (copy / name).stat().st_mtime_ns for name in shards if (copy / name).exists()}
    assert 1 <= len(done) < 3
    cluster.snakemake(copy, "--profile", "slurm", "--unlock").succeed()

    resumed = cluster.snakemake(copy, *PROFILE, *shards)
    until(lambda: states(cluster, resumed)["RUNNING"], "a job runs", 120)
    first = next(job["JobId"] for job in cluster.jobs(resumed) if job["JobState"] == "RUNNING")
    node = cluster.tell("sinfo", "-h", "-o", "%n").split()[0]
    cluster.tell("scontrol", "update", f"NodeName={node}", "State=DRAIN", "Reason=test")
    cluster.tell("scontrol", "requeue", first)
    until(lambda: states(cluster, resumed)["PENDING"], "the requeued job waits")
    until(lambda: not states(cluster, resumed)["RUNNING"], "the drained node is empty")
    cluster.tell("scontrol", "update", f"NodeName={node}", "State=RESUME")
    resumed.succeed()

    assert planned_jobs(resumed.text) == {"attribute_shard": 3 - len(done)}
    assert {name: (copy / name).stat().st_mtime_ns for name in done} == done
    assert {name: (copy / name).read_bytes() for name in shards} == before
    restarts = {job["JobId"]: job["Restarts"] for job in cluster.jobs(resumed)}
    assert restarts[first] == "1" and len(restarts) == 3 - len(done)


@pytest.mark.parametrize(("required", "outcome"), [("", pytest.skip.Exception), ("1", pytest.fail.Exception)])
def test_a_missing_slurm_skips_with_its_name_but_fails_where_it_is_required(monkeypatch, required, outcome):
    monkeypatch.setenv("KNATLAS_REQUIRE_SLURM", required)
    monkeypatch.setattr("tests.slurm.cluster.SEARCHED", "")
    monkeypatch.setattr(os, "geteuid", lambda: 1)
    with pytest.raises(outcome, match=r"slurmctld.*install"):
        need_slurm()
