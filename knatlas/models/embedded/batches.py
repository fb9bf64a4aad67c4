"""Sentences as padded tensors, and the predictions that a batch asks for."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from knatlas.errors import AtlasError
from knatlas.models.embedded.corpus import Sentence
from knatlas.models.embedded.recipe import Recipe

POOL = 32  # batches whose sentences are sorted by length together, to pad little


@dataclass(frozen=True)
class Encoded:
    """Sentences as tokens, padded on the right.

    ids (N, T); is_answer (N, T): tokens of the answer; is_other (N, T): the other tokens that may be predicted (causal:
    the end token among them, but not the first token); lengths (N,).
    """

    ids: np.ndarray
    is_answer: np.ndarray
    is_other: np.ndarray
    lengths: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Batch:
    """What a model reads and must answer: token `targets[i]` at (`rows[i]`, `positions[i]`)."""

    input_ids: Tensor  # (B, T)
    attention_mask: Tensor  # (B, T)
    rows: Tensor  # (P,)
    positions: Tensor  # (P,)
    targets: Tensor  # (P,)


def encode_sentences(tokenizer: PreTrainedTokenizerFast, sentences: Sequence[Sentence], kind: str) -> Encoded:
    """Tokens of sentences (causal: with the end token); a token that shares a character with the answer belongs to it.

    Raises: AtlasError when a sentence is longer than the model can read.
    """
    coded = tokenizer([sentence.text for sentence in sentences], return_offsets_mapping=True)
    n_extra = int(kind == "causal")
    lengths = np.array([len(ids) + n_extra for ids in coded["input_ids"]])
    if lengths.max() > tokenizer.model_max_length:
        longest = sentences[int(lengths.argmax())].text
        raise AtlasError(
            f"'{longest}' has {lengths.max()} tokens; the model reads at most {tokenizer.model_max_length}. "
            "Shorten it, or raise 'longest' in the model's recipe (catalog/models.yaml)."
        )
    shape = (len(sentences), int(lengths.max()))
    ids = np.full(shape, tokenizer.pad_token_id, dtype=np.int64)
    is_answer, is_other = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    for row, (sentence, tokens, spans) in enumerate(
        zip(sentences, coded["input_ids"], coded["offset_mapping"], strict=True)
    ):
        starts, ends = np.array(spans).T
        ids[row, : len(tokens)] = tokens
        is_answer[row, : len(tokens)] = (ends > sentence.start) & (starts < sentence.end) & (ends > starts)
        is_other[row, : len(tokens)] = (ends > starts) & ~is_answer[row, : len(tokens)]
        if kind == "causal":
            ids[row, len(tokens)] = tokenizer.eos_token_id
            is_other[row, len(tokens)] = True
    if kind == "causal":
        is_other[:, 0] = False
    return Encoded(ids, is_answer, is_other, lengths)


def make_batch(encoded: Encoded, rows: np.ndarray, is_predicted: np.ndarray, kind: str, mask_id: int | None) -> Batch:
    """The batch of `rows` in which the tokens marked in `is_predicted` (len(rows), T) are asked for.

    Masked: each is replaced by the mask and predicted in its place. Causal: each is predicted one position earlier.
    """
    length = int(encoded.lengths[rows].max())
    ids = encoded.ids[rows, :length].copy()
    is_predicted = is_predicted[:, :length]
    asked_rows, asked = np.nonzero(is_predicted)
    targets = ids[asked_rows, asked]
    if kind == "masked":
        ids[is_predicted] = mask_id
    attention = np.arange(length)[None, :] < encoded.lengths[rows][:, None]
    positions = asked if kind == "masked" else asked - 1
    arrays = (ids, attention.astype(np.int64), asked_rows, positions, targets)
    return Batch(*(torch.from_numpy(array) for array in arrays))


def draw_predictions(encoded: Encoded, rows: np.ndarray, recipe: Recipe, generator: np.random.Generator) -> np.ndarray:
    """Which tokens a training batch asks for, (len(rows), T): answers, and a random share of the other tokens.

    Masked models see the answer of a share 1 - `masked_share` of the sentences; causal models always predict it.
    """
    is_asked = np.ones((len(rows), 1), dtype=bool)
    if recipe.kind == "masked":
        is_asked = generator.random((len(rows), 1)) < recipe.masked_share
    is_drawn = generator.random((len(rows), encoded.ids.shape[1])) < recipe.other_share
    return (encoded.is_answer[rows] & is_asked) | (encoded.is_other[rows] & is_drawn)


def endless_rows(lengths: np.ndarray, size: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """Batches of up to `size` row numbers for ever: random order, similar lengths together, each row once per pass."""
    while True:
        order = generator.permutation(len(lengths))
        batches = []
        for start in range(0, len(order), POOL * size):
            pool = order[start : start + POOL * size]
            pool = pool[np.argsort(lengths[pool], kind="stable")]
            batches += [pool[first : first + size] for first in range(0, len(pool), size)]
        for index in generator.permutation(len(batches)):
            yield batches[index]
