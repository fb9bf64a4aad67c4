"""How many facts and queries a study has and how long they are: counted where it has run, else from the catalog."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from knatlas.attribution.cost import QuerySize
from knatlas.catalog import read_catalog
from knatlas.storage import read_table

# tokens that a tokenizer adds: at both ends of a masked sentence, at the beginning of a causal one
ADDED = {"masked": 2, "causal": 1}


@dataclass(frozen=True)
class Queries:
    """The queries of a model in one language.

    per_fact: queries of a fact. own_tokens: tokens of the query itself. answer_tokens: of its answer, both means.
    """

    kind: str
    per_fact: float
    own_tokens: float
    answer_tokens: float

    def sizes(self) -> list[tuple[QuerySize, float]]:
        """Sizes of encoded queries with their shares: whole numbers of tokens whose means are those of the queries."""
        return [
            (self._size(own, answer), share * part)
            for own, share in _split(max(1.0, self.own_tokens))
            for answer, part in _split(max(1.0, self.answer_tokens))
        ]

    def _size(self, own: int, answer: int) -> QuerySize:
        """A query of so many own tokens; causal models read the answer but its last token."""
        added = ADDED[self.kind] + (answer if self.kind == "masked" else answer - 1)
        return QuerySize(own + added, answer, own)


@dataclass(frozen=True)
class Workload:
    """What a study asks its models.

    n_facts: facts with prompts. ranked_rows: pairs of a fact and an object of its relation, per fact. queries: kind ->
    language -> `Queries` in characters and words. sentence: where the numbers come from.
    """

    n_facts: int
    ranked_rows: float
    counts: Mapping[str, Mapping[str, tuple[float, float, float, float]]]
    sentence: str

    def queries(self, kind: str, language: str, is_trained: bool) -> Queries:
        """The queries of one kind of model in one language; models trained here have one token per word."""
        per_fact, words, characters, answer = self.counts[kind][language]
        sizes = read_catalog("sizes")
        if is_trained:
            trained = sizes["trained"]
            return Queries(kind, per_fact, words * trained["tokens_per_word"], trained["tokens_per_answer"])
        per_token = sizes["characters_per_token"].get(language, sizes["characters_per_token"]["default"])
        return Queries(kind, per_fact, characters / per_token, answer / per_token)


def _split(mean: float) -> list[tuple[int, float]]:
    """The two whole numbers around a mean with the shares that give it."""
    low = int(mean)
    return [(low, 1 - (mean - low)), (low + 1, mean - low)] if mean > low else [(low, 1.0)]


def workload(study: Mapping, results: Path, is_counted: bool = True) -> Workload:
    """The workload of a study: of its own prompts where they are built (and `is_counted`), else of the catalog."""
    path = results / "facts" / "prompts.parquet"
    if is_counted and path.is_file():
        return _counted(read_table(path))
    return _expected(study["facts"], study["languages"], 1 + study["prompts"]["context"])


def _counted(prompts: pd.DataFrame) -> Workload:
    """The workload of a table of prompts."""
    n_facts = prompts["fact"].nunique()
    frame = prompts.assign(
        words=prompts["before"].str.split().str.len() + prompts["after"].str.split().str.len(),
        characters=(prompts["before"] + prompts["separator"] + prompts["after"]).str.len(),
        answers=prompts["answer"].str.len(),
    )
    counts: dict = {}
    for (kind, language), group in frame.groupby(["kind", "language"]):
        means = (float(group[name].mean()) for name in ("words", "characters", "answers"))
        counts.setdefault(kind, {})[language] = (len(group) / n_facts, *means)
    facts = frame.drop_duplicates(["fact", "language"]).groupby(["relation", "language"])
    pairs = (facts["fact"].nunique() * facts["answer"].nunique()).groupby("language").sum().mean()
    sentence = f"facts and queries: counted in the study's own prompts ({n_facts:,} facts)"
    return Workload(n_facts, float(pairs) / n_facts, counts, sentence)


def _expected(facts: Mapping, languages: list[str], n_sentences: int = 1) -> Workload:
    """The workload that the catalog's counts of the source let expect; prompts of n_sentences each."""
    row = _nearest(read_catalog("sizes")["sources"][facts["source"]], languages, facts["min_queries"])
    cap = facts["facts_per_relation"]
    asked = row["facts"] if facts["relations"] == "all" else facts["relations"]
    kept = {name: row["facts"][name] for name in asked if name in row["facts"]}
    if cap is not None:
        kept = {name: (min(n, cap), min(objects, cap)) for name, (n, objects) in kept.items()}
    n_facts = sum(n for n, _ in kept.values())
    ranked = sum(n * objects for n, objects in kept.values()) / max(1, n_facts)
    counts = {kind: _by_language(of_kind, languages) for kind, of_kind in row["queries"].items()}
    counts = {
        kind: {
            language: (per_fact, n_sentences * words, n_sentences * characters, answer)
            for language, (per_fact, words, characters, answer) in of_kind.items()
        }
        for kind, of_kind in counts.items()
    }
    return Workload(n_facts, ranked, counts, _sentence(row, facts, languages, n_facts))


def _nearest(rows: list[Mapping], languages: list[str], min_queries: int) -> Mapping:
    """The row whose languages, then whose min_queries, are most like the study's."""

    def distance(row: Mapping) -> tuple[int, int, int]:
        missing, more = set(languages) - set(row["languages"]), set(row["languages"]) - set(languages)
        return len(missing), len(more), abs(row["min_queries"] - min_queries)

    return min(rows, key=distance)


def _by_language(counts: Mapping, languages: list[str]) -> dict[str, tuple]:
    """The counts of each language; of one that was not counted, the means of the others."""
    mean = tuple(sum(values) / len(counts) for values in zip(*counts.values(), strict=True))
    return {language: tuple(counts.get(language, mean)) for language in languages}


def _sentence(row: Mapping, facts: Mapping, languages: list[str], n_facts: int) -> str:
    """Where expected numbers come from, and what differs from the study."""
    text = f"facts and queries: expected from catalog/sizes.yaml, source {facts['source']} ({n_facts:,} facts)"
    if set(row["languages"]) != set(languages) or row["min_queries"] != facts["min_queries"]:
        text += f"; the nearest counts are for {' '.join(row['languages'])} and min_queries {row['min_queries']}"
    return text
