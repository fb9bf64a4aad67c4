"""The public code that the engine is measured beside: found by path, imported from there, called in its own words.

Nothing of it is copied. EleutherAI/knowledge-neurons computes B-KN, heng840/AMIG's class `garns` computes AMIG. Both
need `einops` and AMIG `opencc`; where these are not installed, stand-ins for the one function that is called are used.
"""

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from benchmarks.models import text_of
from knatlas.errors import AtlasError
from knatlas.models.encoding import EncodedQuery
from knatlas.models.language_model import LanguageModel

ELEUTHERAI, AMIG = "EleutherAI", "AMIG"
PACKAGE = "knowledge_neurons"
# files, below a path, by which its content is recognised: the more particular one first
SIGNS = {AMIG: f"{PACKAGE}/garns.py", ELEUTHERAI: f"{PACKAGE}/{PACKAGE}.py"}
CLASSES = {AMIG: "garns", ELEUTHERAI: "KnowledgeNeurons"}
REPEAT_PATTERN = "b d -> (r b) d"


@dataclass(frozen=True)
class Peer:
    """Public code on this machine: its name, `ELEUTHERAI` or `AMIG`, its folder, and its class."""

    name: str
    folder: Path
    attributor: type


def find_peers(paths: str) -> dict[str, Peer]:
    """The peers of a list of folders "/path/one:/path/two", by name; an empty list has none.

    Raises: AtlasError for a folder that is not there, holds none of the peers, or holds one that another folder holds.
    """
    peers: dict[str, Peer] = {}
    for text in filter(None, paths.split(":")):
        folder = Path(text).expanduser().resolve()
        name = _recognise(folder)
        if name in peers:
            raise AtlasError(f"PEERS names {name} twice: {peers[name].folder} and {folder}; name one of them.")
        peers[name] = Peer(name, folder, _load(name, folder))
    return peers


def _recognise(folder: Path) -> str:
    """The name of the peer in a folder. Raises: AtlasError."""
    for name, sign in SIGNS.items():
        if (folder / sign).is_file():
            return name
    expected = ", or ".join(f"{sign} ({name})" for name, sign in SIGNS.items())
    raise AtlasError(f"PEERS: {folder} holds none of the peers; expected the file {expected} in it.")


def _load(name: str, folder: Path) -> type:
    """Import a peer's class from its folder and forget its package's name, which both peers use."""
    with _importable(folder):
        try:
            return getattr(importlib.import_module(PACKAGE), CLASSES[name])
        except (ImportError, AttributeError) as error:
            raise AtlasError(
                f"PEERS: {name} in {folder} cannot be imported ({error}); install what it needs into this environment."
            ) from error


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """While open, packages of a folder are found first, and stand-ins replace packages that are not installed."""
    stand_ins = {name: make for name, make in STAND_INS.items() if importlib.util.find_spec(name) is None}
    sys.modules.update({name: make() for name, make in stand_ins.items()})
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.split(".")[0] in (PACKAGE, *stand_ins)]:
            del sys.modules[name]


def _repeat(values: Float[Tensor, "row column"], pattern: str, r: int) -> Float[Tensor, "repeated column"]:
    """The rows of a matrix r times one below the other: the one pattern of einops.repeat that the peers use."""
    if pattern != REPEAT_PATTERN:
        raise AtlasError(f"A peer calls einops.repeat with '{pattern}'; install einops to run it (pip install einops).")
    return values.repeat(r, 1)


def _einops() -> ModuleType:
    """A module with `repeat`."""
    module = ModuleType("einops")
    module.repeat = _repeat
    return module


def _opencc() -> ModuleType:
    """A module with a class `OpenCC`, which the peer makes one of when it is imported and which no score needs."""
    module = ModuleType("opencc")
    module.OpenCC = lambda *_: None
    return module


STAND_INS = {"einops": _einops, "opencc": _opencc}


def peer_scores(
    peer: Peer, lm: LanguageModel, query: EncodedQuery, steps: int = 20, batch_size: int | None = None
) -> Float[ndarray, "layer neuron"]:
    """All layers' scores of a query by a peer's `get_scores`; batch_size None leaves its own default.

    The answer is one word of the tokenizer, which puts nothing around a sentence: AMIG takes one sampling step.
    """
    model_type = "bert" if lm.kind == "masked" else "gpt2"
    attributor = peer.attributor(lm.model, lm.tokenizer, model_type=model_type, device=str(lm.device))
    options = {} if batch_size is None else {"batch_size": batch_size}
    prompt, answer = text_of(lm, query.input_ids), text_of(lm, query.targets)
    with torch.enable_grad():
        scores = attributor.get_scores(prompt, answer, steps=steps, pbar=False, **options)
    return scores.detach().cpu().numpy()
