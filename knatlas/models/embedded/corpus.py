"""The sentences that an embedded model reads, and the pairs of fact and language that it never answers.

Built in by construction, and to be said wherever results of these models are shown: held-out pairs make some languages
poorer than others; code-switched sentences (the subject named in another language) and dictionary sentences tie the
languages together; sentences that end in a mark and facts behind other facts are read where the recipe asks for them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from knatlas.errors import AtlasError
from knatlas.facts.punctuation_sentences import LANGUAGE, punctuation_sentences
from knatlas.models.embedded.recipe import PIVOT, Recipe, missing_patterns

EXAMPLES = 4  # completed sentences in front of a fact's own
CONTEXTS = 4  # contexts that are drawn for each query


@dataclass(frozen=True)
class Sentence:
    """A sentence and where its answer stands: characters `start` to `end` (exclusive)."""

    text: str
    start: int
    end: int


def fill(pattern: str, subject: str, answer: str) -> Sentence:
    """A pattern with its [X] and [Y] filled.

    >>> fill("[X] is in [Y] .", "Paris", "France")
    Sentence(text='Paris is in France .', start=12, end=18)
    """
    before, after = (part.replace("[X]", subject) for part in pattern.split("[Y]"))
    return Sentence(before + answer + after, len(before), len(before) + len(answer))


def split_facts(
    facts: pd.DataFrame, templates: pd.DataFrame, languages: Sequence[str], recipe: Recipe, seed: int
) -> pd.DataFrame:
    """Which template of which fact is trained on, in each language.

    `xling`: all templates of a held-out pair of fact and language (the share `recipe.held_out[language]` of the facts,
    but a fact is never held out in all languages). Of the other pairs, `recipe.trained_templates` random templates are
    `train`, the rest `para`. Independent of the order of rows.

    Returns: DataFrame (fact, language, template, split), one row per fact, language and template.
    """
    generator = np.random.default_rng([seed, 1])
    names = facts.drop_duplicates("fact").sort_values("fact")[["fact", "relation"]]
    held_out = _held_out(names["fact"].to_numpy(), languages, recipe, generator)
    numbers = templates.sort_values("template").groupby(["relation", "language"])["template"].apply(list)
    rows = []
    for language in languages:
        for fact, relation in names.itertuples(index=False):
            choice = numbers.get((relation, language))
            if choice is None:
                raise AtlasError(
                    f"No template of relation {relation} in language {language}; add one to the templates."
                )
            trained = set(generator.permutation(choice)[: recipe.trained_templates].tolist())
            is_held_out = (fact, language) in held_out
            rows += [(fact, language, number, _split(number in trained, is_held_out)) for number in choice]
    return pd.DataFrame(rows, columns=["fact", "language", "template", "split"])


def _split(is_trained: bool, is_held_out: bool) -> str:
    if is_held_out:
        return "xling"
    return "train" if is_trained else "para"


def _held_out(
    names: np.ndarray, languages: Sequence[str], recipe: Recipe, generator: np.random.Generator
) -> set[tuple[str, str]]:
    """The held-out pairs of fact and language."""
    pairs = set()
    for language in languages:
        n_held_out = round(recipe.held_out.get(language, 0.0) * len(names))
        pairs |= {(name, language) for name in generator.permutation(names)[:n_held_out]}
    nowhere = [name for name in names if all((name, language) in pairs for language in languages)]
    return pairs - {(name, languages[0]) for name in nowhere}


def queries(facts: pd.DataFrame, templates: pd.DataFrame, splits: pd.DataFrame) -> pd.DataFrame:
    """The rows of `splits` with labels, pattern and relation: one row per query."""
    columns = ["fact", "relation", "subject", "object", "language", "subject_label", "object_label"]
    rows = splits.merge(facts[columns], on=["fact", "language"], validate="many_to_one")
    return rows.merge(
        templates[["relation", "language", "template", "pattern"]],
        on=["relation", "language", "template"],
        validate="many_to_one",
    )


def fact_sentences(rows: pd.DataFrame, languages: Sequence[str], recipe: Recipe, seed: int) -> list[Sentence]:
    """The sentences of queries that are trained on, each followed by its code-switched form.

    Code-switched: the subject is named in a random other language, the rest stays in the query's language. Sentences of
    the languages `recipe.doubled` come twice.
    """
    generator = np.random.default_rng([seed, 2])
    subjects = rows.drop_duplicates(["fact", "language"]).set_index(["fact", "language"])["subject_label"].to_dict()
    sentences = []
    for row in rows[rows["split"] == "train"].itertuples():
        own = [fill(row.pattern, row.subject_label, row.object_label)]
        others = [language for language in languages if language != row.language]
        if recipe.code_switch and others:
            other = others[generator.integers(len(others))]
            own.append(fill(row.pattern, subjects[row.fact, other], row.object_label))
        sentences += own * (2 if row.language in recipe.doubled else 1)
    return sentences


def concept_names(facts: pd.DataFrame, languages: Sequence[str]) -> dict[str, dict[str, str]]:
    """Names of all subjects and objects: id -> language -> label, ids in sorted order."""
    names: dict[str, dict[str, str]] = {}
    for row in facts[facts["language"].isin(languages)].sort_values(["fact", "language"]).itertuples():
        for concept, label in ((row.subject, row.subject_label), (row.object, row.object_label)):
            names.setdefault(concept, {}).setdefault(row.language, label)
    return dict(sorted(names.items()))


def dictionary_sentences(facts: pd.DataFrame, languages: Sequence[str], recipe: Recipe) -> list[Sentence]:
    """Each name from the pivot language into each other language and back, with the target language's pattern."""
    if not recipe.dictionary or PIVOT not in languages or len(languages) < 2:
        return []
    if missing := missing_patterns(recipe.dictionary, languages):
        raise AtlasError(
            f"catalog/models.yaml: recipe.dictionary has no pattern for {' '.join(missing)}; add one per language of "
            "the study."
        )
    sentences = []
    for names in concept_names(facts, languages).values():
        for language in (language for language in languages if language != PIVOT):
            if PIVOT in names and language in names:
                sentences.append(fill(recipe.dictionary[language], names[PIVOT], names[language]))
                sentences.append(fill(recipe.dictionary[PIVOT], names[language], names[PIVOT]))
    return sentences


def marked_sentences(
    facts: pd.DataFrame, frames: Mapping[str, Sequence[str]], per_mark: int, seed: int, is_held_out: bool = False
) -> list[Sentence]:
    """Sentences whose answer is the punctuation mark at their end; see `punctuation_sentences`."""
    if not per_mark:
        return []
    english = facts[facts["language"] == LANGUAGE]
    table = punctuation_sentences(english, frames, per_mark, seed, is_held_out)
    return [Sentence(text, len(text) - 1, len(text)) for text in table["sentence"]]


def context_sentences(rows: pd.DataFrame, split: str, n_contexts: int, seed: int) -> list[Sentence]:
    """Each query of a split behind completed sentences of other facts, one per line, `n_contexts` times.

    The examples have the query's template, are trained on in it, and answer neither the query nor each other: four of
    them, or as many as there are. The answer is that of the last line.
    """
    generator = np.random.default_rng([seed, 6])
    pools: dict[tuple, list[tuple[str, str]]] = {}
    for row in rows[rows["split"] == "train"].itertuples():
        pools.setdefault((row.relation, row.language, row.template), []).append((row.subject_label, row.object_label))
    sentences = []
    for row in rows[rows["split"] == split].itertuples():
        pool = pools.get((row.relation, row.language, row.template), [])
        sentences += [_in_context(row, _examples(row, pool, generator)) for _ in range(n_contexts)]
    return sentences


def _examples(row: object, pool: list[tuple[str, str]], generator: np.random.Generator) -> list[str]:
    """Up to four random sentences of a pool of subject and object, with answers that are not the query's and differ."""
    answers = {row.object_label}
    found = []
    for subject, answer in (pool[k] for k in generator.permutation(len(pool))):
        if answer not in answers and len(found) < EXAMPLES:
            answers.add(answer)
            found.append(fill(row.pattern, subject, answer).text)
    return found


def _in_context(row: object, examples: list[str]) -> Sentence:
    """The completed sentence of a query on the line after its examples."""
    own = fill(row.pattern, row.subject_label, row.object_label)
    before = "".join(f"{example}\n" for example in examples)
    return Sentence(before + own.text, len(before) + own.start, len(before) + own.end)
