"""Sentences that end in one of five punctuation marks, made of hand-written frames and the names of a study's facts.

The form of a sentence tells its mark: a question begins as one, a clause that opens a sentence asks for a comma. The
frames stand in catalog/punctuation.yaml.
"""

from collections.abc import Iterator, Mapping, Sequence
from zlib import crc32

import numpy as np
import pandas as pd

from knatlas.errors import AtlasError, unknown

PUNCTUATION = (".", ",", "!", "?", ";")
LANGUAGE = "en"  # language of the frames
HELD_OUT = 4  # one in so many combinations of names is held out
TRIES = 100  # draws per wanted sentence, after which there are too few names


def punctuation_sentences(
    facts: pd.DataFrame, frames: Mapping[str, Sequence[str]], per_mark: int, seed: int, is_held_out: bool = False
) -> pd.DataFrame:
    """Distinct sentences, `per_mark` for each mark, each ending in its mark and holding no other.

    [X] and [Y] are drawn from the subjects' names, never two that are the subject and the object of a fact, so that no
    sentence answers one. A combination of names is held out or not whatever the facts, the frames and the seed: with
    and without `is_held_out` there are never two sentences with the same names.

    Args: facts, rows of facts.parquet in English; frames, mark -> sentences with one [X] and at most one [Y] that end
    in the mark; per_mark; seed; is_held_out.
    Returns: DataFrame (mark, sentence), marks in the order of PUNCTUATION.
    Raises: AtlasError for rows in other languages, for frames that are not so, and when there are too few names.
    """
    _check(facts, frames)
    pairs = set(zip(facts["subject_label"], facts["object_label"], strict=True))
    names = [name for name in sorted(set(facts["subject_label"])) if not _marks_in(name)]
    rows = []
    for i, mark in enumerate(PUNCTUATION):
        generator = np.random.default_rng([seed, i])
        drawn = _draw(names, pairs, frames[mark], TRIES * per_mark, is_held_out, generator)
        found = _take_distinct(drawn, per_mark)
        if len(found) < per_mark:
            raise AtlasError(
                f"Only {len(found)} of {per_mark} sentences that end in '{mark}' can be made of {len(names)} names; "
                "ask for fewer, or add facts or frames (catalog/punctuation.yaml)."
            )
        rows += [(mark, sentence) for sentence in found]
    return pd.DataFrame(rows, columns=["mark", "sentence"])


def is_combination_held_out(names: Sequence[str]) -> bool:
    """Whether the names of a sentence are held out: decided by the names alone.

    >>> is_combination_held_out(["Oslo", "Paris"]) == is_combination_held_out(["Paris", "Oslo"])
    True
    """
    return crc32("|".join(sorted(names)).encode()) % HELD_OUT == 0


def _draw(
    names: Sequence[str],
    pairs: set[tuple[str, str]],
    frames: Sequence[str],
    n_draws: int,
    is_held_out: bool,
    generator: np.random.Generator,
) -> Iterator[str]:
    """Random sentences, perhaps some of them equal: each frame in turn, filled with names that may stand together."""
    for i in range(n_draws if len(names) > 1 else 0):
        frame = frames[i % len(frames)]
        first, second = (names[k] for k in generator.choice(len(names), 2, replace=False))
        used = [first, second] if "[Y]" in frame else [first]
        is_fact = len(used) == 2 and ((first, second) in pairs or (second, first) in pairs)
        if not is_fact and is_combination_held_out(used) == is_held_out:
            yield frame.replace("[X]", first).replace("[Y]", second)


def _take_distinct(sentences: Iterator[str], n: int) -> list[str]:
    """The first n different sentences, or all where there are fewer."""
    found: dict[str, None] = {}
    for sentence in sentences:
        found[sentence] = None
        if len(found) == n:
            break
    return list(found)


def _marks_in(text: str) -> list[str]:
    """The punctuation marks of a text, each as often as it stands there."""
    return [character for character in text if character in PUNCTUATION]


def _check(facts: pd.DataFrame, frames: Mapping[str, Sequence[str]]) -> None:
    """Raise AtlasError with all mistakes in the facts' languages and in the frames."""
    others = sorted(set(facts["language"]) - {LANGUAGE})
    mistakes = [f"The frames of punctuation are English, but facts are in {' '.join(others)} too."] if others else []
    for mark in frames:
        if mark not in PUNCTUATION:
            mistakes.append(unknown("catalog/punctuation.yaml: mark", mark, "a punctuation mark", PUNCTUATION))
    for mark in PUNCTUATION:
        if not frames.get(mark):
            mistakes.append(f"catalog/punctuation.yaml has no frame for '{mark}'; add one that ends in it.")
        mistakes += [sentence for frame in frames.get(mark, ()) for sentence in _frame_mistakes(mark, frame)]
    if mistakes:
        raise AtlasError("\n".join(mistakes))


def _frame_mistakes(mark: str, frame: object) -> list[str]:
    """What is wrong with a frame, as sentences."""
    where = f"catalog/punctuation.yaml: '{mark}' has the frame '{frame}'"
    if not isinstance(frame, str):
        return [f"{where}; expected text: put it in quotes."]
    mistakes = []
    if not frame.endswith(mark) or _marks_in(frame) != [mark]:
        mistakes.append(f"{where}; expected '{mark}' at its end and no other of {' '.join(PUNCTUATION)} in it.")
    if frame.count("[X]") != 1 or frame.count("[Y]") > 1:
        mistakes.append(f"{where}; expected exactly one [X] and at most one [Y].")
    return mistakes
