"""A disk that is full in the middle of a run, and a folder of results that cannot be written."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .compare import finished
from .copies import Copy, Run
from .kill import resume
from .outcome import Outcome, judge_end

NEEDS_ROOT = "skipped: mounting a small disk needs root"
# room for results, as shares of what they take
SHARES = [0.1, 0.5, 0.85]
PLENTY = "1g"


def size_on_disk(folder: Path) -> int:
    """Bytes that a folder's files take, in whole pages."""
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in folder.rglob("*") if path.is_file())


@contextmanager
def mounted(folder: Path, *arguments: str) -> Iterator[None]:
    """A mount at a folder, gone afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", *arguments, str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill_disk(copy: Copy, share: float, needed: int, expected: dict[str, str]) -> Outcome:
    """A run on a disk that is too small, then the same command after the disk has grown.

    Args: copy, in which nothing is computed; share of the `needed` bytes that fit; expected, digests of the results.
    """
    outcome = Outcome("disk", None, f"room for {share:.0%} of the results")
    if os.geteuid() != 0:
        outcome.skipped = NEEDS_ROOT
        return outcome
    disk = copy.folder / "results"
    with mounted(disk, "-t", "tmpfs", "-o", f"size={int(share * needed)}", "tmpfs"):
        run = copy.start()
        expect_sentence(outcome, run, "can't be written: the disk is full")
        before = finished(copy.folder, copy.results)
        outcome.n_finished = len(before)
        subprocess.run(["mount", "-o", f"remount,size={PLENTY}", str(disk)], check=True)
        copy.unlock()
        outcome.jobs = resume(copy, outcome, before)
        judge_end(outcome, copy, expected)
    return outcome


def write_protect(copy: Copy, is_empty: bool, expected: dict[str, str]) -> Outcome:
    """A run into a folder that cannot be written, then the same command once it can.

    Args: copy, in which all is computed, or nothing where `is_empty`.
    """
    outcome = Outcome("readonly", None, "before the first job" if is_empty else "before tables and figures")
    for path in [] if is_empty else [*copy.results.glob("tables/*"), *copy.results.glob("figures/*")]:
        path.unlink()
    with read_only(copy.folder / "results"):
        run = copy.start()
        expect_sentence(outcome, run, "can't be written")
        before = finished(copy.folder, copy.results)
    outcome.n_finished = len(before)
    copy.unlock()
    outcome.jobs = resume(copy, outcome, before)
    judge_end(outcome, copy, expected)
    return outcome


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """A folder that cannot be written: mounted so for root, whom permissions do not stop; else by permissions."""
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        with mounted(folder, "--bind", str(folder)):
            subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)
            yield
        return
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    for path in folders:
        path.chmod(0o555)
    try:
        yield
    finally:
        for path in folders:
            path.chmod(0o755)


def expect_sentence(outcome: Outcome, run: Run, part: str) -> None:
    """Note a problem unless a run fails with a sentence that has this part, and without a traceback."""
    outcome.require(run.wait() != 0, "the run did not fail")
    text = run.text
    outcome.require(part in text, f"no sentence says why:\n{text[-3000:]}")
    outcome.require("Traceback" not in text, f"a traceback:\n{text[-3000:]}")
