"""Where a model comes from: a folder, or a snapshot of a repository of the Hugging Face hub."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

from huggingface_hub import snapshot_download
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

from knatlas.errors import AtlasError, unknown
from knatlas.models.architectures import architecture_of
from knatlas.models.checkpoint import check_folder, check_format, read_settings
from knatlas.models.folder_files import folder_digest, folder_fingerprint, wanted_patterns
from knatlas.redaction import redacted

ORIGINS = ("hub", "folder")


@dataclass(frozen=True)
class ModelSource:
    """A model on this machine's disk: its name in the study, its folder, and what exactly is in the folder.

    `revision` is the commit of the repository, or "sha256:" and a digest of the files of a local folder.
    `location` is what the study names: the repository's id or the folder. `weights` is the format that is read,
    "safetensors", or "pickle" where the study allows that for this model. With `untrained_seed` the folder's weights
    are not read: they are drawn with this seed by transformers' own initialisation, for its configuration.
    `fingerprint` is a quick digest of a local folder's files, which each loading compares; None: nothing is compared.
    """

    name: str
    folder: Path
    revision: str
    location: str
    weights: str = "safetensors"
    untrained_seed: int | None = None
    fingerprint: str | None = None


def resolve_model(
    name: str, origin: str, location: str, revision: str | None = None, weights: str = "safetensors"
) -> ModelSource:
    """The files of a model as a ModelSource; a hub repository is downloaded once and then taken from the cache.

    Args: name in the study; origin "hub" or "folder"; location, a repository id or a folder; revision, a branch, tag or
    commit of the repository (default: its main branch); weights, the format to read, "safetensors" or "pickle". The
    token for gated models is read from HF_TOKEN.
    Raises: AtlasError for what a user can mend: no such folder, repository or revision, no access, no network, weights
    in another format only, code that a folder brings along.
    """
    check_format(name, weights)
    if origin not in ORIGINS:
        raise AtlasError(unknown(f"models: {name}: origin", origin, "where models come from", ORIGINS))
    if origin == "hub":
        return _from_hub(name, location, revision, weights)
    if revision is not None:
        raise AtlasError(
            f"models: {name}: revision is '{revision}', but {location} is a folder and has no revisions; leave it out"
        )
    folder = Path(location)
    check_folder(name, folder, weights)
    revision, fingerprint = f"sha256:{folder_digest(folder, weights)}", folder_fingerprint(folder, weights)
    return ModelSource(name, folder, revision, location, weights, fingerprint=fingerprint)


def check_kind(source: ModelSource, kind: str) -> None:
    """AtlasError unless the architecture that config.json names is of the kind that the study says."""
    config = read_settings(source.name, source.folder / "config.json")
    found = architecture_of(str(config.get("model_type")), f"models: {source.name}: config.json: model_type").kind
    if found != kind:
        raise AtlasError(
            f"models: {source.name}: kind is '{kind}', but {source.location} is a {found} model; write {found}"
        )


def check_unchanged(source: ModelSource) -> None:
    """AtlasError when the files of a local folder are not those that were found there when its revision was taken."""
    if source.fingerprint is None:
        return
    found = folder_fingerprint(source.folder, source.weights)
    if found != source.fingerprint:
        raise AtlasError(
            f"models: {source.name}: the files in {source.folder} are not those of revision {source.revision} (their "
            f"fingerprint is {found}, recorded is {source.fingerprint}): they were changed since source.json was "
            "written. Start the workflow again, which reads the folder anew, or put the files back"
        )


def _from_hub(name: str, repository: str, revision: str | None, weights: str) -> ModelSource:
    # a token with a line break at its end, as files have it, can't be sent
    token, patterns = os.environ.get("HF_TOKEN", "").strip() or None, list(wanted_patterns(weights))
    try:
        folder = Path(snapshot_download(repository, revision=revision, token=token, allow_patterns=patterns))
    except (HTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        # without the chain, and without the error's own text: a request may hold the token
        sentence = _hub_sentence(repository, revision, error, token is not None)
        raise AtlasError(f"models: {name}: '{redacted(repository)}' {sentence}") from None
    check_folder(name, folder, weights, repository)
    return ModelSource(name, folder, folder.name, repository, weights)


def _hub_sentence(repository: str, revision: str | None, error: Exception, has_token: bool) -> str:
    if isinstance(error, GatedRepoError):
        return _gated_sentence(repository, has_token)
    if isinstance(error, RevisionNotFoundError):
        return f"has no revision '{revision}'; give a branch, a tag or a full commit hash of that repository"
    if isinstance(error, RepositoryNotFoundError):
        return (
            "is not on the Hugging Face hub, or it is private; check the spelling (owner/name), or set the environment "
            "variable HF_TOKEN if it is private"
        )
    if isinstance(error, HFValidationError):
        return "is not the id of a repository; expected owner/name. A folder on disk needs origin: folder"
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        return f"cannot be read: the Hugging Face hub answered with an error ({status}); try again later"
    return (
        "is not in the local cache and the Hugging Face hub cannot be reached; connect this machine, or download the "
        "model on one that is connected and copy its cache (the folder HF_HOME), or unset HF_HUB_OFFLINE if it is set"
    )


def _gated_sentence(repository: str, has_token: bool) -> str:
    if has_token:
        return (
            f"is not open to the account of the token in HF_TOKEN; accept its terms at huggingface.co/{repository} "
            "with that account and wait until access is granted"
        )
    return (
        f"is open only to accounts that accepted its terms: accept them at huggingface.co/{repository}, then set the "
        "environment variable HF_TOKEN to a token of that account"
    )


def untrained_copy(source: ModelSource, seed: int) -> ModelSource:
    """The same configuration and tokenizer with weights that no training has touched, drawn with a seed at loading.

    Its revision is that of the trained model and the seed. Raises: AtlasError for a copy of such a copy.
    """
    if source.untrained_seed is not None:
        raise AtlasError(
            f"models: {source.name}: is untrained already (seed {source.untrained_seed}); copy the trained model"
        )
    return replace(source, revision=f"{source.revision}, untrained with seed {seed}", untrained_seed=seed)


def source_record(source: ModelSource) -> dict[str, str]:
    """A source as JSON-like values, for a file that says where a model is; a seed only of untrained copies."""
    values = {field.name: getattr(source, field.name) for field in fields(source)}
    return {name: str(value) for name, value in values.items() if value is not None}


def model_identity(record: Mapping[str, str]) -> dict[str, str]:
    """What a kept file says of its model: all of a record but the folder, of one machine, and the fingerprint.

    What the fingerprint tells of files, the revision tells of every byte of them.
    """
    return {name: value for name, value in record.items() if name not in ("folder", "fingerprint")}


def read_source_record(record: Mapping[str, str]) -> ModelSource:
    """The source that `source_record` described."""
    seed = record.get("untrained_seed")
    return ModelSource(
        **{**record, "folder": Path(record["folder"]), "untrained_seed": None if seed is None else int(seed)}
    )
