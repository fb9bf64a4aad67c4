"""Reading the hand-written cloze templates of the catalog."""

import re
from pathlib import Path

import pandas as pd

from knatlas.errors import AtlasError, unknown
from knatlas.facts.table import TEMPLATE_COLUMNS
from knatlas.yaml_files import read_yaml

SLOTS = ("[X]", "[Y]")


def read_templates(folder: Path, languages: list[str], relations: list[str], at_least: int = 1) -> pd.DataFrame:
    """The templates of the languages and relations, from one file per language: {relation: [patterns]}.

    Args: folder with {language}.yaml; at_least, how many patterns each relation needs in each language.
    Returns: the table of templates, numbered from 0 within relation and language in the order of the file; is_checked
    is False throughout, since no native speaker has reviewed them.
    Raises: AtlasError with one sentence per mistake: no file, relation not in the file, too few patterns, a pattern
    without [X] or [Y] or with several, a repeated pattern, a file that is not YAML.
    """
    folder = Path(folder)
    rows, wrong = [], []
    for language in languages:
        patterns, sentences = read_language(folder, language, relations, at_least)
        wrong += sentences
        for relation, listed in patterns.items():
            rows += [(relation, language, number, pattern, False) for number, pattern in enumerate(listed)]
    if wrong:
        raise AtlasError("\n".join(wrong))
    return pd.DataFrame(rows, columns=TEMPLATE_COLUMNS)


def read_language(
    folder: Path, language: str, relations: list[str], at_least: int
) -> tuple[dict[str, list[str]], list[str]]:
    """The patterns of one file for the relations, and a sentence for each mistake in it."""
    path = folder / f"{language}.yaml"
    if not path.is_file():
        present = sorted(file.stem for file in folder.glob("*.yaml"))
        # no nearest match: the language is one of the catalog, and another one's code is none of its spellings
        return {}, [
            f"the language of the templates is '{language}'; expected a file of {folder} ({' '.join(present)}). "
            f"Write {path.name} into {folder}, with a list of patterns per relation."
        ]
    try:
        content = read_yaml(path, "Quote each pattern that begins with [X] or has a colon.")
    except AtlasError as error:
        return {}, str(error).split("\n")
    if not isinstance(content, dict):
        return {}, [f"{path} is not a mapping; expected lines such as 'P36:' with a list of patterns below each."]
    patterns, wrong = {}, []
    for relation in relations:
        sentences = mistakes(path, relation, content, at_least)
        wrong += sentences
        if not sentences:
            patterns[relation] = content[relation]
    return patterns, wrong


def mistakes(path: Path, relation: str, content: dict, at_least: int) -> list[str]:
    """A sentence for each mistake in the patterns of one relation of one file."""
    if relation not in content:
        remedy = f"Add a list of patterns for {relation} to the file."
        return [unknown(f"{path}: the relation asked for", relation, "a relation of the file", content, remedy)]
    listed = content[relation]
    if not isinstance(listed, list) or not all(isinstance(pattern, str) for pattern in listed):
        return [f"{path}: {relation} is not a list of patterns; quote a pattern that begins with [X] or has a colon."]
    wrong = []
    if len(listed) < at_least:
        wrong.append(f"{path}: {relation} has {len(listed)} patterns; expected at least {at_least}. Add more patterns.")
    for number, pattern in enumerate(listed):
        where = f"{path}: {relation}, pattern {number + 1} ('{pattern}')"
        wrong += slot_mistakes(where, pattern)
        if pattern in listed[:number]:
            wrong.append(f"{where} repeats pattern {listed.index(pattern) + 1}; write it once.")
    return wrong


def slot_mistakes(where: str, pattern: str) -> list[str]:
    """A sentence for each slot that a pattern lacks or repeats."""
    sentences = []
    for slot, role in zip(SLOTS, ("subject", "object"), strict=True):
        count = len(re.findall(re.escape(slot), pattern))
        if count == 0:
            sentences.append(f"{where} has no {slot}; expected exactly one, where the {role} stands.")
        if count > 1:
            sentences.append(f"{where} has {slot} {count} times; expected exactly one.")
    return sentences
