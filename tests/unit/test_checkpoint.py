"""Folders of models that hold code: pickles, classes of their own, names of other weights. None of it is ever run."""

import json
import os
import runpy
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from knatlas.errors import AtlasError
from knatlas.models import sources
from knatlas.models.folder_files import wanted_patterns
from knatlas.models.loading import load_model, resolve_model
from knatlas.models.sources import read_source_record, source_record
from tests.tiny_models import tiny_model

IDS = torch.tensor([[3, 7, 11, 5, 9]])


class Touch:
    """Makes a file when its pickle is read."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> tuple:
        return os.system, (f"touch '{self.marker}'",)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "was-run"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model in safetensors."""
    lm = tiny_model("bert")
    lm.model.save_pretrained(tmp_path / "tiny")
    lm.tokenizer.save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.fixture
def pickled(folder: Path) -> Path:
    """The same model as a pickle alone."""
    torch.save(tiny_model("bert").model.state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder


def load(folder: Path, weights: str = "safetensors") -> object:
    return load_model(resolve_model("tiny", "folder", str(folder), weights=weights), device="cpu")


def refused(folder: Path, weights: str = "safetensors") -> str:
    with pytest.raises(AtlasError) as caught:
        load(folder, weights)
    assert str(caught.value).startswith("models: tiny: ")
    return str(caught.value)


def change(path: Path, **settings: object) -> None:
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(content | settings))


def logits(lm: object) -> torch.Tensor:
    with torch.no_grad():
        return lm.model(IDS).logits


def test_a_pickle_alone_is_refused_with_its_conversion_and_the_key_that_allows_it(pickled: Path) -> None:
    sentence = refused(pickled)
    assert (
        "has no weights in the safetensors format" in sentence and "additional_models.tiny.weights: pickle" in sentence
    )
    calls = [
        f'AutoModelForMaskedLM.from_pretrained("{pickled}", use_safetensors=False).save_pretrained("NEW")',
        f'AutoTokenizer.from_pretrained("{pickled}").save_pretrained("NEW")',
    ]
    assert [line.strip() for line in sentence.split("\n")[1:3]] == calls


def test_the_conversion_of_that_sentence_gives_a_folder_that_loads(pickled: Path, tmp_path: Path) -> None:
    AutoModelForMaskedLM.from_pretrained(pickled, use_safetensors=False).save_pretrained(tmp_path / "new")
    AutoTokenizer.from_pretrained(pickled).save_pretrained(tmp_path / "new")
    assert torch.equal(logits(load(tmp_path / "new")), logits(load(pickled, "pickle")))


def test_a_pickle_that_is_allowed_gives_the_same_model_and_the_record_says_so(folder: Path, pickled: Path) -> None:
    source = resolve_model("tiny", "folder", str(pickled), weights="pickle")
    record = source_record(source)
    assert record["weights"] == "pickle" and read_source_record(record) == source
    expected = tiny_model("bert").model.state_dict()
    loaded = load_model(source, device="cpu").model.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.items())


def test_safetensors_are_recorded_and_read_where_both_are_there(folder: Path, marker: Path) -> None:
    torch.save({"x": Touch(marker)}, folder / "pytorch_model.bin")
    assert source_record(resolve_model("tiny", "folder", str(folder)))["weights"] == "safetensors"
    assert load(folder).name == "tiny" and not marker.exists()


def test_code_in_a_pickle_is_not_run_even_where_pickles_are_allowed(pickled: Path, marker: Path) -> None:
    path = pickled / "pytorch_model.bin"
    torch.save(tiny_model("bert").model.state_dict() | {"extra": Touch(marker)}, path)
    refused(pickled)
    assert not marker.exists()
    assert "holds more than arrays of numbers" in refused(pickled, "pickle")
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists(), "the pickle of this test does nothing, so nothing was tested"


def test_other_formats_and_a_missing_pickle_are_sentences(folder: Path) -> None:
    with pytest.raises(AtlasError, match=r"weights is 'bin'; expected a format \(safetensors pickle\)"):
        resolve_model("tiny", "folder", str(folder), weights="bin")
    assert "no weights in the pickle format" in refused(folder, "pickle")


def with_part(part: str) -> Callable[[Path, Path], None]:
    """Weights in one part, of which the index says that it is `part`."""

    def write(folder: Path, marker: Path) -> None:
        (folder / "model.safetensors").rename(folder.parent / "outside.safetensors")
        torch.save({"x": Touch(marker)}, folder / "part.bin")
        index = {"metadata": {}, "weight_map": {"x": part}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    return write


def with_other_weights(folder: Path, marker: Path) -> None:
    torch.save({"x": Touch(marker)}, folder / "adapter_model.bin")
    change(folder / "config.json", transformers_weights="adapter_model.bin")


def with_adapter(folder: Path, marker: Path) -> None:
    torch.save({"x": Touch(marker)}, folder / "adapter_model.bin")
    change(folder / "adapter_config.json", base_model_name_or_path="owner/other")


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (with_part("part.bin"), "index.json names 'part.bin'; expected files of that folder that end in .safetensors"),
        (
            with_part("../outside.safetensors"),
            "index.json names '../outside.safetensors'; expected files of that folder",
        ),
        (with_part("missing.safetensors"), "lacks missing.safetensors, a part of its weights"),
        (with_other_weights, "config.json names another file of weights"),
        (with_adapter, "holds an adapter of another model (adapter_config.json)"),
    ],
)
def test_no_other_weights_are_read_than_those_of_the_format(
    folder: Path, marker: Path, write: Callable, expected: str
) -> None:
    write(folder, marker)
    assert expected in refused(folder)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("file", "names"),
    [
        ("config.json", {"AutoConfig": "own.OwnConfig", "AutoModelForMaskedLM": "own.OwnModel"}),
        ("tokenizer_config.json", {"AutoTokenizer": [None, "own.OwnTokenizer"]}),
    ],
)
def test_code_that_a_folder_brings_along_is_refused_and_not_run(
    folder: Path, marker: Path, file: str, names: dict
) -> None:
    (folder / "own.py").write_text(f"open({str(marker)!r}, 'w').close()\n")
    change(folder / file, auto_map=names)
    sentence = refused(folder)
    assert f"{file} names code of its own, which is never run (trust_remote_code is off): auto_map" in sentence
    # transformers itself does not run it either, with what `load_model` passes
    AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    AutoModelForMaskedLM.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    assert not marker.exists()
    runpy.run_path(str(folder / "own.py"))
    assert marker.exists(), "the code of this test does nothing, so nothing was tested"


def test_a_model_type_that_only_the_folders_code_knows_is_refused(folder: Path, marker: Path) -> None:
    (folder / "own.py").write_text(f"open({str(marker)!r}, 'w').close()\n")
    change(folder / "config.json", model_type="own", auto_map={"AutoConfig": "own.OwnConfig"})
    assert "trust_remote_code is off" in refused(folder) and not marker.exists()


def test_a_repository_is_downloaded_in_the_format_that_is_allowed(
    monkeypatch: pytest.MonkeyPatch, pickled: Path, tmp_path: Path
) -> None:
    asked = []

    def download(repository: str, **options: object) -> str:
        """A snapshot: the files of the repository that match the patterns."""
        asked.append(options)
        snapshot = tmp_path / f"snapshot{len(asked)}"
        snapshot.mkdir()
        for path in pickled.iterdir():
            if any(path.match(pattern) for pattern in options["allow_patterns"]):
                shutil.copy(path, snapshot)
        return str(snapshot)

    monkeypatch.setattr(sources, "snapshot_download", download)
    monkeypatch.setenv("HF_TOKEN", "secret-word\n")
    with pytest.raises(AtlasError, match=r'from_pretrained\("owner/tiny", use_safetensors=False\)'):
        resolve_model("tiny", "hub", "owner/tiny")
    source = resolve_model("tiny", "hub", "owner/tiny", weights="pickle")
    assert load_model(source, device="cpu").revision == "snapshot2"
    assert asked[0]["token"] == "secret-word"
    assert [options["allow_patterns"] for options in asked] == [
        list(wanted_patterns(weights)) for weights in ("safetensors", "pickle")
    ]


def test_a_digest_counts_the_weights_that_are_read(pickled: Path) -> None:
    def revision() -> str:
        return resolve_model("tiny", "folder", str(pickled), weights="pickle").revision

    first = revision()
    (pickled / "own.py").write_text("pass")
    assert revision() == first
    torch.save({}, pickled / "pytorch_model.bin")
    assert revision() != first
