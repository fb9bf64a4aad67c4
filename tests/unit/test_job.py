"""What a job does around its work: log, progress, sentences, provenance."""

import errno
import os
import signal
import threading
from types import SimpleNamespace

import pytest

from knatlas.errors import AtlasError
from knatlas.job import Job
from knatlas.progress import Progress
from knatlas.provenance import file_digest
from knatlas.storage import read_json, write_text
from knatlas.writing import replacing


@pytest.fixture
def snakemake(tmp_path) -> SimpleNamespace:
    (tmp_path / "in.txt").write_text("in")
    return SimpleNamespace(
        rule="some_rule",
        wildcards={"model": "m"},
        params={"tau": 0.3},
        input=[str(tmp_path / "in.txt")],
        output=[str(tmp_path / "out.txt")],
        log=[str(tmp_path / "logs" / "job.log")],
        resources={"mem_mb": 4000, "batch_rows": 128, "_cores": 2, "tmpdir": "/tmp"},
        threads=1,
    )


def log_of(snakemake):
    with open(snakemake.log[0]) as log:
        return log.read()


def test_a_job_writes_its_log_and_the_provenance_of_its_outputs(snakemake):
    with Job(snakemake) as job:
        write_text("out", snakemake.output[0])
        job.log("halfway")
        job.record(device="cpu")
    record = read_json(snakemake.output[0] + ".provenance.json")
    assert record["rule"] == "some_rule" and record["settings"] == {"tau": 0.3} and record["device"] == "cpu"
    assert record["digest"] == file_digest(snakemake.output[0]) and "halfway" in log_of(snakemake)


def test_a_mistake_is_a_sentence_on_the_terminal_and_a_traceback_in_the_log(snakemake, capsys):
    with pytest.raises(SystemExit) as stop, Job(snakemake):
        raise AtlasError("facts: the file x.jsonl is broken")
    shown = capsys.readouterr().err
    assert stop.value.code == 1
    assert "some_rule: facts: the file x.jsonl is broken" in shown and "Traceback" not in shown
    assert "Traceback" in log_of(snakemake)


def test_another_error_is_not_swallowed(snakemake):
    with pytest.raises(ZeroDivisionError), Job(snakemake):
        _ = 1 / 0


class OutOfMemoryError(RuntimeError):
    """As torch names its own."""


@pytest.mark.parametrize(
    "error", [MemoryError(), OutOfMemoryError("CUDA out of memory.\nMore"), RuntimeError("x: can't allocate memory: y")]
)
def test_too_little_memory_is_a_sentence_that_says_what_to_lower_and_what_to_raise(snakemake, capsys, error):
    with pytest.raises(SystemExit) as stop, Job(snakemake):
        raise error
    shown = capsys.readouterr().err
    assert stop.value.code == 1 and shown.startswith("some_rule: memory was too short (")
    assert "The job had batch_rows 128, mem_mb 4000. To mend it, set compute.batch_rows lower" in shown
    assert "--set-resources some_rule:mem_mb=N" in shown and "More" not in shown and "Traceback" in log_of(snakemake)


@pytest.mark.parametrize(
    ("number", "words"), [(signal.SIGTERM, "SIGTERM (by hand, or by the cluster"), (signal.SIGINT, "SIGINT (Ctrl-C)")]
)
def test_a_job_that_is_stopped_says_so_in_its_log_and_leaves_no_file(snakemake, capsys, tmp_path, number, words):
    assert threading.current_thread() is threading.main_thread()
    # a shell's background job ignores Ctrl-C, and its children with it
    signal.signal(signal.SIGINT, signal.default_int_handler)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stop, Job(snakemake), replacing(tmp_path / "out.txt") as partial:
        partial.write_text("half")
        os.kill(os.getpid(), number)
    assert stop.value.code == 128 + number and f"stopped by {words}" in log_of(snakemake)
    assert "run the same command again" in capsys.readouterr().err
    assert not list(tmp_path.glob("*out.txt*")) and signal.getsignal(signal.SIGTERM) is before


def test_a_log_begins_with_what_the_job_was_given_and_its_record_holds_it(snakemake):
    with Job(snakemake):
        write_text("out", snakemake.output[0])
    first, second, third, *_ = log_of(snakemake).splitlines()
    assert first.endswith("some_rule {'model': 'm'}") and f"process {os.getpid()}" in third
    assert second.endswith("resources: threads=1 batch_rows=128 mem_mb=4000")
    record = read_json(snakemake.output[0] + ".provenance.json")
    assert record["resources"] == {"threads": 1, "batch_rows": 128, "mem_mb": 4000}


@pytest.mark.parametrize("log", ["/dev/full", "in.txt/job.log"])
def test_a_log_that_cannot_be_written_hides_no_error(snakemake, capsys, tmp_path, log):
    snakemake.log = [str(tmp_path / log)]
    with pytest.raises(SystemExit), Job(snakemake) as job:
        job.log("halfway")
        raise AtlasError("the file x.jsonl is broken")
    shown = capsys.readouterr().err
    assert "some_rule: the file x.jsonl is broken" in shown and f"{log} could not be written: " in shown
    with pytest.raises(ZeroDivisionError), Job(snakemake):
        _ = 1 / 0
    with Job(snakemake):
        write_text("out", snakemake.output[0])
    assert read_json(snakemake.output[0] + ".provenance.json")["rule"] == "some_rule"


def test_the_provenance_of_an_earlier_run_is_gone_when_the_work_begins(snakemake):
    write_text("old", snakemake.output[0] + ".provenance.json")
    with Job(snakemake):
        assert not os.path.exists(snakemake.output[0] + ".provenance.json")


def test_provenance_that_cannot_be_written_is_a_sentence(snakemake, capsys, monkeypatch):
    monkeypatch.setattr("knatlas.job.write_text", lambda *_: replacing_on_a_full_disk(snakemake.output[0]))
    with pytest.raises(SystemExit), Job(snakemake):
        write_text("out", snakemake.output[0])
    assert "can't be written: the disk is full" in capsys.readouterr().err


def replacing_on_a_full_disk(path):
    with replacing(path):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_settings_that_are_not_json_are_no_secret_failure(snakemake):
    snakemake.params = {"odd": {1, 2}}
    with pytest.raises(TypeError, match="not JSON serializable"), Job(snakemake):
        write_text("out", snakemake.output[0])
    assert "not JSON serializable" in log_of(snakemake)


def test_a_token_is_in_no_log_no_record_and_no_sentence(snakemake, capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "s3cretword")
    snakemake.params = {"address": "https://s3cretword@host"}
    with Job(snakemake) as job:
        write_text("out", snakemake.output[0])
        job.log("GET with s3cretword")
    with open(snakemake.output[0] + ".provenance.json") as record:
        assert "s3cretword" not in record.read() + log_of(snakemake)
    with pytest.raises(SystemExit), Job(snakemake):
        raise AtlasError("refused for s3cretword")
    assert "s3cretword" not in capsys.readouterr().err + log_of(snakemake)


def test_no_provenance_without_a_result(snakemake, tmp_path):
    with pytest.raises(SystemExit), Job(snakemake):
        raise AtlasError("no")
    assert not (tmp_path / "out.txt.provenance.json").exists()


def test_progress_writes_lines_with_rate_and_time_left():
    lines: list[str] = []
    progress = Progress("facts", lines.append, seconds_between_lines=0)
    progress(1, 4, "fi")
    progress(4, 4, "fi")
    progress.close()
    assert lines[0].startswith("facts: 1 of 4, ") and "left fi" in lines[0]
    assert lines[1].startswith("facts: 4 of 4")


def test_progress_keeps_silent_between_lines():
    lines: list[str] = []
    progress = Progress("facts", lines.append, seconds_between_lines=3600)
    for done in range(1, 11):
        progress(done, 10)
    assert len(lines) == 1
