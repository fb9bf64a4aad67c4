"""Figures 6 and 7 of MATRICE: accuracy by hand, what is said, cases by rule, and what is drawn."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from knatlas.experiments.cases import CASE_COLUMNS, TABLE_COLUMNS, Top, choose_cases, show_cases, tabulate_cases
from knatlas.experiments.enhancement import COLUMNS, Enhancement
from knatlas.figures import cases as cases_figure
from knatlas.figures import enhancement as enhancement_figure
from knatlas.figures.cases import ANSWER_COLOUR, NO_GLYPH, cut, plot_cases, with_glyphs
from knatlas.figures.enhancement import plot_enhancement
from knatlas.figures.style import house_style
from knatlas.selection.neuron_set import FoundSet, NeuronSets, as_table
from knatlas.statistics.bootstrap import resample_weights
from knatlas.statistics.enhancement import SUMMARY_COLUMNS, summarise_enhancement

# fact, language, query, right before, right after, P before, P after, said before, said after
MEASURED = [
    ("P1:a>x", "fi", 0, False, True, 0.1, 0.6, "o", "x"),
    ("P1:a>x", "fi", 1, False, False, 0.1, 0.2, "o", "o"),
    ("P1:a>x", "ko", 0, True, True, 0.5, 0.6, "x", "x"),
    ("P1:b>y", "fi", 0, False, False, 0.2, 0.2, "o", "o"),
    ("P1:b>y", "ko", 0, True, False, 0.5, 0.1, "y", "o"),
    ("P2:c>z", "fi", 0, True, True, 0.7, 0.9, "z", "z"),
    ("P2:c>z", "ko", 0, True, True, 0.7, 0.9, "z", "z"),
]
SIZES = {"P1:a>x": 2, "P1:b>y": 0, "P2:c>z": 3}


def measured(selection="matrice", draw=0, model="tiny", lines=MEASURED, sizes=SIZES):
    rows = [
        {
            **{"model": model, "selection": selection, "draw": draw, "language": language, "fact": fact},
            **{"relation": fact[:2], "query": query, "n_neurons": sizes[fact], "p_before": before, "p_after": after},
            **{"is_right_before": was_right, "is_right_after": is_right, "answer": fact[-1].upper()},
            **{"predicted_before": said, "predicted_after": says},
        }
        for fact, language, query, was_right, is_right, before, after, said, says in lines
    ]
    return pd.DataFrame(rows)[COLUMNS]


def value(table, statistic, language="all", relation="all", selection="matrice", column="value"):
    chosen = table[(table["statistic"] == statistic) & (table["selection"] == selection)]
    return chosen[(chosen["language"] == language) & (chosen["relation"] == relation)][column].item()


def test_accuracy_on_wrong_queries_by_hand():
    table = summarise_enhancement(measured())
    assert table.columns.tolist() == SUMMARY_COLUMNS
    assert value(table, "accuracy_on_wrong") == pytest.approx(100 / 3)
    assert value(table, "lost_on_right") == pytest.approx(25.0)
    assert value(table, "p_change_on_wrong") == pytest.approx((0.5 + 0.1 + 0) / 3)
    assert value(table, "p_change_on_right") == pytest.approx((0.1 - 0.4 + 0.2 + 0.2) / 4)
    assert value(table, "accuracy_on_wrong", "fi", "P1") == pytest.approx(100 / 3)
    assert value(table, "lost_on_right", "ko", "P1") == pytest.approx(50.0)


def test_facts_queries_and_empty_sets_are_counted():
    table = summarise_enhancement(measured())
    sizes = {
        (statistic, *key): tuple(value(table, statistic, *key, column=name) for name in ("n", "n_queries", "n_empty"))
        for statistic in ("accuracy_on_wrong", "lost_on_right")
        for key in (("all", "all"), ("fi", "all"), ("ko", "P1"))
    }
    assert sizes == {
        ("accuracy_on_wrong", "all", "all"): (2, 3, 1),
        ("accuracy_on_wrong", "fi", "all"): (2, 3, 1),
        ("accuracy_on_wrong", "ko", "P1"): (0, 0, 0),
        ("lost_on_right", "all", "all"): (3, 4, 1),
        ("lost_on_right", "fi", "all"): (1, 1, 0),
        ("lost_on_right", "ko", "P1"): (2, 2, 1),
    }
    assert np.isnan(value(table, "accuracy_on_wrong", "ko", "P1"))


def test_every_language_and_relation_and_all_of_them_have_rows():
    table = summarise_enhancement(pd.concat([measured(), measured(model="other")]))
    keys = set(table[["model", "language", "relation"]].itertuples(index=False, name=None))
    assert keys == {(m, a, b) for m in ("tiny", "other") for a in ("fi", "ko", "all") for b in ("P1", "P2", "all")}
    assert not table.duplicated(SUMMARY_COLUMNS[:5]).any()


def test_draws_are_averaged_within_a_fact():
    changed = [(*line[:4], line[3], *line[5:]) for line in MEASURED]  # this draw changes nothing
    rows = pd.concat([measured("random", 0), measured("random", 1, lines=changed)], ignore_index=True)
    table = summarise_enhancement(rows)
    assert value(table, "accuracy_on_wrong", selection="random") == pytest.approx(100 / 6)
    assert value(table, "accuracy_on_wrong", selection="random", column="n_queries") == 3
    assert value(table, "lost_on_right", selection="random") == pytest.approx(12.5)


def test_intervals_draw_facts_with_all_their_queries_again():
    table = summarise_enhancement(measured(), seed=3, resamples=500)
    drawn = np.rint(2 * resample_weights(2, 500, 3))  # of the two facts that have wrong queries
    accuracies = 100 * drawn[:, 0] / (2 * drawn[:, 0] + drawn[:, 1])
    expected = np.percentile(accuracies, [2.5, 97.5], method="nearest")
    for column, bound in zip(("lo", "hi"), expected, strict=True):
        assert value(table, "accuracy_on_wrong", column=column) == pytest.approx(bound)


def entropy(*counts):
    shares = np.array([count for count in counts if count]) / sum(counts)
    return -(shares * np.log(shares)).sum()


def test_what_the_model_says_is_counted_before_and_after():
    table = summarise_enhancement(measured())
    assert value(table, "top1_entropy_before") == pytest.approx(entropy(3, 1, 1, 2))  # o, x, y, z
    assert value(table, "top1_entropy_after") == pytest.approx(entropy(3, 2, 2))
    assert value(table, "top1_entropy_change") == pytest.approx(entropy(3, 2, 2) - entropy(3, 1, 1, 2))
    assert value(table, "most_common_top1_share_before") == pytest.approx(300 / 7)
    assert value(table, "top1_entropy_before", "fi", "P1") == 0
    assert [value(table, "top1_entropy_after", column=name) for name in ("n", "n_queries", "n_empty")] == [3, 7, 1]


def test_histograms_are_resampled_by_facts():
    rows, seed = measured(), 5
    table = summarise_enhancement(rows, seed, resamples=400)
    facts, texts = np.unique(rows["fact"]), np.unique(rows["predicted_before"])
    counts = np.array([[((rows.fact == f) & (rows.predicted_before == t)).sum() for f in facts] for t in texts])
    resampled = [entropy(*(counts @ times)) for times in np.rint(3 * resample_weights(3, 400, seed))]
    expected = np.percentile(resampled, [2.5, 97.5], method="nearest")
    for column, bound in zip(("lo", "hi"), expected, strict=True):
        assert value(table, "top1_entropy_before", column=column) == pytest.approx(bound, abs=1e-9)


def test_a_histogram_that_does_not_change_has_a_change_of_exactly_zero():
    same = [(*line[:7], f"word {i % 3}", f"word {i % 3}") for i, line in enumerate(MEASURED)]
    table = summarise_enhancement(measured(lines=same), resamples=300)
    changes = table[table["statistic"].str.endswith("_change")]
    assert len(changes) == 2 * 9 and (changes[["value", "lo", "hi"]] == 0).all().all()


def test_what_was_not_noted_has_no_histogram():
    table = summarise_enhancement(measured(lines=[(*line[:7], "", "") for line in MEASURED]))
    assert np.isnan(value(table, "top1_entropy_change")) and value(table, "top1_entropy_after", column="n") == 0
    assert value(table, "accuracy_on_wrong") == pytest.approx(100 / 3)


def many(model="tiny", **changes):
    """Facts by number of helped, failed and all queries, and gain of P of each query."""
    facts = {"P1:h>a": (2, 1, 4, 0.1), "P1:h>b": (2, 0, 4, 0.3), "P1:i>c": (1, 1, 4, 0.2)}
    facts |= {"P1:f>d": (0, 3, 4, 0.0), "P1:f>e": (0, 3, 4, -0.1), "P1:n>f": (0, 0, 4, 0.0), "P1:e>g": (0, 4, 4, 0.0)}
    lines = []
    for fact, (n_helped, n_failed, n, gain) in facts.items():
        for query in range(n):
            was_right = query >= n_helped + n_failed
            is_right = was_right or query < n_helped
            lines.append((fact, "fi", query, was_right, is_right, 0.3, 0.3 + gain, "o", "o"))
    sizes = {fact: 0 if fact == "P1:e>g" else 2 for fact in facts}
    return measured(model=model, lines=lines, sizes=sizes, **changes)


def test_cases_are_chosen_by_the_rule():
    cases = choose_cases(many(), 2)
    assert cases.columns.tolist() == CASE_COLUMNS
    # of two with two queries helped the one that gained more P; of two that failed the one that lost P
    expected = [("helped", "P1:h>b"), ("helped", "P1:h>a"), ("failed", "P1:f>e"), ("failed", "P1:f>d")]
    assert list(cases[["case", "fact"]].itertuples(index=False, name=None)) == expected
    assert cases[["n_queries", "n_helped", "n_failed"]].values.tolist() == [[4, 2, 0], [4, 2, 1], [4, 0, 3], [4, 0, 3]]


def test_no_fact_is_a_case_twice_nor_without_neurons_nor_without_a_change():
    cases = choose_cases(many(), 10)
    assert not cases["fact"].duplicated().any() and not {"P1:e>g", "P1:n>f"} & set(cases["fact"])
    assert cases["case"].tolist() == ["helped"] * 3 + ["failed"] * 2


def test_cases_depend_on_the_selection_and_not_on_the_order_of_rows():
    rows = pd.concat([many(), many(selection="random"), many(model="other")], ignore_index=True)
    cases, turned = choose_cases(rows, 1), choose_cases(rows[::-1], 1)
    assert cases["model"].tolist() == ["tiny", "tiny", "other", "other"]
    pd.testing.assert_frame_equal(
        turned.sort_values(["model", "case"], ignore_index=True),
        cases.sort_values(["model", "case"], ignore_index=True),
    )
    assert choose_cases(many(selection="random"), 2).empty


def prompts():
    rows = [
        {"fact": fact, "relation": "P1", "language": language, "query": query, "answer": f"{fact[-1]} {language}"}
        | {"before": f"{language} {query} {fact}", "separator": " ", "after": "."}
        for fact in sorted(set(many()["fact"]))
        for language in ("en", "fi")
        for query in range(4)
    ]
    return pd.DataFrame(rows)


def sets():
    facts = sorted(set(many()["fact"]))
    found = [FoundSet(fact, "all", 0, np.array([1]), np.array([i]), np.ones(1)) for i, fact in enumerate(facts)]
    return NeuronSets(as_table("matrice", found), "matrice", facts, ["all"], 3, 24, origin={"model": "tiny"})


def top_of(requests):
    """Tokens that name what was asked."""
    return [
        [Top(f"{r.fact} {r.language} {r.query} {r.factor} {rank} {len(r.layers)}", 0.5, rank == 1) for rank in (0, 1)]
        for r in requests
    ]


def test_cases_are_shown_in_every_language_with_the_query_that_tells():
    rows = many()
    cases = choose_cases(rows, 1)
    table = tabulate_cases(cases, rows, sets(), prompts(), top_of, Enhancement(enhance_factor=3.0))
    assert table.columns.tolist() == TABLE_COLUMNS and len(table) == 2 * 2 * 2  # cases, languages, ranks
    helped = table[(table["case"] == "helped") & (table["language"] == "fi")]
    assert helped["token_before"].tolist() == ["P1:h>b fi 0 1.0 0 0", "P1:h>b fi 0 1.0 1 0"]
    assert helped["token_after"].tolist() == ["P1:h>b fi 0 3.0 0 1", "P1:h>b fi 0 3.0 1 1"]
    assert helped["rank"].tolist() == [1, 2] and helped["is_answer_after"].tolist() == [False, True]
    assert helped["prompt"].iat[0] == "fi 0 P1:h>b ___." and helped["answer"].iat[0] == "b fi"
    rows.loc[(rows["fact"] == "P1:f>e") & (rows["query"] < 2), "is_right_after"] = True
    failed = tabulate_cases(cases, rows, sets(), prompts(), top_of, Enhancement()).query("case == 'failed'")
    assert failed[["language", "query"]].drop_duplicates().values.tolist() == [["en", 0], ["fi", 2]]


def test_without_cases_there_is_an_empty_table():
    table = show_cases(many(selection="likn"), [], prompts(), top_of, Enhancement())
    assert table.empty and table.columns.tolist() == TABLE_COLUMNS
    shown = show_cases(many(), [sets()], prompts(), top_of, Enhancement(n_cases=1))
    assert shown["fact"].unique().tolist() == ["P1:h>b", "P1:f>e"]


class Drawn(Exception):
    """Carries a figure out of the function that draws it."""


def caught(monkeypatch, module, draw):
    def stop(figure, path, data):
        raise Drawn(figure)

    monkeypatch.setattr(module, "save", stop)
    with house_style(), pytest.raises(Drawn) as drawn:
        draw("figure")
    return drawn.value.args[0]


def summary(models=("tiny",)):
    parts = [measured(name, model=model) for model in models for name in ("likn", "matrice", "random")]
    return summarise_enhancement(pd.concat(parts), resamples=50)


def test_bars_are_the_accuracies_and_an_empty_panel_says_why(monkeypatch):
    figure = caught(monkeypatch, enhancement_figure, lambda path: plot_enhancement(summary(), path))
    fi, ko = figure.axes
    assert fi.get_title() == "tiny, fi\n3 wrong queries, 2 facts"
    assert [label.get_text() for label in fi.get_xticklabels()] == ["P1", "P2", "all"]
    heights = np.array([bar.get_height() for bar in fi.patches]).reshape(3, 3)  # selections, relations
    np.testing.assert_allclose(heights, [[100 / 3, np.nan, 100 / 3]] * 3)
    assert ko.get_title() == "tiny, ko\n0 wrong queries, 0 facts" and not ko.patches
    assert [text.get_text() for text in ko.texts] == ["no query was answered wrongly"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["matrice", "likn", "random"]


def test_a_table_without_rows_is_a_figure_that_says_so(monkeypatch):
    empty = pd.DataFrame(columns=SUMMARY_COLUMNS)
    figure = caught(monkeypatch, enhancement_figure, lambda path: plot_enhancement(empty, path))
    assert [text.get_text() for text in figure.axes[0].texts] == ["no query in a low-resource language"]
    none = pd.DataFrame(columns=TABLE_COLUMNS)
    figure = caught(monkeypatch, cases_figure, lambda path: plot_cases(none, path))
    assert [text.get_text() for text in figure.axes[0].texts] == ["no fact was helped, and none failed"]


def case_table():
    rows = many()
    return tabulate_cases(choose_cases(rows, 2), rows, sets(), prompts(), top_of, Enhancement())


def ranked(languages=("en", "fi"), token="{when}{rank}", answer="gold", n_ranks=5):
    """A case with a list per language; the answer is at rank 2 before and at rank 1 after."""
    fixed = {"model": "tiny", "case": "helped", "fact": "P1:a>b", "relation": "P1", "query": 0, "prompt": "a is ___"}
    rows = [
        fixed
        | {"language": language, "answer": answer, "rank": rank, "p_before": 0.5 / rank, "p_after": 1.0 / rank}
        | {f"token_{when}": token.format(when=when, rank=rank) for when in ("before", "after")}
        | {"is_answer_before": rank == 2, "is_answer_after": rank == 1}
        for language in languages
        for rank in range(1, n_ranks + 1)
    ]
    return pd.DataFrame(rows)[TABLE_COLUMNS]


def test_every_language_shows_all_ranks_before_and_after(monkeypatch):
    (axes,) = caught(monkeypatch, cases_figure, lambda path: plot_cases(ranked(), path)).axes
    assert axes.get_title(loc="left") == "tiny, helped: P1:a>b"
    for column, language in enumerate(("en", "fi")):
        written = [(*text.get_position(), text.get_text()) for text in axes.texts]
        of_language = [(y, text) for x, y, text in written if column <= x < column + 1]
        lines = [[text for y, text in of_language if int(y) == line] for line in range(7)]
        assert lines[:2] == [[f"{language}: gold"], ["before", "after"]]
        percents = [(f"{50 / rank:.1f}", f"{100 / rank:.1f}") for rank in range(1, 6)]
        tokens = [{f"before{rank}", f"after{rank}", *percents[rank - 1]} for rank in range(1, 6)]
        assert [set(line) for line in lines[2:]] == tokens


def test_the_answers_token_is_marked_at_its_rank_before_and_after(monkeypatch):
    (axes,) = caught(monkeypatch, cases_figure, lambda path: plot_cases(ranked(), path)).axes
    assert [patch.get_xy() for patch in axes.patches] == [(0, 3), (0.5, 2), (1, 3), (1.5, 2)]
    coloured = {text.get_text() for text in axes.texts if text.get_color() == ANSWER_COLOUR}
    assert coloured == {"before2", "25.0", "after1", "100.0"}
    table = ranked().assign(is_answer_before=False, is_answer_after=False)
    figure = caught(monkeypatch, cases_figure, lambda path: plot_cases(table, path))
    assert not figure.axes[0].patches and "without a mark" in figure.legends[0].get_title().get_text()


def test_the_csv_has_the_ranks_that_are_drawn(tmp_path):
    table = ranked(n_ranks=7)
    *_, csv = plot_cases(table, tmp_path / "figure")
    expected = table[table["rank"] <= 5].reset_index(drop=True)
    pd.testing.assert_frame_equal(pd.read_csv(csv), expected)


def test_letters_without_a_font_are_squares_with_code_points():
    assert with_glyphs("Paris \u00e9\u00f1") == "Paris \u00e9\u00f1"
    assert with_glyphs("a\U000f0000b") == f"a{NO_GLYPH}f0000b"
    assert with_glyphs("a\nb") == f"a{NO_GLYPH}ab"


@pytest.mark.parametrize(("token", "is_explained"), [("\u4e2d\u56fd", False), ("\U000f0000", True)])
def test_squares_are_explained_only_where_there_are_any(monkeypatch, token, is_explained):
    table = ranked().assign(token_before=token)
    figure = caught(monkeypatch, cases_figure, lambda path: plot_cases(table, path))
    assert (NO_GLYPH in figure.legends[0].get_title().get_text()) == is_explained


def test_text_is_cut_only_where_it_has_no_room():
    assert cut("abc", 3, len) == "abc" and cut("abcd", 3, len) == "ab\u2026" and cut("abcd", 0, len) == "a\u2026"


@pytest.mark.parametrize(
    ("languages", "token"),
    [(("en", "fi"), "W" * 30), (tuple("abcdefg"), "\U000f0000" * 9), (tuple("abcdefghi"), "$x_1$ {when}")],
)
def test_no_token_covers_another(monkeypatch, languages, token):
    table = ranked(languages, token, answer="W" * 40)
    table = pd.concat([table, table.assign(case="failed")])
    figure = caught(monkeypatch, cases_figure, lambda path: plot_cases(table, path))
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    texts = [text for axes in figure.axes for text in (axes._left_title, *axes.texts)]
    legend = figure.legends[0]
    boxes = np.array([part.get_window_extent(renderer).extents for part in (*texts, legend)])
    assert (boxes >= -1).all() and (boxes <= np.tile(figure.bbox.extents[2:], 2) + 1).all()
    left, bottom, right, top = boxes.T[:, :, None]
    across = np.minimum(right, right.T) - np.maximum(left, left.T)
    upwards = np.minimum(top, top.T) - np.maximum(bottom, bottom.T)
    # the boxes of lines may touch: they have room for strokes that these letters lack
    covered = (across > 0) & (upwards > 0.4 * np.minimum(top - bottom, (top - bottom).T))
    assert not (covered & ~np.eye(len(boxes), dtype=bool)).any()


@pytest.mark.parametrize(
    ("draw", "table"),
    [(plot_enhancement, lambda: summary(["a", "b"])), (plot_cases, case_table)],
)
def test_figures_are_written_the_same_twice(tmp_path, draw, table):
    first, second = (draw(table(), tmp_path / name / "figure") for name in ("one", "two"))
    assert [path.name for path in first] == ["figure.pdf", "figure.png", "figure.csv"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert len(pd.read_csv(first[2])) > 0


def wide_summary():
    lines = [
        (f"P{relation}:s{fact}>o", language, 0, False, fact == 0, 0.1, 0.2, "o", "o")
        for relation in range(1000, 1012)
        for fact in range(2)
        for language in ("fi", "hu", "ja", "ko")
    ]
    rows = [
        measured(name, model=model, lines=lines, sizes=dict.fromkeys([line[0] for line in lines], 1))
        for model in ("a-model-with-a-long-name", "another")
        for name in ("matrice", "matrice_leave_language_out", "likn", "random", "random_layer_matched")
    ]
    table = pd.concat(rows)
    return summarise_enhancement(table.assign(relation=table["fact"].str.split(":").str[0]), resamples=20)


def test_no_label_is_cut_or_covers_its_neighbour(monkeypatch):
    figure = caught(monkeypatch, enhancement_figure, lambda path: plot_enhancement(wide_summary(), path))
    renderer, page = FigureCanvasAgg(figure).get_renderer(), figure.bbox
    figure.draw(renderer)
    for axes in figure.axes:
        texts = [axes.title, axes.yaxis.label, *axes.get_xticklabels(), *figure.legends[0].get_texts()]
        for box in (text.get_window_extent(renderer) for text in texts):
            assert box.x0 >= page.x0 - 1 and box.x1 <= page.x1 + 1
            assert box.y0 >= page.y0 - 1 and box.y1 <= page.y1 + 1
        boxes = [label.get_window_extent(renderer) for label in axes.get_xticklabels()]
        assert all(left.x1 <= right.x0 for left, right in pairwise(boxes))
    titles = [axes.title.get_window_extent(renderer) for axes in figure.axes]
    for i, left in enumerate(titles):
        assert not any(left.overlaps(right) for right in titles[i + 1 :])
