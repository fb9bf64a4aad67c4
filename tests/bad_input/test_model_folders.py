"""Mistakes in the folder of a model: the job that finds it or the first that loads it stops with a sentence."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from knatlas.storage import write_table
from tests.tiny_models import tiny_model, tiny_prompts

Break = Callable[[Path], object]
WEIGHT = "transformer.h.1.mlp.c_fc.weight"


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """The folder of a tiny GPT-2 that loads."""
    folder, lm = tmp_path_factory.mktemp("saved"), tiny_model("gpt2")
    lm.model.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    return folder


def settings(**changes: object) -> Break:
    """Other values in config.json."""

    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Break:
    """Other weights."""

    def changed(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    return changed


def cut(folder: Path) -> None:
    """Cut the file of the weights off."""
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


# name, how the folder is broken, the sentence
FOUND = [
    ("no folder", shutil.rmtree, "does not exist"),
    ("no configuration", lambda f: (f / "config.json").unlink(), "has no config.json; it is not a model in the"),
    ("broken configuration", lambda f: (f / "config.json").write_text("{"), "config.json is not JSON"),
    ("list as a configuration", lambda f: (f / "config.json").write_text("[1]"), "config.json is not a JSON object"),
    (
        "unknown architecture",
        settings(model_type="gpt-2"),
        "model_type is 'gpt-2'; expected a known architecture (bert",
    ),
    ("no weights", lambda f: (f / "model.safetensors").unlink(), "has no weights in the safetensors format"),
    ("no tokenizer", lambda f: [path.unlink() for path in f.glob("token*")], "has no tokenizer (one of tokenizer.json"),
]
LOADED = [
    ("torn weights", cut, "cannot be loaded"),
    ("empty weights", lambda f: (f / "model.safetensors").write_bytes(b""), "cannot be loaded"),
    ("other sizes", settings(n_embd=32), "weights and configuration are not of the same model"),
    ("more layers", settings(n_layer=4), "of the weights (transformer.h.3."),
    ("broken tokenizer", lambda f: (f / "tokenizer.json").write_text("{"), "tokenizer"),
    ("NaN among weights", weights(lambda t: t[WEIGHT].fill_(torch.nan)), f"{WEIGHT} has values that are not finite"),
]


@pytest.mark.parametrize(("broken", "sentence"), [case[1:] for case in FOUND], ids=[case[0] for case in FOUND])
def test_a_folder_that_is_no_model_stops_the_job_that_finds_it(place, saved, broken, sentence):
    place.refuses(sentence, resolve(place, saved, broken), is_job=True)
    assert not (place.folder / "out").exists()


@pytest.mark.parametrize(("broken", "sentence"), [case[1:] for case in LOADED], ids=[case[0] for case in LOADED])
def test_a_model_that_does_not_load_stops_the_first_job_that_needs_it(place, saved, broken, sentence):
    code, shown = resolve(place, saved, broken)
    assert code == 0, shown
    place.refuses(sentence, measure(place), is_job=True)
    assert not (place.folder / "out" / "known.parquet").exists()


@pytest.mark.parametrize("change", [settings(vocab_size=7), weights(lambda t: t[WEIGHT].mul_(3)), cut])
def test_a_folder_that_changed_since_it_was_found_stops_the_job_that_loads_it(place, saved, change):
    code, shown = resolve(place, saved, lambda folder: None)
    assert code == 0, shown
    change(place.folder / "mine")
    place.refuses("mine are not those of revision sha256:", measure(place), is_job=True)


def test_a_file_of_a_folder_that_changed_is_noticed_before_anything_runs(place, saved):
    folder = Path(shutil.copytree(saved, place.folder / "mine"))
    record = {"origin": "folder", "folder": "mine", "kind": "causal", "parameters_millions": 1}
    study = {"study": "smoke", "languages": ["en"], "models": ["mine"], "facts": {"source": "mpararel"}}
    study = place.write({**study, "additional_models": {"mine": record}})
    source = place.folder / "results" / "smoke" / "models" / "mine" / "source.json"
    source.parent.mkdir(parents=True)
    source.write_text("{}")
    plan = ["-n", "results/smoke/models/mine/source.json", "--rerun-triggers", "mtime"]
    assert "Nothing to be done" in place.snakemake(*plan, configfile=study)[1]
    later = source.stat().st_mtime + 10
    os.utime(folder / "model.safetensors", (later, later))
    assert "resolve_model" in place.snakemake(*plan, configfile=study)[1]


def test_a_model_of_the_other_kind_is_named(place, saved):
    ended = resolve(place, saved, lambda folder: None, kind="masked")
    place.refuses("models: mine: kind is 'masked', but", ended, is_job=True)


def test_a_hub_model_without_network_is_named(place, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HOME", str(place.folder))
    record = {"origin": "hub", "id": "no-one/no-model-of-this-name", "kind": "causal", "revision": "main"}
    output = {"source": place.folder / "out" / "source.json"}
    ended = place.script("resolve_model", input={}, output=output, params={"record": record}, wildcards={"model": "m"})
    place.refuses("models: m: 'no-one/no-model-of-this-name' is not in the local cache", ended, is_job=True)


def resolve(place, saved: Path, broken: Break, kind: str = "causal") -> tuple[object, str]:
    """What the job says that finds a copy of the model, broken before."""
    folder = Path(shutil.copytree(saved, place.folder / "mine"))
    broken(folder)
    record = {"origin": "folder", "folder": str(folder), "kind": kind}
    output = {"source": place.folder / "out" / "source.json"}
    return place.script(
        "resolve_model", input={}, output=output, params={"record": record}, wildcards={"model": "mine"}
    )


def measure(place) -> tuple[object, str]:
    """What the job says that asks the model."""
    write_table(tiny_prompts("causal"), place.folder / "prompts.parquet")
    files = {"model": [place.folder / "out" / "source.json"], "prompts": place.folder / "prompts.parquet"}
    output = {"known": place.folder / "out" / "known.parquet"}
    return place.script("measure_known", input=files, output=output, params={"dtype": "float32", "languages": ["en"]})
