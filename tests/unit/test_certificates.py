"""Selections from candidates: the same neurons as from all scores whenever certified, and a refusal where not."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from knatlas.attribution.candidates import SELECTED, kept_names
from knatlas.errors import AtlasError
from knatlas.selection.certificates import LeftOut, over_languages, over_queries
from knatlas.selection.needs import NEEDS, NORMALISED, SEARCHED, methods_of
from knatlas.selection.recipes import RECIPES
from knatlas.selection.scores import Scores
from knatlas.selection.select import select
from knatlas.selection.uncertainty import language_uncertainty, query_uncertainty
from tests.candidate_scores import candidates_of, heavy_tailed

MATRICE = {"tau": 0.3, "alpha1": 1.0, "alpha2": 1.0, "beta1": 1.0, "beta2": 1.0}
MATRICE |= {"eq9_axis": "language", "eq9_floor": "zero", "guard": "raise_threshold"}


def study(names=tuple(RECIPES), tau=0.3, **matrice):
    thresholds = {"bkn": {"tau": {"default": tau}}, "amig": {"tau": {"default": tau}}, "refined": {"share": tau}}
    return {"selections": list(names), **thresholds, "matrice": {**MATRICE, "tau": tau, **matrice}}


def compare(dense, sparse, asked):
    """Check every certified set against that of all scores; the numbers of certified and of all sets."""
    n_certified = n_sets = 0
    for (whole, of_whole), (part, of_part) in zip(select(dense, asked), select(sparse, asked), strict=True):
        for row, twin in zip(of_part.itertuples(), of_whole.itertuples(), strict=True):
            where = (row.selection, row.fact, row.language)
            assert (row.fact, row.language, twin.is_certified) == (twin.fact, twin.language, True)
            n_certified, n_sets = n_certified + row.is_certified, n_sets + 1
            if not row.is_certified:
                assert "no candidates may reach the threshold" in row.sentence
                continue
            for ours, theirs in zip(part.of(row.fact, row.language), whole.of(row.fact, row.language), strict=True):
                np.testing.assert_array_equal(ours, theirs, err_msg=str(where))
            assert (row.n_neurons, row.is_empty) == (twin.n_neurons, twin.is_empty), where
            for column in ("threshold", "neutral_level"):
                assert_same(getattr(row, column), getattr(twin, column))
            for column in ("max_score", "percentile_999"):
                assert np.isnan(getattr(row, column)) or getattr(row, column) == getattr(twin, column), where
    return n_certified, n_sets


def assert_same(one, other):
    assert one == other or (np.isnan(one) and np.isnan(other))


def test_with_all_neurons_as_candidates_everything_is_certified_and_the_same():
    dense = heavy_tailed(0)
    sparse = candidates_of(dense, 600)
    pairs = zip(select(dense, study()), select(sparse, study()), strict=True)
    for (whole, of_whole), (part, of_part) in pairs:
        pd.testing.assert_frame_equal(part.table, whole.table)
        pd.testing.assert_frame_equal(of_part, of_whole)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("floor", ["zero", "min"])
def test_certified_sets_from_candidates_are_those_of_all_scores(seed, floor):
    dense = heavy_tailed(seed)
    for n in (20, 60, 200):
        compare(dense, candidates_of(dense, n), study(eq9_floor=floor))


@pytest.mark.parametrize("floor", ["zero", "min"])
def test_a_third_of_heavy_tailed_neurons_certifies_nearly_all_sets(floor):
    dense = heavy_tailed(7, n_facts=12, n_neurons=400)
    # two languages of three have thresholds so low that no candidates could certify them: see test_enhancement
    names = [name for name in RECIPES if name != "matrice_leave_language_out"]
    n_certified, n_sets = compare(dense, candidates_of(dense, 400), study(names, eq9_floor=floor))
    of_a_fact = sum(3 if RECIPES[name].is_per_language else 1 for name in names)
    assert n_sets == 12 * of_a_fact and n_certified >= 0.9 * n_sets


# weights whose ratios are recorded, and any others
numbers = st.one_of(st.sampled_from([0.0, 0.5, 1.0, 2.0]), st.floats(0, 3))


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(8, 90),
    tau=st.floats(0.02, 0.9),
    weights=st.tuples(numbers, numbers, numbers, numbers),
    floor=st.sampled_from(["zero", "min"]),
    guard=st.sampled_from(["raise_threshold", "off"]),
    shift=st.sampled_from([0.0, 0.5, -3.0, 3.0]),
)
# what stands for neurons that are no candidates would have a larger S than any neuron
@example(seed=41, n=8, tau=0.5, weights=(0.0, 0.0, 0.5, 0.0), floor="min", guard="raise_threshold", shift=-3.0)
# the full method chooses nothing, so its matched variants choose nothing either, from candidates that don't know S_0
@example(seed=2, n=8, tau=0.5, weights=(0.0, 0.0, 0.5, 0.0), floor="min", guard="raise_threshold", shift=0.0)
# mean - std of what stands for such neurons would be smaller, or larger, than that of any neuron
@example(seed=1661, n=8, tau=0.5, weights=(0.5, 0.5, 0.5, 0.0), floor="min", guard="raise_threshold", shift=-3.0)
@example(seed=830, n=8, tau=0.5, weights=(0.5, 0.5, 0.0, 0.0), floor="zero", guard="raise_threshold", shift=-3.0)
def test_no_weights_no_thresholds_and_no_shift_break_a_certificate(seed, n, tau, weights, floor, guard, shift):
    dense = heavy_tailed(seed, n_facts=1, n_languages=2 + seed % 2, n_layers=2, n_neurons=50, tail=1 + seed % 3)
    moved = {
        name: array + np.float32(shift * (not name.endswith(("std", "share")))) for name, array in dense.arrays.items()
    }
    dense = Scores(moved, dense.facts, dense.languages)
    keys = dict(zip(("alpha1", "alpha2", "beta1", "beta2"), weights, strict=True))
    compare(dense, candidates_of(dense, n), study(tau=tau, eq9_floor=floor, guard=guard, **keys))


@pytest.mark.parametrize("floor", ["zero", "min"])
def test_the_bound_of_the_neurons_left_out_holds_for_each_of_them(floor):
    dense, matrice = heavy_tailed(3, n_languages=5), {**MATRICE, "alpha2": 0.4, "beta2": 0.7, "eq9_floor": floor}
    sparse = candidates_of(dense, 150)
    for i in range(len(dense.facts)):
        mean, std = (dense.of("saig", name, i) for name in ("mean", "std"))
        score = language_uncertainty(query_uncertainty(mean, std, 1.0, 0.4), 1.0, 0.7, "language", floor)
        rest = over_queries(*(sparse.left_out("saig", name, i) for name in ("mean", "std")), sparse.grid(i), 1.0, 0.4)
        block = query_uncertainty(*(sparse.of("saig", name, i) for name in ("mean", "std")), 1.0, 0.4)
        is_left_out = np.ones(score.size, bool)
        is_left_out[sparse.arrays["indices"][i]] = False
        assert score.ravel()[is_left_out].max() <= over_languages(block, rest, matrice) < np.inf


@pytest.mark.parametrize("floor", ["zero", "min"])
@pytest.mark.parametrize("beta2", [0.0, 0.3, 1.0, 2.0, 5.0])
def test_at_recorded_weights_the_bound_is_the_largest_score_left_out(floor, beta2):
    dense, matrice = heavy_tailed(3, n_languages=5), {**MATRICE, "beta2": beta2, "eq9_floor": floor}
    sparse = candidates_of(dense, 150)
    for i in range(len(dense.facts)):
        mean, std = (dense.of("saig", name, i) for name in ("mean", "std"))
        score = language_uncertainty(query_uncertainty(mean, std, 1.0, 1.0), 1.0, beta2, "language", floor).ravel()
        grid = sparse.grid(i)
        rest = over_queries(*(sparse.left_out("saig", name, i) for name in ("mean", "std")), grid, 1.0, 1.0)
        block = query_uncertainty(*(sparse.of("saig", name, i) for name in ("mean", "std")), 1.0, 1.0)
        bound = over_languages(block, rest, matrice, grid, grid.source(1.0, 1.0))
        largest = np.delete(score, sparse.arrays["indices"][i]).max()
        if beta2 in (0.0, 1.0, 2.0):
            assert largest <= bound <= largest + 1e-11
        else:
            assert largest <= bound < np.inf


@pytest.mark.parametrize("alpha2", [0.0, 0.2, 0.5, 1.3, 2.0])
def test_between_recorded_ratios_chords_bound_the_scores_over_queries(alpha2):
    dense = heavy_tailed(5)
    sparse = candidates_of(dense, 100)
    for i in range(len(dense.facts)):
        scores = query_uncertainty(*(dense.of("saig", name, i) for name in ("mean", "std")), 2.0, 2.0 * alpha2)
        rest = np.delete(scores.reshape(3, -1), sparse.arrays["indices"][i], axis=1)
        ranges = [sparse.left_out("saig", name, i) for name in ("mean", "std")]
        found = over_queries(*ranges, sparse.grid(i), 2.0, 2.0 * alpha2)
        assert (rest.max(axis=1) <= found.highest).all() and (rest.min(axis=1) >= found.lowest).all()
        if alpha2 in (0.0, 0.5, 2.0):
            np.testing.assert_array_equal(found.highest, rest.max(axis=1))
        else:
            assert (found.highest <= over_queries(*ranges, None, 2.0, 2.0 * alpha2).highest).all()


def single(values, kept, name="bkn.first"):
    """Scores of one fact, language and layer of which only some neurons are known."""
    values = np.asarray(values, dtype=np.float32)
    rest = np.delete(values, kept)
    arrays = {"indices": np.array([kept], dtype=np.int32), name: values[kept][None, None]}
    arrays |= {f"{name}.lowest": [[rest.min()]], f"{name}.highest": [[rest.max()]]}
    return Scores({key: np.asarray(array) for key, array in arrays.items()}, ["f"], ["en"], {}, (1, len(values)))


def only(scores, name="bkn", **changes):
    return select(scores, study([name], **changes))[0][1].iloc[0]


def test_a_neuron_left_out_that_reaches_the_threshold_refuses_the_certificate():
    assert only(single([10, 4, 3, 1], [0, 1])).is_certified  # 3 is not above .3 * 10
    row = only(single([10, 4, 3.1, 1], [0, 1]))
    assert not row.is_certified and row.n_neurons == 2
    row = only(single([2, 1, 10, 1], [0, 1]))  # the maximum itself is left out
    assert not row.is_certified and np.isnan(row.max_score)


def test_sets_without_positive_scores_are_certified_only_when_no_score_left_out_is_positive():
    row = only(single([-1, -2, -0.5, 0], [0, 1]))
    assert row.is_certified and row.is_empty and row.max_score == 0
    row = only(single([-1, -2, -0.5, -0.25], [0, 1]))
    assert row.is_certified and row.max_score == -0.25
    assert not only(single([-1, -2, 0.1, 0], [0, 1])).is_certified


def test_a_set_that_is_not_certified_can_stop_the_job():
    scores = single([10, 4, 3.1, 1], [0, 1])
    with pytest.raises(AtlasError, match=r"bkn: 1 of 1 sets .*fact f, language en.*attribution\.candidates"):
        select(scores, {**study(["bkn"]), "uncertified": "stop"})
    assert len(select(single([10, 4, 3, 1], [0, 1]), {**study(["bkn"]), "uncertified": "stop"})) == 1


def test_an_intersection_needs_one_certain_language_and_all_maxima():
    base = {"amig.first": np.array([[[10.0, 4.0], [10.0, 4.0]]], dtype=np.float32), "indices": np.array([[0, 1]])}

    def likn(*highest):
        arrays = {**base, "amig.first.lowest": np.array([[0.0, 0.0]]), "amig.first.highest": np.array([highest])}
        return only(Scores(arrays, ["f"], ["en", "fi"], {}, (1, 4)), "likn").is_certified

    assert likn(3.0, 3.0) and likn(9.0, 3.0) and likn(3.0, 9.0)
    assert not likn(9.0, 9.0) and not likn(11.0, 3.0)


def test_a_minimum_that_may_be_left_out_refuses_eq9_on_floor_min_only():
    block, rest = np.array([[[10.0, -1.0, 0.0]]]), LeftOut(np.array([-2.0]), np.array([1.0]))
    assert over_languages(block, rest, MATRICE) == pytest.approx(0.1)
    assert over_languages(block, rest, {**MATRICE, "eq9_floor": "min"}) == np.inf
    inside = LeftOut(np.array([-1.0]), np.array([1.0]))
    assert over_languages(block, inside, {**MATRICE, "eq9_floor": "min"}) == pytest.approx(2 / 11)


@pytest.mark.parametrize("floor", ["zero", "min"])
def test_a_maximum_that_may_be_left_out_refuses_eq9(floor):
    block, matrice = np.array([[[10.0, -5.0]], [[1.0, -5.0]]]), {**MATRICE, "eq9_floor": floor}
    assert over_languages(block, LeftOut(np.array([0.0, 0.0]), np.array([0.0, 1.5])), matrice) == np.inf
    assert over_languages(block, LeftOut(np.array([0.0, 0.0]), np.array([0.0, 0.5])), matrice) < 1


def test_the_spread_of_ranges_is_counted_only_as_far_as_every_score_in_them_has_it():
    block, lowest, highest = np.array([[[10.0, 0.0]]] * 3), np.zeros(3), np.array([9.0, 0.0, 0.0])
    # (0, 0, 0) lies in the ranges and has S = 0, while (.9, 0, 0) has mean .3 and deviation .42
    assert over_languages(block, LeftOut(lowest, highest), MATRICE) >= 0
    narrow = LeftOut(np.array([8.0, 0.0, 0.0]), highest)
    # S is largest at (.8, 0, 0): .8 / 3 - .8 * sqrt(2) / 3
    assert 0.8 / 3 - 0.8 * np.sqrt(2) / 3 <= over_languages(block, narrow, MATRICE) < 0


def test_the_bound_over_queries_by_hand():
    mean, std = LeftOut(np.array([-2.0]), np.array([3.0])), LeftOut(np.array([0.5]), np.array([4.0]))
    rest = over_queries(mean, std, None, 2.0, 3.0)
    assert (rest.lowest.item(), rest.highest.item()) == (2 * -2 - 3 * 4, 2 * 3 - 3 * 0.5)
    assert over_queries(None, None, None, 1.0, 1.0) is None


@pytest.mark.parametrize("name", NORMALISED)
def test_the_printed_equation_9_is_refused(name):
    dense = heavy_tailed(0)
    assert select(dense, study([name], eq9_axis="neuron"))
    with pytest.raises(AtlasError, match=r"eq9_axis is 'neuron'.*attribution\.keep 'all'"):
        select(candidates_of(dense, 50), study([name], eq9_axis="neuron"))


def test_a_language_without_attribution_stays_one():
    dense = heavy_tailed(1)
    for array in dense.arrays.values():
        array[0, 1] = np.nan
    sparse = candidates_of(dense, 300)
    assert np.isnan(sparse.of("bkn", "first", 0)[1]).all() and not np.isnan(sparse.of("bkn", "first", 1)).any()
    n_certified, n_sets = compare(dense, sparse, study())
    assert n_certified > n_sets / 2
    sets, summary = select(sparse, study(["bkn"]))[0]
    assert not sets.is_searched(dense.facts[0], "fi") and summary["sentence"].iat[1] == "no attribution in fi"


def test_every_array_that_a_selection_needs_is_kept_and_every_selection_says_what_it_needs():
    assert set(NEEDS) == {*RECIPES, *SEARCHED}
    assert {name for names in NEEDS.values() for name in names} == set(kept_names(list(SELECTED)))
    assert methods_of("matrice") == ["saig"] and methods_of("refined") == ["bkn"] and methods_of("random") == []


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_selection_reads_the_arrays_that_it_says(name):
    dense = heavy_tailed(0)
    needed = Scores({key: dense.arrays[key] for key in NEEDS[name]}, dense.facts, dense.languages)
    assert select(needed, study([name]))
    for missing in NEEDS[name]:
        rest = {key: array for key, array in dense.arrays.items() if key != missing}
        with pytest.raises(AtlasError, match=missing.replace(".", r"\.")):
            select(Scores(rest, dense.facts, dense.languages), study([name]))
