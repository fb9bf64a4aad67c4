"""A SLURM of one node that tests bring up and down, and Snakemake started on it."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

SCRIPT = Path(__file__).with_name("cluster.sh")
PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "srun", "squeue", "scancel", "scontrol")
PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
DAEMONS = {"slurmctld", "slurmd", "slurmstepd", "munged"}
SEARCHED = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])
GPUS = 2
# the site's names for the profile's two partitions
SITE = {"KNATLAS_CPU_PARTITION": "short", "KNATLAS_GPU_PARTITION": "a100"}


def missing_programs() -> list[str]:
    """Programs of SLURM and munge that this machine lacks."""
    return [name for name in PROGRAMS if shutil.which(name, path=SEARCHED) is None]


def install() -> str:
    """Install SLURM where that is possible; otherwise why it is not, as a sentence."""
    if os.geteuid() or shutil.which("apt-get") is None:
        return f"SLURM is not installed ({', '.join(missing_programs())}); install {' '.join(PACKAGES)}"
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "-y", "--no-install-recommends", *PACKAGES]):
        done = subprocess.run(["apt-get", "-q", *command], env=quiet, capture_output=True, text=True, timeout=300)
    return f"apt-get could not install SLURM: {done.stderr[-500:]}" if missing_programs() else ""


def until(holds: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Wait until a condition holds, and fail when it doesn't within `seconds`."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"after {seconds} s: not {what}"
        time.sleep(0.2)


class Call:
    """Snakemake, started in a process group of its own; its output is in a file."""

    def __init__(self, arguments: tuple[str, ...], folder: Path, environment: dict[str, str], output: Path):
        self.folder, self.output = folder, output
        command = [sys.executable, "-m", "snakemake", *arguments]
        with output.open("w") as file:
            pipes = {"stdin": subprocess.DEVNULL, "stdout": file, "stderr": subprocess.STDOUT}
            self.process = subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True, **pipes)

    @property
    def text(self) -> str:
        """Standard output and error so far."""
        return self.output.read_text()

    @property
    def run(self) -> str:
        """The id that all SLURM jobs of this call have as their name; empty before it is printed."""
        printed = re.search(r"SLURM run ID: (\S+)", self.text)
        return printed.group(1) if printed else ""

    def kill(self) -> None:
        """SIGKILL to Snakemake and the jobs on this machine, not to those in the queue."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def finish(self, seconds: float = 300) -> "Call":
        """Wait for its end; a call that takes longer is killed and fails."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"not done after {seconds} s:\n{self.text[-6000:]}") from None
        return self

    def succeed(self, seconds: float = 300) -> "Call":
        """Wait for its end, which must be a success."""
        self.finish(seconds)
        assert self.process.returncode == 0, self.text[-6000:]
        return self


class Cluster:
    """A SLURM below one folder. Its partitions are those of SITE; it has GPUS GPUs that are none."""

    def __init__(self, folder: Path):
        self.folder, self.calls = folder, []
        variables = {k: v for k, v in os.environ.items() if k != "PYTHONPATH" and not k.startswith("SLURM_")}
        own = {"SLURM_CONF": f"{folder}/slurm.conf", "PATH": f"{folder}/bin:{SEARCHED}", "HF_HUB_OFFLINE": "1"}
        self.environment = {**variables, **own, **SITE}
        self.others = set(daemons())

    def up(self) -> None:
        """Start the daemons; an error shows the ends of their logs."""
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
        sizes = {"MEM": str(min(16000, memory)), "GPUS": str(GPUS), "PORT": str(free_port())}
        with (self.folder / "up.txt").open("w") as file:
            command = [SCRIPT, "up", self.folder]
            done = subprocess.run(command, env={**os.environ, **sizes}, stdout=file, stderr=file, timeout=120)
        assert done.returncode == 0, (self.folder / "up.txt").read_text()

    def down(self) -> None:
        """Stop all calls, jobs and daemons."""
        for call in self.calls:
            call.kill()
        subprocess.run([SCRIPT, "down", self.folder], stdin=subprocess.DEVNULL, timeout=120)

    def survivors(self) -> list[str]:
        """Daemons that were not there before, and processes that were started with this cluster's settings."""
        started = {pid: name for pid, name in daemons().items() if pid not in self.others}
        return [f"{pid} {name}" for pid, name in {**started, **processes_with(str(self.folder))}.items()]

    def snakemake(self, folder: Path, *arguments: str) -> Call:
        """Start Snakemake in a folder."""
        output = self.folder / f"call{len(self.calls)}.txt"
        self.calls.append(Call(arguments, folder, self.environment, output))
        return self.calls[-1]

    def tell(self, *command: str) -> str:
        """Output of one of SLURM's commands."""
        pipes = {"capture_output": True, "text": True, "timeout": 30}
        done = subprocess.run(command, env=self.environment, **pipes)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def jobs(self, call: Call, rule: str = "") -> list[dict[str, str]]:
        """What SLURM knows of the jobs of a call, waiting, running and done ones, by the time of submission."""
        lines = self.tell("scontrol", "show", "jobs", "-o").splitlines() if call.run else []
        jobs = [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in lines]
        mine = [job for job in jobs if job.get("JobName") == call.run and job["Comment"].startswith(f"rule_{rule}")]
        return sorted(mine, key=lambda job: int(job["JobId"]))

    def completed(self, call: Call) -> list[dict[str, str]]:
        """The jobs of a call in the cluster's list of finished jobs."""
        lines = (self.folder / "log" / "jobs.txt").read_text().splitlines()
        jobs = [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in lines]
        return [job for job in jobs if job["Name"] == call.run]


def free_port() -> int:
    """A port that nothing listens on, nor on the next; the range below is left to outgoing connections."""
    for port in range(16817 + os.getpid() % 50 * 200, 32000, 200):
        try:
            for number in (port, port + 1):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", number))
            return port
        except OSError:
            continue
    raise AssertionError("no free port for SLURM between 16817 and 32000")


def daemons() -> dict[int, str]:
    """Processes of SLURM and munge on this machine."""
    return {pid: name for pid, name in _processes().items() if name in DAEMONS}


def processes_with(text: str) -> dict[int, str]:
    """Living processes, but this one, in whose command or environment a text stands."""
    found = {}
    for pid, name in _processes().items():
        try:
            raw = b"".join(Path(f"/proc/{pid}/{part}").read_bytes() for part in ("cmdline", "environ"))
        except OSError:
            continue
        if text.encode() in raw and pid != os.getpid():
            found[pid] = name
    return found


def _processes() -> dict[int, str]:
    """Names of all processes that are more than an entry that nobody has read."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, name, state = re.match(r"(\d+) \((.*)\) (\S)", path.read_text(errors="replace")).groups()
        except OSError:
            continue
        if state not in "ZX":
            found[int(pid)] = name
    return found
