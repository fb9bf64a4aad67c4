"""Files that were cut off or changed after their job wrote them are found before the next job reads them."""

import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from knatlas import storage, verification
from knatlas.command import VARIABLE
from knatlas.errors import AtlasError
from knatlas.job import Job
from knatlas.provenance import file_digest, record_path
from knatlas.storage import read_json
from knatlas.summary import summary
from knatlas.verification import main, torn_files
from knatlas.writing import replacing

FRAME = pd.DataFrame({"fact": ["P36:FI>Helsinki", "P36:FR>Paris"] * 50, "score": np.linspace(0, 1, 100)})


@pytest.fixture(autouse=True)
def study(tmp_path, monkeypatch):
    """The folder of results of a study, seen from the root of a repository."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(VARIABLE, raising=False)
    return tmp_path / "results" / "smoke"


def job(rule, inputs, outputs):
    log = [f"results/smoke/logs/{rule}.log"]
    return SimpleNamespace(rule=rule, wildcards={}, params={}, input=inputs, output=outputs, log=log)


def write_model(path):
    with replacing(path) as partial:
        storage.write_arrays({"layer.0": np.ones((8, 8), dtype=np.float32)}, partial / "model.safetensors")
        storage.write_json({"model_type": "gpt2"}, partial / "config.json")


WRITERS = {
    "known.parquet": lambda path: storage.write_table(FRAME, path),
    "scores.safetensors": lambda path: storage.write_arrays({"mean": np.arange(300.0)}, path),
    "table.csv": lambda path: storage.write_csv(FRAME, path),
    "source.json": lambda path: storage.write_json({"revision": "sha256:0123", "name": "m"}, path),
    "card.md": lambda path: storage.write_text("# Data\n\nWhere the facts come from.\n", path),
    "weights": write_model,
}


def written(name):
    """The path of an output that a job of `some_rule` wrote."""
    path = f"results/smoke/kept/{name}"
    with Job(job("some_rule", [], [path])):
        WRITERS[name](path)
    return path


def parts_of(path):
    """The file itself, or the files of a folder."""
    path = Path(path)
    return sorted(path.iterdir()) if path.is_dir() else [path]


def cut_off(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def flip_a_bit(path, byte=None):
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if byte is None else byte] ^= 1
    path.write_bytes(content)


def refused(capsys, path):
    """What a job that reads `path` says instead of beginning its work."""
    with pytest.raises(SystemExit) as stop, Job(job("reader", [path], ["results/smoke/out.csv"])):
        pytest.fail("the work began")
    shown = capsys.readouterr().err
    assert stop.value.code == 1 and "Traceback" not in shown
    return shown


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("damage", [cut_off, flip_a_bit])
def test_a_damaged_file_of_each_kind_is_named_with_its_rule_and_the_command(capsys, name, damage):
    path = written(name)
    recorded = read_json(record_path(path))["digest"]
    damage(parts_of(path)[-1])
    shown = refused(capsys, path)
    digests = f"(its digest is {file_digest(path)}, recorded is {recorded})"
    assert f"reader: {path} is not what some_rule wrote {digests}: it was cut off or changed." in shown
    assert f"Make it again: snakemake --cores 2 --configfile studies/smoke.yaml --force -- {path} ;" in shown
    assert f"or, if you changed it on purpose, delete {path}.provenance.json" in shown
    assert [(torn.path, torn.rule) for torn in torn_files("results/smoke")] == [(Path(path), "some_rule")]


@pytest.mark.parametrize("name", ["known.parquet", "scores.safetensors", "table.csv", "weights"])
def test_a_flipped_bit_is_found_wherever_it_is(name):
    path = written(name)
    parts = parts_of(path)
    for part in parts:
        whole = part.read_bytes()
        for byte in {0, 1, len(whole) // 3, len(whole) - 1}:
            flip_a_bit(part, byte)
            assert len(torn_files("results/smoke")) == 1, (part, byte)
            part.write_bytes(whole)
    assert torn_files("results/smoke") == []


def test_a_file_that_a_model_folder_lost_or_gained_is_found(capsys):
    path = Path(written("weights"))
    (path / "config.json").rename("config.json")
    assert "weights is not what some_rule wrote" in refused(capsys, str(path))
    shutil.copy("config.json", path)
    assert torn_files("results/smoke") == []
    shutil.copy("config.json", path / "more.json")
    assert len(torn_files("results/smoke")) == 1


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_changed_on_purpose_is_read_once_its_record_is_deleted(name):
    path = written(name)
    flip_a_bit(parts_of(path)[0])
    record_path(path).unlink()
    with Job(job("reader", [path], [])):
        pass
    assert torn_files("results/smoke") == []


def test_files_from_outside_and_old_records_without_a_digest_are_read():
    storage.write_text("own", "own/facts.txt")
    path = written("card.md")
    storage.write_json({"rule": "some_rule"}, record_path(path))
    flip_a_bit(Path(path))
    with Job(job("reader", [path, "own/facts.txt", "not/there"], ["results/smoke/out.csv"])):
        storage.write_text("x", "results/smoke/out.csv")
    inputs = read_json("results/smoke/out.csv.provenance.json")["inputs"]
    assert inputs == {path: file_digest(path), "own/facts.txt": file_digest("own/facts.txt")}


@pytest.mark.parametrize(
    "damage", [cut_off, lambda path: path.write_bytes(b"\xff\xfe"), lambda path: path.write_text("1")]
)
def test_a_torn_record_is_a_sentence_too(capsys, damage):
    path = written("known.parquet")
    damage(record_path(path))
    shown = refused(capsys, path)
    assert f"reader: {path}.provenance.json is not JSON (" in shown and f"so that {path} can't be checked" in shown
    assert f"--force -- {path} ; or, if you trust {path}, delete its record" in shown
    assert len(torn_files("results/smoke")) == 1


def test_all_torn_inputs_are_named_at_once(capsys):
    paths = [written("known.parquet"), written("table.csv")]
    for path in paths:
        cut_off(Path(path))
    with pytest.raises(SystemExit), Job(job("reader", paths, [])):
        pytest.fail("the work began")
    assert capsys.readouterr().err.count("is not what some_rule wrote") == 2


def test_each_file_is_hashed_once(monkeypatch):
    path, out, hashed = written("known.parquet"), "results/smoke/out.csv", []

    def counting(name):
        hashed.append(str(name))
        return file_digest(name)

    monkeypatch.setattr(verification, "file_digest", counting)
    monkeypatch.setattr("knatlas.job.file_digest", counting)
    with Job(job("reader", [path, path], [out])):
        storage.write_csv(FRAME, out)
    assert sorted(hashed) == sorted([path, out, "results/smoke/out.md"])


def test_the_markdown_beside_a_table_is_checked_with_it(capsys):
    path = Path(written("table.csv"))
    flip_a_bit(path.with_suffix(".md"))
    (torn,) = torn_files("results/smoke")
    assert torn.path == path.with_suffix(".md") and torn.sentence.count(f"--force -- {path} ;") == 1
    path.with_suffix(".md").unlink()
    assert "(its digest is missing, recorded is" in torn_files("results/smoke")[0].sentence


def test_the_summary_of_a_study_does_not_quote_a_torn_table():
    path = "results/smoke/tables/headlines.csv"
    with Job(job("write_headlines", [], [path])):
        storage.write_csv(pd.DataFrame({"sentence": ["Neurons do this."]}), path)
    assert "* Neurons do this." in summary(Path("results/smoke"))
    flip_a_bit(Path(path))
    with pytest.raises(AtlasError, match="is not what write_headlines wrote"):
        summary(Path("results/smoke"))


def test_the_command_line_says_that_all_is_well(capsys):
    paths = [written(name) for name in WRITERS]
    Path(paths[0]).unlink()  # as `temp` outputs are, whose records stay
    n_bytes = sum(part.stat().st_size for path in paths[1:] for part in parts_of(path))
    assert main(["results/smoke"]) == 0
    assert capsys.readouterr().out == f"results/smoke: 5 files checked ({n_bytes:,} bytes), 0 torn\n"


def test_the_command_line_lists_what_is_torn_what_is_left_and_what_it_cannot_check(capsys):
    known, table, _ = (written(name) for name in ("known.parquet", "table.csv", "card.md"))
    cut_off(Path(known))
    flip_a_bit(Path(table))
    storage.write_json({"rule": "some_rule"}, record_path("results/smoke/kept/card.md"))
    storage.write_text("half", "results/smoke/kept/.u.csv.partial-77")
    assert main(["results/smoke"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:2]] == [known, table]
    assert lines[2] == f"All of them: snakemake --cores 2 --configfile studies/smoke.yaml --force -- {known} {table}"
    assert lines[3].startswith("results/smoke/kept/.u.csv.partial-77 is left from a write that was cut off")
    assert lines[4] == "1 files can't be checked: their provenance has no digest"
    assert re.fullmatch(r"results/smoke: 2 files checked \([\d,]+ bytes\), 2 torn", lines[5]) and len(lines) == 6


@pytest.mark.parametrize(
    ("arguments", "said"), [([], "usage: python -m"), (["no/such"], "no/such is not a folder; give that of a study")]
)
def test_a_wrong_call_is_a_sentence(capsys, arguments, said):
    assert main(arguments) == 2
    assert said in capsys.readouterr().err
