"""Forward passes with noise on word embeddings: what a model answers then, for every level and draw of the noise."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from knatlas.interventions.embedding_noise import (
    hits_head,
    hits_input,
    input_matrix,
    is_tied,
    noisy_head,
    noisy_inputs,
    output_matrix,
)
from knatlas.models.answers import BATCH_ROWS, token_probabilities
from knatlas.models.encoding import EncodedQuery
from knatlas.models.language_model import LanguageModel
from knatlas.progress import Report, silent
from knatlas.selection.controls import random_stream

STREAM = "perturbation"


class Level(NamedTuple):
    """Noise of standard deviation sigma = relative_sigma * mean|E| on the matrix of a reading."""

    reading: str
    level: str
    sigma: float
    relative_sigma: float
    printed_sigma: float


class Answer(NamedTuple):
    """P(answer), P of its first token, and whether every token is the argmax."""

    p: float
    p_first: float
    is_right: bool


# by number of the query, level and draw
Answers = dict[tuple[int, Level, int], Answer]


def answers_to(lm: LanguageModel, queries: Sequence[EncodedQuery]) -> list[Answer]:
    """The answers to queries, from one forward pass with whatever hooks are open."""
    found = [_described(*pair) for pair in zip(token_probabilities(lm, queries), queries, strict=True)]
    # one transfer per pass: each waits for the device
    return [Answer(p, first, right == 1.0) for p, first, right in torch.stack(found).tolist()] if found else []


def _described(probabilities: Float[Tensor, "position word"], query: EncodedQuery) -> Float[Tensor, "3"]:
    """The numbers of an Answer."""
    targets = torch.tensor(query.targets, device=probabilities.device)
    chosen = probabilities.gather(1, targets[:, None])[:, 0]
    is_right = (chosen == probabilities.max(dim=1).values).all()
    chosen = chosen.double()
    return torch.stack([chosen.prod(), chosen[0], is_right.double()])


class NoisyAnswers:
    """What a model answers to queries without noise, with noise by position, and with noise by word.

    Noise depends on the seed, the fact and the draw (by position: and on language and query) alone, and the levels of a
    draw are multiples of the same noise. Args: batch_rows, rows of a forward pass (speed and memory only); progress,
    in noisy measurements out of `total`.
    """

    def __init__(
        self,
        lm: LanguageModel,
        queries: Sequence[EncodedQuery],
        n_draws: int,
        seed: int = 0,
        batch_rows: int = BATCH_ROWS,
        progress: Report = silent,
        total: int = 0,
    ):
        self.lm, self.queries, self.n_draws, self.seed = lm, list(queries), n_draws, seed
        self.batch_rows, self.progress, self.total, self.done = batch_rows, progress, total, 0

    def clean(self) -> list[Answer]:
        """The answer to each query without noise, in their order."""
        found = {}
        for numbers in self._batches():
            found |= zip(numbers, answers_to(self.lm, self._of(numbers)), strict=True)
        return [found[number] for number in range(len(self.queries))]

    def by_position(self, levels: Sequence[Level]) -> Answers:
        """Answers with independent noise on every token's word embedding, in batches over facts."""
        found = {}
        for numbers in self._batches() if levels else ():
            queries = self._of(numbers)
            for draw in range(self.n_draws):
                noise = [position_noise(self.lm, query, draw, self.seed) for query in queries]
                for level in levels:
                    with noisy_inputs(self.lm, [level.sigma * of_row for of_row in noise]):
                        answers = answers_to(self.lm, queries)
                    found |= {(n, level, draw): answer for n, answer in zip(numbers, answers, strict=True)}
                    self._tell(len(numbers), "by position")
        return found

    def by_word(self, levels: Sequence[Level]) -> Answers:
        """Answers with one draw of noise per fact on whole matrices; the queries of a fact share passes."""
        found, has_head = {}, any(hits_head(self.lm, level.reading) for level in levels)
        facts = {query.fact: None for query in self.queries} if levels else {}
        for fact in facts:
            numbers = [n for n, query in enumerate(self.queries) if query.fact == fact]
            rows = [(n, level) for n in numbers for level in levels]
            for draw in range(self.n_draws):
                noise = WordNoise(self.lm, fact, draw, self.seed, has_head)
                for start in range(0, len(rows), self.batch_rows):
                    part = rows[start : start + self.batch_rows]
                    answers = self._with(noise, part)
                    found |= {(*row, draw): answer for row, answer in zip(part, answers, strict=True)}
                    self._tell(len(part), "by word")
        return found

    def _with(self, noise: "WordNoise", rows: Sequence[tuple[int, Level]]) -> list[Answer]:
        """One pass with every row at its own level of the same noise."""
        queries = self._of([number for number, _ in rows])
        pairs = [(query, level) for query, (_, level) in zip(queries, rows, strict=True)]
        inputs = [level.sigma * hits_input(level.reading) * noise.of(query.input_ids) for query, level in pairs]
        # the head is given a row per position that is read
        on_head = [level.sigma * hits_head(self.lm, level.reading) for query, level in pairs for _ in query.positions]
        sigmas = torch.tensor(on_head, dtype=torch.float64)
        with noisy_inputs(self.lm, inputs), noisy_head(self.lm, noise.head, sigmas):
            return answers_to(self.lm, queries)

    def _of(self, numbers: Sequence[int]) -> list[EncodedQuery]:
        return [self.queries[number] for number in numbers]

    def _batches(self) -> Iterator[list[int]]:
        """Numbers of queries of similar length together, so that little is padded."""
        ordered = sorted(range(len(self.queries)), key=lambda number: len(self.queries[number].input_ids))
        for start in range(0, len(ordered), self.batch_rows):
            yield ordered[start : start + self.batch_rows]

    def _tell(self, n_measured: int, message: str) -> None:
        self.done += n_measured
        self.progress(self.done, self.total, message)


def position_noise(lm: LanguageModel, query: EncodedQuery, draw: int, seed: int) -> Float[Tensor, "token hidden"]:
    """Standard normal noise for each token of a query and coordinate, on the model's device."""
    stream = random_stream(seed, STREAM, "position", query.fact, query.language, query.query, draw)
    return _normal(lm, stream, (len(query.input_ids), input_matrix(lm).shape[1]))


class WordNoise:
    """Standard normal noise on the embedding matrices of one fact and draw; a word has the same in all queries.

    In a tied model one array serves both matrices. Else the input's is drawn for the words that are asked for, each
    from its own stream, since no other row is ever read; and `head`, of the output matrix, only where it `has_head`.
    """

    def __init__(self, lm: LanguageModel, fact: str, draw: int, seed: int, has_head: bool = True):
        self.lm, self.is_tied, self.place = lm, is_tied(lm), (fact, draw)
        self.seed, self.rows = seed, {}
        drawn = self.is_tied or has_head
        stream = random_stream(seed, STREAM, "matrix", *self.place)
        self.head = _normal(lm, stream, output_matrix(lm).shape) if drawn else None

    def of(self, ids: Sequence[int]) -> Float[Tensor, "token hidden"]:
        """The noise of the input embedding in the rows of token ids."""
        if self.is_tied:
            return self.head[torch.tensor(ids, device=self.head.device)]
        return torch.stack([self._row(token) for token in ids])

    def _row(self, token: int) -> Float[Tensor, " hidden"]:
        if token not in self.rows:
            stream = random_stream(self.seed, STREAM, "word", *self.place, token)
            self.rows[token] = _normal(self.lm, stream, (input_matrix(self.lm).shape[1],))
        return self.rows[token]


def _normal(lm: LanguageModel, stream: np.random.Generator, shape: Sequence[int]) -> Tensor:
    # drawn on the processor, in single precision, so that every device and format has the same noise
    return torch.from_numpy(stream.standard_normal(tuple(shape), dtype=np.float32)).to(lm.device, lm.dtype)
