"""Variants of MATRICE with as many neurons as the full method: how many, which, and when candidates settle it."""

import numpy as np
import pytest

from knatlas.errors import AtlasError
from knatlas.selection.matched import choose_highest, smallest_share
from knatlas.selection.scores import Scores
from knatlas.selection.select import select
from knatlas.selection.thresholds import Choice
from tests.candidate_scores import candidates_of, heavy_tailed
from tests.unit.test_certificates import compare, study

VARIANTS = ("matrice_without_query_uncertainty", "matrice_without_language_uncertainty")
MATCHED = tuple(f"{name}_matched" for name in VARIANTS)


def selected(scores, names, **changes):
    return dict(zip(names, select(scores, study(names, **changes)), strict=True))


def as_set(sets, fact):
    return set(zip(*(part.tolist() for part in sets.of(fact, "all")), strict=True))


@pytest.mark.parametrize("tau", [0.05, 0.3, 0.8])
@pytest.mark.parametrize("seed", range(3))
def test_sets_have_the_full_methods_size_where_enough_neurons_score(seed, tau):
    scores = heavy_tailed(seed, n_facts=6)
    found = selected(scores, ("matrice", *MATCHED), tau=tau)
    sizes = {name: summary["n_neurons"].to_numpy() for name, (_, summary) in found.items()}
    assert (sizes["matrice"] > 0).all()
    for name in MATCHED:
        is_short = found[name][1]["sentence"].str.contains("have a score above").to_numpy()
        assert (sizes[name][~is_short] == sizes["matrice"][~is_short]).all()
        assert (sizes[name][is_short] < sizes["matrice"][is_short]).all()
    assert not is_short.all()


@pytest.mark.parametrize("names", list(zip(VARIANTS, MATCHED, strict=True)))
def test_matched_sets_are_the_variants_own_at_another_threshold(names):
    scores = heavy_tailed(4, n_facts=6)
    n_larger = n_smaller = 0
    for tau in (0.1, 0.3, 0.6):
        found = selected(scores, names, tau=tau)
        for fact in scores.facts:
            own, matched = (as_set(found[name][0], fact) for name in names)
            assert own <= matched or matched <= own
            n_larger, n_smaller = n_larger + (len(own) < len(matched)), n_smaller + (len(own) > len(matched))
    assert n_larger + n_smaller > 0


def test_without_language_uncertainty_neurons_rank_by_their_smallest_share_of_a_languages_maximum():
    mean = np.zeros((1, 2, 1, 5), dtype=np.float32)
    mean[0, 0, 0] = [1.0, 0.8, 0.5, 0.1, 0.0]
    mean[0, 1, 0] = [0.1, 4.0, 3.0, 10.0, 0.0]
    arrays = {"saig.mean": mean, "saig.std": np.zeros_like(mean)}
    scores = Scores(arrays, ["f"], ["en", "fi"])
    np.testing.assert_allclose(smallest_share(mean[0].astype(float))[0], [0.01, 0.4, 0.3, 0.1, 0], rtol=1e-6)
    # S is .505, .6, .4, .55 and 0: two lie above .54
    found = selected(scores, ("matrice", MATCHED[1]), beta2=0.0, tau=0.9)
    assert as_set(found["matrice"][0], "f") == {(0, 1), (0, 3)}
    assert as_set(found[MATCHED[1]][0], "f") == {(0, 1), (0, 2)}


def test_a_language_without_a_positive_score_leaves_no_share():
    assert not smallest_share(np.array([[[1.0, 2.0]], [[-1.0, 0.0]]])).any()


def choice(values, **settings):
    return Choice(np.zeros((1, len(values)), bool), np.array([values]), **settings)


def chosen(found):
    return np.flatnonzero(found.is_chosen).tolist()


def test_the_highest_are_chosen_and_ties_go_by_place():
    assert chosen(choose_highest(choice([0.2, 0.5, 0.5, 0.5, 0.9]), 3)) == [1, 2, 4]


def test_neurons_without_a_positive_score_are_not_chosen_and_that_is_said():
    found = choose_highest(choice([0.2, 0.0, -1.0]), 2)
    assert chosen(found) == [0] and found.sentence.startswith("only 1 of 2 neurons")
    assert chosen(choose_highest(choice([0.5, 0.3, 0.2]), 3, neutral=0.3)) == [0]


@pytest.mark.parametrize(
    ("n", "left_out", "is_certified"),
    [(2, 0.4, True), (2, 0.5, False), (2, 0.6, False), (5, 0.0, True), (5, 0.1, False), (0, 2.0, True)],
)
def test_a_set_is_certified_when_no_neuron_left_out_can_be_among_the_highest(n, left_out, is_certified):
    scored = choice([0.9, 0.5, 0.3], highest_left_out=left_out)
    assert choose_highest(scored, n).is_certified == is_certified
    assert not choose_highest(scored, n, is_n_certain=False).is_certified


@pytest.mark.parametrize("floor", ["zero", "min"])
@pytest.mark.parametrize("seed", range(4))
def test_certified_matched_sets_from_candidates_are_those_of_all_scores(seed, floor):
    dense = heavy_tailed(seed, n_facts=8)
    counts = [compare(dense, candidates_of(dense, n), study(MATCHED, eq9_floor=floor)) for n in (30, 200, 600)]
    certified = [n_certified for n_certified, _ in counts]
    assert certified == sorted(certified) and certified[-1] == counts[-1][1] == 16
    assert certified[1] > 0


def test_no_guard_stops_a_set_that_has_no_threshold():
    random = np.random.default_rng(0)
    mean = random.normal(0, 0.01, size=(1, 2, 2, 200)).astype(np.float32)
    mean[0, :, 0, 0] = 1.0  # MATRICE itself is far from the guard
    first = random.normal(0, 0.01, size=mean.shape).astype(np.float32)
    first[0, :, 1, 1] = -1.0  # the first query alone is not: zero is normalised to nearly one
    scores = Scores({"saig.mean": mean, "saig.std": 0 * mean, "saig.first": first}, ["f"], ["en", "fi"])
    found = selected(scores, ("matrice", MATCHED[0]), eq9_floor="min", guard="stop")
    assert [summary["n_neurons"].item() for _, summary in found.values()] == [1, 1]
    with pytest.raises(AtlasError, match="does not lie above"):
        selected(scores, VARIANTS[:1], eq9_floor="min", guard="stop")


def test_a_language_without_attribution_is_left_out_and_said():
    scores = heavy_tailed(1)
    for array in scores.arrays.values():
        array[0, 1] = np.nan
        array[1] = np.nan
    found = selected(scores, ("matrice", *MATCHED))
    for sets, summary in found.values():
        assert "no attribution in fi" in summary["sentence"].iat[0] and summary["n_neurons"].iat[0] > 0
        assert not sets.is_searched(scores.facts[1], "en") and sets.is_searched(scores.facts[0], "fi")
