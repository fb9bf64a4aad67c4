"""What is planned without running anything: the papers' study on a cluster, targets by stage and paper."""

import re

import pytest

from .conftest import Workflow, planned_jobs

pytestmark = pytest.mark.workflow

STAGES = ("data", "models", "attribution", "selection", "experiments", "tables", "figures", "report")
NO_NETWORK = """
import socket

def refuse(self, address):
    raise RuntimeError(f"the plan must not touch the network: {address}")

socket.socket.connect = refuse
socket.socket.connect_ex = refuse
"""


def show_resources(workflow: Workflow) -> None:
    """Let Snakemake list what jobs ask for: a rule with a message is listed by that alone."""
    for path in (workflow.folder / "rules").glob("*.smk"):
        path.write_text(re.sub(r"    message:\n.*\n", "", path.read_text()))


def test_the_papers_study_is_planned_by_the_literal_command_without_network_with_one_gpu_for_each_gpu_job(clone):
    (clone.folder / "sitecustomize.py").write_text(NO_NETWORK)
    show_resources(clone)
    done = clone.snakemake("-n", "--profile", "slurm", "all", configfile=None, PYTHONPATH=str(clone.folder))
    assert done.returncode == 0, done.stdout[-4000:]
    jobs = planned_jobs(done.stdout)
    assert jobs["resolve_model"] == jobs["measure_known"] == 8
    assert jobs["train_model"] == 0 and jobs["download_dataset"] == 3
    # several shards of some models, with all languages of the model in every job
    assert jobs["attribute_shard"] > 8
    listed = re.findall(r"rule (measure_known|attribute_shard):\n(?:    .*\n)*?    resources: (.*)\n", done.stdout)
    assert len(listed) == jobs["measure_known"] + jobs["attribute_shard"]
    assert all("gpu=1," in asked and "slurm_partition=gpu" in asked and "mem_mb=" in asked for _, asked in listed)


@pytest.mark.parametrize("study", ["amig", "matrice", "localization"])
def test_the_study_of_each_paper_is_planned(clone, study):
    jobs = clone.plan(study, configfile=f"studies/{study}.yaml")
    assert jobs["attribute_shard"] > 0 and jobs["plot_layers"] >= 1


def test_every_stage_is_a_target_and_the_embedded_study_loads_a_model_at_most_sixty_times(clone):
    show_resources(clone)
    done = clone.snakemake("-n", *STAGES, "all", configfile=None)
    assert done.returncode == 0, done.stdout[-4000:]
    for stage in STAGES:
        assert re.search(rf"^(?:local)?rule {stage}:\n    input: \S", done.stdout, flags=re.MULTILINE), stage
    jobs = planned_jobs(done.stdout)
    assert jobs["train_model"] + jobs["measure_known"] + jobs["attribute_shard"] + jobs["manipulate_activations"] <= 60
