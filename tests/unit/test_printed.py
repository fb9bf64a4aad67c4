"""Numbers as printed: consistent with each other, and beside the rows they belong to."""

import numpy as np
import pandas as pd
import pytest

from knatlas.catalog import read_catalog
from knatlas.errors import AtlasError
from knatlas.statistics.printed import beside_paper, printed_values

SIZES = {1: 8, 2: 12, 3: 36}
LOCALIZATION = {"table2": 10, "table3": 63, "figure3": 5, "figure4": 5, "perturbation": 6}


def printed(number, **keys):
    found = [entry for entry in printed_values("amig", number) if all(entry[key] == keys[key] for key in keys)]
    assert len(found) == 1
    return found[0]["value"]


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


@pytest.mark.parametrize(
    ("model", "language", "percent"),
    [("mbert", "en", 2.3), ("mgpt", "en", 7.6), ("mbert", "zh", 84.3), ("mgpt", "zh", 44.5)],
)
def test_improvements_of_table_1_are_those_printed(model, language, percent):
    ours, baseline = (printed(1, model=model, language=language, selection=name) for name in ("amig", "bkn"))
    assert 100 * (ours / baseline - 1) == pytest.approx(percent, abs=0.3)


@pytest.mark.parametrize(
    ("model", "language", "percent"),
    [("mbert", "en", 10.3), ("mgpt", "en", 5.9), ("mbert", "zh", 213.5), ("mgpt", "zh", 277.4)],
)
def test_improvements_of_table_2_are_those_printed(model, language, percent):
    likn, mono = (printed(2, model=model, language=language, method=name) for name in ("likn", "mono"))
    assert 100 * (likn / mono - 1) == pytest.approx(percent, abs=0.3)


@pytest.mark.parametrize(("model", "percent"), [("mbert", 43.0), ("mgpt", 58.8)])
def test_decreases_of_table_2_are_those_printed(model, percent):
    likn, seq = (printed(2, model=model, language="zh", method=name) for name in ("likn", "seq"))
    assert 100 * (1 - seq / likn) == pytest.approx(percent, abs=0.3)


def f1_range(*numbers):
    """The least and the largest F1 that numbers rounded to these can have."""
    steps = {0.97: 0.005, 0.0002: 0.00005}
    bounds = [[max(number + sign * steps.get(number, 0.0005), 0) for sign in (-1, 1)] for number in numbers]
    return [2 * p * r / (p + r) for p, r in zip(*bounds, strict=True)]


@pytest.mark.parametrize("detector", ["argmax", "dkn_attribution"])
def test_f1_of_table_3_follows_from_precision_and_recall(detector):
    places = {(entry["model"], entry["language"]) for entry in printed_values("amig", 3)}
    assert len(places) == 6
    for model, language in places:
        keys = {"model": model, "language": language, "detector": detector}
        low, high = f1_range(*(printed(3, **keys, statistic=name) for name in ("precision", "recall")))
        f1 = printed(3, **keys, statistic="f1")
        assert low - 0.0005 <= f1 <= high + 0.0005


@pytest.mark.parametrize(
    ("model", "language", "percent"),
    [("mbert", "en", 49), ("mgpt", "zh", 167150), ("bert", "en", 16), ("gpt2", "en", 1876)],
)
def test_improvements_of_table_3_are_those_printed(model, language, percent):
    ours, baseline = (
        printed(3, model=model, language=language, detector=name, statistic="f1")
        for name in ("dkn_attribution", "argmax")
    )
    assert 100 * (ours / baseline - 1) == pytest.approx(percent, abs=0.5)


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


def test_an_empty_table_stays_empty_and_gets_its_columns():
    table = beside_paper(pd.DataFrame([row(value=1.0)]).iloc[:0], "amig", 1)
    assert len(table) == 0 and table[["paper", "difference"]].dtypes.tolist() == [np.float64, np.float64]


def printed_edits():
    """S, ES, EM .. of each row of Table 3 of the localization paper, and the doubts about S."""
    values, doubts = {}, {}
    for entry in printed_values("localization", 3):
        values.setdefault((entry["model"], entry["editor"]), {})[entry["statistic"]] = entry["value"]
        if entry["statistic"] == "S" and "harmonic" in entry.get("doubt", ""):
            doubts[entry["model"], entry["editor"]] = entry["doubt"]
    return values, doubts


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


def test_s_of_edits_is_the_harmonic_mean_of_the_printed_successes_but_where_in_doubt():
    values, doubts = printed_edits()
    assert set(values) == {
        *(("gpt2", name) for name in ("none", "rome", "rome_last", "kn_e", "cne")),
        *(("gpt2-medium", name) for name in ("none", "rome", "rome_last", "kn_e")),
    }
    for row, value in values.items():
        successes = np.array([value[name] for name in ("ES", "PS", "NS")])
        # the least and the largest that numbers rounded to these can give
        low, high = (3 / np.sum(1 / np.minimum(successes + step, 100)) for step in (-0.05, 0.05))
        is_consistent = low - 0.05 <= value["S"] <= high + 0.05
        assert is_consistent == (row not in doubts)
        if row in doubts:
            assert doubts[row].endswith(f"is {3 / np.sum(1 / successes):.1f}")


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
    with pytest.raises(AtlasError, match=r"table of amig is 'table4'; expected one of catalog/printed\.yaml"):
        beside_paper(table, "amig", 4)
    with pytest.raises(AtlasError, match="a key is 'detector'; expected a column of the table"):
        beside_paper(table, "amig", 3)
