"""Made-up names: words of a language's own letters that name nothing in the data."""

import unicodedata
from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from knatlas.facts.sampling import rank

SHORTEST, LONGEST = 3, 5  # letters of a made-up name
TRIES = 50  # with so many letters, before there is one more


def made_up_names(facts: pd.DataFrame, seed: int) -> dict[tuple[str, str], str]:
    """A made-up name for each subject in each language: (language, subject id) -> name.

    A word of as many letters as the subject's name has, but 3 to 5, each drawn from the letters of all the language's
    subjects, as often as they stand there; a capital first where the name has one. No two subjects of a language share
    a name, and none is the name of a subject or object of the data, capitals ignored. Seed, language and subject decide
    it (and, where two draws agree, the other subjects).

    Args: facts, with language, subject, subject_label, object_label.
    """
    names = {}
    for language, group in facts.groupby("language", sort=True):
        taken = {label.casefold() for side in ("subject_label", "object_label") for label in group[side]}
        letters = alphabet(group.drop_duplicates("subject")["subject_label"])
        subjects = group.drop_duplicates("subject").sort_values("subject")
        for subject, label in zip(subjects["subject"], subjects["subject_label"], strict=True):
            stream = np.random.default_rng(int(rank(f"nonsense_subjects:{language}:{subject}", seed), 16))
            names[language, subject] = made_up_name(label, letters, taken, stream)
            taken.add(names[language, subject].casefold())
    return names


def alphabet(labels: Collection[str]) -> list[str]:
    """All letters of some names, small, each as often as it stands there.

    Of a language that is mostly not written in Latin letters those are left out: they come with foreign names.
    """
    letters = [letter for label in sorted(labels) for letter in label.lower() if unicodedata.category(letter)[0] == "L"]
    is_latin = ["LATIN" in unicodedata.name(letter, "") for letter in letters]
    if sum(is_latin) * 2 < len(letters):
        letters = [letter for letter, latin in zip(letters, is_latin, strict=True) if not latin]
    return letters or ["x"]


def made_up_name(label: str, letters: Sequence[str], taken: Collection[str], stream: np.random.Generator) -> str:
    """A word for a name, of these letters, that is not among those taken (small letters, `casefold`)."""
    n_letters, tries = min(max(len(label), SHORTEST), LONGEST), 0
    while True:
        word = "".join(letters[i] for i in stream.integers(len(letters), size=n_letters + tries // TRIES))
        name = word.capitalize() if label[:1].isupper() else word
        if name.casefold() not in taken:
            return name
        tries += 1
