"""The same study again: the same bytes on one machine; the same neurons and numbers however the work is cut."""

import re
import shutil
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.torture.compare import differences, digests

from .comparison import common_tables, compare_results, compare_tables, read
from .conftest import Workflow, copy_repository

pytestmark = pytest.mark.workflow

STAGES = ("data", "models", "attribution", "selection", "experiments", "planted", "tables", "judge_study")
# the scripts that run again need no process of their own
FORKED = "local"
BOUND = 1e-6
# What carries float32's last digits farther than that: table, statistic or column, bound; tests of a table's cells have
# that of the table. docs/determinism.md says why and what was measured.
WIDER = [
    ("neurons/*/summary.csv", "*", 1e-5),
    ("tables/*", "*", 2e-5),
    ("experiments/*/degenerate_pairs.parquet", "*", 1e-5),
    ("experiments/*/weight_edits.parquet", "p_*", 1e-4),
    ("experiments/*/counterfact.parquet", "nll_*", 1e-4),
    ("tables/localization_table3.csv", "*", 1e-4),
    ("tables/significance.csv", "[ENP]M", 1e-4),
    ("tables/matrice_table2.csv", "ratio", 1e-4),
    ("tables/matrice_table[34].csv", "*", 1e-3),
    ("tables/manipulation_by_relation.csv", "*", 1e-4),
    ("tables/localization_relations.csv", "*", 1e-3),
    ("tables/control_relations.csv", "*", 1e-3),
    ("tables/amig_table1.csv", "sr*", 0.1),
    ("tables/control_separation.csv", "*ratio*", 0.1),
]


@pytest.fixture(scope="session")
def repeated(root, tmp_path_factory) -> Workflow:
    """The smoke study once more from nothing, but for most of its figures, one job at a time."""
    workflow = Workflow(copy_repository(root, tmp_path_factory.mktemp("repeated")).folder, FORKED)
    workflow.run(*STAGES, "--cores", "1")
    return workflow


@pytest.fixture(scope="module")
def varied(computed, tmp_path_factory) -> Workflow:
    """A copy of the smoke study in which every job that measures with a model ran again, its work cut otherwise."""
    folder = tmp_path_factory.mktemp("varied")
    shutil.copytree(computed.folder, folder, copy_function=shutil.copy2, dirs_exist_ok=True)
    workflow = Workflow(folder, FORKED)
    compute = {"compute.batch_rows": 24, "compute.batch_queries": 5, "compute.threads": 2}
    study = workflow.configure("varied.yaml", {"attribution.shards": 3, **compute})
    rules = measuring_rules(folder)
    # threads that wait must not take the core of those that another worker of pytest runs
    threads = {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"}
    ran = workflow.run(*STAGES, "--forcerun", *rules, configfile=study, **threads)
    assert set(rules) <= set(ran)
    return workflow


def measuring_rules(folder: Path) -> list[str]:
    """The rules whose jobs have the threads of the study."""
    text = "\n".join(path.read_text() for path in sorted((folder / "rules").glob("*.smk")))
    rules = re.findall(r"^rule (\w+):\n(.*?)(?=^\S|\Z)", text, flags=re.MULTILINE | re.DOTALL)
    return [name for name, body in rules if 'threads: config["compute"]["threads"]' in body]


def bound_of(name: str, part: str) -> float:
    """The bound of a statistic or column of a table: the last one of `WIDER` that fits, else a millionth.

    Claims repeat numbers of the tables that they name, and have the bounds of these.
    """
    if name == "tables/claims.csv":
        return max([BOUND, *(bound for table, _, bound in WIDER if fnmatch(part, table))])
    fitting = [bound for table, parts, bound in WIDER if fnmatch(name, table) and fnmatch(part, parts)]
    return fitting[-1] if fitting else BOUND


def test_the_same_study_again_one_job_at_a_time_has_the_same_bytes(repeated, computed):
    # `repeated` first: it is made here while another worker of pytest makes `computed`
    ours, theirs = digests(repeated.results), digests(computed.results)
    # of the figures only those that an experiment's stage asks for
    theirs = {name: digest for name, digest in theirs.items() if name in ours or not name.startswith("figures/")}
    assert {"tables", "neurons", "experiments", "models"} <= {name.split("/")[0] for name in theirs}
    assert differences(ours, theirs) == []


def test_other_rows_queries_shards_and_threads_choose_the_same_neurons(computed, varied):
    names = [name for name in common_tables(varied.results, computed.results) if name.startswith("neurons/")]
    sets = [name for name in names if name.endswith(".parquet")]
    assert len(sets) == 3 * 13
    for name in sets:
        # all but the scores exactly
        found = compare_tables(name, read(varied.results / name), read(computed.results / name))
        assert not found.others and found.largest <= BOUND, found


def test_other_rows_queries_shards_and_threads_leave_every_number_within_its_bound(computed, varied):
    found = compare_results(varied.results, computed.results)
    assert [each for each in found if each.others] == []
    beyond = [
        (each.name, part, distance)
        for each in found
        for part, distance in each.distances.items()
        if distance > bound_of(each.name, part)
    ]
    assert beyond == []
