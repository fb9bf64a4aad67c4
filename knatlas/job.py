"""What every script does around its work: a log, progress, errors as sentences, and the provenance of what it wrote."""

import os
import sys
import time
import traceback
from pathlib import Path
from types import TracebackType

from knatlas.errors import AtlasError
from knatlas.progress import Progress
from knatlas.provenance import run_record
from knatlas.storage import write_json


def share_library(root: Path) -> None:
    """Let the processes of scripts, wherever they run, import the library from `root`."""
    others = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(root), *(path for path in others if path and path != str(root))])


class Job:
    """Context of one job of the workflow.

    Lines go to the job's log file. An AtlasError ends the job with its sentence on the terminal and the traceback in
    the log only. When the work is done, each output gets a file `NAME.provenance.json` beside it.
    """

    def __init__(self, snakemake: object):
        self.snakemake = snakemake
        self.log_path = Path(str(snakemake.log[0]))
        self.facts: dict = {}

    def __enter__(self) -> "Job":
        self.start, self.processor_start = time.monotonic(), time.process_time()
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        self.log_file = self.log_path.open("w", encoding="utf-8")
        self.log(f"{self.snakemake.rule} {dict(self.snakemake.wildcards)}")
        return self

    def log(self, line: str) -> None:
        """Write a line with the seconds since the start to the log file."""
        self.log_file.write(f"[{time.monotonic() - self.start:8.1f} s] {line}\n")
        self.log_file.flush()

    def progress(self, title: str) -> Progress:
        """A progress report for a piece of long work."""
        return Progress(title, self.log)

    def record(self, **facts: object) -> None:
        """Add facts (device, dtype, revision, counts) to the provenance of this job's outputs."""
        self.facts.update(facts)

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self._write_provenance()
        else:
            self.log("".join(traceback.format_exception(error)))
        self.log_file.close()
        if isinstance(error, AtlasError):
            print(f"{self.snakemake.rule}: {error}\n(details: {self.log_path})", file=sys.stderr)
            sys.exit(1)

    def _write_provenance(self) -> None:
        settings = {str(name): value for name, value in dict(self.snakemake.params).items()}
        seconds = time.monotonic() - self.start
        record = run_record([str(path) for path in self.snakemake.input], settings, seconds)
        record["cpu_seconds"] = round(time.process_time() - self.processor_start, 3)
        record |= {"rule": self.snakemake.rule, "wildcards": dict(self.snakemake.wildcards), **self.facts}
        for output in self.snakemake.output:
            write_json(record, f"{output}.provenance.json")
        self.log(f"done, peak memory {record['peak_memory_mb']} MB")
