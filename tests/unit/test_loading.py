"""Loading models: hub and folder through the same code, and a sentence for everything that a user can mend."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors.torch import load_file, save_file
from transformers import BertModel, ByT5Tokenizer

from knatlas.errors import AtlasError
from knatlas.models import folder_files, sources
from knatlas.models.loading import ModelSource, load_model, resolve_model
from knatlas.models.sources import model_identity, read_source_record, source_record
from tests.tiny_models import MODEL_TYPES, tiny_model

IDS = torch.tensor([[3, 7, 11, 5, 9]])


def save(model_type: str, folder: Path) -> Path:
    lm = tiny_model(model_type)
    lm.model.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save("bert", tmp_path / "tiny")


def load(folder: Path, **options: str) -> object:
    return load_model(ModelSource("tiny", folder, "random", str(folder)), **options)


def answer_of_hub(monkeypatch: pytest.MonkeyPatch, answer: Path | Exception) -> Mock:
    """Let a download give a folder or raise an error; returns what records its arguments."""
    download = Mock(side_effect=answer if isinstance(answer, Exception) else [str(answer)])
    monkeypatch.setattr(sources, "snapshot_download", download)
    return download


@pytest.mark.parametrize("model_type", MODEL_TYPES)
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
def test_a_saved_model_comes_back_as_it_was(tmp_path: Path, model_type: str, dtype: str) -> None:
    original = tiny_model(model_type)
    lm = load_model(resolve_model("tiny", "folder", str(save(model_type, tmp_path))), dtype, "cpu")
    assert (lm.name, lm.kind, lm.n_layers, lm.n_neurons) == ("tiny", original.kind, 3, 24)
    assert lm.dtype == getattr(torch, dtype)
    assert lm.model.config._attn_implementation == original.architecture.attention
    assert not lm.model.training
    assert not any(parameter.requires_grad for parameter in lm.model.parameters())
    expected = original.model.to(lm.dtype).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in lm.model.state_dict().items())
    text = "The capital of Finland is Helsinki."
    assert lm.tokenizer(text)["input_ids"] == original.tokenizer(text)["input_ids"]


def test_hub_and_folder_give_the_same_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    snapshot = save("gpt2", tmp_path / "0123abcd")
    monkeypatch.setenv("HF_TOKEN", "secret")
    download = answer_of_hub(monkeypatch, snapshot)
    from_hub = resolve_model("tiny", "hub", "owner/tiny", "main")
    from_folder = resolve_model("tiny", "folder", str(snapshot))
    assert (from_hub.folder, from_hub.revision, from_hub.location) == (snapshot, "0123abcd", "owner/tiny")
    assert read_source_record(source_record(from_hub)) == from_hub
    assert download.call_args.args == ("owner/tiny",)
    assert (download.call_args.kwargs["revision"], download.call_args.kwargs["token"]) == ("main", "secret")
    with torch.no_grad():
        logits = [load_model(source, device="cpu").model(IDS).logits for source in (from_hub, from_folder)]
    assert torch.equal(*logits)


def test_only_safetensors_are_downloaded(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    download = answer_of_hub(monkeypatch, folder)
    resolve_model("tiny", "hub", "owner/tiny")
    patterns = download.call_args.kwargs["allow_patterns"]
    wanted = [
        "config.json",
        "model-00001-of-00002.safetensors",
        "tokenizer.json",
        "special_tokens_map.json",
        "vocab.txt",
    ]
    assert all(any(Path(file).match(pattern) for pattern in patterns) for file in wanted)
    unwanted = ["pytorch_model.bin", "tf_model.h5", "flax_model.msgpack", "consolidated.safetensors"]
    unwanted += ["modeling_own.py", "tokenization_own.py", "vocab_own.py"]
    assert not any(Path(file).match(pattern) for file in unwanted for pattern in patterns)


def test_a_folder_that_changed_since_it_was_resolved_is_not_loaded(folder: Path) -> None:
    source = read_source_record(source_record(resolve_model("tiny", "folder", str(folder))))
    (folder / "training.log").write_text("seconds: 3")
    assert load_model(source, device="cpu").revision == source.revision
    weights = load_file(folder / "model.safetensors")
    weights["bert.encoder.layer.0.output.dense.bias"][0] += 1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(AtlasError, match=r"models: tiny: the files in .* are not those of revision sha256:.*Start the"):
        load_model(source, device="cpu")


def test_a_fingerprint_reads_blocks_of_a_large_file_and_all_of_a_small_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def after(place: int) -> str:
        raw = bytearray(80)
        raw[place] = 1
        (folder / "model.safetensors").write_bytes(raw)
        return folder_files.folder_fingerprint(folder, "safetensors")

    small = {after(place) for place in range(80)}
    monkeypatch.setattr(folder_files, "BLOCK", 10)
    monkeypatch.setattr(folder_files, "N_BLOCKS", 3)
    large = [after(place) for place in range(80)]
    # blocks begin at 0, 35 and 70
    is_seen = [place for place in range(80) if large[place] != large[20]]
    assert len(small) == 80 and is_seen == [*range(10), *range(35, 45), *range(70, 80)]


def test_what_is_kept_of_a_model_tells_neither_its_folder_nor_its_fingerprint(folder: Path) -> None:
    record = source_record(resolve_model("tiny", "folder", str(folder)))
    assert set(record) - set(model_identity(record)) == {"folder", "fingerprint"}


def test_revision_of_a_folder_names_its_content(folder: Path) -> None:
    first = resolve_model("tiny", "folder", str(folder)).revision
    (folder / "training.log").write_text("seconds: 3")
    assert resolve_model("other", "folder", str(folder)).revision == first
    weights = load_file(folder / "model.safetensors")
    weights["bert.encoder.layer.0.output.dense.bias"][0] += 1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert resolve_model("tiny", "folder", str(folder)).revision != first
    assert first.startswith("sha256:")


@pytest.mark.parametrize(
    ("error", "token", "expected"),
    [
        (
            GatedRepoError,
            None,
            "is open only to accounts.*accept them at huggingface.co/owner/tiny.*HF_TOKEN",
        ),
        (GatedRepoError, "hf_secret", "'owner/tiny' is not open to the account of the token in HF_TOKEN"),
        (RepositoryNotFoundError, None, "'owner/tiny' is not on the Hugging Face hub, or it is private.*HF_TOKEN"),
        (RevisionNotFoundError, "hf_secret", "'owner/tiny' has no revision 'v9'; give a branch, a tag"),
        (HfHubHTTPError, "hf_secret", r"answered with an error \(503\); try again later"),
    ],
)
def test_answers_of_the_hub_are_sentences(
    monkeypatch: pytest.MonkeyPatch, error: type[HfHubHTTPError], token: str | None, expected: str
) -> None:
    if token is None:
        monkeypatch.delenv("HF_TOKEN", raising=False)
    else:
        monkeypatch.setenv("HF_TOKEN", token)
    answer_of_hub(monkeypatch, error("Bearer hf_secret", response=Mock(status_code=503)))
    with pytest.raises(AtlasError, match=expected) as raised:
        resolve_model("tiny", "hub", "owner/tiny", "v9")
    assert str(raised.value).startswith("models: tiny: ")
    assert "hf_secret" not in str(raised.value)
    assert raised.value.__suppress_context__


@pytest.mark.parametrize("error", [LocalEntryNotFoundError("x"), OfflineModeIsEnabled("x"), HTTPError("x")])
def test_no_network_is_a_sentence(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    answer_of_hub(monkeypatch, error)
    with pytest.raises(AtlasError, match="not in the local cache and the Hugging Face hub cannot be reached"):
        resolve_model("tiny", "hub", "owner/tiny")


def test_a_path_given_as_repository_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    answer_of_hub(monkeypatch, HFValidationError("x"))
    with pytest.raises(AtlasError, match=r"expected owner/name\. A folder on disk needs origin: folder"):
        resolve_model("tiny", "hub", "/some/where/tiny")


def test_unknown_origin_and_revision_of_a_folder_are_sentences(folder: Path) -> None:
    with pytest.raises(AtlasError, match=r"origin is 'Hub'; expected where .* from \(hub folder\).*mean 'hub'"):
        resolve_model("tiny", "Hub", "owner/tiny")
    with pytest.raises(AtlasError, match=r"revision is 'main', but .* is a folder and has no revisions"):
        resolve_model("tiny", "folder", str(folder), "main")


def test_a_llama_tokenizer_as_it_is_published_keeps_its_first_token(tmp_path: Path) -> None:
    folder = save("llama", tmp_path)
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    published = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": False, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(published))
    tokens = load(folder).tokenizer("The capital of France is Paris")["input_ids"]
    assert tokens == tiny_model("llama").tokenizer("The capital of France is Paris")["input_ids"]
    assert tokens[0] == 1


def remove(file: str) -> Callable[[Path], None]:
    return lambda folder: (folder / file).unlink()


def damage(file: str) -> Callable[[Path], None]:
    return lambda folder: (folder / file).write_text('{"cut off')


def as_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def as_type(model_type: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "model_type": model_type}))

    return change


def with_inner_size(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 32}))


def without_head(folder: Path) -> None:
    body = BertModel(tiny_model("bert").model.config)
    body.save_pretrained(folder)


def with_slow_tokenizer(folder: Path) -> None:
    for file in folder.glob("*token*"):
        file.unlink()
    ByT5Tokenizer().save_pretrained(folder)
    (folder / "vocab.txt").write_text("")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (shutil.rmtree, "the folder .* does not exist"),
        (remove("config.json"), "has no config.json"),
        (remove("model.safetensors"), "has no weights in the safetensors format"),
        (as_pickle, "other formats can run code when they are read and are not loaded"),
        (remove("tokenizer.json"), "has no tokenizer"),
        (as_type("robert"), r"model_type is 'robert'; expected a known architecture \(bert bloom .*mean 'roberta'"),
        (damage("config.json"), "config.json is not JSON"),
        (damage("tokenizer.json"), "the tokenizer in .* cannot be loaded"),
        (damage("model.safetensors"), "the weights in .* cannot be loaded"),
        (with_inner_size, r"layer\.0\.intermediate\.dense\.bias in .* has shape \(24,\), .* it should be \(32,\)"),
        (without_head, "lacks .* of the weights .*without its language-model head"),
        (with_slow_tokenizer, "the tokenizer is a slow one without character offsets"),
    ],
)
def test_a_folder_that_cannot_be_used_is_a_sentence(
    folder: Path, change: Callable[[Path], None], expected: str
) -> None:
    change(folder)
    with pytest.raises(AtlasError, match=expected) as raised:
        load(folder)
    assert "tiny" in str(raised.value)


def test_cuda_where_there_is_none_is_a_sentence(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(AtlasError, match="device is 'cuda', but PyTorch finds no CUDA device here"):
        load(folder, device="cuda")
    assert load(folder, device="auto").device == torch.device("cpu")


def test_unknown_dtype_and_device_are_sentences(folder: Path) -> None:
    with pytest.raises(AtlasError, match=r"dtype is 'float31'; expected a number format \(float32 .*mean 'float32'"):
        load(folder, dtype="float31")
    with pytest.raises(AtlasError, match=r"device is 'gpu'; expected a device \(auto cpu cuda\)"):
        load(folder, device="gpu")
