"""What the search for punctuation neurons asks of a model: sentences without their mark, and cut before a word."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pandas as pd

from knatlas.errors import AtlasError, unknown
from knatlas.facts.punctuation_corpus import MARKS
from knatlas.models.encoding import EncodedQuery, encode_prompt
from knatlas.models.language_model import LanguageModel
from knatlas.selection.controls import random_stream

LANGUAGE = "en"
READINGS = ("default", "code")
MASK_TEXT = " [MASK]"  # what the released code leaves at the end of a causal model's prompt
CELL = ["reading", "group", "mark"]
PROMPT_COLUMNS = [*CELL, "number", "before", "separator", "answer", "after"]


@dataclass(frozen=True)
class Punctuation:
    """What is searched for.

    sentences: per mark, the first ones. ratio: a sentence's coarse set holds the neurons with score > ratio * the
    largest of all neurons. steps: points of the attribution's path. readings: how causal models are asked, "default"
    (the sentence without its mark) or "code" (the literal text "[MASK]" behind it); masked models have "default" alone.
    n_control: sentences that are cut before a random word. kept_share: neurons are kept that are in more than this
    share of the coarse sets of some mark, or of the control.
    Raises: AtlasError for anything else.
    """

    sentences: int = 200
    ratio: float = 0.3
    steps: int = 20
    readings: Sequence[str] = ("default",)
    n_control: int = 200
    kept_share: float = 0.05

    def __post_init__(self) -> None:
        """Check every choice."""
        if self.sentences < 1 or self.n_control < 0:
            raise AtlasError(
                f"punctuation: sentences is {self.sentences} and n_control {self.n_control}; expected at least 1 and 0."
            )
        for name, value in {"ratio": self.ratio, "kept_share": self.kept_share}.items():
            if not 0 <= value < 1:
                raise AtlasError(f"punctuation: {name} is {value}; expected a number from 0 to below 1.")
        for reading in self.readings:
            if reading not in READINGS:
                raise AtlasError(unknown("punctuation: readings", reading, "one of", READINGS))

    def readings_of(self, kind: str) -> list[str]:
        """The readings for a kind of model: to a masked model the text "[MASK]" is the mask, so both are one."""
        return list(dict.fromkeys(self.readings)) if kind == "causal" else READINGS[:1]


def punctuation_prompts(kind: str, sentences: pd.DataFrame, settings: Punctuation, seed: int) -> pd.DataFrame:
    """The prompts of every reading: of the first sentences of each mark, and of the control (PROMPT_COLUMNS).

    Masked models: the mask at the end of the text and nothing after it, set off by a blank. Causal models: the mark
    follows without a blank. In the control the answer is the word, of which only the first token is asked.
    """
    first = sentences[sentences["number"] < settings.sentences]
    marks = [(row.mark, int(row.number), row.sentence) for row in first.itertuples()]
    marks.sort(key=lambda row: (MARKS.index(row[0]), row[1]))
    words = control_words(first, settings.n_control, seed)
    rows = []
    for reading in settings.readings_of(kind):
        suffix = MASK_TEXT if reading == "code" else ""
        blank = " " if kind == "masked" else ""
        rows += [(reading, "mark", mark, i, text + suffix, blank, mark, "") for mark, i, text in marks]
        rows += [(reading, "control", "", i, text + suffix, " ", word, "") for i, (text, word) in enumerate(words)]
    return pd.DataFrame(rows, columns=PROMPT_COLUMNS)


def control_words(sentences: pd.DataFrame, n: int, seed: int) -> list[tuple[str, str]]:
    """A random inner word and the text before it, of `n` random sentences (fewer where fewer have an inner word).

    Inner words are neither the first nor the last one, and begin with a letter or digit. A sentence's word depends on
    the seed and the sentence alone.
    """
    cuts = []
    for row in sentences.itertuples():
        words = row.sentence.split()
        inner = [place for place in range(1, len(words) - 1) if words[place][0].isalnum()]
        if inner:
            place = random_stream(seed, "control word", row.sentence).choice(inner)
            cuts.append((" ".join(words[:place]), words[place]))
    drawn = random_stream(seed, "control sentences").permutation(len(cuts))[:n]
    return [cuts[number] for number in sorted(drawn)]


def encode_or_reason(lm: LanguageModel, row: object) -> EncodedQuery | str:
    """The query of a prompt, or why it is left out. Raises: AtlasError for what no other sentence would mend."""
    tokens = lm.tokenizer(row.answer, add_special_tokens=False)["input_ids"]
    if lm.tokenizer.unk_token_id in tokens:
        return "unknown"
    prompt = SimpleNamespace(**row._asdict(), fact=f"{row.group}:{row.mark}:{row.number}", language=LANGUAGE, query=0)
    try:
        query = encode_prompt(lm, prompt)
    except AtlasError:
        text = row.before + row.separator + row.answer + row.after
        if lm.n_positions is None or len(lm.tokenizer(text)["input_ids"]) < lm.n_positions:
            raise
        return "too_long"
    return query if row.group == "mark" else _first_token(query)


def _first_token(query: EncodedQuery) -> EncodedQuery:
    """The query with the answer's first token alone as its answer: one mask, or the input up to where it is read."""
    place, n_answer = query.positions[0], len(query.positions)
    after = query.input_ids[place + n_answer :] if query.kind == "masked" else ()
    own = tuple(position for position in query.replaceable if position <= place)
    ids = (*query.input_ids[: place + 1], *after)
    return replace(query, input_ids=ids, positions=(place,), targets=query.targets[:1], replaceable=own)
