"""A sample of facts that depends on the seed and the facts alone, not on the order of rows or on other relations."""

from collections import Counter
from hashlib import sha256

import numpy as np
import pandas as pd


def sample_facts(
    facts: pd.DataFrame, per_relation: int | None, per_object: int | dict[str, int] | None, seed: int
) -> pd.DataFrame:
    """At most `per_relation` facts of each relation and `per_object` facts of each of its objects.

    A fact's rank is a hash of the seed and its id, so that adding facts moves no other fact, and the same facts are
    kept in every language. per_object may differ by relation (a relation that it does not name has no such cap).
    Returns: the rows of the kept facts, in their order.
    """
    identities = facts.drop_duplicates("fact")
    kept: set[str] = set()
    for relation, group in identities.groupby("relation"):
        cap = per_object.get(relation) if isinstance(per_object, dict) else per_object
        kept.update(choose(group, per_relation, cap, seed))
    return facts[facts["fact"].isin(kept)].reset_index(drop=True)


def choose(group: pd.DataFrame, at_most: int | None, per_object: int | None, seed: int) -> list[str]:
    """The ids of the facts of one relation that the two caps leave, in the order of their ranks."""
    chosen: list[str] = []
    n_facts = Counter()
    pairs = sorted(zip(group["fact"], group["object"], strict=True), key=lambda pair: rank(pair[0], seed))
    for fact, obj in pairs:
        if at_most is not None and len(chosen) == at_most:
            break
        if per_object is None or n_facts[obj] < per_object:
            chosen.append(fact)
            n_facts[obj] += 1
    return chosen


def in_turn(facts: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The rows of a table with one row per fact (fact, relation): the first of every relation, then the second, ...

    The order within relations and within turns is that of the facts' ranks. The first n rows are spread evenly.
    """
    ordered = facts.assign(order=[rank(fact, seed) for fact in facts["fact"]]).sort_values("order")
    turns = ordered.assign(turn=ordered.groupby("relation").cumcount()).sort_values(["turn", "order"])
    return turns.drop(columns=["order", "turn"])


def first_queries(prompts: pd.DataFrame, max_facts: int | None, max_queries: int | None, seed: int) -> pd.DataFrame:
    """The prompts of at most `max_facts` facts, `in_turn`, and of each the first `max_queries` per language; None: all.

    Returns: rows of `prompts` with their index, in their order.
    """
    facts = in_turn(prompts.drop_duplicates("fact")[["fact", "relation"]], seed)["fact"]
    kept = prompts[prompts["fact"].isin(facts.head(max_facts or len(facts)))]
    place = kept.groupby(["fact", "language"])["query"].rank(method="first")
    return kept[place <= (max_queries or np.inf)]


def rank(fact: str, seed: int) -> str:
    """A place in a random order that only the seed and the fact's id decide."""
    return sha256(f"{seed}:{fact}".encode()).hexdigest()
