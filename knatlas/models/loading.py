"""Loading a model from disk, always the same way: one attention implementation, no foreign code, and safetensors alone
but for models whose pickle the study allows by name."""

from collections.abc import Callable

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from knatlas.errors import AtlasError, unknown
from knatlas.models.architectures import Architecture, architecture_of, check_settings
from knatlas.models.checkpoint import check_folder, read_settings
from knatlas.models.conformance import check_record
from knatlas.models.devices import choose_device
from knatlas.models.language_model import LanguageModel, as_language_model
from knatlas.models.sources import ModelSource, check_unchanged, resolve_model

__all__ = ["LanguageModel", "ModelSource", "as_language_model", "load_model", "resolve_model"]

# a bar per load is no progress of a study; jobs report their own
transformers_logging.disable_progress_bar()

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16, "float16": torch.float16}
LOADERS = {"masked": AutoModelForMaskedLM, "causal": AutoModelForCausalLM}


def load_model(
    source: ModelSource, dtype: str = "float32", device: str = "auto", log: Callable[[str], None] = lambda line: None
) -> LanguageModel:
    """The model and tokenizer of a source, frozen, in evaluation mode, on the device; of an untrained copy drawn anew.

    Args: dtype one of float32, float64, bfloat16, float16; device "cpu", "cuda", or "auto" (CUDA where there is one),
    of several GPUs one (`choose_device`); log, receives a sentence when all of them were taken.
    Raises: AtlasError for a folder without configuration, weights or tokenizer, or whose files changed since it was
    resolved, an unknown architecture or a setting of it that is not known to work, weights that are missing, not finite
    or do not fit the configuration, a slow tokenizer, an unknown dtype, CUDA where there is none, or a model that does
    not compute what the record of its architecture says.
    """
    if dtype not in DTYPES:
        raise AtlasError(unknown(f"models: {source.name}: dtype", dtype, "a number format", DTYPES))
    place = choose_device(f"models: {source.name}", device, log)
    check_folder(source.name, source.folder, source.weights, source.location)
    check_unchanged(source)
    architecture = _known_architecture(source)
    tokenizer = _load_tokenizer(source)
    read = _load_weights if source.untrained_seed is None else _draw_weights
    model = read(source, architecture, DTYPES[dtype]).to(place)
    _check_finite(source, model)
    lm = as_language_model(source.name, model, tokenizer, source.revision)
    check_record(lm)
    return lm


def _load_tokenizer(source: ModelSource) -> PreTrainedTokenizerBase:
    try:
        return AutoTokenizer.from_pretrained(source.folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # a damaged tokenizer.json is no narrower exception than this one
        raise AtlasError(
            f"models: {source.name}: the tokenizer in {source.folder} cannot be loaded ({_first_line(error)}); save a "
            "fast tokenizer there (tokenizer.json)"
        ) from error


def _load_weights(source: ModelSource, architecture: Architecture, dtype: torch.dtype) -> PreTrainedModel:
    try:
        model, report = LOADERS[architecture.kind].from_pretrained(
            source.folder,
            dtype=dtype,
            attn_implementation=architecture.attention,
            use_safetensors=source.weights == "safetensors",
            # of a pickle only arrays of numbers and what describes them; with anything else in it, it is not read
            weights_only=True,
            local_files_only=True,
            trust_remote_code=False,
            # other sizes are reported by `_check_complete`, with their names
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except Exception as error:  # damaged files of either format are no narrower exception than this one
        raise AtlasError(
            f"models: {source.name}: the weights in {source.folder} cannot be loaded ({_reason(error)}); "
            "save or download them again"
        ) from error
    _check_complete(source, report)
    return model


def _draw_weights(source: ModelSource, architecture: Architecture, dtype: torch.dtype) -> PreTrainedModel:
    """The model of a folder's configuration as transformers initialises it; the same weights for the same seed.

    Drawn on the processor in 32 bits, whatever the device and the dtype: these change no weight but by rounding. Tables
    that are no weights, such as rotary angles, stay in 32 bits, as they do when weights are read.
    """
    config = AutoConfig.from_pretrained(source.folder, local_files_only=True, trust_remote_code=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(source.untrained_seed)
        model = LOADERS[architecture.kind].from_config(
            config, dtype=torch.float32, attn_implementation=architecture.attention, trust_remote_code=False
        )
    for weight in model.parameters():
        weight.data = weight.data.to(dtype)
    return model


def _known_architecture(source: ModelSource) -> Architecture:
    """The record of the configuration's model type, its settings checked."""
    # read as JSON: AutoConfig fails on a type that transformers does not know before we can say which ones we do
    settings = read_settings(source.name, source.folder / "config.json")
    where = f"models: {source.name}: config.json"
    architecture = architecture_of(str(settings.get("model_type")), f"{where}: model_type")
    check_settings(where, settings, architecture)
    return architecture


def _check_finite(source: ModelSource, model: PreTrainedModel) -> None:
    """AtlasError for a weight with NaN or an infinite value, which would make every P(answer) NaN."""
    for name, weight in model.named_parameters():
        if weight.numel() and not torch.isfinite(torch.stack(torch.aminmax(weight))).all():
            raise AtlasError(
                f"models: {source.name}: {name} has values that are not finite; the weights in {source.folder} are "
                f"damaged, or too large for {weight.dtype}: save or download them again, or take dtype float32"
            )


def _check_complete(source: ModelSource, report: dict) -> None:
    missing, other_sizes = sorted(report["missing_keys"]), sorted(report["mismatched_keys"])
    if other_sizes:
        weight, found, expected = other_sizes[0]
        raise AtlasError(
            f"models: {source.name}: {weight} in {source.folder} has shape {tuple(found)}, but by config.json "
            f"it should be {tuple(expected)}; weights and configuration are not of the same model"
        )
    if missing:
        raise AtlasError(
            f"models: {source.name}: {source.folder} lacks {len(missing)} of the weights ({', '.join(missing[:3])}); "
            "a checkpoint without its language-model head cannot predict tokens, name one that has it"
        )


def _reason(error: Exception) -> str:
    # torch's own words advise to read the file without the restriction
    if type(error).__name__ == "UnpicklingError":
        return (
            "the pickle is damaged, or holds more than arrays of numbers: that could run code and is read under no "
            "setting; take a checkpoint in the safetensors format"
        )
    return _first_line(error)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
