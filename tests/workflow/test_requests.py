"""What jobs ask the cluster for: the plan's memory and time, one GPU where a model runs, the site's names."""

import re

import pytest
import yaml
import yte

from knatlas.planning.comparison import RULES
from knatlas.planning.plan import plan_study
from knatlas.study import read_study

from .conftest import Workflow

pytestmark = pytest.mark.workflow

SITE = {"KNATLAS_CPU_PARTITION": "short", "KNATLAS_GPU_PARTITION": "big", "KNATLAS_GPU_MODEL": "h200"}
SITE |= {"KNATLAS_SLURM_ACCOUNT": "lab", "KNATLAS_MAX_MINUTES": "600"}
WITHOUT_A_MODEL = {"train_model", "resolve_model"}
WITHOUT_A_MODEL |= {"aggregate_scores", "select_neurons", "aggregate_control", "select_control"}


def listed_jobs(workflow: Workflow, *arguments: str, **environment: str) -> list[tuple[str, str, dict[str, str]]]:
    """Rule, model and resources of every job that a dry run of the papers' study lists."""
    # a rule with a message is listed by it alone; without one Snakemake lists what the job asks for
    for path in (workflow.folder / "rules").glob("*.smk"):
        path.write_text(re.sub(r"    message:\n.*\n", "", path.read_text()))
    done = workflow.snakemake("-n", *arguments, configfile=None, **environment)
    assert done.returncode == 0, done.stdout[-4000:]
    jobs = []
    for rule, block in re.findall(r"^(?:local)?rule (\w+):\n((?:    .*\n)+)", done.stdout, flags=re.MULTILINE):
        model = re.search(r"wildcards:.*\bmodel=([^,\s]+)", block)
        resources = re.search(r"resources: (.*)", block)
        asked = dict(re.findall(r"(\w+)=([^,\s]+)", resources.group(1))) if resources else {}
        jobs.append((rule, model.group(1) if model else "", asked))
    return jobs


def test_jobs_ask_for_what_the_plan_says_one_gpu_where_a_model_runs_and_the_names_of_the_site(clone, root):
    # a GPU that is asked for is promised
    clone.edit("studies/papers.yaml", "device: cuda", "device: auto")
    jobs = listed_jobs(clone, "--profile", "slurm", "all", **SITE)
    study = read_study(yaml.safe_load((root / "studies" / "papers.yaml").read_text(encoding="utf-8")), root)
    table = plan_study(study, clone.folder / "results" / "papers").table
    rules = RULES | {"train": "train_model", "resolve": "resolve_model"}
    planned = {(rules.get(row.stage), row.model): (row.job_mb, row.job_minutes) for row in table.itertuples()}
    found = [(rule, model, asked) for rule, model, asked in jobs if (rule, model) in planned]
    assert {(rule, model) for rule, model, _ in found} == {key for key in planned if key[0]}
    for rule, model, asked in found:
        megabytes, minutes = planned[rule, model]
        assert (int(asked["mem_mb"]), int(asked["runtime"])) == (megabytes, min(minutes, 600)), (rule, model)
        runs_model = rule not in WITHOUT_A_MODEL
        expected = ("1", "big", "h200", "cuda") if runs_model else (None, "short", None, None)
        names = ("gpu", "slurm_partition", "gpu_model", "device")
        assert tuple(asked.get(name) for name in names) == expected, (rule, model)
    assert {asked["slurm_account"] for *_, asked in found} == {"lab"}
    # the others run no model and ask for none
    assert all("gpu" not in asked for rule, model, asked in jobs if (rule, model) not in planned)


@pytest.mark.parametrize(("visible", "given", "n_gpus"), [("0,3", None, 2), ("", None, 0), ("0,1,2,3", "3", 3)])
def test_one_machine_runs_as_many_models_at_a_time_as_it_has_gpus(visible, given, n_gpus, root, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.delenv("KNATLAS_GPUS", raising=False)
    if given:
        monkeypatch.setenv("KNATLAS_GPUS", given)
    with (root / "local-gpu" / "config.yaml").open(encoding="utf-8") as file:
        assert yte.process_yaml(file)["resources"] == [f"gpu={n_gpus}"]


def test_a_limit_of_the_cluster_that_is_no_number_is_named(clone):
    done = clone.snakemake("-n", "all", KNATLAS_MAX_MINUTES="a day")
    assert done.returncode == 1 and "KNATLAS_MAX_MINUTES is 'a day'; expected a whole number" in done.stdout
