"""Kill, starve and disturb runs of a study, resume them, and compare what they leave with an undisturbed run."""

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.workflow.conftest import copy_repository

from . import disk, kill, torn, two
from .compare import digests
from .copies import TORTURED, Copy, read_study
from .outcome import Outcome, markdown, report_problem

ROOT = Path(__file__).resolve().parents[2]
CASES = ["kill", "torn", "disk", "readonly", "two"]
# A case: its name, whether it starts from the finished study, and what happens in a copy.
Case = tuple[str, bool, Callable[[Copy], Outcome]]


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="how many runs are killed at random moments (20)")
    parser.add_argument("--first-seed", type=int, default=0, help="the seed of the first of them (0)")
    parser.add_argument("--cases", default=",".join(CASES), help=f"which cases, by commas ({','.join(CASES)})")
    parser.add_argument("--study", default=TORTURED, help=f"configuration file ({TORTURED})")
    parser.add_argument("--cores", type=int, default=2, help="cores of each run (2)")
    parser.add_argument("--table", type=Path, help="a Markdown file for the table")
    chosen = parser.parse_args()
    chosen.cases = chosen.cases.split(",")
    if others := sorted(set(chosen.cases) - set(CASES)):
        parser.error(f"--cases: '{others[0]}' is not a case; expected some of {','.join(CASES)}")
    return chosen


def undisturbed(folder: Path, chosen: argparse.Namespace) -> tuple[Copy, Copy, float]:
    """A copy in which nothing is computed, one with the finished study, and the seconds that took."""
    copy_repository(ROOT, folder / "clean")
    clean = Copy(folder / "clean", read_study(chosen.study), chosen.cores)
    whole = clean.twin("whole")
    run = whole.start()
    try:
        code, seconds = run.wait(), run.seconds
    finally:
        whole.stop()
    if code != 0:
        sys.exit(f"the undisturbed run failed:\n{run.text[-5000:]}")
    return clean, whole, seconds


def planned_cases(chosen: argparse.Namespace, whole: Copy, duration: float) -> Iterator[Case]:
    """The chosen cases in order."""
    expected = digests(whole.results)
    if "kill" in chosen.cases:
        for seed in range(chosen.first_seed, chosen.first_seed + chosen.seeds):
            yield f"kill-{seed}", False, lambda copy, s=seed: kill.kill_and_resume(copy, s, duration, expected)
        yield "kill-shard", False, lambda copy: kill.kill_in_a_shard(copy, expected)
    if "torn" in chosen.cases:
        for i, wound in enumerate(torn.WOUNDS):
            yield f"torn-{i}", True, lambda copy, w=wound: torn.tear_and_mend(copy, w, expected)
    if "disk" in chosen.cases:
        needed = disk.size_on_disk(whole.results)
        for share in disk.SHARES:
            yield f"disk-{share}", False, lambda copy, s=share: disk.fill_disk(copy, s, needed, expected)
    if "readonly" in chosen.cases:
        yield "readonly-empty", False, lambda copy: disk.write_protect(copy, True, expected)
        yield "readonly", True, lambda copy: disk.write_protect(copy, False, expected)
    if "two" in chosen.cases:
        yield "two", False, lambda copy: two.run_twice(copy, expected)
        yield "two-studies", False, lambda copy: two.run_two_studies(copy, expected)


def go_through(case: Case, clean: Copy, whole: Copy) -> Outcome:
    """One case in a copy of its own, which is kept when it went wrong."""
    name, is_finished, happen = case
    copy, start = (whole if is_finished else clean).twin(name), time.monotonic()
    try:
        outcome = happen(copy)
    except (AssertionError, subprocess.TimeoutExpired) as error:
        outcome = Outcome(name, None, "-", problems=[f"{type(error).__name__}: {error}"])
    finally:
        copy.stop()
    outcome.seconds = time.monotonic() - start
    if outcome.is_good:
        shutil.rmtree(copy.folder)
    else:
        print(report_problem(outcome, copy.folder), flush=True)
    return outcome


def main() -> int:
    """Go through all cases; 0 when every one is good."""
    chosen = arguments()
    # so that mounts and runs are ended, too, by `kill` and `timeout`
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    # a shell starts what runs in the background deaf to Ctrl-C, and so would be all that is started here
    signal.signal(signal.SIGINT, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="torture-"))
    clean, whole, duration = undisturbed(folder, chosen)
    print(f"undisturbed: {duration:.0f} s, {len(digests(whole.results))} results", flush=True)
    outcomes = []
    for case in planned_cases(chosen, whole, duration):
        outcomes.append(go_through(case, clean, whole))
        print(" | ".join(outcomes[-1].row()), f"({outcomes[-1].seconds:.0f} s)", flush=True)
    table, n_bad = markdown(outcomes), sum(not outcome.is_good for outcome in outcomes)
    print(f"\n{table}\n{len(outcomes) - n_bad} of {len(outcomes)} cases as they must be")
    if chosen.table:
        chosen.table.write_text(table, encoding="utf-8")
    if not n_bad:
        shutil.rmtree(folder)
    return int(n_bad > 0)


if __name__ == "__main__":
    sys.exit(main())
