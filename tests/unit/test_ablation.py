"""Table II: ratios of variants to the full method, by hand, with their numerators, denominators and counts."""

import numpy as np
import pandas as pd
import pytest

from knatlas.statistics.ablation import FULL, OPERATIONS, TABLE_COLUMNS, VARIANTS, summarise_ablation
from knatlas.statistics.bootstrap import bootstrap_mean, bootstrap_ratio
from knatlas.statistics.printed import beside_paper

MODEL = "mgpt"
WITHOUT_QUERIES = VARIANTS[0]


def measured(selection, changes, operation="suppress", p_before=0.5, n_neurons=2, n_queries=2, probe="own"):
    """Rows of one selection from {(fact, language): relative change}; its queries have the change on average."""
    rows = []
    for (fact, language), change in changes.items():
        for query in range(n_queries):
            of_query = change + 0.1 * (query - (n_queries - 1) / 2)
            rows.append((MODEL, selection, 0, language, fact, "P1", probe, fact, query, operation))
            rows[-1] += (n_neurons, p_before, p_before * (1 + of_query), True, True)
    names = ["model", "selection", "draw", "language", "fact", "relation", "probe", "probed_fact", "query", "operation"]
    names += ["n_neurons", "p_before", "p_after", "is_right_before", "is_right_after"]
    return pd.DataFrame(rows, columns=names)


def random_changes(seed, facts=8, languages=("en", "fi"), centre=-0.5):
    random = np.random.default_rng(seed)
    return {(f"f{i}", language): centre + 0.2 * random.random() for language in languages for i in range(facts)}


def pick(table, statistic="ratio", operation="suppress", language="all", selection=WITHOUT_QUERIES):
    keys = {"statistic": statistic, "operation": operation, "language": language, "selection": selection}
    is_row = np.logical_and.reduce([table[name] == value for name, value in keys.items()])
    assert is_row.sum() == 1
    return table[is_row].iloc[0]


def summary(*parts, **settings):
    return summarise_ablation(pd.concat(parts, ignore_index=True), **{"resamples": 200, **settings})


def both(variant, full, **settings):
    return summary(measured(WITHOUT_QUERIES, variant, **settings), measured(FULL, full, **settings))


def test_the_ratio_is_one_of_means_in_each_language_and_their_mean_over_languages():
    full = {("a", "en"): -0.4, ("b", "en"): -0.6, ("a", "fi"): -0.2, ("b", "fi"): -0.2}
    variant = {("a", "en"): -0.4, ("b", "en"): -0.1, ("a", "fi"): -0.3, ("b", "fi"): -0.3}
    table = both(variant, full)
    assert table.columns.tolist() == TABLE_COLUMNS
    assert pick(table, language="en")["value"] == pytest.approx(0.5)  # .25 / .5, not the mean of 1 and 1 / 6
    assert pick(table, language="fi")["value"] == pytest.approx(1.5)
    assert pick(table)["value"] == pytest.approx(1.0)  # .275 / .35 would be .786
    assert pick(table, "variant_change")["value"] == pytest.approx(-0.275)
    assert pick(table, "full_change", language="en")["value"] == pytest.approx(-0.5)


def test_a_variant_that_is_the_full_method_has_ratio_exactly_1_in_every_resample():
    changes = random_changes(0)
    parts = [measured(name, changes, operation) for name in (WITHOUT_QUERIES, FULL) for operation in OPERATIONS]
    ratios = summary(*parts).query("statistic == 'ratio'")
    assert len(ratios) == 3 * 3  # operations and their average, languages and all
    assert (ratios[["value", "lo", "hi"]] == 1).all(axis=None)


def test_intervals_in_a_language_are_those_of_facts_drawn_in_pairs():
    variant, full = random_changes(1), random_changes(2)
    table = both(variant, full)
    for language in ("en", "fi"):
        columns = [np.array([part[f"f{i}", language] for i in range(8)]) for part in (variant, full)]
        expected = bootstrap_ratio(*columns, 0, 200)
        assert pick(table, language=language)[["value", "lo", "hi", "n"]].tolist() == pytest.approx(list(expected))
        expected = bootstrap_mean(columns[1], 0, 200)
        found = pick(table, "full_change", language=language)
        assert found[["value", "lo", "hi", "n"]].tolist() == pytest.approx(list(expected))


def test_a_fact_is_drawn_with_all_its_languages():
    # the languages' ratios vary, and cancel within every fact
    variant = {("a", "en"): -0.2, ("b", "en"): -0.6, ("a", "fi"): -0.6, ("b", "fi"): -0.2}
    table = both(variant, dict.fromkeys(variant, -0.4))
    assert pick(table, language="en")["lo"] < pick(table, language="en")["hi"]
    assert pick(table)[["value", "lo", "hi"]].tolist() == pytest.approx([1, 1, 1])


def test_flips_of_variant_and_full_method_stand_beside_their_changes():
    changes = {("a", "en"): -0.4, ("b", "en"): -0.6, ("a", "fi"): -0.2, ("c", "en"): -0.2}
    full, variant = measured(FULL, changes), measured(WITHOUT_QUERIES, {key: changes[key] for key in list(changes)[:3]})
    # the variant loses one of a's two queries in both languages, the full method both of b's; c is in no pair
    variant.loc[(variant["fact"] == "a") & (variant["query"] == 0), "is_right_after"] = False
    full.loc[full["fact"].isin(["b", "c"]), "is_right_after"] = False
    table = summary(variant, full)
    assert pick(table, "variant_flips", language="en")[["value", "lo", "hi", "n"]].tolist() == [0.25, 0, 0.5, 2]
    assert pick(table, "full_flips", language="en")[["value", "lo", "hi", "n"]].tolist() == [0.5, 0, 1, 2]
    assert [pick(table, name)["value"] for name in ("variant_flips", "full_flips")] == [0.375, 0.25]
    assert pick(table, "full_flips", language="fi")[["value", "n"]].tolist() == [0, 1]


def test_the_average_is_that_of_suppress_and_enhance():
    parts = [measured(FULL, {("a", "en"): -0.5}), measured(FULL, {("a", "en"): 0.2}, "enhance")]
    parts += [measured(WITHOUT_QUERIES, {("a", "en"): -0.4}), measured(WITHOUT_QUERIES, {("a", "en"): 0.1}, "enhance")]
    table = summary(*parts)
    assert pick(table, operation="average")["value"] == pytest.approx((0.8 + 0.5) / 2)
    assert pick(table, operation="average", language="en")["value"] == pytest.approx(0.65)
    assert set(table.loc[table["operation"] == "average", "statistic"]) & {"variant_change", "full_change"} == set()
    assert "average" not in set(summary(*parts[::2])["operation"])  # suppress alone


def test_sign_changes_and_full_methods_near_zero_are_counted_over_languages():
    full = {("a", "en"): -0.4, ("b", "en"): -0.4, ("a", "fi"): -0.4, ("b", "fi"): 0.2}
    variant = {("a", "en"): 0.1, ("b", "en"): 0.1, ("a", "fi"): -0.3, ("b", "fi"): -0.3}
    table = both(variant, full)
    assert pick(table, language="en")["value"] == pytest.approx(-0.25)
    assert pick(table, "n_sign_changes")["value"] == 1 and pick(table, "n_near_zero")["value"] == 1
    assert np.isnan(pick(table, "n_sign_changes")["lo"])


def test_a_full_method_without_neurons_is_counted_and_leaves_the_other_languages():
    full = {("a", "en"): 0.0, ("b", "en"): 0.0, ("a", "fi"): -0.4, ("b", "fi"): -0.4}
    none = both(full, full, n_queries=1)
    assert np.isnan(pick(none, language="en")["value"]) and pick(none)["value"] == pytest.approx(1.0)
    assert pick(none, "n_undefined")["value"] == 1 and pick(none, "n_near_zero")["value"] == 1
    some = both({**full, ("a", "en"): -0.1}, full, n_queries=1)
    assert pick(some, language="en")["value"] == -np.inf and pick(some, "n_undefined")["value"] == 0


def test_facts_of_only_one_of_the_two_do_not_count_nor_those_with_p_before_0():
    variant, full = random_changes(3), random_changes(4)
    few = {key: change for key, change in full.items() if key != ("f0", "en")}
    table = both(variant, few)
    assert [pick(table, language=name)["n"] for name in ("en", "fi", "all")] == [7, 8, 8]
    parts = [measured(name, {("z", "en"): 0.0}, p_before=0.0) for name in (WITHOUT_QUERIES, FULL)]
    parts += [measured(WITHOUT_QUERIES, variant), measured(FULL, few)]
    more = summary(*parts)
    assert pick(more, language="en")["value"] == pick(table, language="en")["value"]
    assert [pick(more, language=name)[["n", "n_excluded"]].tolist() for name in ("en", "fi")] == [[7, 2], [8, 0]]


def test_sizes_and_empty_sets_are_shown():
    keys = [("a", "en"), ("b", "en")]
    parts = [measured(FULL, dict.fromkeys(keys, -0.4), n_neurons=5)]
    parts += [measured(WITHOUT_QUERIES, {keys[0]: -0.2}, n_neurons=3)]
    parts += [measured(WITHOUT_QUERIES, {keys[1]: 0.0}, n_neurons=0, n_queries=1)]
    row = pick(summary(*parts))
    assert row[["n", "n_empty", "n_neurons", "n_neurons_full"]].tolist() == [2, 1, 1.5, 5]


def test_other_probes_and_other_selections_do_not_count():
    variant, full = random_changes(5), random_changes(6)
    table = both(variant, full)
    parts = [measured(WITHOUT_QUERIES, variant), measured(FULL, full), measured("likn", full)]
    parts += [measured(name, random_changes(7), probe="same_relation") for name in (WITHOUT_QUERIES, FULL)]
    pd.testing.assert_frame_equal(summary(*parts), table)


@pytest.mark.parametrize("selection", [FULL, WITHOUT_QUERIES, "likn"])
def test_without_variant_or_full_method_the_table_is_empty(selection):
    table = summary(measured(selection, random_changes(0)))
    assert table.empty and table.columns.tolist() == TABLE_COLUMNS
    assert beside_paper(table, "matrice", 2).empty


def test_the_printed_ratio_stands_beside_those_of_all_languages_only():
    parts = [measured(name, random_changes(0), operation) for name in (FULL, *VARIANTS) for operation in OPERATIONS]
    table = beside_paper(summary(*parts), "matrice", 2)
    shown = table[table["paper"].notna()]
    assert len(shown) == 6 and set(shown["statistic"]) == {"ratio"} and set(shown["language"]) == {"all"}
    assert pick(table, operation="average")["paper"] == 0.84 and set(shown["selection"]) == set(VARIANTS[:2])
