"""The example of docs/module.md as a user has it: another workflow, in another folder, that takes the atlas's files."""

import re
from collections import Counter

import pandas as pd
import pytest

from .conftest import Workflow, planned_jobs, refused

pytestmark = pytest.mark.workflow

DATA = {"atlas_read_facts": 1, "atlas_build_prompts": 1}
MODEL = {"atlas_train_model": 1, "atlas_measure_known": 1, "atlas_choose_facts": 1}
NEURONS = {"atlas_attribute_shard": 3, "atlas_aggregate_scores": 1, "atlas_select_neurons": 1}
OWN = {"keep_counts": 1, "count_by_layer": 1}


def block(root, language):
    """The code of one language in the documentation."""
    return re.search(rf"```{language}\n(.*?)```", (root / "docs" / "module.md").read_text(), flags=re.DOTALL).group(1)


@pytest.fixture
def other(root, tmp_path) -> Workflow:
    """The other workflow's folder, which names the Snakefile of this repository."""
    snakefile = block(root, "python")
    assert snakefile.count("/path/to/atlas/Snakefile") == 1
    (tmp_path / "Snakefile").write_text(snakefile.replace("/path/to/atlas/Snakefile", str(root / "Snakefile")))
    (tmp_path / "config.yaml").write_text(block(root, "yaml"))
    return Workflow(tmp_path)


def test_the_other_workflow_plans_what_its_rules_take(other):
    done = other.snakemake("-n", configfile=None)
    assert done.returncode == 0, done.stdout[-3000:]
    # of rules by names that they don't have here
    assert "localrules directive" not in done.stdout
    assert planned_jobs(done.stdout) == Counter({**DATA, **MODEL, **NEURONS, **OWN})


def test_the_other_workflow_runs_in_its_own_folder(other, root):
    before = sorted(path.name for path in (root / "results").iterdir())
    assert other.run("facts_left.csv", configfile=None) == {"atlas_read_facts": 1, "keep_counts": 1}
    results = other.folder / "results" / "mine"
    kept = pd.read_csv(other.folder / "facts_left.csv")
    assert kept.equals(pd.read_csv(results / "facts" / "cleaning.csv")) and kept["facts"].min() > 0
    facts = pd.read_parquet(results / "facts" / "facts.parquet")
    assert set(facts["relation"]) == {"P36", "P30", "P38"} and set(facts["language"]) == {"en", "fr", "ko"}
    assert (results / "logs" / "read_facts.log").is_file()
    assert sorted(path.name for path in (root / "results").iterdir()) == before


def test_without_a_study_it_is_the_atlas_own_and_its_folder_can_be_chosen(other):
    other.edit("Snakefile", '    config:\n        config["atlas"]\n', '    pathvars:\n        results="atlas",\n')
    other.edit("Snakefile", '"results/mine/neurons', '"atlas/neurons')
    # the five models of the embedded study share data, and each has one shard of candidates
    planned = other.plan("neurons_by_layer.csv", configfile=None)
    assert planned == Counter({**DATA, **MODEL, **NEURONS, "atlas_attribute_shard": 1, "count_by_layer": 1})


def test_a_mistake_in_the_study_is_a_sentence(other):
    other.edit("config.yaml", "models: [tiny-bert]", "models: [tiny-birt]")
    shown = refused(other, "-n", configfile=None)
    assert "the study's configuration has 1 mistake(s)" in shown and "tiny-bert" in shown
