"""Sizes of neuron sets and the headline sentences: they follow the numbers and flip with them."""

import pandas as pd
import pytest

from knatlas.errors import AtlasError
from knatlas.statistics.exactness import summarise_exactness
from knatlas.statistics.headlines import headlines
from knatlas.statistics.set_sizes import summarise_sizes
from knatlas.storage import write_csv
from knatlas.summary import summary

FIELDS = [
    "value",
    "lo",
    "hi",
    "n",
    "control_value",
    "control_lo",
    "control_hi",
    "control_n",
    "size_ratio",
    "is_separated",
]


def separation(other: float = -0.01, is_separated: bool = True) -> pd.DataFrame:
    rows = {
        "random_layer_matched": [-0.4, -0.5, -0.3, 24, -0.01, -0.02, 0.0, 24, 40.0, is_separated],
        "other_relation": [-0.4, -0.5, -0.3, 24, other, other - 0.01, other + 0.01, 24, -0.4 / other, True],
    }
    lines = [{"control": name, **dict(zip(FIELDS, values, strict=True))} for name, values in rows.items()]
    return pd.DataFrame(lines).assign(model="m", selection="matrice", language="all", operation="suppress")


def sizes() -> pd.DataFrame:
    table = pd.DataFrame(
        {
            "selection": "likn",
            "fact": ["a", "b", "c", "d", "e"],
            "language": "all",
            "n_neurons": [0, 2, 4, 0, 9],
            "is_searched": [True, True, True, True, False],
            "sentence": ["no positive score", None, None, None, None],
        }
    )
    return summarise_sizes(table.assign(model="m"), resamples=200)


def test_sizes_count_empty_sets_and_leave_out_what_was_not_searched():
    row = sizes().iloc[0]
    assert (row["value"], row["n"], row["n_empty"]) == (1.5, 4, 2)
    assert (row["empty_share"], row["median_of_found"], row["largest"], row["n_remarks"]) == (0.5, 3.0, 4, 1)
    assert row["lo"] <= row["value"] <= row["hi"]


def test_exactness_takes_the_median_over_facts_and_the_worst_over_queries():
    errors = {"a": [0.0, 0.02], "b": [0.03, 0.03], "c": [0.0, 0.2]}
    rows = [(fact, ("en", "fi")[i], error) for fact, pair in errors.items() for i, error in enumerate(pair)]
    queries = pd.DataFrame(rows, columns=["fact", "language", "completeness_error"])
    queries = queries.assign(model="m", method="saig", negative_layers=0.5, skipped_layers=0.0, n_full_points=100)
    queries = queries.assign(n_points=[10, 20, 10, 20, 10, 110], n_fallbacks=[0, 0, 0, 0, 0, 4])
    queries = queries.assign(error_estimate=[1e-4, 2e-4, 0, 0, 0, 9e-4])
    table = summarise_exactness(queries, resamples=200).set_index("language")
    assert table.loc["all", "value"] == pytest.approx(0.03) and table.loc["all", "n"] == 3
    assert table.loc["all", "largest"] == 0.2 and table.loc["all", "above_tolerance"] == pytest.approx(1 / 6)
    assert table.loc["en", "value"] == 0.0 and table.loc["fi", "n_queries"] == 3
    quadrature = ["largest_estimate", "evaluated_points", "fallback_queries"]
    assert table.loc["all", quadrature].tolist() == pytest.approx([9e-4, 180 / 600, 1 / 6])
    assert table.loc["en", quadrature].tolist() == pytest.approx([1e-4, 0.1, 0])


def test_three_headlines_per_model_with_their_numbers():
    table = headlines(separation(), sizes(), ["m", "absent"]).set_index("headline")
    assert list(table.index) == ["suppression", "other_facts", "empty_intersections"]
    assert table.loc["suppression", ["value", "lo", "hi", "n"]].tolist() == [-0.4, -0.5, -0.3, 24]
    assert table.loc["other_facts", "value"] == -0.01
    assert "-40.0% (95% interval -50.0% to -30.0%) (n = 24 facts)" in table.loc["suppression", "sentence"]
    assert "2 of 4 facts have no neuron" in table.loc["empty_intersections", "sentence"]


def test_the_verdicts_flip_with_the_numbers():
    good = headlines(separation(), sizes(), ["m"]).set_index("headline")["sentence"]
    bad = headlines(separation(other=-0.39, is_separated=False), sizes(), ["m"]).set_index("headline")["sentence"]
    assert "far above the control" in good["suppression"] and "NOT ten times" in bad["suppression"]
    assert "belong to the fact" in good["other_facts"] and "do NOT belong to the fact alone" in bad["other_facts"]


def test_the_summary_of_a_study_names_places_and_sentences(tmp_path):
    write_csv(headlines(separation(), sizes(), ["m"]), tmp_path / "tables" / "headlines.csv")
    text = summary(tmp_path)
    assert f"report   {tmp_path / 'report.html'}" in text and text.count("  * m: ") == 3


def test_a_study_that_is_not_computed_is_named(tmp_path):
    with pytest.raises(AtlasError, match=r"headlines\.csv is not there; run the rule"):
        summary(tmp_path)
