"""What a model would say instead: the most probable tokens where the first token of the answer is predicted."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int

from knatlas.models.answers import BATCH_ROWS, token_probabilities
from knatlas.models.encoding import EncodedQuery
from knatlas.models.language_model import LanguageModel
from knatlas.models.scaling import NeuronScaling, positions_of, scaled_rows

NO_LETTER = "\ufffd"  # what a tokenizer decodes the bytes of a part of a letter to


def top_tokens(
    lm: LanguageModel,
    queries: Sequence[EncodedQuery],
    k: int = 1,
    batch_rows: int = BATCH_ROWS,
    scalings: Sequence[NeuronScaling | None] | None = None,
    where: str = "answer",
    site: str = "down_input",
) -> tuple[Int[np.ndarray, "query k"], Float[np.ndarray, "query k"]]:
    """Ids and probabilities of the `k` most probable tokens at the position that predicts the answer's first token.

    Args: scalings, where and site as in `answer_probabilities`; k, fewer when the vocabulary is smaller; batch_rows,
    rows of one forward pass, changes only speed and memory.
    Returns: arrays in the order of the queries, the most probable token first.
    """
    k = min(k, lm.n_vocabulary)
    ids, p = np.zeros((len(queries), k), dtype=np.int64), np.zeros((len(queries), k))
    scalings = [None] * len(queries) if scalings is None else list(scalings)
    for batch in _batches(queries, batch_rows):
        part = [queries[number] for number in batch]
        places = [positions_of(query, where) for query in part]
        with scaled_rows(lm, [scalings[number] for number in batch], places, site):
            rows = token_probabilities(lm, [replace(query, positions=query.positions[:1]) for query in part])
        best = torch.cat(rows).topk(k, dim=1)
        ids[batch], p[batch] = best.indices.cpu().numpy(), best.values.cpu().numpy()
    return ids, p


def token_text(lm: LanguageModel, token: int) -> str:
    """A token as text; its name in the vocabulary where the text is blank or only a part of a letter."""
    text = lm.tokenizer.decode([int(token)])
    if text.strip() and NO_LETTER not in text:
        return text.strip()
    return str(lm.tokenizer.convert_ids_to_tokens(int(token)))


def _batches(queries: Sequence[EncodedQuery], batch_rows: int) -> Iterator[list[int]]:
    """Numbers of queries of similar length, so that little is padded."""
    order = sorted(range(len(queries)), key=lambda number: len(queries[number].input_ids))
    for start in range(0, len(order), batch_rows):
        yield order[start : start + batch_rows]
