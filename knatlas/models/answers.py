"""The probability of the right answer: one forward pass per query, many queries at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import prod
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor

from knatlas.models.encoding import EncodedQuery, encode_prompts, encode_rows
from knatlas.models.language_model import LanguageModel
from knatlas.models.scaling import NeuronScaling, positions_of, scaled_rows

BATCH_ROWS = 32
ANSWER_COLUMNS = ["fact", "language", "query", "p", "is_argmax", "n_tokens"]
DETAIL_COLUMNS = [*ANSWER_COLUMNS, "is_first_argmax", "predicted"]
KNOWN_COLUMNS = [
    *("model", "fact", "relation", "language", "query", "kind"),
    *("p", "is_argmax", "rank", "n_objects", "n_tokens"),
]


def answer_probabilities(
    lm: LanguageModel,
    queries: Sequence[EncodedQuery],
    batch_rows: int = BATCH_ROWS,
    interventions: Sequence[NeuronScaling | None] | None = None,
    where: str = "answer",
    site: str = "down_input",
) -> pd.DataFrame:
    """P(answer) of each query, in the order of the queries, with neurons scaled where an intervention is given.

    P(answer) is the product over the answer's tokens of the probability of each at the position that predicts it,
    given the right tokens before it (causal) or with all of them masked (masked). The softmax is taken in float32, in a
    float64 model in float64.

    Args: batch_rows, rows of one forward pass, changes only speed and memory; interventions, one or None per query;
    where and site as in `positions_of` and `scaled_rows`.
    Returns: columns fact, language, query, p, is_argmax (each answer token is the most probable one), n_tokens.
    """
    scalings = [None] * len(queries) if interventions is None else list(interventions)
    answers = _answers(lm, queries, scalings, batch_rows, where, site)
    lines = [
        (query.fact, query.language, query.query, answer.p, answer.is_argmax, len(query.targets))
        for query, answer in zip(queries, answers, strict=True)
    ]
    return pd.DataFrame(lines, columns=ANSWER_COLUMNS)


def answer_details(lm: LanguageModel, queries: Sequence[EncodedQuery], batch_rows: int = BATCH_ROWS) -> pd.DataFrame:
    """The answers as `answer_probabilities` has them, and what the model says instead.

    Returns: its columns, then is_first_argmax (the answer's first token is the most probable one) and predicted (a
    tuple: the most probable token id at each position that predicts one of the answer, given the right tokens before).
    """
    answers = _answers(lm, queries, [None] * len(queries), batch_rows)
    lines = [
        (
            *(query.fact, query.language, query.query, answer.p, answer.is_argmax, len(query.targets)),
            *(answer.is_first_argmax, answer.predicted),
        )
        for query, answer in zip(queries, answers, strict=True)
    ]
    return pd.DataFrame(lines, columns=DETAIL_COLUMNS)


def known_facts(
    lm: LanguageModel, prompts: pd.DataFrame, batch_rows: int = BATCH_ROWS, ranked_queries: int = 1
) -> pd.DataFrame:
    """What the model answers to each prompt of its kind, and how the right object ranks among those of its relation.

    The rank is 1 plus the number of distinct objects of the relation, in that language, whose own P under the same
    prompt is greater than that of the right object; the objects are those of the table `prompts`. It costs one forward
    row per prompt and object, therefore only the first `ranked_queries` queries of a fact have a rank (0: none have).
    Returns: columns model, fact, relation, language, query, kind, p, is_argmax, rank (missing where it was not asked
    for), n_objects, n_tokens; one row per prompt of the model's kind, in the order of the table.
    """
    of_kind = prompts[prompts["kind"] == lm.kind].reset_index(drop=True)
    answers = answer_probabilities(lm, encode_prompts(lm, of_kind), batch_rows)
    objects = of_kind.groupby(["relation", "language"])["answer"].agg(lambda labels: tuple(dict.fromkeys(labels)))
    known = answers.assign(
        model=lm.name,
        relation=of_kind["relation"],
        kind=of_kind["kind"],
        rank=pd.array(_ranks(lm, of_kind, objects, batch_rows, ranked_queries), dtype="Int64"),
        n_objects=[len(objects[key]) for key in zip(of_kind["relation"], of_kind["language"], strict=True)],
    )
    return known[KNOWN_COLUMNS]


def _ranks(
    lm: LanguageModel, prompts: pd.DataFrame, objects: pd.Series, batch_rows: int, ranked_queries: int
) -> list[int | None]:
    ranks: list[int | None] = [None] * len(prompts)
    ranked = prompts[prompts["query"] < ranked_queries]
    for key, group in ranked.groupby(["relation", "language"], sort=False):
        candidates = objects[key]
        rows = group.itertuples(index=False)
        queries = encode_rows(lm, [row._replace(answer=candidate) for row in rows for candidate in candidates])
        p = answer_probabilities(lm, queries, batch_rows)["p"].to_numpy().reshape(len(group), len(candidates))
        for line, (number, answer) in enumerate(group["answer"].items()):
            ranks[number] = 1 + int((p[line] > p[line, candidates.index(answer)]).sum())
    return ranks


def token_probabilities(lm: LanguageModel, queries: Sequence[EncodedQuery]) -> list[Tensor]:
    """The distribution over the vocabulary at each query's positions, from one padded forward pass.

    Returns: per query (positions, vocabulary), float32 or, in a float64 model, float64.
    """
    return list(_logits(lm, queries).softmax(-1).split([len(query.positions) for query in queries]))


def token_log_probabilities(lm: LanguageModel, queries: Sequence[EncodedQuery]) -> list[Tensor]:
    """The logarithms (nats) of `token_probabilities`, also where a probability underflows."""
    return list(_logits(lm, queries).log_softmax(-1).split([len(query.positions) for query in queries]))


@torch.no_grad()
def _logits(lm: LanguageModel, queries: Sequence[EncodedQuery]) -> Tensor:
    """The logits (positions of all queries, vocabulary), from one padded forward pass."""
    ids, attention = padded([query.input_ids for query in queries], lm.device)
    if lm.kind == "causal":
        # no token sees the padding on its right, and a window of masked padding alone would have no softmax
        attention = torch.ones_like(attention)
    hidden = lm.hidden_states(ids, attention)  # (rows, tokens, hidden)
    row = torch.tensor([r for r, query in enumerate(queries) for _ in query.positions], device=lm.device)
    position = torch.tensor([p for query in queries for p in query.positions], device=lm.device)
    logits = lm.head(hidden[row, position])  # the head only where it is read: a vocabulary is large
    return logits.to(torch.float64 if logits.dtype == torch.float64 else torch.float32)


def padded(sequences: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids (rows, tokens) padded on the right and the attention mask that leaves the padding out."""
    lengths = [len(sequence) for sequence in sequences]
    longest = max(lengths)
    ids = [[*sequence, *(0,) * (longest - len(sequence))] for sequence in sequences]
    attention = torch.arange(longest) < torch.tensor(lengths)[:, None]
    return torch.tensor(ids, dtype=torch.long, device=device), attention.long().to(device)


@dataclass
class _Row:
    """A forward row: queries that differ only in their answers share it."""

    query: EncodedQuery
    scaling: NeuronScaling | None
    numbers: list[int]


def _distinct_rows(queries: Sequence[EncodedQuery], scalings: Sequence[NeuronScaling | None]) -> list[_Row]:
    rows: dict[tuple, _Row] = {}
    for number, (query, scaling) in enumerate(zip(queries, scalings, strict=True)):
        key = (query.input_ids, query.positions, id(scaling))
        rows.setdefault(key, _Row(query, scaling, [])).numbers.append(number)
    return list(rows.values())


def _batches(rows: list[_Row], batch_rows: int) -> Iterator[list[_Row]]:
    """Rows of similar length together, so that little is padded."""
    ordered = sorted(rows, key=lambda row: len(row.query.input_ids))
    for start in range(0, len(ordered), batch_rows):
        yield ordered[start : start + batch_rows]


class _Answer(NamedTuple):
    """P(answer), whether all of its tokens and whether the first is the most probable, and the most probable ones."""

    p: float
    is_argmax: bool
    is_first_argmax: bool
    predicted: tuple[int, ...]


def _answers(
    lm: LanguageModel,
    queries: Sequence[EncodedQuery],
    scalings: Sequence[NeuronScaling | None],
    batch_rows: int,
    where: str = "answer",
    site: str = "down_input",
) -> list[_Answer]:
    """The answer of each query, in the order of the queries."""
    answers: dict[int, _Answer] = {}
    for batch in _batches(_distinct_rows(queries, scalings), batch_rows):
        places = [positions_of(row.query, where) for row in batch]
        with scaled_rows(lm, [row.scaling for row in batch], places, site):
            probabilities = _logits(lm, [row.query for row in batch]).softmax(-1)
        answers.update(_batch_answers(queries, batch, probabilities))
    return [answers[number] for number in range(len(queries))]


def _batch_answers(queries: Sequence[EncodedQuery], batch: list[_Row], probabilities: Tensor) -> dict[int, _Answer]:
    """The answer by number of query, from the distributions at the positions of all rows (positions, vocabulary)."""
    spans = list(pairwise([0, *accumulate(len(row.query.positions) for row in batch)]))
    asked = [(number, span) for row, span in zip(batch, spans, strict=True) for number in row.numbers]
    lines = [line for _, span in asked for line in range(*span)]
    targets = [target for number, _ in asked for target in queries[number].targets]
    lines, targets = torch.tensor([lines, targets], device=probabilities.device)
    best = probabilities.max(dim=1)
    chosen = probabilities[lines, targets]
    # three transfers per batch, not one per query: each would wait for the device
    is_best, tokens = (chosen == best.values[lines]).tolist(), best.indices.tolist()
    chosen, answers, end = chosen.tolist(), {}, 0
    for number, span in asked:
        start, end = end, end + len(queries[number].targets)
        is_argmax, predicted = all(is_best[start:end]), tuple(tokens[slice(*span)])
        answers[number] = _Answer(prod(chosen[start:end]), is_argmax, is_best[start], predicted)
    return answers
