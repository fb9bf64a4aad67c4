"""What a study can't do: write outside its results, load code by the way, or let secrets be written down."""

import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from knatlas.errors import AtlasError
from knatlas.job import Job
from knatlas.models.sources import resolve_model
from knatlas.redaction import redacted
from knatlas.study import read_study
from knatlas.study.paths import LONGEST_NAME, NAME
from tests.workflow.conftest import copy_repository

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "hf_secretsecret"
OTHER_TOKEN = "hf_" + "Ab1" * 11 + "x"  # of the length that the hub gives
SMOKE = yaml.safe_load((ROOT / "studies" / "smoke.yaml").read_text())


# Paths.

BAD_NAMES = ["../x", "/tmp/x", "a/b", "a\x00b", "a" * 300, ".hidden", "-n", "..", "", "~", "a\n", "a b", "a*", "a\\b"]
BAD_NAMES += ["a|b", "{a}", "<a>", "a;b", "$(a)", "a'b"]
BAD_NAMES += ["\uff41\uff42", "\u0430", "e\u0301"]  # wide letters, a Cyrillic a, a letter and its accent
MODEL = {"origin": "folder", "folder": "tests", "kind": "causal"}


@pytest.mark.parametrize("name", BAD_NAMES)
def test_no_name_leads_out_of_the_results(name):
    for change in (
        {"study": name},
        {"additional_models": {name: MODEL}},
        {"models": ["smoke-bert", name]},
        {"languages": ["en", name]},
        {"selection": {"selections": ["bkn", name]}},
    ):
        with pytest.raises(AtlasError, match=next(iter(change))):
            read_study({**SMOKE, **change}, ROOT)


@settings(max_examples=50, deadline=None)
@given(st.from_regex(NAME, fullmatch=True))
def test_a_name_that_is_allowed_is_one_part_of_a_path_and_nothing_to_a_shell(name):
    assert Path(name).name == name and shlex.quote(name) == name


def test_names_as_people_give_them_are_allowed():
    for name in ("my-model", "qwen2.5-7b", "BERT_2", "a" * LONGEST_NAME):
        assert name in read_study({**SMOKE, "additional_models": {name: MODEL}}, ROOT)["additional_models"]


@pytest.mark.parametrize("path", ["a{b}", "<results>/x", "a\nb", "a\x00b", "x" * 300, "x/" * 3000])
def test_a_path_that_can_not_be_passed_on_is_a_sentence(path):
    for change in (
        {"facts": {**SMOKE["facts"], "folder": path}},
        {"additional_models": {"own": {**MODEL, "folder": path}}},
        {"experiments": {"punctuation": {"corpus": path}}},
    ):
        with pytest.raises(AtlasError, match=r"paths can't hold|longer than a path can be"):
            read_study({**SMOKE, **change}, ROOT)


def test_paths_that_are_read_may_lie_anywhere(tmp_path):
    change = {"additional_models": {"own": {**MODEL, "folder": str(tmp_path)}}}
    assert read_study({**SMOKE, **change}, ROOT)["additional_models"]["own"]["folder"] == str(tmp_path)


# Models.


def test_foreign_code_can_not_be_allowed_and_pickles_only_by_name():
    with pytest.raises(AtlasError, match=r"additional_models\.own\.trust_remote_code: unknown key"):
        read_study({**SMOKE, "additional_models": {"own": {**MODEL, "trust_remote_code": True}}}, ROOT)
    read = read_study({**SMOKE, "additional_models": {"own": MODEL, "old": {**MODEL, "weights": "pickle"}}}, ROOT)
    assert [read["additional_models"][name]["weights"] for name in ("own", "old")] == ["safetensors", "pickle"]
    with pytest.raises(AtlasError, match=r"own\.weights: is 'bin'; expected one of safetensors pickle"):
        read_study({**SMOKE, "additional_models": {"own": {**MODEL, "weights": "bin"}}}, ROOT)


# Secrets.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"Illegal header value b'Bearer {TOKEN}'", "Illegal header value b'Bearer ***'"),
        (f"authorization: bearer {OTHER_TOKEN}", "authorization: bearer ***"),
        (f"https://huggingface.co/x?token={OTHER_TOKEN}&y", "https://huggingface.co/x?token=***&y"),
        ("proxy http://me:word@proxy.org:80/ failed", "proxy http://***@proxy.org:80/ failed"),
        ("models/hf_tiny is at https://example.org/a@b", "models/hf_tiny is at https://example.org/a@b"),
    ],
)
def test_secrets_are_replaced_and_other_words_are_not(monkeypatch, text, expected):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert redacted(text) == expected


@pytest.mark.parametrize("variable", ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"])
def test_the_value_of_a_variable_is_replaced_whatever_it_looks_like(monkeypatch, variable):
    monkeypatch.setenv(variable, "wordless\n")
    assert redacted("a wordless tale") == "a *** tale"
    monkeypatch.setenv(variable, "")
    assert redacted("a wordless tale") == "a wordless tale"


def test_a_secret_in_a_study_is_refused_and_not_repeated():
    for value in (OTHER_TOKEN, f"https://me:{OTHER_TOKEN}@huggingface.co/x/y", "https://me:pass-word@host/x"):
        change = {"additional_models": {"own": {"origin": "hub", "id": value, "kind": "causal"}}}
        with pytest.raises(
            AtlasError, match=r"additional_models\.own\.id: is .*\*\*\* is a token or a password"
        ) as caught:
            read_study({**SMOKE, **change}, ROOT)
        assert OTHER_TOKEN not in str(caught.value) and "pass-word" not in str(caught.value)


def test_a_secret_in_the_address_of_a_model_is_not_repeated():
    with pytest.raises(AtlasError, match="is not the id of a repository") as caught:
        resolve_model("own", "hub", f"https://me:{OTHER_TOKEN}@huggingface.co/x/y")
    assert OTHER_TOKEN not in str(caught.value)


def test_a_job_writes_the_token_neither_to_its_log_nor_to_the_terminal_nor_to_the_record(
    monkeypatch, tmp_path, capsys, fake_snakemake
):
    def written() -> str:
        return "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())

    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with Job(fake_snakemake) as job:
        Path(fake_snakemake.output[0]).write_text("done")
        job.log(f"asking with {TOKEN}")
        job.record(source=f"https://me:{TOKEN}@huggingface.co")
    assert "asking with ***" in written() and '"address": "x?token=***"' in written() and TOKEN not in written()
    with pytest.raises(SystemExit), Job(fake_snakemake):
        raise AtlasError(f"refused: {TOKEN}")
    assert "refused: ***" in written() and TOKEN not in written()
    with pytest.raises(ValueError, match="Illegal"), Job(fake_snakemake):
        raise ValueError(f"Illegal header value b'Bearer {TOKEN}'")
    assert "Illegal header value b'Bearer ***'" in written() and TOKEN not in written()
    shown = capsys.readouterr()
    assert "refused: ***" in shown.err and TOKEN not in shown.err + shown.out


def test_a_traceback_on_the_terminal_hides_the_token():
    code = f"from knatlas.redaction import hide_in_tracebacks as hide; hide(); raise ValueError('Bearer {TOKEN}')"
    done = subprocess.run([sys.executable, "-c", code.replace("'", '"')], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "ValueError: Bearer ***" in done.stderr and "Traceback" in done.stderr
    assert done.stderr.count(TOKEN) == 0


@pytest.fixture
def fake_snakemake(tmp_path):
    """What a script gets from Snakemake."""
    lists = {"input": [], "output": [str(tmp_path / "out.txt")], "log": [str(tmp_path / "job.log")]}
    return SimpleNamespace(
        rule="some_rule", wildcards={}, params={"address": f"x?token={TOKEN}"}, resources={}, **lists
    )


@pytest.mark.workflow
def test_a_real_run_writes_the_token_nowhere_and_follows_a_link_to_its_results(tmp_path):
    """One job is done, one fails at the hub; then the report: the token is in no file and in no output."""
    workflow = copy_repository(ROOT, tmp_path / "clone")
    (tmp_path / "disk").mkdir()
    workflow.results.parent.mkdir()
    workflow.results.symlink_to(tmp_path / "disk")
    name = workflow.configure("own.yaml", {"models": ["mbert"]})
    facts, source = "results/smoke/facts/facts.parquet", "results/smoke/models/mbert/source.json"
    options = {"configfile": name, "HF_TOKEN": TOKEN, "HUGGING_FACE_HUB_TOKEN": TOKEN}
    done = workflow.snakemake("--cores", "1", "--keep-going", facts, source, **options)
    assert done.returncode != 0 and "is not in the local cache" in done.stdout
    report = workflow.snakemake("--report", "report.html", facts, **options)
    assert report.returncode == 0, report.stdout[-2000:]
    assert TOKEN not in done.stdout + report.stdout
    written = {path.relative_to(tmp_path).as_posix(): path for path in tmp_path.rglob("*") if path.is_file()}
    assert {"clone/report.html", "disk/facts/facts.parquet", "disk/facts/facts.parquet.provenance.json"} <= set(written)
    assert {"disk/logs/resolve_model/mbert.log", "clone/config.yaml"} <= set(written)
    assert any(name.startswith("clone/.snakemake/metadata/") for name in written)
    holders = [name for name, path in written.items() if TOKEN.encode() in path.read_bytes()]
    assert holders == ["clone/tests/unit/test_security.py"]
