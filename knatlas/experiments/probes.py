"""Which queries a manipulation is measured on: the fact's own, and those of two other facts as controls."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import pandas as pd

from knatlas.selection.controls import random_stream

PROBE_COLUMNS = ["fact", "relation", "language", "probe", "probed_fact", "query"]


class FirstQuery(NamedTuple):
    """The first query of a fact in one language."""

    relation: str
    answer: str
    query: int


def _is_in_same_relation(other: FirstQuery, own: FirstQuery) -> bool:
    # another answer: the same answer would be no other knowledge to the model
    return other.relation == own.relation and other.answer != own.answer


def _is_in_other_relation(other: FirstQuery, own: FirstQuery) -> bool:
    return other.relation != own.relation


OTHER_FACTS: dict[str, Callable[[FirstQuery, FirstQuery], bool]] = {
    "same_relation": _is_in_same_relation,
    "other_relation": _is_in_other_relation,
}


def plan_probes(prompts: pd.DataFrame, facts: Sequence[str], seed: int) -> pd.DataFrame:
    """The queries to measure for each fact and language: fact, relation, language, probe, probed_fact, query.

    `own`: all queries of the fact. `same_relation`: the first query of one other fact of the relation with another
    answer; `other_relation`: of one fact of another relation; each chosen among `facts` by the seed and the fact, the
    same one in every language that allows it. A fact without a candidate has no such probe.
    """
    prompts = prompts[prompts["fact"].isin(set(facts))].sort_values("query", kind="stable")
    own = prompts.assign(probe="own", probed_fact=prompts["fact"])[PROBE_COLUMNS]
    others = pd.DataFrame(_other_probes(prompts, sorted(facts), seed), columns=PROBE_COLUMNS)
    return pd.concat([own, others.astype(own.dtypes)], ignore_index=True)


def _other_probes(prompts: pd.DataFrame, facts: Sequence[str], seed: int) -> Iterator[tuple]:
    first = _first_queries(prompts)
    for fact in facts:
        for probe in OTHER_FACTS:
            order = random_stream(seed, "probe", probe, fact).permutation(facts)
            for language, queries in first.items():
                yield from _other_probe(fact, probe, order, language, queries)


def _other_probe(
    fact: str, probe: str, order: Sequence[str], language: str, queries: dict[str, FirstQuery]
) -> Iterator[tuple]:
    own = queries.get(fact)
    is_candidate = OTHER_FACTS[probe]
    fitting = (other for other in order if own and other in queries and is_candidate(queries[other], own))
    chosen = next(fitting, None)
    if chosen is not None:
        yield fact, own.relation, language, probe, chosen, queries[chosen].query


def _first_queries(prompts: pd.DataFrame) -> dict[str, dict[str, FirstQuery]]:
    first: dict[str, dict[str, FirstQuery]] = {}
    columns = ["language", "fact", "relation", "answer", "query"]
    for language, fact, *rest in prompts.drop_duplicates(["fact", "language"])[columns].itertuples(index=False):
        first.setdefault(language, {})[fact] = FirstQuery(*rest)
    return first
