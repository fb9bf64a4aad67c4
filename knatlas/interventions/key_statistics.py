"""How the neurons of a layer are active together over a text: the second moment that ROME measures keys by."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from knatlas.errors import AtlasError
from knatlas.models.answers import BATCH_ROWS, padded
from knatlas.models.language_model import LanguageModel
from knatlas.models.neuron_hooks import tapped_layer
from knatlas.progress import Report, silent
from knatlas.storage import read_arrays, write_arrays

OWN_TEXT = "prompts of the study, completed"  # the source where no corpus is given


@dataclass(frozen=True)
class KeyText:
    """The text that statistics are taken over.

    corpus: a text file (UTF-8) with one document per line, None: the study's own prompts, completed with their answers.
    max_documents: of a longer corpus so many are drawn at random; max_tokens: counting stops there, None: never;
    max_length: documents are cut after so many tokens, or where the model can read no more.
    """

    corpus: str | None = None
    max_documents: int = 100_000
    max_tokens: int | None = None
    max_length: int = 1024

    def __post_init__(self) -> None:
        for name in ("max_documents", "max_tokens", "max_length"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise AtlasError(f"key_statistics: {name} is {value}; expected a whole number of at least 1")


@dataclass(frozen=True, eq=False)
class KeyStatistics:
    """C = E[k k'] of the input k of the down projection (uncentred), by layer: each (neurons, neurons).

    n_tokens, n_documents: what was counted; model, revision: whose neurons these are; source: the text's name.
    """

    moments: Mapping[int, Float[np.ndarray, "neuron neuron"]]
    n_tokens: int
    n_documents: int
    model: str
    revision: str
    source: str

    def of(self, lm: LanguageModel, layer: int) -> Float[np.ndarray, "neuron neuron"]:
        """The moment of a layer of this model; AtlasError where it was not measured, or in another model."""
        if (self.model, self.revision) != (lm.name, lm.revision):
            raise AtlasError(
                f"{lm.name} ({lm.revision}): these key statistics are of {self.model} ({self.revision}); measure those "
                "of the model that is edited"
            )
        if layer not in self.moments:
            raise AtlasError(
                f"{lm.name}: key statistics hold layers {sorted(self.moments)}, layer {layer} was asked for; add it to "
                "the layers that are measured"
            )
        return self.moments[layer]


def completed_sentences(prompts: pd.DataFrame) -> list[str]:
    """The prompts of a table with their answers in place, each sentence once, in the order of the table."""
    parts = prompts[["before", "separator", "answer", "after"]].astype(str)
    return list(dict.fromkeys(parts.agg("".join, axis=1)))


def read_documents(path: str | Path, max_documents: int, seed: int) -> list[str]:
    """The lines of a text file that are not blank; of more than `max_documents` a random choice, in the file's order.

    The file is read twice and never held as a whole. Raises: AtlasError for a file that isn't there or has no text.
    """
    path = Path(path)
    if not path.is_file():
        raise AtlasError(f"key_statistics: corpus '{path}' is not there; name a text file with one document per line")
    n_lines = sum(1 for _ in _lines(path))
    if n_lines == 0:
        raise AtlasError(f"key_statistics: corpus '{path}' has no text; it needs one document per line")
    n_chosen = min(max_documents, n_lines)
    chosen = set(np.random.default_rng(seed).choice(n_lines, n_chosen, replace=False).tolist())
    return [line for number, line in enumerate(_lines(path)) if number in chosen]


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8") as file:
        yield from (line.strip() for line in file if line.strip())


def measure_key_statistics(
    lm: LanguageModel,
    texts: Sequence[str],
    layers: Sequence[int],
    settings: KeyText | None = None,
    source: str = OWN_TEXT,
    batch_rows: int = BATCH_ROWS,
    progress: Report = silent,
) -> KeyStatistics:
    """C = E[k k'] over the tokens of texts, for several layers in one pass; layers above the last one are not run.

    Tokens that the tokenizer adds and padding are left out. Products are summed in float32 within a batch (float64 in a
    float64 model) and in float64 over batches; with them the memory is 12 neurons^2 bytes per layer.

    Args: texts, one document each; settings, of which the limits count; batch_rows, speed and memory only.
    Raises: AtlasError for a layer that the model lacks, no layer, or texts without a token.
    """
    settings = settings or KeyText()
    _check_layers(lm, layers)
    sums = _Sums(lm, layers)
    for start in range(0, len(texts), batch_rows):
        if sums.n_tokens == settings.max_tokens:
            break
        _add(lm, sums, texts[start : start + batch_rows], settings)
        progress(min(start + batch_rows, len(texts)), len(texts), f"documents, {sums.n_tokens} tokens")
    if sums.n_tokens == 0:
        raise AtlasError(f"{lm.name}: the text of the key statistics ({source}) has no token; give another one")
    counted = {"n_tokens": sums.n_tokens, "n_documents": sums.n_documents}
    return KeyStatistics(sums.means(), **counted, model=lm.name, revision=lm.revision, source=source)


def _check_layers(lm: LanguageModel, layers: Sequence[int]) -> None:
    wrong = [layer for layer in layers if not 0 <= layer < lm.n_layers]
    if wrong or not layers:
        asked = f"layer {wrong[0]}" if wrong else "no layer"
        raise AtlasError(
            f"{lm.name}: key statistics of {asked} were asked for; expected some of 0 to {lm.n_layers - 1}"
        )


class _Enough(Exception):
    """Ends a forward pass when all layers that are asked for were seen."""


class _Sums:
    """Sums of products of keys, by layer, and how many tokens they hold."""

    def __init__(self, lm: LanguageModel, layers: Sequence[int]):
        self.lm, self.layers = lm, sorted(set(layers))
        shape = {"dtype": torch.float64, "device": lm.device}
        self.sums = {layer: torch.zeros(lm.n_neurons, lm.n_neurons, **shape) for layer in self.layers}
        self.n_tokens = self.n_documents = 0

    def tap(self, layer: int, is_counted: Tensor) -> Callable[[Tensor], Tensor]:
        """What adds the keys of one batch (rows, tokens, neurons) at the places that count."""

        def add(values: Tensor) -> Tensor:
            keys = values[is_counted]
            keys = keys if keys.dtype == torch.float64 else keys.float()
            self.sums[layer] += keys.T @ keys
            if layer == self.layers[-1]:
                raise _Enough
            return values

        return add

    def means(self) -> dict[int, np.ndarray]:
        """The moments; float32 in all but float64 models."""
        kind = np.float64 if self.lm.dtype == torch.float64 else np.float32
        # the halves of a product may differ in their last digits
        means = {layer: (total + total.T) / (2 * self.n_tokens) for layer, total in self.sums.items()}
        return {layer: mean.cpu().numpy().astype(kind) for layer, mean in means.items()}


@torch.no_grad()
def _add(lm: LanguageModel, sums: _Sums, texts: Sequence[str], settings: KeyText) -> None:
    """Count one batch of documents, as far as `max_tokens` allows."""
    room = None if settings.max_tokens is None else settings.max_tokens - sums.n_tokens
    rows = _encoded(lm, texts, min(settings.max_length, lm.n_positions or settings.max_length), room)
    if not rows:
        return
    ids, _ = padded([ids for ids, _ in rows], lm.device)
    is_counted, _ = padded([counts for _, counts in rows], lm.device)
    with ExitStack() as hooks, suppress(_Enough):
        for layer in sums.layers:
            hooks.enter_context(tapped_layer(lm, layer, "down_input", sums.tap(layer, is_counted.bool())))
        lm.hidden_states(ids, _attention(lm, ids, [len(row) for row, _ in rows]))
    sums.n_tokens += int(is_counted.sum())
    sums.n_documents += len(rows)


def _attention(lm: LanguageModel, ids: Tensor, lengths: Sequence[int]) -> Tensor:
    # no token of a causal model sees the padding on its right
    if lm.kind == "causal":
        return torch.ones_like(ids)
    places = torch.arange(ids.shape[1], device=ids.device)
    return (places < torch.tensor(lengths, device=ids.device)[:, None]).long()


def _encoded(
    lm: LanguageModel, texts: Sequence[str], max_length: int, room: int | None
) -> list[tuple[list[int], list[int]]]:
    """Token ids of each document and which count (1), of documents with any that counts, `room` tokens at most."""
    encoded = lm.tokenizer(list(texts), truncation=True, max_length=max_length, return_special_tokens_mask=True)
    rows, n_counted = [], 0
    for ids, added in zip(encoded["input_ids"], encoded["special_tokens_mask"], strict=True):
        counts = [1 - mark for mark in added]
        if room is not None:
            before = n_counted + np.cumsum(counts)
            counts = [count if so_far <= room else 0 for count, so_far in zip(counts, before, strict=True)]
        if any(counts):
            rows.append((ids, counts))
            n_counted += sum(counts)
    return rows


def write_key_statistics(statistics: KeyStatistics, path: str | Path) -> None:
    """Write statistics as safetensors: an array `moment.LAYER` for each layer, and the rest as metadata."""
    arrays = {f"moment.{layer}": moment for layer, moment in statistics.moments.items()}
    names = ("n_tokens", "n_documents", "model", "revision", "source")
    write_arrays(arrays, path, {name: getattr(statistics, name) for name in names})


def read_key_statistics(path: str | Path) -> KeyStatistics:
    """The statistics in a file; AtlasError when it is missing or torn."""
    arrays, metadata = read_arrays(path)
    moments = {int(name.removeprefix("moment.")): array for name, array in arrays.items()}
    return KeyStatistics(moments, **metadata)
