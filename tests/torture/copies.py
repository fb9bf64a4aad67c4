"""A working copy of the repository for each case, and Snakemake started in it as a user would."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import yaml

from tests.workflow.conftest import planned_jobs

TORTURED = "tests/torture/study.yaml"
# of all experiments only the manipulation, so that a run takes a minute
CUT = ["data", "models", "attribution", "selection"]
CUT_RESULTS = ["tables/known.csv", "tables/exactness.csv", "tables/headlines.csv"]
CUT_RESULTS += ["figures/matrice_figure4.png", "figures/matrice_figure5.png"]
LONGEST = 3600.0  # seconds after which a run counts as hanging


@dataclass(frozen=True)
class Study:
    """A study and what is asked of it."""

    file: str
    name: str
    targets: tuple[str, ...]


def read_study(file: str) -> Study:
    """The study of a configuration file, named from the repository's root; of the tortured one a cut, else all."""
    name = yaml.safe_load(Path(file).read_text(encoding="utf-8")).get("study", "embedded")
    targets = [*CUT, *(f"results/{name}/{result}" for result in CUT_RESULTS)] if file == TORTURED else ["all"]
    return Study(file, name, tuple(targets))


class Run:
    """Snakemake at work in a process group of its own; standard output and error go to a file."""

    def __init__(self, command: list[str], folder: Path, output: Path) -> None:
        variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        # a killed Snakemake leaves a folder for temporary files
        (folder / "tmp").mkdir(exist_ok=True)
        variables |= {"HF_HUB_OFFLINE": "1", "TMPDIR": str(folder / "tmp")}
        self.output, self.start, self.end = output, time.monotonic(), None
        options = {"cwd": folder, "env": variables, "stdin": subprocess.DEVNULL, "start_new_session": True}
        with output.open("w", encoding="utf-8") as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, **options)

    @property
    def text(self) -> str:
        """What it has printed so far."""
        return self.output.read_text(encoding="utf-8", errors="replace")

    @property
    def seconds(self) -> float:
        """Seconds since the start, or from the start to the end."""
        return (self.end or time.monotonic()) - self.start

    def wait(self) -> int:
        """Its exit status. Raises: subprocess.TimeoutExpired, when it hangs."""
        code = self.process.wait(timeout=LONGEST)
        self.end = self.end or time.monotonic()
        return code

    def is_running_at(self, seconds: float) -> bool:
        """Wait until so many seconds after the start, or its end; whether it still runs."""
        while self.seconds < seconds and self.process.poll() is None:
            time.sleep(min(0.05, max(0.0, seconds - self.seconds)))
        return self.process.poll() is None

    def members(self) -> list[psutil.Process]:
        """All living processes of its group: Snakemake, the scripts, and what lies between; orphans, too."""
        return [process for process in psutil.process_iter() if _group(process) == self.process.pid]

    def scripts(self) -> list[psutil.Process]:
        """The processes of scripts among them."""
        return [process for process in self.members() if process.pid != self.process.pid and _is_script(process)]

    def kill(self) -> None:
        """kill -9 of Snakemake alone."""
        self.process.kill()
        self.process.wait()

    def kill_group(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to Snakemake and all that it has started, and wait for the end of all."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)
        self.process.wait()
        self.wait_for_orphans()

    def wait_for_orphans(self) -> None:
        """Wait until no process of the group is left."""
        while self.members():
            time.sleep(0.05)


def _group(process: psutil.Process) -> int | None:
    try:
        # a zombie that nobody has waited for is no process any more
        return None if process.status() == psutil.STATUS_ZOMBIE else os.getpgid(process.pid)
    except (psutil.NoSuchProcess, ProcessLookupError):
        return None


def _is_script(process: psutil.Process) -> bool:
    try:
        command = process.cmdline()
    except psutil.NoSuchProcess:
        return False
    return len(command) > 1 and "python" in Path(command[0]).name and ".snakemake/scripts/" in command[1]


class Copy:
    """A copy of the repository in which one case happens."""

    def __init__(self, folder: Path, study: Study, cores: int) -> None:
        self.folder, self.study, self.cores = folder, study, cores
        self.runs: list[Run] = []
        self.results = folder / "results" / study.name

    def twin(self, name: str) -> "Copy":
        """A copy of this copy beside it, times of files included."""
        folder = self.folder.with_name(name)
        shutil.copytree(self.folder, folder, copy_function=shutil.copy2, symlinks=True)
        return Copy(folder, self.study, self.cores)

    def start(self, *arguments: str) -> Run:
        """Start the command that a user types, the same one before and after a fault, or with more arguments."""
        options = ["--cores", str(self.cores), "--rerun-incomplete", "--configfile", self.study.file]
        return self.start_snakemake([*options, *arguments, "--", *self.study.targets])

    def start_snakemake(self, arguments: list[str]) -> Run:
        """Start Snakemake with nothing but these arguments."""
        output = self.folder / f"{self.study.name}.{len(self.runs)}.log"
        self.runs.append(Run([sys.executable, "-m", "snakemake", *arguments], self.folder, output))
        return self.runs[-1]

    def forget(self) -> None:
        """Remove all that was computed here."""
        for folder in ("results", ".snakemake"):
            shutil.rmtree(self.folder / folder)

    def stop(self) -> None:
        """End all that was started here and still runs."""
        for run in self.runs:
            run.kill_group()

    def unlock(self) -> None:
        """Remove the lock of a killed Snakemake, where there is one."""
        if any((self.folder / ".snakemake" / "locks").glob("*")):
            assert self.start("--unlock").wait() == 0

    def what_is_left(self) -> Counter:
        """Jobs by rule that a dry run would still start."""
        dry = self.start("--dry-run")
        assert dry.wait() == 0, dry.text[-3000:]
        return planned_jobs(dry.text)
