"""Tables as papers print them: one cell per measurement, in the order of the tidy table."""

import numpy as np
import pandas as pd
import pytest

from knatlas.errors import AtlasError
from knatlas.statistics.arrangement import arranged
from knatlas.storage import read_csv, write_csv

TIDY = pd.DataFrame(
    [
        ("en", "bkn", "mbert", 4.0, 3.0, 5.0, 7, 3.94),
        ("en", "amig", "mbert", 4.5, 4.0, 5.0, 7, 4.04),
        ("zh", "amig", "mbert", np.nan, np.nan, np.nan, 0, np.nan),
        ("en", "bkn", "tiny", 1.0, np.nan, np.nan, 6, np.nan),
    ],
    columns=["language", "selection", "model", "value", "lo", "hi", "n", "paper"],
)


def test_a_cell_has_value_interval_n_and_the_printed_number():
    shown = arranged(TIDY, ["language", "selection"], "model")
    assert list(shown.columns) == ["language", "selection", "mbert", "tiny"]
    assert shown.values.tolist() == [
        ["en", "bkn", "4 (3 to 5), n=7, paper: 3.94", "1, n=6"],
        ["en", "amig", "4.5 (4 to 5), n=7, paper: 4.04", ""],
        ["zh", "amig", "none, n=0", ""],
    ]


def test_one_column_of_rows_is_enough():
    assert arranged(TIDY.iloc[:1], ["selection"], "model").values.tolist() == [["bkn", "4 (3 to 5), n=7, paper: 3.94"]]


def test_two_measurements_for_one_cell_are_refused():
    with pytest.raises(AtlasError, match="several lines"):
        arranged(TIDY, ["language"], "model")


def test_an_unknown_column_is_named():
    with pytest.raises(AtlasError, match="selecton"):
        arranged(TIDY, ["language", "selecton"], "model")


def test_the_csv_keeps_every_measurement_and_the_markdown_shows_the_arrangement(tmp_path):
    write_csv(TIDY, tmp_path / "table.csv", arranged(TIDY, ["language", "selection"], "model"))
    assert len(read_csv(tmp_path / "table.csv")) == len(TIDY)
    assert "| en         | bkn         | 4 (3 to 5), n=7, paper: 3.94" in (tmp_path / "table.md").read_text()
