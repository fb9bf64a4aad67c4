"""Which facts are localised, and the summary of what a model knows."""

import pandas as pd
import pytest

from knatlas.errors import AtlasError
from knatlas.models.known import choose_facts, summarise_facts
from knatlas.statistics.knowledge import summarise_known

ANY = {"facts": None, "known_languages": 0, "min_probability": 0.0}


def known_table() -> pd.DataFrame:
    """Two relations of three facts, two languages, two queries; fact i of a relation is known in i languages."""
    rows = []
    for relation in ("P36", "P37"):
        for number in range(3):
            for place, language in enumerate(("en", "fi")):
                is_known = place < number
                for query in (0, 1):
                    p, is_right = 0.9 if is_known else 0.1, is_known and query == 0
                    rows.append((f"{relation}:{number}", relation, language, query, p, is_right, 1 + query))
    columns = ["fact", "relation", "language", "query", "p", "is_argmax", "rank"]
    return pd.DataFrame(rows, columns=columns).assign(model="m")


def test_only_the_first_query_counts_for_knowing():
    summary = summarise_facts(known_table()).set_index("fact")
    assert summary.loc["P36:2", "n_known_languages"] == 2
    assert summary.loc["P36:1", "mean_p"] == pytest.approx(0.5)


def test_facts_known_in_too_few_languages_are_left_out():
    chosen = choose_facts(known_table(), {**ANY, "known_languages": 2}, shards=1, seed=0)
    assert sorted(chosen["fact"]) == ["P36:2", "P37:2"]


def test_a_study_of_fewer_languages_asks_for_all_of_them_at_most():
    chosen = choose_facts(known_table(), {**ANY, "known_languages": 7}, shards=1, seed=0)
    assert sorted(chosen["fact"]) == ["P36:2", "P37:2"]


def test_the_number_of_facts_is_spread_over_the_relations():
    chosen = choose_facts(known_table(), {**ANY, "facts": 4}, shards=1, seed=0)
    assert chosen["relation"].value_counts().to_dict() == {"P36": 2, "P37": 2}


def test_a_larger_choice_contains_the_smaller_one_and_row_order_does_not_matter():
    known = known_table()
    small = choose_facts(known, {**ANY, "facts": 2}, shards=1, seed=3)["fact"].tolist()
    large = choose_facts(known.sample(frac=1, random_state=1), {**ANY, "facts": 5}, shards=1, seed=3)["fact"].tolist()
    assert large[:2] == small


def test_shards_are_dealt_out_evenly():
    chosen = choose_facts(known_table(), ANY, shards=4, seed=0)
    assert chosen["shard"].value_counts().tolist() == [2, 2, 1, 1]


def test_an_empty_study_is_refused_with_what_to_change():
    with pytest.raises(AtlasError, match=r"none of the 6 facts qualifies for m: .*the best fact has 2.*lower one"):
        choose_facts(known_table(), {**ANY, "min_probability": 0.95}, shards=1, seed=0)


def test_the_summary_of_knowledge_by_language_and_over_languages():
    summary = summarise_known(known_table(), resamples=200).set_index(["language", "statistic"])
    assert summary.loc[("en", "answered_rightly"), "value"] == pytest.approx(4 / 6)
    assert summary.loc[("fi", "answered_rightly"), "value"] == pytest.approx(2 / 6)
    assert summary.loc[("all", "answered_rightly"), "value"] == pytest.approx(3 / 6)
    assert summary.loc[("en", "consistency"), "value"] == pytest.approx(2 / 6)
    assert summary.loc[("en", "rank"), "value"] == 1
    assert (summary["n"] == 6).all()
