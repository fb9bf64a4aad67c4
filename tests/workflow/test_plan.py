"""What is planned without running anything: the papers' study on a cluster, targets by stage and paper."""

import re

import pytest

from .conftest import planned_jobs

pytestmark = pytest.mark.workflow

NO_NETWORK = """
import socket

def refuse(self, address):
    raise RuntimeError(f"the plan must not touch the network: {address}")

socket.socket.connect = refuse
socket.socket.connect_ex = refuse
"""


def test_the_papers_study_is_planned_by_the_literal_command_without_network(clone):
    (clone.folder / "sitecustomize.py").write_text(NO_NETWORK)
    done = clone.snakemake("-n", "--profile", "slurm", "all", configfile=None, PYTHONPATH=str(clone.folder))
    assert done.returncode == 0, done.stdout[-4000:]
    jobs = planned_jobs(done.stdout)
    # 8 models, 8 shards each, with all languages of the model in every job
    assert jobs["attribute_shard"] == 8 * 8
    assert jobs["resolve_model"] == 8 and jobs["train_model"] == 0 and jobs["download_dataset"] == 3


def test_every_gpu_job_of_the_papers_study_asks_for_one_gpu_on_the_gpu_partition(clone):
    # a rule with a message is listed by it alone; without one Snakemake lists what the job asks for
    for path in (clone.folder / "rules").glob("*.smk"):
        path.write_text(re.sub(r"    message:\n.*\n", "", path.read_text()))
    done = clone.snakemake("-n", "--profile", "slurm", "attribution", configfile=None)
    assert done.returncode == 0, done.stdout[-4000:]
    jobs = re.findall(r"rule (measure_known|attribute_shard):\n(?:    .*\n)*?    resources: (.*)\n", done.stdout)
    assert len(jobs) == 8 * 8 + 8
    assert all("gpu=1," in asked and "slurm_partition=gpu" in asked and "mem_mb=" in asked for _, asked in jobs)


@pytest.mark.parametrize("study", ["amig", "matrice", "localization"])
def test_the_study_of_each_paper_is_planned(clone, study):
    jobs = clone.plan(study, configfile=f"studies/{study}.yaml")
    assert jobs["attribute_shard"] > 0 and jobs["plot_layers"] >= 1


@pytest.mark.parametrize("target", ["data", "models", "attribution", "selection", "experiments", "figures", "report"])
def test_every_stage_is_a_target(clone, target):
    assert clone.plan(target, configfile=None)


def test_the_embedded_study_loads_a_model_at_most_sixty_times(clone):
    jobs = clone.plan("all", configfile=None)
    assert jobs["train_model"] + jobs["measure_known"] + jobs["attribute_shard"] + jobs["manipulate_activations"] <= 60
