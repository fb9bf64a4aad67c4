"""Where a prompt names its subject: the positions of the tokens that hold a character of it."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from knatlas.errors import AtlasError
from knatlas.models.encoding import LINE, EncodedQuery, encode_prompt
from knatlas.models.language_model import LanguageModel


class _Token(NamedTuple):
    """A token's position in the query, and the part of a text that it covers."""

    position: int
    start: int
    end: int


def read_position(query: EncodedQuery) -> int:
    """The position that predicts the answer's first token: the first mask, or the last token of a causal prompt."""
    return query.positions[0]


def subject_positions(lm: LanguageModel, prompt: object, subject: str) -> tuple[int, ...]:
    """Positions in `encode_prompt(lm, prompt).input_ids` of the tokens that hold a character of the subject.

    Of several occurrences the last in `prompt.before` counts, or where it has none the last in `prompt.after`; as it is
    written, or where the text has it nowhere so, in other capitals. Tokens that are only a blank don't count.

    Args: prompt, a row of the table of prompts; subject, the subject as the prompt writes it.
    Returns: ascending positions, at least one. Raises: AtlasError when the subject is empty or not in the prompt, or
    stands only after the answer of a causal prompt, which the model doesn't see; and as `encode_prompt` does.
    """
    query = encode_prompt(lm, prompt)
    for side in ("before", "after") if lm.kind == "masked" else ("before",):
        text = getattr(prompt, side)
        start = _last_occurrence(text, subject)
        if start is None:
            continue
        tokens = _tokens_before(lm, prompt, query) if side == "before" else _tokens_after(lm, prompt, query)
        found = _holding(lm, query, tokens, text, (start, start + len(subject)))
        if found:
            return found
    raise AtlasError(
        f"{lm.name}: fact {prompt.fact}, language {prompt.language}: the prompt '{_seen(lm, prompt)}' does not hold "
        f"the subject '{subject}'; use the label that the prompt was made with"
    )


def _seen(lm: LanguageModel, prompt: object) -> str:
    """What the model sees of a prompt, as text."""
    return prompt.before if lm.kind == "causal" else f"{prompt.before}{prompt.separator}[MASK]{prompt.after}"


def _last_occurrence(text: str, subject: str) -> int | None:
    """Where the subject begins last, in its own capitals if the text has it so."""
    if not subject.strip():
        return None
    exact = text.rfind(subject)
    if exact >= 0:
        return exact
    anyhow = re.compile(re.escape(subject), re.IGNORECASE)
    # from the end, since a search from the beginning misses an occurrence that overlaps with an earlier one
    starts = range(len(text) - len(subject), -1, -1)
    return next((start for start in starts if anyhow.fullmatch(text, start, start + len(subject))), None)


def _tokens_before(lm: LanguageModel, prompt: object, query: EncodedQuery) -> list[_Token]:
    """The tokens before the answer, with their characters in `prompt.before`."""
    n_before = read_position(query) + (lm.kind == "causal")
    whole = _encoded(lm, prompt.before + prompt.separator + prompt.answer + prompt.after, add_special_tokens=True)
    if tuple(whole["input_ids"][:n_before]) == query.input_ids[:n_before]:
        spans = whole["offset_mapping"][:n_before]
        return [_Token(i, *span) for i, span in enumerate(spans) if not whole["special_tokens_mask"][i]]
    # a token reaches over the answer's edge, so `encode_prompt` took each text on its own
    n_front = next((i for i, is_added in enumerate(whole["special_tokens_mask"]) if not is_added), 0)
    own = _encoded(lm, prompt.before, add_special_tokens=False)
    return [_Token(n_front + i, *span) for i, span in enumerate(own["offset_mapping"])]


def _tokens_after(lm: LanguageModel, prompt: object, query: EncodedQuery) -> list[_Token]:
    """The tokens after the mask, with their characters in `prompt.after`."""
    first = query.positions[-1] + 1
    n_after = len(query.input_ids) - first
    lead = prompt.before + prompt.separator + prompt.answer
    whole = _encoded(lm, lead + prompt.after, add_special_tokens=True)
    if n_after and tuple(whole["input_ids"][-n_after:]) == query.input_ids[first:]:
        marks = zip(whole["offset_mapping"][-n_after:], whole["special_tokens_mask"][-n_after:], strict=True)
        return list(
            _shifted(((first + i, span) for i, (span, is_added) in enumerate(marks) if not is_added), len(lead))
        )
    own = _encoded(lm, LINE + prompt.after, add_special_tokens=False)
    spans = [span for span in own["offset_mapping"] if span[1] > len(LINE)]
    return list(_shifted(((first + i, span) for i, span in enumerate(spans)), len(LINE)))


def _shifted(places: Iterator[tuple[int, tuple[int, int]]], n_characters: int) -> Iterator[_Token]:
    """Tokens whose characters are counted from `n_characters` on."""
    for position, (start, end) in places:
        yield _Token(position, max(0, start - n_characters), max(0, end - n_characters))


def _encoded(lm: LanguageModel, text: str, add_special_tokens: bool) -> dict:
    marks = {"return_offsets_mapping": True, "return_special_tokens_mask": True}
    return lm.tokenizer(text, add_special_tokens=add_special_tokens, **marks)


def _holding(
    lm: LanguageModel, query: EncodedQuery, tokens: list[_Token], text: str, span: tuple[int, int]
) -> tuple[int, ...]:
    """The positions of tokens that share a character other than a blank with a span of the text."""
    shared = [(token.position, text[max(token.start, span[0]) : min(token.end, span[1])]) for token in tokens]
    touching = [position for position, characters in shared if characters.strip()]
    # some tokenizers say that a blank covers the character after it
    return tuple(position for position in touching if lm.tokenizer.decode([query.input_ids[position]]).strip())
