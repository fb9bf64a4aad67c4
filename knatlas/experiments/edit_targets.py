"""What edits of facts aim at and are measured on: the new objects, the facts' own queries, and unrelated facts."""

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from knatlas.selection.controls import random_stream

PROBE_COLUMNS = ["fact", "relation", "language", "probe", "probed_fact", "query", "answer", "is_in_sample"]
Labels = dict[str, str]  # by language


def labels_of(prompts: pd.DataFrame) -> dict[str, Labels]:
    """The label of each fact's object, by fact and language."""
    first = prompts.drop_duplicates(["fact", "language"])
    labels: dict[str, Labels] = {}
    for fact, language, answer in first[["fact", "language", "answer"]].itertuples(index=False, name=None):
        labels.setdefault(fact, {})[language] = answer
    return labels


def new_objects(prompts: pd.DataFrame, facts: Sequence[str], seed: int) -> dict[str, Labels]:
    """The labels of o' of each fact, by language; none where no object fits.

    o' is another object of the relation, drawn with the seed and the fact, that has labels in all languages of
    `prompts`. By no fact of `prompts` is it true of the subject, and in no language has it a true object's label (case
    ignored).
    """
    labels, ids = labels_of(prompts), _ids(prompts)
    objects: dict[str, dict[str, Labels]] = {}
    true: dict[tuple[str, str], set[str]] = {}
    for fact, (relation, subject, obj) in ids.items():
        objects.setdefault(relation, {}).setdefault(obj, {}).update(labels[fact])
        true.setdefault((relation, subject), set()).add(obj)
    n_languages = prompts["language"].nunique()
    chosen = {}
    for fact in facts:
        relation, subject, _ = ids[fact]
        order = random_stream(seed, "new object", fact).permutation(sorted(objects[relation]))
        known = {obj: objects[relation][obj] for obj in order if len(objects[relation][obj]) == n_languages}
        is_true = true[relation, subject]
        chosen[fact] = _first_fitting(known, is_true, [objects[relation][obj] for obj in is_true])
    return chosen


def _ids(prompts: pd.DataFrame) -> dict[str, tuple[str, str, str]]:
    """Relation, subject and object of each fact, sorted; its id is relation:subject>object."""
    facts = prompts[["fact", "relation"]].drop_duplicates("fact").sort_values("fact")
    found = {}
    for fact, relation in facts.itertuples(index=False, name=None):
        subject, _, obj = fact.removeprefix(f"{relation}:").rpartition(">")
        found[fact] = (relation, subject, obj)
    return found


def _first_fitting(objects: Mapping[str, Labels], is_true: Collection[str], true_labels: Sequence[Labels]) -> Labels:
    taken = {(language, label.casefold()) for labels in true_labels for language, label in labels.items()}
    for obj, labels in objects.items():
        is_taken = any((language, label.casefold()) in taken for language, label in labels.items())
        if obj not in is_true and not is_taken:
            return labels
    return {}


def plan_edit_probes(
    prompts: pd.DataFrame, facts: Sequence[str], n_unrelated: int, holdout_queries: Collection[int], seed: int
) -> pd.DataFrame:
    """The queries that an edit of each fact is measured on, in every language: columns PROBE_COLUMNS.

    probe `reliability`: the fact's first query (lowest number); `generality`: its other queries, only those of
    `holdout_queries` where any are given; `locality`: the first queries of `n_unrelated` facts of other relations (of
    all in `prompts`), drawn with the seed and the fact, the same ones in every language that has them.
    is_in_sample: an own query that isn't held out; the neurons were searched with it.
    """
    prompts = prompts.sort_values(["fact", "language", "query"], kind="stable")
    own = prompts[prompts["fact"].isin(set(facts))]
    is_first, is_held_out = ~own.duplicated(["fact", "language"]), own["query"].isin(list(holdout_queries))
    own = own.assign(
        probe=np.where(is_first, "reliability", "generality"), probed_fact=own["fact"], is_in_sample=~is_held_out
    )
    if len(holdout_queries):
        own = own[is_first | is_held_out]
    others = pd.DataFrame(_unrelated(prompts, facts, n_unrelated, seed), columns=PROBE_COLUMNS)
    return pd.concat([own[PROBE_COLUMNS], others], ignore_index=True)


def _unrelated(prompts: pd.DataFrame, facts: Sequence[str], n_unrelated: int, seed: int) -> Iterator[tuple]:
    relation_of = dict(prompts[["fact", "relation"]].drop_duplicates().itertuples(index=False, name=None))
    first = prompts.drop_duplicates(["fact", "language"])[["fact", "language", "query", "answer"]]
    queries: dict[str, dict[str, tuple[int, str]]] = {}
    for fact, language, query, answer in first.itertuples(index=False, name=None):
        queries.setdefault(fact, {})[language] = (query, answer)
    for fact in sorted(facts):
        others = [other for other in sorted(queries) if relation_of[other] != relation_of[fact]]
        for other in random_stream(seed, "unrelated", fact).permutation(others)[:n_unrelated]:
            for language in queries[fact]:
                if language in queries[other]:
                    yield (fact, relation_of[fact], language, "locality", other, *queries[other][language], False)
