"""Prompts as token ids: where the answer's tokens are predicted, and which tokens are the query's own."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from knatlas.errors import AtlasError
from knatlas.models.language_model import LanguageModel

# on a line of its own a text gets no blank in front and merges with nothing before it
LINE = "\n"
AT_ONCE = 1000  # sentences that are tokenised in one call


@dataclass(frozen=True)
class EncodedQuery:
    """One query with its answer, ready for one forward pass.

    P(answer) = product over t of p(targets[t] at positions[t]). Masked: `input_ids` holds one mask per answer token and
    `positions` are the masks. Causal: `input_ids` is the prompt followed by all answer tokens but the last, and
    `positions` are those that predict the answer tokens. `replaceable` are the positions of the query's own tokens:
    no token that the tokenizer adds, no mask, no answer token.
    """

    fact: str
    language: str
    query: int
    kind: str
    input_ids: tuple[int, ...]
    positions: tuple[int, ...]
    targets: tuple[int, ...]
    replaceable: tuple[int, ...]


@dataclass(frozen=True)
class Readout:
    """One input with the positions that are read in it together; an attribution is defined on a readout."""

    input_ids: tuple[int, ...]
    positions: tuple[int, ...]
    targets: tuple[int, ...]
    replaceable: tuple[int, ...]
    kind: str


def readouts(query: EncodedQuery) -> list[Readout]:
    """The readouts of a query: one with all masks (masked), or one per answer token (causal).

    Causal readout t is the prompt followed by the right answer's tokens before t; its last position predicts token t.
    """
    if query.kind == "masked":
        return [Readout(query.input_ids, query.positions, query.targets, query.replaceable, query.kind)]
    return [
        Readout(query.input_ids[: position + 1], (position,), (target,), query.replaceable, query.kind)
        for position, target in zip(query.positions, query.targets, strict=True)
    ]


def encode_prompts(lm: LanguageModel, prompts: pd.DataFrame) -> list[EncodedQuery]:
    """The prompts of the model's kind as EncodedQuery, in the order of the table; those of the other kind are left out.

    Raises AtlasError as `encode_prompt` does.
    """
    of_kind = prompts[prompts["kind"] == lm.kind]
    return encode_rows(lm, list(of_kind.itertuples(index=False)))


def encode_rows(lm: LanguageModel, prompts: Sequence[object]) -> list[EncodedQuery]:
    """`encode_prompt` of each of the prompts; the tokenizer is called for many at a time, which is much faster."""
    queries = []
    for start in range(0, len(prompts), AT_ONCE):
        part = prompts[start : start + AT_ONCE]
        encoding = lm.tokenizer(
            [_sentence(prompt) for prompt in part], return_offsets_mapping=True, return_special_tokens_mask=True
        )
        columns = (encoding[name] for name in ("input_ids", "special_tokens_mask", "offset_mapping"))
        queries += [_encoded(lm, *of_prompt) for of_prompt in zip(part, *columns, strict=True)]
    return queries


def encode_prompt(lm: LanguageModel, prompt: object) -> EncodedQuery:
    """One row of the table of prompts (by attribute: before, separator, answer, after, ...) as token ids.

    The whole sentence is tokenised at once; the answer's tokens are those that hold one of its characters. Where a
    token reaches over an edge of the answer, the texts before it, of it and after it are tokenised each on its own.
    A blank that is a token of its own belongs to the query, not to the answer. Case is left as it is written.
    Raises AtlasError when the answer has no tokens or only unknown ones, when nothing stands before it that could
    predict it, when an id lies outside the model's vocabulary, or when the sentence is too long for the model.
    """
    (query,) = encode_rows(lm, [prompt])
    return query


def _sentence(prompt: object) -> str:
    return prompt.before + prompt.separator + prompt.answer + prompt.after


def _encoded(
    lm: LanguageModel, prompt: object, ids: list[int], marks: list[int], offsets: list[tuple[int, int]]
) -> EncodedQuery:
    """A prompt whose sentence the tokenizer encodes so: its token ids, which of them it added, and their characters."""
    before, answer, after = _split(lm, prompt, ids, [bool(mark) for mark in marks], offsets)
    _check_answer(lm, prompt, answer)
    if lm.kind == "masked":
        return _masked_query(lm, prompt, before, answer, after)
    return _causal_query(lm, prompt, before, answer)


@dataclass(frozen=True)
class _Pieces:
    """Token ids of a stretch of text, and for each whether the tokenizer added it."""

    ids: tuple[int, ...]
    added: tuple[bool, ...]


def _split(
    lm: LanguageModel, prompt: object, ids: list[int], added: list[bool], offsets: list[tuple[int, int]]
) -> tuple[_Pieces, _Pieces, _Pieces]:
    """The sentence's tokens before, of and after the answer."""
    start = len(prompt.before) + len(prompt.separator)
    end = start + len(prompt.answer)
    spans = _spans(lm, _sentence(prompt), ids, offsets)
    inside = [i for i, (a, b) in enumerate(spans) if not added[i] and a < end and b > start]
    if any(spans[i][0] < start or spans[i][1] > end for i in inside):
        return _split_apart(lm, prompt, ids, added)
    if not inside:
        return _Pieces((), ()), _Pieces((), ()), _Pieces((), ())
    cuts = (slice(0, inside[0]), slice(inside[0], inside[-1] + 1), slice(inside[-1] + 1, len(ids)))
    return tuple(_Pieces(tuple(ids[cut]), tuple(added[cut])) for cut in cuts)


def _spans(
    lm: LanguageModel, text: str, ids: Iterable[int], offsets: Iterable[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Character spans of tokens without the blanks at their beginning: " Paris" is a token of the answer "Paris".

    A token that is a blank has an empty span: some tokenizers say that it covers the character after it.
    """
    spans = []
    for token, (start, end) in zip(ids, offsets, strict=True):
        while start < end and text[start].isspace():
            start += 1
        spans.append((start, start if lm.is_blank(token) else end))
    return spans


def _split_apart(
    lm: LanguageModel, prompt: object, ids: list[int], added: list[bool]
) -> tuple[_Pieces, _Pieces, _Pieces]:
    n_front = next((i for i, is_added in enumerate(added) if not is_added), len(ids))
    n_back = next((i for i, is_added in enumerate(reversed(added)) if not is_added), 0)
    own = tuple(lm.tokenizer(prompt.before, add_special_tokens=False)["input_ids"])
    blank, answer = _alone(lm, prompt, prompt.separator, prompt.answer)
    _, after = _alone(lm, prompt, "", prompt.after)
    own += blank
    return (
        _Pieces((*ids[:n_front], *own), (True,) * n_front + (False,) * len(own)),
        _Pieces(answer, (False,) * len(answer)),
        _Pieces((*after, *ids[len(ids) - n_back :]), (False,) * len(after) + (True,) * n_back),
    )


def _alone(lm: LanguageModel, prompt: object, separator: str, text: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The tokens of the separator only, and those of the text, without neighbours and without any other blank."""
    encoding = lm.tokenizer(LINE + separator + text, add_special_tokens=False, return_offsets_mapping=True)
    if any(start < len(LINE) < end for start, end in encoding["offset_mapping"]):
        raise AtlasError(
            f"{_where(lm, prompt)}: the tokenizer joins a line break with '{text}', so the answer's tokens "
            "cannot be told from the others; leave the fact out or use another model"
        )
    start = len(LINE + separator)
    ids = encoding["input_ids"]
    pairs = list(zip(ids, _spans(lm, LINE + separator + text, ids, encoding["offset_mapping"]), strict=True))
    blank = tuple(token for token, (_, end) in pairs if len(LINE) < end <= start)
    return blank, tuple(token for token, (_, end) in pairs if end > start)


def _masked_query(lm: LanguageModel, prompt: object, before: _Pieces, answer: _Pieces, after: _Pieces) -> EncodedQuery:
    n_before, n_answer = len(before.ids), len(answer.ids)
    ids = (*before.ids, *(lm.mask_id,) * n_answer, *after.ids)
    added = (*before.added, *(True,) * n_answer, *after.added)
    return _query(lm, prompt, ids, tuple(range(n_before, n_before + n_answer)), answer.ids, added)


def _causal_query(lm: LanguageModel, prompt: object, before: _Pieces, answer: _Pieces) -> EncodedQuery:
    n_before, n_answer = len(before.ids), len(answer.ids)
    if n_before == 0:
        raise AtlasError(
            f"{_where(lm, prompt)}: nothing stands before the answer and the tokenizer puts no token in front, so "
            "nothing predicts its first token; use a template with text before [Y]"
        )
    ids = (*before.ids, *answer.ids[:-1])
    added = (*before.added, *(True,) * (n_answer - 1))
    return _query(lm, prompt, ids, tuple(range(n_before - 1, n_before + n_answer - 1)), answer.ids, added)


def _query(
    lm: LanguageModel,
    prompt: object,
    ids: tuple[int, ...],
    positions: tuple[int, ...],
    targets: tuple[int, ...],
    not_own: tuple[bool, ...],
) -> EncodedQuery:
    _check_ids(lm, prompt, ids, targets)
    replaceable = tuple(i for i, is_other in enumerate(not_own) if not is_other)
    return EncodedQuery(
        prompt.fact, prompt.language, int(prompt.query), lm.kind, ids, positions, tuple(targets), replaceable
    )


def _check_answer(lm: LanguageModel, prompt: object, answer: _Pieces) -> None:
    if not answer.ids:
        raise AtlasError(f"{_where(lm, prompt)}: the answer has no tokens in this tokenizer")
    if all(token == lm.tokenizer.unk_token_id for token in answer.ids):
        raise AtlasError(
            f"{_where(lm, prompt)}: the answer is only unknown tokens in this tokenizer; leave the language "
            "out for this model"
        )


def _check_ids(lm: LanguageModel, prompt: object, ids: tuple[int, ...], targets: tuple[int, ...]) -> None:
    greatest = max(*ids, *targets)
    if greatest >= lm.n_vocabulary:
        raise AtlasError(
            f"{_where(lm, prompt)}: token id {greatest} is outside the model's {lm.n_vocabulary} entries; "
            "the tokenizer does not belong to this model"
        )
    longest = lm.n_positions
    if longest is not None and len(ids) > longest:
        raise AtlasError(f"{_where(lm, prompt)}: the sentence has {len(ids)} tokens; the model reads at most {longest}")


def _where(lm: LanguageModel, prompt: object) -> str:
    tokenizer = type(lm.tokenizer).__name__
    return f"{lm.name} ({tokenizer}): fact {prompt.fact}, language {prompt.language}, answer '{prompt.answer}'"
