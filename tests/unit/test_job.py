"""What a job does around its work: log, progress, sentences, provenance."""

from types import SimpleNamespace

import pytest

from knatlas.errors import AtlasError
from knatlas.job import Job
from knatlas.progress import Progress
from knatlas.storage import read_json, write_text


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
    )


def test_a_job_writes_its_log_and_the_provenance_of_its_outputs(snakemake):
    with Job(snakemake) as job:
        write_text("out", snakemake.output[0])
        job.log("halfway")
        job.record(device="cpu")
    record = read_json(snakemake.output[0] + ".provenance.json")
    assert record["rule"] == "some_rule" and record["settings"] == {"tau": 0.3} and record["device"] == "cpu"
    with open(snakemake.log[0]) as log:
        assert "halfway" in log.read()


def test_a_mistake_is_a_sentence_on_the_terminal_and_a_traceback_in_the_log(snakemake, capsys):
    with pytest.raises(SystemExit) as stop, Job(snakemake):
        raise AtlasError("facts: the file x.jsonl is broken")
    shown = capsys.readouterr().err
    assert stop.value.code == 1
    assert "some_rule: facts: the file x.jsonl is broken" in shown and "Traceback" not in shown
    with open(snakemake.log[0]) as log:
        assert "Traceback" in log.read()


def test_another_error_is_not_swallowed(snakemake):
    with pytest.raises(ZeroDivisionError), Job(snakemake):
        _ = 1 / 0


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
