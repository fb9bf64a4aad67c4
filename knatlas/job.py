"""What every script does around its work: a log, progress, errors as sentences, and the provenance of what it wrote."""

import gc
import os
import platform
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from knatlas import COLLECTOR_THRESHOLD
from knatlas.command import remember_command
from knatlas.failures import INTERRUPTS, code_of, sentence_of, stop, stopped_by
from knatlas.progress import Progress
from knatlas.provenance import file_digest, record_path, run_record
from knatlas.redaction import hide_in_tracebacks, redacted
from knatlas.storage import as_json, write_text
from knatlas.verification import checked_digests

# what a job was given that changes its speed or whether it fits, but no number
RESOURCES = ("gpu", "gpu_model", "device", "batch_rows", "batch_queries", "mem_mb", "runtime")


def share_library(root: Path) -> None:
    """Let the processes of scripts, wherever they run, import the library from `root`, and know the user's command."""
    others = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(root), *(path for path in others if path and path != str(root))])
    remember_command(sys.argv, os.environ)


class Job:
    """Context of one job of the workflow.

    Before the work, inputs that a job of the workflow wrote are compared with their digests. Lines go to the job's log
    file. An AtlasError, too little memory and a signal end the job with a sentence on the terminal and the traceback in
    the log only. When the work is done, each output gets a file `NAME.provenance.json` beside it.
    """

    def __init__(self, snakemake: object):
        self.snakemake = snakemake
        self.log_path = Path(str(snakemake.log[0]))
        self.log_file, self.log_error = None, None
        self.resources = _resources(snakemake)
        self.digests: dict[str, str] = {}
        self.facts: dict = {}

    def __enter__(self) -> "Job":
        hide_in_tracebacks()
        gc.freeze()
        gc.set_threshold(*COLLECTOR_THRESHOLD)
        self.start, self.processor_start = time.monotonic(), time.process_time()
        self._open_log()
        self.handler = _handle_termination(stop)
        try:
            # of an earlier run: whatever Snakemake kept of that, this job's outputs are not it
            for output in self.snakemake.output:
                record_path(output).unlink(missing_ok=True)
            self.digests = checked_digests(self.snakemake.input)
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def log(self, line: str) -> None:
        """Write a line with the seconds since the start to the log file; a log that can't be written stops nothing."""
        if self.log_file is None:
            return
        try:
            self.log_file.write(f"[{time.monotonic() - self.start:8.1f} s] {redacted(line)}\n")
            self.log_file.flush()
        except OSError as error:
            self.log_error = error

    def progress(self, title: str) -> Progress:
        """A progress report for a piece of long work."""
        return Progress(title, self.log)

    def record(self, **facts: object) -> None:
        """Add facts (device, dtype, revision, counts) to the provenance of this job's outputs."""
        self.facts.update(facts)

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            try:
                self._write_provenance()
            except Exception as failure:
                error = failure
        sentence = None if error is None else self._end(error)
        self._close()
        if sentence is not None:
            print(redacted(f"{self.snakemake.rule}: {sentence}\n({self._details()})"), file=sys.stderr)
            sys.exit(code_of(error))
        if kind is None and error is not None:
            raise error

    def _end(self, error: BaseException) -> str | None:
        """Log how the job failed; the sentence for the terminal, where there is one."""
        if isinstance(error, INTERRUPTS):
            self.log(f"stopped by {stopped_by(error)}")
        else:
            self.log("".join(traceback.format_exception(error)))
        return sentence_of(error, self.snakemake.rule, self.resources)

    def _open_log(self) -> None:
        """Begin the log with what the job is, what it was given, and where it runs."""
        try:
            self.log_path.parent.mkdir(parents=True, exist_ok=True)
            self.log_file = self.log_path.open("w", encoding="utf-8")
        except OSError as error:
            self.log_error = error
        self.log(f"{self.snakemake.rule} {dict(self.snakemake.wildcards)}")
        self.log("resources: " + " ".join(f"{name}={value}" for name, value in self.resources.items()))
        cluster = f", SLURM job {os.environ['SLURM_JOB_ID']}" if "SLURM_JOB_ID" in os.environ else ""
        self.log(f"on {platform.node()}, process {os.getpid()}{cluster}")

    def _close(self) -> None:
        _handle_termination(self.handler)
        if self.log_file is not None:
            with suppress(OSError):
                self.log_file.close()

    def _details(self) -> str:
        if self.log_error is None:
            return f"details: {self.log_path}"
        return f"the log {self.log_path} could not be written: {self.log_error.strerror}"

    def _write_provenance(self) -> None:
        settings = {str(name): value for name, value in dict(self.snakemake.params).items()}
        record = run_record(self.digests, settings, time.monotonic() - self.start)
        record["cpu_seconds"] = round(time.process_time() - self.processor_start, 3)
        record |= {"rule": self.snakemake.rule, "wildcards": dict(self.snakemake.wildcards)}
        record |= {"resources": self.resources, **self.facts}
        # an output that the script did not write is Snakemake's to complain about
        for output in filter(os.path.exists, map(str, self.snakemake.output)):
            write_text(redacted(as_json(record | _digests(Path(output)))), record_path(output))
        self.log(f"done, peak memory {record['peak_memory_mb']} MB")


def _digests(output: Path) -> dict[str, object]:
    """The digest of an output, and of the Markdown that is written beside a csv table."""
    markdown = output.with_suffix(".md")
    is_pair = output.suffix == ".csv" and markdown.is_file()
    return {"digest": file_digest(output)} | ({"beside": {markdown.name: file_digest(markdown)}} if is_pair else {})


def _resources(snakemake: object) -> dict[str, object]:
    """Threads and resources that a job was given, as far as it was given any."""
    given = dict(getattr(snakemake, "resources", {}))
    threads = {"threads": snakemake.threads} if hasattr(snakemake, "threads") else {}
    return threads | {name: given[name] for name in RESOURCES if name in given}


def _handle_termination(handler: object) -> object:
    """Set what SIGTERM does, and return what it did before; only the main thread of a process may."""
    if threading.current_thread() is threading.main_thread():
        return signal.signal(signal.SIGTERM, handler)
    return None
