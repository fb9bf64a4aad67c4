"""Real against null: the measures by hand, planted differences and planted nulls, and figures that show both."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from knatlas.errors import AtlasError
from knatlas.figures import controls as control_figure
from knatlas.figures import layers, manipulation
from knatlas.figures.controls import PANELS, plot_controls
from knatlas.figures.layers import plot_layers
from knatlas.figures.manipulation import SERIES, plot_manipulation
from knatlas.figures.nulls import NULL_LOOKS
from knatlas.selection.neuron_set import FoundSet, NeuronSets, as_table
from knatlas.statistics.controls import (
    CONTROL_COLUMNS,
    LAYER_MEASURES,
    MEASURES,
    compared_values,
    controls_table,
    pooled_layers,
)
from tests.unit.test_figures import caught, labels_in_view, layer_table, manipulation_table, texts

SHAPE = (3, 10)


def neuron_sets(found, selection="matrice", shape=SHAPE):
    """Sets from {(fact, language): [(layer, index), ...]}."""
    parts = []
    for (fact, language), places in found.items():
        layers_of, indices = np.array(places, int).reshape(-1, 2).T
        parts.append(FoundSet(fact, language, 0, layers_of, indices, np.ones(len(layers_of))))
    facts, languages = sorted({fact for fact, _ in found}), list(dict.fromkeys(language for _, language in found))
    return NeuronSets(as_table(selection, parts), selection, facts, languages, *shape, origin={"model": "m"})


def measured(changes, selection="matrice", language="en"):
    """A row of `manipulate` per fact and operation, P before 0.5, from {fact: P after suppression}."""
    shared = {"model": "m", "selection": selection, "draw": 0, "language": language, "relation": "P1", "probe": "own"}
    shared |= {"query": 0, "n_neurons": 1, "p_before": 0.5, "is_right_before": True, "is_right_after": True}
    rows = [
        shared | {"fact": fact, "probed_fact": fact, "operation": operation, "p_after": p}
        for fact, after in changes.items()
        for operation, p in (("suppress", after), ("enhance", 0.9))
    ]
    return pd.DataFrame(rows)


def by_measure(values, fact="a"):
    return values[values["fact"] == fact].set_index("measure")[["real", "null"]]


REAL = {("a", "en"): [(0, 1), (2, 1)], ("a", "fi"): [(2, 1)], ("b", "en"): [(2, 1)], ("b", "fi"): []}
REAL |= {("c", "en"): [(1, 5)], ("c", "fi"): [(1, 5)]}
NULL = {("a", "en"): [(0, 1), (0, 2), (1, 1)], ("a", "fi"): [], ("b", "en"): [], ("b", "fi"): []}


@pytest.fixture
def values():
    changes = measured({"a": 0.25, "b": 0.5, "c": 0.1}), measured({"a": 0.5, "b": 0.4})
    return compared_values([neuron_sets(REAL)], [neuron_sets(NULL)], *changes)


def test_sizes_and_empty_sets_are_means_over_the_languages_of_a_fact(values):
    found = by_measure(values)
    assert found.loc["neurons"].tolist() == [1.5, 1.5] and found.loc["empty"].tolist() == [0, 0.5]
    assert by_measure(values, "b").loc["empty"].tolist() == [0.5, 1]
    assert set(values["fact"]) == {"a", "b"} and set(values["measure"]) == set(MEASURES)


def test_overlap_is_with_the_own_real_set_and_beside_it_that_of_other_facts(values):
    # en: with b 1/2, with c 0; fi: with b's empty set 0, with c 0
    assert by_measure(values).loc["overlap"].tolist() == pytest.approx([1 / 8, (1 / 4 + 0) / 2])
    # no language in which both of b's sets are not empty: only en has any
    assert by_measure(values, "b").loc["overlap", "null"] == 0


def test_depth_and_layer_profiles_take_the_neurons_of_all_languages_together(values):
    found = by_measure(values)
    # real layers 0, 2, 2; null 0, 0, 1; other facts' real ones 2 (b), 1, 1 (c)
    assert found.loc["depth"].tolist() == pytest.approx([2 / 3, 1 / 6])
    assert found.loc["layer_distance"].tolist() == pytest.approx([2 / 3, 2 / 3])
    assert np.isnan(by_measure(values, "b").loc["depth", "null"])


def test_changes_are_those_of_suppression_relative_and_in_nats(values):
    found = by_measure(values)
    assert found.loc["change_of_p"].tolist() == pytest.approx([-0.5, 0])
    assert found.loc["log_change"].tolist() == pytest.approx([np.log(0.5), 0])
    assert by_measure(values, "b").loc["change_of_p"].tolist() == pytest.approx([0, -0.2])


def test_a_selection_without_a_real_counterpart_is_not_compared_and_one_not_manipulated_has_no_change():
    rows = measured({"a": 0.25, "b": 0.5})
    nothing = compared_values([neuron_sets(REAL, "amig")], [neuron_sets(NULL)], rows, rows)
    assert nothing.empty
    both = compared_values([neuron_sets(REAL, "amig")], [neuron_sets(NULL, "amig")], rows, rows)
    assert both.loc[both["measure"] == "change_of_p", ["real", "null"]].isna().all(axis=None)


def test_both_sides_and_their_difference_are_over_the_facts_that_have_both(values):
    table = controls_table(values.assign(control="x"), resamples=100).set_index("measure")
    row = table.loc["neurons"]
    assert (row["real"], row["null"], row["value"], row["n"]) == (1.0, 0.75, 0.25, 2)
    assert table.loc["depth", "n"] == 1 and table.loc["depth", "value"] == pytest.approx(1 / 2)
    assert set(table.reset_index().columns) == set(CONTROL_COLUMNS) and (table["n_tests"] == 1).all()
    assert table["value"].tolist() == pytest.approx((table["real"] - table["null"]).tolist())


def test_p_is_corrected_over_selections_of_one_control_and_measure_alone():
    rng = np.random.default_rng(0)
    parts = [
        pd.DataFrame({"fact": range(8), "real": 1.0, "null": rng.random(8)}).assign(
            model="m", selection=selection, measure=measure, control=control
        )
        for selection in ("bkn", "amig")
        for measure in ("neurons", "depth")
        for control in ("untrained", "shuffled_objects")
    ]
    table = controls_table(pd.concat(parts), resamples=100)
    assert (table["n_tests"] == 2).all() and (table["p"] == 2 / 2**8).all() and (table["p_holm"] == 4 / 2**8).all()


def simulated(n_facts, shift, rng, selection="matrice"):
    """Values of facts drawn alike under both, but for `shift`: real neurons are more, higher up, and matter more."""

    def sets(shift):
        found = {}
        for i in range(n_facts):
            size = 2 + rng.poisson(3 + 3 * shift)
            layers_of = np.minimum(rng.integers(0, 4 + 4 * shift, size), 7)
            found[f"f{i}", "en"] = list(zip(layers_of, rng.integers(0, 200, size), strict=True))
        return neuron_sets(found, selection, (8, 200))

    def rows(shift):
        return measured({f"f{i}": 0.5 * (1 - rng.uniform(0, 0.4 + 0.5 * shift)) for i in range(n_facts)}, selection)

    return compared_values([sets(shift)], [sets(0)], rows(shift), rows(0)).assign(control="untrained")


def test_a_planted_null_is_no_finding_and_a_planted_difference_is_one():
    rng = np.random.default_rng(1)
    checked = ["neurons", "depth", "change_of_p", "log_change"]
    nulls = [controls_table(simulated(16, 0, rng), i, 100, 499).set_index("measure") for i in range(40)]
    p = np.stack([table.loc[checked, "p"] for table in nulls])
    # of 160 tests of a true null 8 fall below 0.05 on average; p is spread over the whole range
    assert (p < 0.05).sum() <= 16 and p.min(axis=0).max() < 0.4 and np.abs(p.mean() - 0.5) < 0.1
    assert (np.stack([table.loc[checked, "p_holm"] for table in nulls]) < 0.001).sum() == 0
    for i in range(3):
        found = controls_table(simulated(16, 1, rng), i, 100, 4999).set_index("measure")
        assert (found.loc[checked, "p"] < 0.01).all() and found.loc["change_of_p", "hi"] < 0
        assert found.loc["depth", "lo"] > 0 and found.loc["neurons", "lo"] > 0


def test_equal_sets_differ_in_nothing_but_the_overlap_with_themselves():
    rows = measured({"a": 0.25, "b": 0.5, "c": 0.1})
    values = compared_values([neuron_sets(REAL)], [neuron_sets(REAL)], rows, rows)
    table = controls_table(values.assign(control="x"), resamples=100).set_index("measure")
    assert (table.drop("overlap")["value"] == 0).all() and (table.drop("overlap")["p"] == 1).all()
    assert table.loc["overlap", "null"] == 1 and table.loc["overlap", "value"] < 0
    assert set(LAYER_MEASURES) < set(table.index)


def test_layers_of_a_control_are_pooled_over_languages():
    table = pooled_layers([neuron_sets(REAL)], resamples=100)
    assert table["n_neurons"].tolist() == [1, 2, 3] and set(table["language"]) == {"all"} and (table["n"] == 3).all()
    assert table["value"].tolist() == pytest.approx([1 / 6, 2 / 6, 3 / 6])


# figures


def null_layers():
    table = layer_table(["gpt2"], series=(("amig", "all"), ("likn", "all"), ("bkn", "all")))
    return pd.concat([table.assign(control=name, n_empty=0) for name in NULL_LOOKS], ignore_index=True)


def null_changes():
    table = manipulation_table(["gpt2"], value=0.1)
    return pd.concat([table.assign(control=name) for name in NULL_LOOKS], ignore_index=True)


def control_rows(models=("gpt2", "a_model_with_a_long_name"), selections=("matrice", "bkn")):
    rows = [
        (
            model,
            selection,
            control,
            measure,
            0.5,
            0.4,
            0.6,
            0.1,
            0.0,
            0.2,
            0.4,
            0.3,
            0.5,
            10,
            10,
            0.001,
            p,
            2,
            "exact 8",
        )
        for model in models
        for selection in selections
        for control, p in zip(NULL_LOOKS, (0.002, 0.2, 0.2), strict=True)
        for measure in MEASURES
    ]
    return pd.DataFrame(rows, columns=CONTROL_COLUMNS)


def test_layer_figures_draw_a_dashed_grey_line_per_control_over_the_bars_of_its_model(monkeypatch, tmp_path):
    figure = caught(monkeypatch, layers, lambda path: plot_layers(layer_table(), path, ["amig", "likn"], null_layers()))
    drawn, others = (axes.get_lines() for axes in figure.axes)
    bars = [line for line in others if line.get_linestyle() != "None"]
    lines = [line for line in drawn if line.get_label().endswith("(n = 24)")]
    assert len(lines) == 2 * len(NULL_LOOKS) and len({line._dash_pattern for line in map(_hashable, lines)}) == 3
    assert not [line for line in bars if "null" in line.get_label()]
    null = null_layers()
    expected = null[(null["selection"] == "amig") & (null["control"] == "untrained")]["value"].tolist()
    (line,) = [line for line in lines if line.get_label() == "amig, null: untrained model (n = 24)"]
    assert line.get_ydata().tolist() == expected


def test_a_null_that_stands_on_few_facts_says_how_many_found_nothing(monkeypatch, tmp_path):
    null = null_layers()
    null.loc[null["selection"] == "likn", "n_empty"] = 22
    figure = caught(monkeypatch, layers, lambda path: plot_layers(layer_table(), path, ["amig", "likn"], null))
    labels = {line.get_label() for axes in figure.axes for line in axes.get_lines()}
    assert {f"likn, null: {look.words} (n = 24, 22 empty)" for look in NULL_LOOKS.values()} <= labels
    assert {f"amig, null: {look.words} (n = 24)" for look in NULL_LOOKS.values()} <= labels


def _hashable(line):
    offset, dashes = line._dash_pattern
    line._dash_pattern = (offset, tuple(dashes))
    return line


def test_the_manipulation_figure_has_a_grey_bar_per_control_and_language_of_the_first_selection(monkeypatch):
    table = manipulation_table(["gpt2"], value=0.25)
    draw = manipulation, lambda path: plot_manipulation(table, path, controls=null_changes())
    figure = caught(monkeypatch, *draw)
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    n_languages = table["language"].nunique()
    assert heights.count(0.1) == 3 * n_languages and heights.count(0.25) == len(SERIES) * n_languages
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[-3:] == [f"matrice, null: {look.words}" for look in NULL_LOOKS.values()]
    assert figure.axes[0].get_title() == "gpt2, suppress (n = 24 facts)"


def test_figures_without_a_control_of_their_models_are_as_they_were(tmp_path):
    others = [part.assign(model="another") for part in (null_layers(), null_changes())]
    table = manipulation_table(["gpt2"])
    paths = [
        plot_layers(layer_table(["gpt2"]), tmp_path / "a", ["amig"]),
        plot_layers(layer_table(["gpt2"]), tmp_path / "b", ["amig"], others[0]),
        plot_manipulation(table[table["language"] == "all"], tmp_path / "a2"),
        plot_manipulation(table[table["language"] == "all"], tmp_path / "b2", controls=others[1]),
    ]
    contents = [[path.read_bytes() for path in part] for part in paths]
    assert contents[0] == contents[1] and contents[2] == contents[3]


def test_the_csv_tells_real_rows_from_those_of_controls(tmp_path):
    *_, csv = plot_layers(layer_table(["gpt2"]), tmp_path / "figure", ["amig"], null_layers())
    counts = pd.read_csv(csv, keep_default_na=False)["control"].value_counts()
    assert counts["none"] == 8 and all(counts[name] == 4 for name in NULL_LOOKS)


def test_the_figure_of_controls_shows_every_measure_of_every_model_once(monkeypatch):
    figure = caught(monkeypatch, control_figure, lambda path: plot_controls(control_rows(), path))
    assert len(figure.axes) == 2 * len(PANELS) and set(PANELS) == set(MEASURES)
    points = [line for line in figure.axes[0].get_lines() if line.get_marker() not in ("None", None, "")]
    places = [line for line in points if len(line.get_xdata())]
    assert [line.get_xdata()[0] for line in places] == [0.5, 0.1, 0.1, 0.1] * 2
    # a finding is filled, by Holm's p
    fills = [line.get_markerfacecolor() for line in places[:4]]
    assert fills[1] != "white" and fills[2] == fills[3] == "white"
    assert len(figure.legends[0].get_texts()) == 1 + len(NULL_LOOKS)


def test_no_label_of_the_figure_of_controls_is_cut_or_covers_its_neighbour(monkeypatch):
    rows = control_rows(selections=("matrice_without_language_uncertainty_matched", "bkn"))
    figure = caught(monkeypatch, control_figure, lambda path: plot_controls(rows, path))
    renderer, page = FigureCanvasAgg(figure).get_renderer(), figure.bbox
    figure.draw(renderer)
    for text in texts(figure):
        box = text.get_window_extent(renderer)
        assert box.x0 >= page.x0 - 1 and box.x1 <= page.x1 + 1 and box.y0 >= page.y0 - 1 and box.y1 <= page.y1 + 1, text
    for axes in figure.axes:
        boxes = [label.get_window_extent(renderer) for label in labels_in_view(axes.xaxis)]
        assert all(left.x1 <= right.x0 for left, right in pairwise(boxes))


def test_a_table_without_rows_is_a_sentence(tmp_path):
    with pytest.raises(AtlasError, match=r"controls\.kinds"):
        plot_controls(control_rows().head(0), tmp_path / "figure")
