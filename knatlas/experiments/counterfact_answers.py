"""How probable the true and the new object are after each prompt of a CounterFact record."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from knatlas.errors import AtlasError
from knatlas.facts.counterfact import CounterfactRecord
from knatlas.interventions.editing import prompt_of
from knatlas.models.answers import token_log_probabilities
from knatlas.models.encoding import EncodedQuery, encode_prompt
from knatlas.models.language_model import LanguageModel

Nll = Float[np.ndarray, " query"]


class Encoded(NamedTuple):
    """A record's queries, prompt by prompt the true object and then the new one; none where it can't be asked.

    reason: why it can't be asked, as a sentence.
    """

    queries: list[EncodedQuery]
    is_too_long: bool = False
    reason: str = ""


def encode_record(lm: LanguageModel, record: CounterfactRecord) -> Encoded:
    """The queries of a record, all or none: a prompt may be too long, or an object unknown to the tokenizer."""
    rows = [
        prompt_of(text, target, lm.kind)
        for _, _, text in record.prompts
        for target in (record.target_true, record.target_new)
    ]
    try:
        return Encoded([encode_prompt(lm, row) for row in rows])
    except AtlasError as error:
        return Encoded([], any(_is_too_long(lm, row) for row in rows), f"record {record.case} is left out: {error}")


def _is_too_long(lm: LanguageModel, row: object) -> bool:
    """Whether the sentence has more tokens than the model reads; a causal one never reads the answer's last token."""
    n_tokens = len(lm.tokenizer(row.before + row.separator + row.answer + row.after)["input_ids"])
    return lm.n_positions is not None and n_tokens - (lm.kind == "causal") > lm.n_positions


@torch.no_grad()
def mean_nll(lm: LanguageModel, queries: Sequence[EncodedQuery], batch_rows: int) -> Nll:
    """-log P of each query's answer, in nats, the mean over its tokens: exp(-it) is their geometric mean probability.

    The logarithm of the softmax is taken in float32 (float64 in a float64 model), so that no small probability
    underflows. Args: batch_rows, the most rows of a forward pass: speed and memory only.
    """
    found = np.zeros(len(queries))
    for batch in _batches(queries, batch_rows):
        per_row = token_log_probabilities(lm, [queries[numbers[0]] for numbers in batch])
        pairs = [(number, row) for row, numbers in enumerate(batch) for number in numbers]
        targets = [torch.tensor(queries[number].targets, device=lm.device)[:, None] for number, _ in pairs]
        chosen = [per_row[row].gather(1, of) for (_, row), of in zip(pairs, targets, strict=True)]
        means = torch.stack([-values.double().mean() for values in chosen]).tolist()
        found[[number for number, _ in pairs]] = means
    return found


def _batches(queries: Sequence[EncodedQuery], batch_rows: int) -> Iterator[list[list[int]]]:
    """The numbers of the queries that share a row, rows of like length together: answers of one token differ in it."""
    rows: dict[tuple, list[int]] = {}
    for number, query in enumerate(queries):
        rows.setdefault((len(query.input_ids), query.input_ids, query.positions), []).append(number)
    ordered = [rows[key] for key in sorted(rows)]
    for start in range(0, len(ordered), batch_rows):
        yield ordered[start : start + batch_rows]
