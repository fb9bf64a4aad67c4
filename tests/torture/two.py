"""Two Snakemakes at once in one folder: of the same study, and of two studies."""

import shutil
import time

import yaml

from tests.workflow.conftest import planned_jobs

from .compare import digests
from .copies import Copy, Run, Study
from .outcome import Outcome, judge_end


def run_twice(copy: Copy, expected: dict[str, str]) -> Outcome:
    """The same command in a second terminal: refused, and the first run is unharmed."""
    outcome = Outcome("two", None, "the same study, twice")
    first = copy.start()
    wait_for_lock(copy, first)
    second = copy.start()
    outcome.require(second.wait() != 0, "the second run was not refused")
    outcome.require("cannot be locked" in second.text, f"no sentence says why:\n{second.text[-3000:]}")
    outcome.require("Traceback" not in second.text, f"a traceback:\n{second.text[-3000:]}")
    outcome.require(first.wait() == 0, f"the first run failed:\n{first.text[-3000:]}")
    outcome.jobs = planned_jobs(first.text)
    judge_end(outcome, copy, expected)
    return outcome


def run_two_studies(copy: Copy, expected: dict[str, str]) -> Outcome:
    """Two studies with different names side by side: each has the results that it has alone."""
    outcome = Outcome("two", None, "two studies side by side")
    alone = second_study(copy.twin(f"{copy.folder.name}-alone"))
    first, other = copy.start(), second_study(copy)
    other.runs = copy.runs
    wait_for_lock(copy, first)
    second = other.start()
    for name, run in (("first", first), ("second", second)):
        outcome.require(run.wait() == 0, f"the {name} run failed:\n{run.text[-3000:]}")
    outcome.jobs = planned_jobs(first.text) + planned_jobs(second.text)
    judge_end(outcome, copy, expected)
    judge_end(outcome, other, results_of(alone))
    return outcome


def second_study(copy: Copy) -> Copy:
    """The same folder with the same study under another name."""
    content = yaml.safe_load((copy.folder / copy.study.file).read_text(encoding="utf-8"))
    name = f"{copy.study.name}2"
    (copy.folder / "second.yaml").write_text(yaml.safe_dump({**content, "study": name}), encoding="utf-8")
    targets = [target.replace(f"results/{copy.study.name}/", f"results/{name}/") for target in copy.study.targets]
    return Copy(copy.folder, Study("second.yaml", name, tuple(targets)), copy.cores)


def results_of(copy: Copy) -> dict[str, str]:
    """Digests of the results of an undisturbed run; the copy is removed."""
    try:
        run = copy.start()
        assert run.wait() == 0, run.text[-3000:]
        return digests(copy.results)
    finally:
        copy.stop()
        shutil.rmtree(copy.folder)


def wait_for_lock(copy: Copy, run: Run) -> None:
    """Wait until a run has written its lock."""
    locks = copy.folder / ".snakemake" / "locks"
    while len(list(locks.glob("*"))) < 2 and run.is_running_at(run.seconds + 0.05):
        pass
    time.sleep(0.5)
