"""What a folder must hold to be loaded as a model, and what is refused there: pickles nobody allowed, and code."""

import json
from pathlib import Path, PurePosixPath

from knatlas.errors import AtlasError, unknown
from knatlas.models.architectures import ARCHITECTURES

# the files that transformers looks for in each format, and the ending of the weights
WEIGHT_FILES = {
    "safetensors": ("model.safetensors", "model.safetensors.index.json"),
    "pickle": ("pytorch_model.bin", "pytorch_model.bin.index.json"),
}
ENDINGS = {"safetensors": ".safetensors", "pickle": ".bin"}
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "sentencepiece.bpe.model")
# settings by which a folder brings its own code, or names a file of weights that may be a pickle: file, setting, reason
REFUSED = (
    ("config.json", "auto_map", "code of its own, which is never run (trust_remote_code is off)"),
    ("tokenizer_config.json", "auto_map", "code of its own, which is never run (trust_remote_code is off)"),
    ("config.json", "transformers_weights", "another file of weights, in a format of its choice, which is never read"),
)
AUTO_CLASSES = {"masked": "AutoModelForMaskedLM", "causal": "AutoModelForCausalLM"}


def check_format(name: str, weights: str) -> None:
    """AtlasError unless weights are read in this format."""
    if weights not in WEIGHT_FILES:
        raise AtlasError(unknown(f"models: {name}: weights", weights, "a format", WEIGHT_FILES))


def check_folder(name: str, folder: Path, weights: str = "safetensors", location: str | None = None) -> None:
    """AtlasError unless the folder holds a configuration, weights in the format that was allowed and a tokenizer.

    Refused as well: a configuration that names code or other weights, an adapter of another model, and an index that
    names weights outside the folder or in another format (transformers would read them, a pickle among them).

    Args: name in the study; weights, "safetensors" or "pickle"; location, what the study names (default: the folder).
    """
    check_format(name, weights)
    if not folder.is_dir():
        raise AtlasError(f"models: {name}: the folder {folder} does not exist")
    if not (folder / "config.json").is_file():
        raise AtlasError(f"models: {name}: {folder} has no config.json; it is not a model in the transformers format")
    _refuse_settings(name, folder)
    if not any((folder / file).is_file() for file in WEIGHT_FILES[weights]):
        raise AtlasError(_no_weights(name, folder, weights, location or str(folder)))
    _check_index(name, folder, weights)
    if not any((folder / file).is_file() for file in TOKENIZER_FILES):
        raise AtlasError(
            f"models: {name}: {folder} has no tokenizer (one of {' '.join(TOKENIZER_FILES)}); save it there with "
            "tokenizer.save_pretrained"
        )


def read_settings(name: str, path: Path) -> dict:
    """A JSON object of a model's folder; AtlasError when it is none."""
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # text that is not UTF-8, or not JSON
        raise AtlasError(f"models: {name}: {path} is not JSON: {error}") from error
    if not isinstance(settings, dict):
        raise AtlasError(f"models: {name}: {path} is not a JSON object; save the model again with save_pretrained")
    return settings


def _no_weights(name: str, folder: Path, weights: str, location: str) -> str:
    """The sentence for a folder without weights in the format; with the conversion, which runs no code either."""
    missing = f"models: {name}: {folder} has no weights in the {weights} format (one of {_listed(weights)})"
    if weights == "pickle":
        return f"{missing}; leave `weights: pickle` out of the model's record, or name another folder"
    model_type = str(read_settings(name, folder / "config.json").get("model_type"))
    kind = ARCHITECTURES[model_type].kind if model_type in ARCHITECTURES else "causal"
    return (
        f"{missing}; other formats can run code when they are read and are not loaded. Weights of a pickle "
        f"({_listed('pickle')}) are converted once, and the new folder named in the study:\n"
        f'    {AUTO_CLASSES[kind]}.from_pretrained("{location}", use_safetensors=False).save_pretrained("NEW")\n'
        f'    AutoTokenizer.from_pretrained("{location}").save_pretrained("NEW")\n'
        f"both of transformers; or allow them for this model by name: additional_models.{name}.weights: pickle"
    )


def _listed(weights: str) -> str:
    return " ".join(WEIGHT_FILES[weights])


def _check_index(name: str, folder: Path, weights: str) -> None:
    """AtlasError when the index of weights in several files names anything but files of this folder and format."""
    whole, index = (folder / file for file in WEIGHT_FILES[weights])
    if whole.is_file():
        return
    parts = read_settings(name, index).get("weight_map")
    if not isinstance(parts, dict) or not parts:
        raise AtlasError(f"models: {name}: {index} has no weight_map; save the model again with save_pretrained")
    for part in sorted({str(part) for part in parts.values()}):
        if PurePosixPath(part).name != part or not part.endswith(ENDINGS[weights]):
            raise AtlasError(
                f"models: {name}: {index} names '{part}'; expected files of that folder that end in {ENDINGS[weights]}"
            )
        if not (folder / part).is_file():
            raise AtlasError(f"models: {name}: {folder} lacks {part}, a part of its weights; copy it there")


def _refuse_settings(name: str, folder: Path) -> None:
    for file, setting, reason in REFUSED:
        path = folder / file
        if path.is_file() and read_settings(name, path).get(setting):
            raise AtlasError(
                f"models: {name}: {path} names {reason}: {setting}. If transformers knows the architecture itself and "
                f"model.safetensors is there, take {setting} out of a copy of the folder; else name another model"
            )
    if (folder / "adapter_config.json").is_file():
        raise AtlasError(
            f"models: {name}: {folder} holds an adapter of another model (adapter_config.json), which is not loaded; "
            "merge it with peft (merge_and_unload) and save the whole model in a folder of its own"
        )
