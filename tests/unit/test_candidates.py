"""Which neurons are kept of a fact, what is kept of them, and how much disk a study of a large model takes."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest

from knatlas.attribution.agnostic import FLOORS, RATIOS, SPREADS, over_languages, over_queries
from knatlas.attribution.candidates import SELECTED, Agnostic, Candidates, choose_candidates, importance, kept_names
from knatlas.attribution.configured import configured_keep, configured_methods
from knatlas.attribution.shard import QUERY_COLUMNS
from knatlas.errors import AtlasError
from knatlas.selection.gathering import gather_shards
from knatlas.selection.scores import read_scores
from knatlas.selection.uncertainty import language_uncertainty, query_uncertainty
from knatlas.storage import read_arrays, read_table, write_arrays, write_table
from tests.candidate_scores import candidates_of, heavy_tailed

METHODS = ["bkn", "amig", "saig"]


def test_importance_is_the_place_below_the_largest_score():
    arrays = {"bkn.first": np.array([[4.0, 1.0, -8.0], [0.0, 0.5, 1.0]]), "amig.first": np.array([[0.1, 0.0, 0.2]] * 2)}
    assert importance(arrays).tolist() == [1.0, 0.5, 1.0]


def test_scores_of_matrice_count_as_far_as_they_come_near_its_largest():
    arrays = {
        "saig.mean": np.array([[8.0, 2.0, 1.0, 0.0, -1.0]] * 2),
        "saig.std": np.array([[7.0, 0.0, 0.0, 0.0, 0.0]] * 2),
        "saig.first": np.array([[8.0, 0.0, 0.0, -2.0, 0.0]] * 2),
    }
    alone = importance(arrays)
    np.testing.assert_allclose(alone, [1.0, 0.25, 0.125, 0.0, 0.0])
    # with alpha2 = 2 alpha1 neuron 0 is negative, neuron 1 leads and neuron 2 has half of it;
    # neurons 0, 3 and 4 have the smallest s (of some ratio) or first score of a language
    together = importance(arrays, Agnostic(arrays, np.array([True, True])))
    assert together.tolist() == [np.inf, 1.0, 0.5, np.inf, np.inf]


@pytest.mark.parametrize("floor", FLOORS)
def test_the_grid_of_weights_has_the_formulas_of_the_selection(floor):
    dense = heavy_tailed(4, n_languages=5)
    mean, std = (dense.of("saig", name, 0) for name in ("mean", "std"))
    flat = [block.reshape(5, -1) for block in (mean, std)]
    for ratio, scores in zip(RATIOS, over_queries(*flat), strict=True):
        expected = query_uncertainty(mean, std, 1.0, ratio)
        np.testing.assert_array_equal(scores, expected.reshape(5, -1))
        for spread, found in zip(SPREADS, over_languages(scores, floor), strict=True):
            expected_here = language_uncertainty(expected, 1.0, spread, "language", floor).ravel()
            np.testing.assert_allclose(found, expected_here, rtol=0, atol=1e-15)


def test_an_array_without_positive_scores_and_a_missing_language_do_not_count():
    arrays = {"bkn.first": np.array([[-1.0, -2.0], [np.nan, np.nan]]), "amig.first": np.array([[0.0, 0.0], [1.0, 4.0]])}
    assert importance(arrays).tolist() == [0.25, 1.0]


def test_candidates_are_ascending_and_ties_go_to_the_first():
    arrays = {"bkn.first": np.array([[1.0, 3.0, 2.0, 2.0, 2.0]])}
    found = importance(arrays)
    assert choose_candidates(found, 3).tolist() == [1, 2, 3]
    assert choose_candidates(found, 9).tolist() == [0, 1, 2, 3, 4]


def test_what_is_kept_of_a_fact_by_hand():
    names = [f"{method}.{statistic}" for method in METHODS for statistic in ("mean", "std", "first", "share")]
    en = {name: np.zeros((2, 2), dtype=np.float32) for name in names}
    en["bkn.first"][:] = [[5, -3], [1, 2]]
    kept = Candidates(("en", "fr"), 2).of_fact({"en": en})
    assert kept["indices"].tolist() == [0, 3] and kept["indices"].dtype == np.int32
    assert kept["bkn.first"][0].tolist() == [5, 2] and np.isnan(kept["bkn.first"][1]).all()
    assert (kept["bkn.first.lowest"][0], kept["bkn.first.highest"][0]) == (-3, 1)
    assert np.isnan(kept["bkn.first.lowest"][1]) and np.isnan(kept["bkn.first.highest"][1])
    layout = Candidates(("en", "fr"), 2).layout(METHODS, 2, 2)
    assert {name: (array.dtype.name, array.shape) for name, array in kept.items()} == layout


def test_no_score_is_above_or_below_the_range_of_no_neuron():
    kept = Candidates(("en",), 9).of_fact({"en": {"bkn.first": np.ones((1, 3)), "bkn.share": np.ones((1, 3))}})
    assert (kept["bkn.first.lowest"].item(), kept["bkn.first.highest"].item()) == (np.inf, -np.inf)
    with pytest.raises(AtlasError, match=r"attribution\.candidates is 0"):
        Candidates(("en",), 0)


def test_scores_of_candidates_lie_at_their_neurons_and_the_others_inside_their_range():
    dense = heavy_tailed(0)
    sparse = candidates_of(dense, 90)
    assert sparse.shape == dense.shape and not sparse.is_dense and dense.is_dense
    for i in range(len(dense.facts)):
        indices = sparse.arrays["indices"][i]
        for name in kept_names(METHODS):
            whole, filled = (scores.of(*name.split("."), i).reshape(3, -1) for scores in (dense, sparse))
            np.testing.assert_array_equal(filled[:, indices], whole[:, indices])
            rest, values = (np.delete(block, indices, axis=1) for block in (whole, filled))
            left_out = sparse.left_out(*name.split("."), i)
            np.testing.assert_array_equal(left_out.lowest, rest.min(axis=1))
            np.testing.assert_array_equal(left_out.highest, rest.max(axis=1))
            np.testing.assert_array_equal(values, np.clip(0.0, rest.min(axis=1), rest.max(axis=1))[:, None] + 0 * rest)


def test_methods_beyond_those_of_the_selections_keep_their_mean():
    assert kept_names(["atp"]) == ["atp.mean"]
    assert set(SELECTED) == set(METHODS)


def test_a_study_configures_methods_and_what_is_kept():
    settings = {"run": ["bkn", "saig"], "equations": "default", "quadrature": "checked", "rtol": 1e-2}
    settings |= {"methods": {"saig": {"quadrature": "full", "steps": 7}, "bkn": {}}, "keep": "all", "candidates": 64}
    bkn, saig = configured_methods(settings, "causal")
    assert (bkn.name, bkn.quadrature, bkn.rtol, bkn.steps) == ("bkn", "checked", 1e-2, 20)
    assert (saig.name, saig.quadrature, saig.rtol, saig.steps) == ("saig", "full", 1e-2, 7)
    assert configured_keep(settings, ["fr"]).languages == ("fr",)
    assert configured_keep({**settings, "keep": "candidates"}, ["en", "fr"]) == Candidates(("en", "fr"), 64)


def write_candidates(path, facts, scores, n, languages=("en", "fi", "ko")):
    """A shard of candidates of some facts, with its table of queries."""
    rows = [scores.facts.index(fact) for fact in facts]
    part = candidates_of(scores, n)
    arrays = {name: np.asarray(array)[rows] for name, array in part.arrays.items()}
    metadata = {"model": {"name": "tiny"}, "facts": facts, **Candidates(tuple(languages), n).metadata(*scores.shape)}
    write_arrays(arrays, path, metadata)
    queries = [dict.fromkeys(QUERY_COLUMNS, 0.5) | {"fact": fact, "language": "en", "method": "bkn"} for fact in facts]
    write_table(pd.DataFrame(queries, columns=QUERY_COLUMNS), path.with_suffix("").with_suffix(".queries.parquet"))


def test_shards_of_candidates_are_joined_along_the_facts(tmp_path):
    dense = heavy_tailed(2)
    order = [dense.facts[i] for i in (3, 0, 2, 1)]
    write_candidates(tmp_path / "0.safetensors", order[:3], dense, 70)
    write_candidates(tmp_path / "1.safetensors", order[3:], dense, 70)
    paths = [tmp_path / "0.safetensors", tmp_path / "1.safetensors"]
    metadata, queries = gather_shards(paths, ["en", "fi", "ko"], tmp_path / "scores.safetensors")
    scores, expected = read_scores(tmp_path / "scores.safetensors"), candidates_of(dense, 70)
    assert scores.facts == metadata["facts"] == sorted(dense.facts) and scores.languages == dense.languages
    assert scores.shape == dense.shape and queries["fact"].tolist() == order
    assert scores.metadata == {"model": {"name": "tiny"}, "candidates": 70}
    for i in range(4):
        for name in kept_names(METHODS):
            parts = [one.of(*name.split("."), i) for one in (scores, expected)]
            np.testing.assert_array_equal(*parts)
            ranges = [one.left_out(*name.split("."), i) for one in (scores, expected)]
            np.testing.assert_array_equal(ranges[0].highest, ranges[1].highest)


# LLaMA-3 8B over all of RML-LAMA, seven languages: facts, queries, neurons, candidates of the default
FACTS, QUERIES, SHAPE, KEPT, LANGUAGES = 7849, 171_741, (32, 14_336), 16_384, ("en", "fr", "zh", "fi", "hu", "ja", "ko")
GB = 1e9


def written(tmp_path, n_facts):
    """Sizes in bytes of a shard of so many facts at full size, and of its table of three rows per query."""
    keep = Candidates(LANGUAGES, KEPT)
    layout = keep.layout(METHODS, *SHAPE)
    random = np.random.default_rng(0)
    arrays = {name: random.random((n_facts, *shape)).astype(kind) for name, (kind, shape) in layout.items()}
    facts = [f"P100:Q{1_000_000 + i}>Q{2_000_000 + i}" for i in range(n_facts)]
    path = tmp_path / f"{n_facts}.safetensors"
    write_arrays(arrays, path, {"facts": facts, **keep.metadata(*SHAPE)})
    n_rows = round(n_facts * QUERIES / FACTS) * len(METHODS)
    rows = [
        {
            **{column: float(random.random()) for column in QUERY_COLUMNS},
            "fact": facts[i * n_facts // n_rows],
            "language": LANGUAGES[i % 7],
            "query": i % 5,
            "method": METHODS[i % 3],
        }
        for i in range(n_rows)
    ]
    table = tmp_path / f"{n_facts}.queries.parquet"
    write_table(pd.DataFrame(rows, columns=QUERY_COLUMNS), table)
    assert len(read_table(table)) == n_rows and read_arrays(path, [])[1]["facts"] == facts
    return path.stat().st_size, table.stat().st_size


def test_a_full_study_of_an_8b_model_keeps_25_gb_and_never_holds_60(tmp_path):
    (one, few_rows), (four, more_rows) = written(tmp_path, 1), written(tmp_path, 4)
    per_fact, per_fact_of_queries = (four - one) / 3, (more_rows - few_rows) / 3
    kept = FACTS * (per_fact + per_fact_of_queries) + one + few_rows
    shards = kept  # temporary shards hold the same arrays and tables, and stay until the scores are written
    partial = kept  # at most all shards at once have their finished batches and their file side by side
    print(f"{one} bytes for one fact, {per_fact:.0f} for each further one, {per_fact_of_queries:.0f} of queries")
    print(f"kept {kept / GB:.2f} GB, held {(kept + max(shards, partial)) / GB:.2f} GB")
    assert kept <= 25 * GB
    assert kept + max(shards, partial) <= 60 * GB


def test_gathering_holds_a_block_at_a_time(tmp_path):
    paths, n_facts = [tmp_path / language / "0.safetensors" for language in ("en", "fr")], 60
    for path in paths:
        facts = [f"f{i}" for i in range(n_facts)]
        arrays = {"bkn.first": np.ones((n_facts, 4, 5000), dtype=np.float32)}
        write_arrays(arrays, path, {"model": "m", "language": path.parent.name, "facts": facts})
        write_table(pd.DataFrame({"fact": facts}), path.with_suffix("").with_suffix(".queries.parquet"))
        del arrays
    tracemalloc.start()
    gather_shards(paths, ["en", "fr"], tmp_path / "scores.safetensors")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # the file has 9.6 MB, a block 80 kB
    assert (tmp_path / "scores.safetensors").stat().st_size > 9.6e6 and peak < 2e6
