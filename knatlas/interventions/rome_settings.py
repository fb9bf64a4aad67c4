"""What ROME is run with, and which layer it edits."""

from collections.abc import Sequence
from dataclasses import dataclass

from knatlas.errors import AtlasError, unknown

LAYERS = ("auto", "last")
KEYS = ("bare", "mean")
READS = ("key", "end")
TOKENS = ("subject", "end")
AUTO_SHARE = 5 / 12  # layer 5 of the 12 of GPT-2


@dataclass(frozen=True)
class Rome:
    """How ROME edits; the defaults are the released ones for GPT-2.

    layer, 0-based, or a word of `layer_number`; fact_token, whose key is written for: the last token of the `subject`,
    or of the prompt (`end`), for models that recall facts there. Of the value: learning_rate of Adam; steps,
    evaluations of the loss, after the last of which no step follows; kl_factor and decay of the loss's second and third
    term; clamp, the largest norm of the change as a multiple of the old value's; stop_below, a loss at which the search
    ends; kl_read, where "{subject} is a" is read: at the token of the `key` or at the `end`. Of the prefixes:
    prefix_lengths, pairs of a length in tokens and a number of texts; top_k, tokens that each is drawn from. rome_key,
    the key that the new value is written for: of the `bare` prompt, or the `mean` over prompts with prefixes, which the
    direction always has. ridge, added to the diagonal of C as a share of its mean. is_last_allowed, whether the last
    layer may be edited where the edit can't reach the answer.

    Raises: AtlasError for a word or number that is not allowed.
    """

    layer: int | str = "auto"
    fact_token: str = "subject"
    learning_rate: float = 0.5
    steps: int = 20
    kl_factor: float = 0.0625
    decay: float = 0.5
    clamp: float = 3.0
    stop_below: float = 0.05
    kl_read: str = "key"
    prefix_lengths: Sequence[Sequence[int]] = ((5, 10), (10, 10))
    top_k: int = 5
    rome_key: str = "bare"
    ridge: float = 1e-4
    is_last_allowed: bool = False

    def __post_init__(self) -> None:
        for name, allowed in {"rome_key": KEYS, "kl_read": READS, "fact_token": TOKENS}.items():
            if getattr(self, name) not in allowed:
                raise AtlasError(unknown(f"rome: {name}", getattr(self, name), "one of its words", allowed))
        for name, least in {"steps": 1, "top_k": 1, "kl_factor": 0, "decay": 0, "ridge": 0}.items():
            if getattr(self, name) < least:
                raise AtlasError(f"rome: {name} is {getattr(self, name)}; expected a number of at least {least}")
        for name in ("learning_rate", "clamp"):
            if getattr(self, name) <= 0:
                raise AtlasError(f"rome: {name} is {getattr(self, name)}; expected a number above 0")
        if any(len(pair) != 2 or pair[0] < 1 or pair[1] < 0 for pair in self.prefix_lengths):
            raise AtlasError(
                f"rome: prefix_lengths is {self.prefix_lengths}; expected pairs of a length in tokens and a number of "
                "texts, such as [[5, 10], [10, 10]]"
            )


def layer_number(layer: int | str, n_layers: int, where: str = "rome: layer") -> int:
    """The layer that a setting means: a number from 0, "last" the last but one, "auto" 5/12 of the depth.

    What the last layer writes at the subject can't reach the end of the prompt, so that no word means it.
    Raises: AtlasError for a layer that the model lacks, or another word.
    """
    words = {"auto": max(0, min(round(AUTO_SHARE * n_layers), n_layers - 2)), "last": n_layers - 2}
    if isinstance(layer, str) and layer not in words:
        raise AtlasError(unknown(where, layer, f"a layer from 0 to {n_layers - 1}, or a word", LAYERS))
    number = words.get(layer, layer)
    if not 0 <= number < n_layers:
        raise AtlasError(f"{where} is {layer}, which is layer {number}; the model has layers 0 to {n_layers - 1}")
    return int(number)
