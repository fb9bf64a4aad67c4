"""A copy of the repository in which Snakemake runs for real, with the smoke study computed once for all tests."""

import fcntl
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

IGNORED = shutil.ignore_patterns(
    ".venv", ".git", ".snakemake", "results", "data", "__pycache__", ".*_cache", ".hypothesis"
)
SMOKE = "studies/smoke.yaml"


class Workflow:
    """A working copy of the repository and what a user can do in it.

    program: the module that is run as Snakemake.
    """

    def __init__(self, folder: Path, program: str = "snakemake"):
        self.folder, self.program = folder, program
        self.results = folder / "results" / "smoke"

    def snakemake(
        self, *arguments: str, configfile: str | None = SMOKE, **environment: str
    ) -> subprocess.CompletedProcess:
        """Run Snakemake here; standard output and error come together in `stdout`."""
        study = ["--configfile", configfile] if configfile else []
        command = [sys.executable, "-m", self.program, *arguments, *study]
        variables = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1", **environment}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL, "text": True}
        return subprocess.run(command, cwd=self.folder, env=variables, timeout=1800, **pipes)

    def run(self, *arguments: str, **options: str) -> Counter:
        """Run to success; the number of jobs of each rule that ran."""
        done = self.snakemake("--cores", "2", *arguments, **options)
        assert done.returncode == 0, done.stdout[-6000:]
        return planned_jobs(done.stdout)

    def plan(self, *arguments: str, **options: str) -> Counter:
        """Dry run; the number of jobs of each rule that would run."""
        done = self.snakemake("-n", *arguments, **options)
        assert done.returncode == 0, done.stdout[-6000:]
        return planned_jobs(done.stdout)

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace a text that stands exactly once in a file."""
        path = self.folder / name
        text = path.read_text()
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {name}"
        path.write_text(text.replace(old, new))

    def configure(self, name: str, change: dict) -> str:
        """A configuration file: the smoke study with other values at dotted paths; returns its name.

        With other models, what the smoke study does for some of its models is done for all.
        """
        study = yaml.safe_load((self.folder / SMOKE).read_text())
        if "models" in change:
            study["experiments"]["fidelity"]["models"] = study["controls"]["models"] = "all"
        for path, value in change.items():
            *parents, key = path.split(".")
            place = study
            for parent in parents:
                place = place.setdefault(parent, {})
            place[key] = value
        (self.folder / name).write_text(yaml.safe_dump(study))
        return name


def refused(workflow: Workflow, *arguments: str, **options: str) -> str:
    """The output of a run that must fail with a sentence."""
    done = workflow.snakemake(*arguments, **options)
    assert done.returncode != 0, done.stdout[-2000:]
    assert "Traceback" not in done.stdout, done.stdout[-4000:]
    return done.stdout


def planned_jobs(output: str) -> Counter:
    """Rules and numbers of jobs of the table "Job stats" of Snakemake's output; empty when there is nothing to do."""
    table = re.search(r"Job stats:\njob +count\n-+ +-+\n(.*?)\ntotal +\d+", output, flags=re.DOTALL)
    if table is None:
        assert "Nothing to be done" in output, output[-3000:]
        return Counter()
    rows = [line.split() for line in table.group(1).splitlines()]
    targets = {"all", "data", "models", "attribution", "selection", "experiments", "tables", "figures"}
    targets |= {"amig", "matrice", "localization", "exchange", "planted", "controls", "report"}
    return Counter({rule: int(count) for rule, count in rows if rule not in targets})


def copy_repository(root: Path, folder: Path) -> Workflow:
    """A copy of the repository's files, without results."""
    shutil.copytree(root, folder, ignore=IGNORED, dirs_exist_ok=True)
    return Workflow(folder)


def made_once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder of this run of pytest that the first of its workers fills by `make`, while others that ask wait."""
    own = tmp_path_factory.getbasetemp()
    # the folder of each worker of pytest-xdist lies in that of the whole run
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / name
    done = folder.with_name(f"{name}.done")
    with folder.with_name(f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            make(folder)
            done.touch()
    assert done.exists(), f"{name} could not be made; the error is shown where it was asked for first"
    return folder


@pytest.fixture(scope="session")
def computed(root, tmp_path_factory) -> Workflow:
    """The smoke study, computed from nothing by Snakemake, once for all workers.

    Tests must leave it complete and unchanged, and run Snakemake in a copy of it (`workflow`): a copy that another
    worker takes meanwhile would hold Snakemake's lock.
    """
    return Workflow(made_once(tmp_path_factory, "computed", lambda folder: copy_repository(root, folder).run("all")))


@pytest.fixture
def workflow(computed, tmp_path) -> Workflow:
    """A copy of the computed smoke study, times of files included, to be changed at will."""
    shutil.copytree(computed.folder, tmp_path / "copy", copy_function=shutil.copy2)
    return Workflow(tmp_path / "copy")


@pytest.fixture
def clone(root, tmp_path) -> Workflow:
    """A copy of the repository in which nothing is computed."""
    return copy_repository(root, tmp_path / "clone")
