"""The judgements of the torture, on folders that are written by hand."""

import os
from base64 import urlsafe_b64encode
from collections import Counter

import pytest

from knatlas.provenance import file_digest
from knatlas.storage import write_json
from tests.torture.compare import RECORD, differences, digests, finished, litter, recomputed
from tests.torture.outcome import Outcome, markdown
from tests.torture.torn import cut_off, flip_bit, printed_command, tear_unseen


@pytest.fixture
def results(tmp_path):
    """A study of one finished table, one finished folder, and what lies beside results."""
    folder = tmp_path / "results" / "study"
    for name in ("tables/a.csv", "models/m/weights/config.json", "logs/a.log", "tables/.b.csv.partial-1-ab"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("some content\n")
    for output in ("tables/a.csv", "models/m/weights"):
        write_json({"digest": file_digest(folder / output)}, f"{folder / output}{RECORD}")
    return folder


def names(results, paths):
    return sorted(str(path.relative_to(results)) for path in paths)


def test_logs_provenance_and_what_was_not_moved_are_no_results(results):
    (results / "models" / "m" / "weights" / ".snakemake_timestamp").touch()
    assert sorted(digests(results)) == ["models/m/weights/config.json", "tables/a.csv"]
    assert litter(results) == ["tables/.b.csv.partial-1-ab"]


def test_missing_surplus_and_other_bytes_are_differences():
    assert differences({"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "9", "d": "4"}) == ["b", "c", "d"]


def test_finished_is_what_is_recorded_whole_and_not_marked_as_started(results, tmp_path):
    assert names(results, finished(tmp_path, results)) == ["models/m/weights", "tables/a.csv"]
    marker = tmp_path / ".snakemake" / "incomplete" / urlsafe_b64encode(b"results/study/tables/a.csv").decode()
    marker.parent.mkdir(parents=True)
    marker.touch()
    assert names(results, finished(tmp_path, results)) == ["models/m/weights"]
    flip_bit(results / "models" / "m" / "weights" / "config.json")
    assert finished(tmp_path, results) == {}


def test_a_marker_with_a_long_name_lies_in_folders(results, tmp_path):
    name = urlsafe_b64encode(b"results/study/tables/a.csv").decode()
    marker = tmp_path / ".snakemake" / "incomplete" / f"@{name[:12]}" / name[12:]
    marker.parent.mkdir(parents=True)
    marker.touch()
    assert names(results, finished(tmp_path, results)) == ["models/m/weights"]


@pytest.mark.parametrize("name", ["tables/a.csv", "models/m/weights/config.json"])
def test_the_same_bytes_written_again_count_as_recomputed(results, tmp_path, name):
    before = finished(tmp_path, results)
    assert recomputed(before) == []
    content, path = (results / name).read_bytes(), results / name
    path.unlink()
    path.write_bytes(content)
    # whichever number the file system gives it
    os.utime(path, ns=(1, 1))
    assert names(results, recomputed(before)) == [name.removesuffix("/config.json")]


def test_a_lost_result_counts_as_recomputed(results, tmp_path):
    before = finished(tmp_path, results)
    (results / "tables" / "a.csv").unlink()
    assert names(results, recomputed(before)) == ["tables/a.csv"]


@pytest.mark.parametrize(("tear", "size"), [(cut_off, 9), (flip_bit, 13)])
def test_a_wound_changes_the_digest_and_not_the_time(results, tear, size):
    path = results / "tables" / "a.csv"
    digest, time = file_digest(path), path.stat().st_mtime_ns
    tear_unseen(path, tear)
    assert file_digest(path) != digest and path.stat().st_mtime_ns == time and path.stat().st_size == size


def test_the_command_of_a_sentence_is_found_whole():
    sentence = "x was changed. Make it again: snakemake --cores 2 --force -- 'a b' ; or, if on purpose, delete y"
    assert printed_command(f"rule: {sentence}\n(details: log)") == ["--cores", "2", "--force", "--", "a b"]
    assert printed_command("Error in rule x: snakemake --nothing") == []


def test_a_case_is_good_only_when_nothing_went_wrong():
    assert Outcome("kill", 1, "a script").is_good
    assert not Outcome("kill", 1, "a script", differences=["a.csv"]).is_good
    assert not Outcome("kill", 1, "a script", recomputed=["a.csv"]).is_good
    noted = Outcome("kill", 1, "a script")
    noted.require(False, "it hung")
    assert not noted.is_good and "it hung" in noted.details()


def test_the_table_has_a_cell_for_each_column():
    outcomes = [
        Outcome("kill", 3, "a script", jobs=Counter(a=2)),
        Outcome("disk", None, "", skipped="skipped: no root"),
    ]
    lines = markdown(outcomes).splitlines()
    assert len(lines) == 4 and len({line.count("|") for line in lines}) == 1
    assert "| 2 |" in lines[2] and "skipped: no root" in lines[3]
