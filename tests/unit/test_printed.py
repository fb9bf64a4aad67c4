"""Printed numbers beside the rows of our tables that they belong to."""

import numpy as np
import pandas as pd
import pytest

from knatlas.catalog import read_catalog
from knatlas.errors import AtlasError
from knatlas.statistics.printed import beside_paper, printed_values

SIZES = {1: 8, 2: 12, 3: 36}
LOCALIZATION = {"table2": 10, "table3": 63, "figure3": 5, "figure4": 5, "perturbation": 6}


def row(**changes):
    return {"model": "mbert", "language": "en", "selection": "amig", "reading": "default", "statistic": "sr", **changes}


@pytest.mark.parametrize("number", SIZES)
def test_every_cell_of_a_table_is_there_once(number):
    entries = printed_values("amig", number)
    keys = [tuple(sorted((key, entry[key]) for key in entry if key != "value")) for entry in entries]
    assert len(entries) == len(set(keys)) == SIZES[number]
    assert len({tuple(key for key, _ in names) for names in keys}) == 1  # all are identified by the same columns


@pytest.mark.parametrize("number", SIZES)
def test_models_and_languages_are_those_of_the_catalog(number):
    for entry in printed_values("amig", number):
        assert entry["model"] in read_catalog("models") and entry["language"] in read_catalog("languages")


def test_a_number_stands_beside_every_reading_of_its_row_and_nowhere_else():
    rows = [
        row(value=5.0),
        row(value=4.0, reading="code"),
        row(value=3.0, statistic="sr_suppress"),
        row(value=2.0, language="fi"),
        row(value=1.0, selection="random_layer_matched"),
        row(value=0.5, model="smoke-bert"),
        row(value=10.0, language="zh"),
    ]
    table = beside_paper(pd.DataFrame(rows), "amig", 1)
    np.testing.assert_array_equal(table["paper"], [4.04, 4.04, np.nan, np.nan, np.nan, np.nan, 10.29])
    np.testing.assert_allclose(table["difference"], [0.96, -0.04, *[np.nan] * 4, -0.29])


def test_every_printed_number_finds_its_row():
    for number in SIZES:
        entries = pd.DataFrame(printed_values("amig", number))
        table = beside_paper(entries.assign(value=0.0), "amig", number)
        np.testing.assert_array_equal(table["paper"], entries["value"])
        np.testing.assert_array_equal(table["difference"], -entries["value"])


def test_the_rest_of_a_table_and_its_index_stay():
    rows = pd.DataFrame([row(value=5.0), row(value=np.nan, language="zh")], index=[7, 9])
    table = beside_paper(rows, "amig", 1)
    pd.testing.assert_frame_equal(table[rows.columns], rows)
    assert table["paper"].tolist() == [4.04, 10.29] and np.isnan(table["difference"].iat[1])


def test_numbers_of_single_languages_stand_beside_ours_and_what_can_not_be_read_does_not():
    keys = {"model": "mgpt", "selection": "matrice", "subset": "all", "scope": "single", "notion": "exact"}
    rows = [{**keys, "language": name, "statistic": "reliability", "value": 60.0} for name in ("all", "fi", "xx")]
    assert beside_paper(pd.DataFrame(rows), "matrice", 3)["paper"].fillna(0).tolist() == [57.05, 59.92, 0]
    rows = [{**keys, "language": name, "statistic": "q_new", "value": 60.0} for name in ("hu", "en")]
    assert beside_paper(pd.DataFrame(rows), "matrice", 5)["paper"].fillna(0).tolist() == [47.39, 0]


def test_an_empty_table_stays_empty_and_gets_its_columns():
    table = beside_paper(pd.DataFrame([row(value=1.0)]).iloc[:0], "amig", 1)
    assert len(table) == 0 and table[["paper", "difference"]].dtypes.tolist() == [np.float64, np.float64]


@pytest.mark.parametrize("place", LOCALIZATION)
def test_every_number_of_the_localization_paper_is_there_once_and_finds_its_row(place):
    entries = printed_values("localization", place)
    keys = [{key: value for key, value in entry.items() if key not in ("value", "doubt")} for entry in entries]
    assert len(entries) == len({tuple(key.items()) for key in keys}) == LOCALIZATION[place]
    assert len({tuple(key) for key in keys}) == 1
    assert (
        {entry["model"] for entry in entries} <= {"bert-uncased", "gpt2", "gpt2-medium"} <= set(read_catalog("models"))
    )
    table = beside_paper(pd.DataFrame(keys).assign(value=1.0), "localization", place)
    np.testing.assert_array_equal(table["paper"], [entry["value"] for entry in entries])
    if "doubt" in table:
        assert table["doubt"].tolist() == [entry.get("doubt", "") for entry in entries]


def test_a_doubt_stands_beside_its_number_alone_and_only_where_a_table_has_any():
    rows = [
        {"model": "gpt2", "editor": "rome", "statistic": name, "value": 80.0} for name in ("S", "ES", "nothing printed")
    ]
    table = beside_paper(pd.DataFrame(rows), "localization", 3)
    assert table["paper"].tolist()[:2] == [80.8, 100.0] and np.isnan(table["paper"].iat[2])
    assert [bool(doubt) for doubt in table["doubt"]] == [True, False, False]
    assert "doubt" not in beside_paper(pd.DataFrame([row(value=1.0)]), "amig", 1)


def test_a_place_is_a_table_by_its_number_or_anything_by_its_name():
    assert printed_values("localization", 2) == printed_values("localization", "table2")
    assert printed_values("localization", "perturbation")[0]["value"] == -9.51
    with pytest.raises(AtlasError, match=r"place of localization is 'figure33'; .*Did you mean 'figure3'\?"):
        printed_values("localization", "figure33")


def test_mistakes_are_sentences():
    table = pd.DataFrame([row(value=1.0)])
    with pytest.raises(AtlasError, match=r"the paper is 'amigo'; .*Did you mean 'amig'\?"):
        beside_paper(table, "amigo", 1)
    with pytest.raises(
        AtlasError, match=r"table of amig is 'table4'; expected one of catalog/paper_results/amig\.yaml"
    ):
        beside_paper(table, "amig", 4)
    with pytest.raises(AtlasError, match="a key is 'detector'; expected a column of the table"):
        beside_paper(table, "amig", 3)
