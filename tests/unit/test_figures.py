"""Figures from small tables: files, the csv behind them, the same bytes twice, nothing cut."""

from itertools import pairwise

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from knatlas.errors import AtlasError
from knatlas.figures import layers, manipulation, style
from knatlas.figures.layers import plot_layers
from knatlas.figures.manipulation import SERIES, plot_manipulation
from knatlas.statistics.layers import LAYER_COLUMNS
from knatlas.statistics.summaries import SUMMARY_COLUMNS

LANGUAGES = ["en", "fi", "zh", "ja", "all"]


def manipulation_table(models=("gpt2", "bert"), value=None):
    random = np.random.default_rng(0)
    rows = []
    for model in models:
        for operation, sign in [("suppress", -1), ("enhance", 1)]:
            for bar in [*SERIES, manipulation.Series("bkn")]:
                for language in LANGUAGES:
                    change = sign * random.uniform(0, 0.6) if value is None else value
                    names = (model, bar.selection, language, operation, bar.probe, "all", 0.0, "mean_relative_change")
                    rows.append((*names, change, change - 0.05, change + 0.03, 24, 0, 5.0, 0, change, change))
    return pd.DataFrame(rows, columns=SUMMARY_COLUMNS)


def layer_table(models=("gpt2", "bert"), n_layers=4, series=(("amig", "en"), ("amig", "fi"), ("likn", "all"))):
    rows = []
    for model in models:
        for selection, language in series:
            shares = np.random.default_rng(len(rows)).dirichlet(np.ones(n_layers))
            for layer, share in enumerate(shares):
                rows.append([model, selection, language, layer, share, share * 0.9, share * 1.1, 24, 10, 2])
    return pd.DataFrame(rows, columns=LAYER_COLUMNS)


def draw_manipulation(path, **settings):
    return plot_manipulation(manipulation_table(), path, **settings)


def draw_layers(path):
    return plot_layers(layer_table(), path, ["amig", "likn"])


@pytest.fixture(scope="module", params=[draw_manipulation, draw_layers])
def drawn_twice(request, tmp_path_factory):
    """The paths of one figure, drawn two times."""
    folder = tmp_path_factory.mktemp("figures")
    return request.param(folder / "new" / "figure"), request.param(folder / "again")


def test_pdf_png_and_csv_are_written(drawn_twice):
    paths, _ = drawn_twice
    assert [path.name for path in paths] == ["figure.pdf", "figure.png", "figure.csv"]
    assert paths[0].read_bytes().startswith(b"%PDF") and paths[1].read_bytes().startswith(b"\x89PNG")


def test_the_same_data_give_the_same_bytes(drawn_twice):
    first, second = drawn_twice
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_files_hold_no_time_and_no_program(drawn_twice):
    pdf, png = (path.read_bytes() for path in drawn_twice[0][:2])
    assert b"CreationDate" not in pdf and b"Producer" not in pdf
    assert b"Software" not in png and b"tIME" not in png


def test_the_csv_has_the_rows_that_are_drawn(tmp_path):
    table = manipulation_table(["gpt2"])
    *_, csv = plot_manipulation(table, tmp_path / "figure")
    expected = table[table["selection"] != "bkn"].reset_index(drop=True)
    pd.testing.assert_frame_equal(pd.read_csv(csv), expected, check_dtype=False)
    table = layer_table()
    *_, csv = plot_layers(table, tmp_path / "figure", ["likn"])
    pd.testing.assert_frame_equal(pd.read_csv(csv), table[table["selection"] == "likn"].reset_index(drop=True))


class Drawn(Exception):
    """Carries a figure out of the function that draws it."""


def caught(monkeypatch, module, draw):
    """The figure that a function would save."""

    def stop(figure, path, data):
        raise Drawn(figure)

    monkeypatch.setattr(module, "save", stop)
    with style.house_style(), pytest.raises(Drawn) as drawn:
        draw("figure")
    return drawn.value.args[0]


def labels_in_view(axis):
    low, high = sorted(axis.get_view_interval())
    return [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]


def texts(figure):
    for axes in figure.axes:
        yield from (axes.title, axes.xaxis.label, axes.yaxis.label)
        yield from [*labels_in_view(axes.xaxis), *labels_in_view(axes.yaxis)]
    yield from figure.legends[0].get_texts()


@pytest.mark.parametrize(
    ("module", "draw"),
    [
        (manipulation, draw_manipulation),
        (manipulation, lambda path: plot_manipulation(manipulation_table(["a_model_with_a_long_name"]), path)),
        (layers, draw_layers),
        (layers, lambda path: plot_layers(layer_table(["one"], 32), path, ["amig", "likn"])),
        (layers, lambda path: plot_layers(layer_table(["one"]), path, ["likn"])),
    ],
)
def test_no_label_is_cut_or_covers_its_neighbour(monkeypatch, module, draw):
    figure = caught(monkeypatch, module, draw)
    renderer, page = FigureCanvasAgg(figure).get_renderer(), figure.bbox
    figure.draw(renderer)
    for text in texts(figure):
        box = text.get_window_extent(renderer)  # of no size where there is no text
        assert box.x0 >= page.x0 - 1 and box.x1 <= page.x1 + 1, text
        assert box.y0 >= page.y0 - 1 and box.y1 <= page.y1 + 1, text
    for axes in figure.axes:
        boxes = [label.get_window_extent(renderer) for label in labels_in_view(axes.xaxis)]
        assert all(left.x1 <= right.x0 for left, right in pairwise(boxes))


def test_axes_name_the_unit_and_the_number_of_facts(monkeypatch):
    figure = caught(monkeypatch, manipulation, draw_manipulation)
    assert figure.axes[0].get_ylabel() == "mean change of P(answer)\n[% of P before]"
    assert figure.axes[1].get_title() == "gpt2, enhance (n = 24 facts)"
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == LANGUAGES
    figure = caught(monkeypatch, layers, draw_layers)
    assert figure.axes[1].get_title() == "bert (n = 24 facts, 2 with an empty set)"
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == (
        "layer (0 = first)",
        "neurons in the layer [%]",
    )


def test_bars_are_as_high_as_the_table_says(monkeypatch):
    table = manipulation_table(["gpt2"], value=0.25)
    figure = caught(monkeypatch, manipulation, lambda path: plot_manipulation(table, path))
    bars = figure.axes[0].patches
    assert len(bars) == len(SERIES) * len(LANGUAGES) and {bar.get_height() for bar in bars} == {0.25}
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[0] == "matrice" and labels[-1] == "matrice, on a fact of another relation"
    assert len(labels) == len(SERIES)


def test_missing_bars_leave_a_gap(tmp_path):
    table = manipulation_table(["gpt2"])
    table.loc[table["selection"] == "likn", ["value", "lo", "hi"]] = np.nan
    assert plot_manipulation(table[table["selection"] != "random"], tmp_path / "figure")[0].exists()


def test_every_selection_has_a_colour_of_its_own():
    from knatlas.selection.select import selection_names

    assert set(selection_names()) == set(style.COLOURS)
    assert len(set(style.COLOURS.values())) == len(style.COLOURS)


def test_a_table_without_the_bars_is_a_sentence(tmp_path):
    with pytest.raises(AtlasError, match="the table has no mean_log_ratio"):
        draw_manipulation(tmp_path / "figure", statistic="mean_log_ratio")
    with pytest.raises(AtlasError, match="the table has no selection of matrice"):
        plot_layers(layer_table(), tmp_path / "figure", ["matrice"])


def test_settings_outside_neither_matter_nor_change():
    with matplotlib.rc_context({"font.size": 30}):
        with style.house_style():
            assert matplotlib.rcParams["font.size"] == style.SETTINGS["font.size"]
        assert matplotlib.rcParams["font.size"] == 30
