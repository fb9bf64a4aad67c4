"""Sampling of facts: caps hold, the seed alone decides, languages stay parallel."""

from hashlib import sha256

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from knatlas.facts.sampling import first_queries, sample_facts


def table(pairs, languages=("en", "fi")):
    rows = [
        (f"{relation}:{subject}>{obj}", relation, str(subject), str(obj), language)
        for relation, subject, obj in pairs
        for language in languages
    ]
    return pd.DataFrame(rows, columns=["fact", "relation", "subject", "object", "language"])


PAIRS = [(relation, subject, subject % 4) for relation in ("P1", "P2") for subject in range(20)]


def counts(sample):
    facts = sample.drop_duplicates("fact")
    per_relation = facts.groupby("relation").size().to_dict()
    per_object = facts.groupby(["relation", "object"]).size().to_dict()
    return per_relation, per_object


def test_the_lowest_hashes_are_kept():
    sample = sample_facts(table(PAIRS), 3, None, seed=5)
    ids = {f"P1:{subject}>{subject % 4}" for subject in range(20)}
    expected = sorted(ids, key=lambda fact: sha256(f"5:{fact}".encode()).hexdigest())[:3]
    assert set(sample.loc[sample["relation"] == "P1", "fact"]) == set(expected)


def test_caps_per_relation_and_per_object():
    per_relation, per_object = counts(sample_facts(table(PAIRS), 6, 2, seed=0))
    assert per_relation == {"P1": 6, "P2": 6} and max(per_object.values()) == 2


def test_object_caps_of_single_relations():
    per_relation, per_object = counts(sample_facts(table(PAIRS), None, {"P2": 1}, seed=0))
    assert per_relation == {"P1": 20, "P2": 4}
    assert per_object["P1", "0"] == 5 and per_object["P2", "0"] == 1


def test_no_caps_keep_everything():
    facts = table(PAIRS)
    assert sample_facts(facts, None, None, seed=3).equals(facts)


def test_seeds_differ():
    first, second = (set(sample_facts(table(PAIRS), 5, None, seed)["fact"]) for seed in (0, 1))
    assert first != second


def test_an_empty_table_stays_empty():
    assert sample_facts(table([]), 5, 2, seed=0).empty


pairs_of_facts = st.lists(
    st.tuples(st.sampled_from(["P1", "P2", "P3"]), st.integers(0, 30), st.integers(0, 5)), unique=True, max_size=40
)


@settings(deadline=None, max_examples=60)  # a busy machine is no mistake
@given(pairs_of_facts, st.randoms(use_true_random=False), st.integers(1, 8), st.integers(1, 3))
def test_row_order_and_other_relations_do_not_matter(pairs, random, per_relation, per_object):
    shuffled = random.sample(pairs, len(pairs))
    sample = sample_facts(table(pairs), per_relation, per_object, seed=7)
    assert set(sample_facts(table(shuffled), per_relation, per_object, seed=7)["fact"]) == set(sample["fact"])
    alone = sample_facts(table([pair for pair in pairs if pair[0] == "P1"]), per_relation, per_object, seed=7)
    assert set(alone["fact"]) == set(sample.loc[sample["relation"] == "P1", "fact"])


@settings(deadline=None, max_examples=60)  # a busy machine is no mistake
@given(pairs_of_facts, st.integers(1, 8))
def test_languages_stay_parallel_and_larger_samples_contain_smaller_ones(pairs, per_relation):
    sample = sample_facts(table(pairs), per_relation, None, seed=2)
    assert (sample.groupby("fact")["language"].nunique() == 2).all()
    assert set(sample["fact"]) <= set(sample_facts(table(pairs), per_relation + 1, None, seed=2)["fact"])


def test_first_queries_of_facts_spread_over_relations_are_chosen():
    rows = [(f"{relation}:s{i}", relation, "en", query) for relation in "AB" for i in range(4) for query in (3, 1, 2)]
    prompts = pd.DataFrame(rows, columns=["fact", "relation", "language", "query"])
    chosen = first_queries(prompts, 4, 2, seed=0)
    assert chosen.groupby("relation")["fact"].nunique().tolist() == [2, 2] and set(chosen["query"]) == {1, 2}
    assert len(first_queries(prompts, None, None, seed=0)) == len(prompts)
    others = [set(first_queries(prompts, 4, None, seed)["fact"]) for seed in range(5)]
    assert any(other != others[0] for other in others)
