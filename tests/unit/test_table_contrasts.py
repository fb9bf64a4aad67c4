"""Tests of tables' rows against each other: the tables' own differences, which rows are paired, planted effects."""

import numpy as np
import pandas as pd
import pytest

from knatlas.errors import AtlasError
from knatlas.statistics.counterfact import summarise_counterfact
from knatlas.statistics.crosslingual import summarise_crosslingual
from knatlas.statistics.injection import summarise_injection
from knatlas.statistics.significance import SIGNIFICANCE_COLUMNS, significance_table
from knatlas.statistics.table_contrasts import TESTED_SCORES, table_contrasts
from tests.edits_across_languages import THREE, edit

SETTINGS = {"reference": "matrice", "success_rate": {"facts": "common"}}


def significance_of(name, rows, resamples=50, permutations=999, **settings):
    contrasts = table_contrasts(name, rows, SETTINGS | settings)
    return significance_table({}, {name: contrasts}, resamples=resamples, permutations=permutations)


def injected(selection, is_right, rate=0.01, n_facts=10):
    """In two languages a wrong and a right query of each fact, more in the second; is_right, of a language and fact."""
    lines = []
    for number, language in enumerate(("en", "fi")):
        for fact in range(n_facts):
            for split, n_queries in (("new", 1 + fact % 3), ("old", 1 + number)):
                for query in range(n_queries):
                    lines.append((language, split, f"f{fact}", query, is_right(number, fact, split, query)))
    rows = pd.DataFrame(lines, columns=["language", "split", "fact", "query", "is_right_after"])
    fixed = {"model": "m", "selection": selection, "learning_rate": rate, "n_neurons": 3, "n_parameters": 30}
    return rows.assign(**fixed, n_own_neurons=1, n_shared=0, n_found=4, is_trained=True)


def by_chance(seed, share):
    random = np.random.default_rng(seed)
    return lambda *_: random.random() < share


def fine_tuned():
    parts = [injected("matrice", by_chance(1, 0.8), rate) for rate in (0.01, 0.1)]
    parts += [injected("likn", by_chance(2, 0.3)), injected("random", by_chance(3, 0.4))]
    parts += [injected("random_layer_matched", by_chance(4, 0.4)), injected("direct", by_chance(5, 0.6), 1e-5)]
    return pd.concat(parts, ignore_index=True)


def test_fine_tunings_differ_by_what_the_table_shows():
    rows = fine_tuned()
    shown = summarise_injection(rows, resamples=20).set_index(["selection", "learning_rate", "language", "statistic"])
    lines = significance_of("matrice_table5", rows).set_index(["selection", "condition", "contrast", "statistic"])
    controls = {"random_layer_matched": ("random_layer_matched", 0.01), "direct_1e-05": ("direct", 1e-5)}
    for contrast, control in controls.items():
        for name in ("q_new", "q_old", "average"):
            line = lines.loc["matrice", "0.01", contrast, name]
            difference = [shown.loc[(*key, "all", name), "value"] for key in (("matrice", 0.01), control)]
            assert line["value"] == pytest.approx(difference[0] - difference[1])
            assert line["n"] == 10 and line["lo"] <= line["value"] <= line["hi"]
    assert np.isnan(lines.loc["matrice", "0.01", "random", "q_new_heldout"]["p"])  # no such query was asked


def test_random_neurons_are_the_control_at_the_same_rate_and_named_where_they_are_another_number():
    table = significance_of("matrice_table5", fine_tuned())
    assert table.columns.tolist() == SIGNIFICANCE_COLUMNS and set(table["language"]) == {"all"}
    found = table.groupby(["selection", "condition"])["contrast"].unique().map(list).to_dict()
    assert found == {
        ("matrice", "0.01"): ["random_layer_matched", "random", "direct_1e-05"],
        ("matrice", "0.1"): ["direct_1e-05"],
        ("likn", "0.01"): ["random_unmatched", "direct_1e-05"],
    }
    assert set(table["statistic"]) == {"q_new", "q_new_heldout", "q_old", "average"}
    assert (table.loc[table["statistic"] == "q_old", "n_tests"] == 6).all()


def test_neurons_that_learn_every_fact_beside_random_ones_that_learn_none():
    learnt = injected("matrice", lambda language, fact, split, query: True)
    nothing = injected("random", lambda language, fact, split, query: split == "old")
    rows = pd.concat([learnt, nothing], ignore_index=True)
    table = significance_of("matrice_table5", rows, permutations=1023).set_index("statistic")
    assert table.loc["q_new", ["value", "p", "method"]].tolist() == [100, 2 / 2**10, "exact 1024"]
    assert table.loc["q_new", ["lo", "hi", "n", "n_nonzero"]].tolist() == pytest.approx([100, 100, 10, 10])
    assert (table.loc["q_old", "value"], table.loc["q_old", "p"], table.loc["average", "value"]) == (0, 1, 50)


@pytest.mark.parametrize("change", ["relative", "absolute"])
def test_common_neurons_differ_from_other_edits_by_what_the_table_shows(change):
    rows, settings = edit(THREE)[0], {"facts": "common", "change": change}
    shown = summarise_crosslingual(rows, settings, resamples=20).query("reading == 'default'")
    shown = shown.set_index(["pair", "language", "method", "statistic"])["value"]
    table = significance_of("amig_table2", rows, success_rate=settings)
    assert len(table) == 3 * 2 * 2 * 2 and set(table["operation"]) == {"all"} and (table["n_tests"] == 12).all()
    for line in table.itertuples():
        own, other = (shown[line.condition, line.language, name, line.statistic] for name in ("likn", line.contrast))
        assert line.value == pytest.approx(own - other)
        assert line.n == rows.query("pair == @line.condition and n_likn > 0")["fact"].nunique()


def test_only_facts_that_both_edits_count_are_paired():
    rows = edit()[0]
    common = significance_of("amig_table2", rows)
    pd.testing.assert_frame_equal(significance_of("amig_table2", rows, success_rate={"facts": "per_row"}), common)
    pd.testing.assert_frame_equal(significance_of("amig_table2", rows, success_rate={"empty_sets": "drop"}), common)
    assert significance_of("amig_table2", rows[rows["n_likn"] == 0]).empty


def edited(editor, is_new, model="m", n_records=8, left_out=()):
    """A rewrite and a paraphrase of each record, and of every other one a neighbour; is_new, of a record and kind."""
    lines = []
    for case in range(n_records):
        for kind in ("rewrite", "paraphrase", *(["neighborhood"] if case % 2 == 0 else [])):
            true, new = (3.0, 0.1 + 0.01 * case) if is_new(case, kind) else (0.1 + 0.01 * case, 3.0)
            lines.append((model, "en", editor, case, kind, true, new, true, new, 1, case in left_out))
    names = ["model", "language", "editor", "case", "prompt_kind", "nll_true", "nll_new", "nll_true_before"]
    return pd.DataFrame(lines, columns=[*names, "nll_new_before", "n_neurons", "is_left_out"])


def editors():
    parts = [edited("kn_e", lambda *_: True), edited("none", lambda *_: False)]
    parts += [edited("rome", lambda case, kind: kind != "neighborhood" and (kind == "rewrite" or case > 2))]
    return pd.concat(parts, ignore_index=True)


def test_editors_differ_by_what_the_table_shows():
    shown = summarise_counterfact(editors(), resamples=20).set_index(["editor", "statistic"])["value"]
    table = significance_of("localization_table3", editors())
    contrasts = table[["selection", "contrast"]].drop_duplicates().to_numpy().tolist()
    assert contrasts == [["kn_e", "none"], ["rome", "none"], ["rome", "kn_e"]]
    for line in table.itertuples():
        assert line.value == pytest.approx(shown[line.selection, line.statistic] - shown[line.contrast, line.statistic])
    assert list(dict.fromkeys(table["statistic"])) == TESTED_SCORES and "moved" not in TESTED_SCORES
    lines = table.set_index(["selection", "contrast", "statistic"])
    assert lines.loc[("rome", "none", "ES"), ["value", "p", "n"]].tolist() == [100, 2 / 2**8, 8]
    assert lines.loc[("kn_e", "none", "NS"), ["value", "p", "n"]].tolist() == [-100, 2 / 2**4, 4]
    assert lines.loc[("rome", "kn_e", "PS"), ["value", "n_nonzero", "p"]].tolist() == [-37.5, 3, 2 / 2**3]
    assert lines.loc[("rome", "none", "S"), "p"] < 0.05 and (table["n_tests"] == 3).all()


def test_records_are_paired_by_case_and_models_stay_apart():
    rows = pd.concat(
        [
            edited("none", lambda *_: False, left_out=(0, 1)),
            edited("rome", lambda *_: True).iloc[::-1],
            edited("none", lambda *_: False, model="other"),
        ]
    )
    table = significance_of("localization_table3", rows).set_index("statistic")
    assert set(table["model"]) == {"m"} and table.loc["ES", "n"] == 6 and table.loc["NS", "n"] == 3
    assert table.loc["EM", "p"] == 2 / 2**6


def test_a_table_without_tests_is_a_sentence():
    with pytest.raises(AtlasError, match="matrice_table5"):
        table_contrasts("matrice_table4", fine_tuned(), SETTINGS)
