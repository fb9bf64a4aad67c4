"""Screening by atp: what its highest scores miss, on which queries that is counted, and how far it can be trusted."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, spearmanr

from knatlas.attribution import preset
from knatlas.attribution.combination import Dense
from knatlas.attribution.configured import configured_screening
from knatlas.attribution.engine import attribute
from knatlas.attribution.partial import PartialResults
from knatlas.attribution.screening import Screening, rank_correlation, screening_columns
from knatlas.attribution.shard import QUERY_COLUMNS, Batching, attribute_shard
from knatlas.errors import AtlasError
from knatlas.planning.plan import plan_study
from knatlas.statistics.binomial import upper_bound
from knatlas.statistics.screening import SCREENING_COLUMNS, summarise_screening
from knatlas.storage import read_table, write_table
from knatlas.study import attribution_settings, read_study
from tests.naive_attribution import example
from tests.tiny_models import tiny_model

MINIMAL = {"study": "s", "languages": ["en"], "models": ["tiny-gpt2-en"]}
RUN = ["bkn", "amig", "saig", "atp"]
EN = Dense("en")
SAIG, ATP = replace(preset("saig"), rule="gauss", steps=3), preset("atp")
KEPT = (0.05, 0.2)
PLAIN = Screening(preset("amig"), 1.0, (0.1, 0.5, 0.6))  # amig has no norm


def study(**attribution):
    return read_study(MINIMAL | {"attribution": attribution})


# one query


def test_missed_neurons_and_kept_mass_are_counted_exactly():
    screened = np.array([[9, 8, 7, 6, 5], [4, 3, 2, 1, 0.0]])
    reference = np.array([[10, 0, -5, 4, 3], [3.5, 0, 0, 0, 2.0]])
    found = PLAIN.check(screened, reference, 0.3)
    assert list(found) == screening_columns(PLAIN.kept)
    assert found["n_reference"] == 3  # 10, 4 and 3.5; 3 is no more than 0.3 of 10
    assert [found[f"n_missed_{part}"] for part in PLAIN.kept] == [2, 1, 0]
    assert [found[f"mass_kept_{part}"] for part in PLAIN.kept] == pytest.approx([10 / 22.5, 17 / 22.5, 20.5 / 22.5])
    assert found["rank_correlation"] == pytest.approx(spearmanr(screened.ravel(), reference.ravel()).statistic)


def test_the_scores_of_atp_take_the_norm_of_the_reference():
    screened, reference = np.array([[100.0, 1.0], [3.0, 1.0]]), np.array([[1.0, 0.0], [0.0, 1.0]])
    missed = {
        method.norm: Screening(method, 1.0, (0.75,)).check(screened, reference, 0.3)["n_missed_0.75"]
        for method in (preset("amig"), preset("saig"))
    }
    assert missed == {"none": 1.0, "layer_l1": 0.0}


def test_at_least_one_neuron_is_kept_and_of_equal_scores_the_first():
    found = Screening(preset("amig"), 1.0, (0.01,)).check(np.ones((2, 3)), np.array([[1.0, 0, 0], [0, 0, 1]]), 0.3)
    assert found["n_missed_0.01"] == 1 and found["mass_kept_0.01"] == 0.5


def test_a_query_without_positive_scores_has_no_reference_and_loses_nothing():
    found = PLAIN.check(np.arange(10.0).reshape(2, 5), -np.arange(10.0).reshape(2, 5), 0.3)
    assert found["n_reference"] == 0 and found["n_missed_0.1"] == 0
    assert np.isnan(found["mass_kept_0.1"]) and found["rank_correlation"] == pytest.approx(-1)


def test_the_rank_correlation_is_that_of_spearman_with_ties():
    random = np.random.default_rng(0)
    first = random.integers(0, 9, 200).astype(float)
    second = first + random.integers(0, 9, 200)
    assert rank_correlation(first, second) == pytest.approx(spearmanr(first, second).statistic, abs=1e-14)
    assert np.isnan(rank_correlation(first, np.ones(200)))


# which queries


def drawn(share, seed=0, n=4000):
    screening = Screening(SAIG, share, KEPT, seed)
    return {number for number in range(n) if screening.is_drawn(f"P36:{number}>x", "en", 0)}


def test_the_share_is_drawn_at_random_by_the_seed():
    assert abs(len(drawn(0.1)) - 400) < 3 * np.sqrt(4000 * 0.09)
    assert drawn(0.1) == drawn(0.1) and drawn(0.1) != drawn(0.1, seed=1)
    assert drawn(0.1) < drawn(0.2) < drawn(1.0) == set(range(4000))


def test_languages_and_queries_of_a_fact_are_drawn_apart():
    screening = Screening(SAIG, 0.5, KEPT)
    found = [screening.is_drawn("P36:a>b", language, n) for language in ("en", "fr") for n in range(20)]
    assert 0 < sum(found[:20]) < 20 and found[:20] != found[20:]


# shards


@pytest.fixture(scope="module")
def lm():
    return tiny_model("bert", "float64")


@pytest.fixture(scope="module")
def queries(lm):
    return [example(lm, query=number, fact=fact) for fact in ("a", "b", "c", "d") for number in range(3)]


def shard(lm, queries, methods, screening, **options):
    return attribute_shard(lm, queries, methods, EN, 0.3, screening=screening, **options)


def checks(result):
    return result.queries.query("method == 'atp'").set_index(["fact", "query"])[screening_columns(KEPT)]


HALF = Screening(SAIG, 0.5, KEPT)


@pytest.fixture(scope="module")
def result(lm, queries):
    return shard(lm, queries, [preset("bkn"), ATP], HALF)


def test_drawn_queries_are_checked_against_the_reference_and_no_others(lm, queries, result):
    assert list(result.queries.columns) == QUERY_COLUMNS + screening_columns(KEPT)
    found, is_drawn = checks(result), []
    for query in queries:
        row = found.loc[(query.fact, query.query)]
        is_drawn.append(HALF.is_drawn(query.fact, "en", query.query))
        if is_drawn[-1]:
            scores = attribute(lm, query, [SAIG, ATP]).scores
            expected = HALF.check(scores["atp"], scores["saig"], 0.3)
            assert row.to_dict() == pytest.approx(expected, abs=1e-9)
        else:
            assert row.isna().all()
    assert 0 < sum(is_drawn) < len(queries)
    assert result.queries.query("method == 'bkn'")[screening_columns(KEPT)].isna().all(axis=None)


def test_a_check_changes_no_score_and_keeps_none_of_its_reference(lm, queries, result):
    plain = attribute_shard(lm, queries, [preset("bkn"), ATP], EN, 0.3)
    assert list(plain.arrays) == list(result.arrays) and list(plain.queries.columns) == QUERY_COLUMNS
    for name, array in plain.arrays.items():
        np.testing.assert_array_equal(array, result.arrays[name])


def test_a_reference_that_runs_anyway_gives_the_same_checks(lm, queries, result):
    pd.testing.assert_frame_equal(checks(shard(lm, queries, [SAIG, ATP], HALF)), checks(result), rtol=1e-9)


def test_shards_check_the_queries_that_one_shard_would(lm, queries, result):
    parts = [[query for query in queries if query.fact in facts] for facts in ("ac", "b", "d")]
    found = pd.concat([checks(shard(lm, part, [preset("bkn"), ATP], HALF, batching=Batching(2))) for part in parts])
    pd.testing.assert_frame_equal(found.sort_index(), checks(result).sort_index(), rtol=1e-9)


def test_checks_survive_an_interrupted_shard(lm, queries, result, tmp_path):
    def stop(done, *_):
        if done >= 6:
            raise KeyboardInterrupt

    options = {"batching": Batching(3), "partial": PartialResults(tmp_path / "0.safetensors", {}, print)}
    with pytest.raises(KeyboardInterrupt):
        shard(lm, queries, [preset("bkn"), ATP], HALF, progress=stop, **options)
    resumed = shard(lm, queries, [preset("bkn"), ATP], HALF, **options)
    assert resumed.n_resumed == 6
    pd.testing.assert_frame_equal(checks(resumed), checks(result), rtol=1e-9)


def test_a_table_of_checks_can_be_written_and_summarised(result, tmp_path):
    write_table(result.queries, tmp_path / "0.queries.parquet")
    table = summarise_screening(read_table(tmp_path / "0.queries.parquet").assign(model="m"), "saig", KEPT)
    n_drawn = int(checks(result)["n_reference"].notna().sum())
    assert table["n_queries"].tolist() == [n_drawn] * 4 and set(table["language"]) == {"all", "en"}


# bounds and tables


@pytest.mark.parametrize("n", [1, 20, 2000])
def test_without_a_miss_in_n_the_bound_is_one_minus_the_nth_root_of_a_twentieth(n):
    assert upper_bound(0, n) == pytest.approx(1 - 0.05 ** (1 / n), rel=1e-12)


@pytest.mark.parametrize(("events", "n"), [(1, 10), (7, 30), (99, 100), (13, 5000)])
def test_at_the_bound_so_few_events_have_a_probability_of_a_twentieth(events, n):
    assert binom.cdf(events, n, upper_bound(events, n)) == pytest.approx(0.05, rel=1e-9)


def test_the_bound_is_one_where_all_trials_are_events_or_none_was_made():
    assert upper_bound(5, 5) == upper_bound(0, 0) == 1.0
    with pytest.raises(AtlasError, match="3 events of 2 trials"):
        upper_bound(3, 2)


def checked_queries():
    rows = [
        # fact, language, method, reference, missed of 0.1, of 0.5, mass of 0.1, of 0.5, correlation
        ("a", "en", "atp", 10, 2, 0, 0.5, 0.9, 0.7),
        ("a", "en", "atp", 20, 4, 0, 0.3, 0.7, 0.5),
        ("a", "fr", "atp", 10, 0, 0, 0.8, 1.0, 0.9),
        ("b", "en", "atp", 10, 0, 0, 0.6, 0.8, 0.8),
        ("b", "en", "atp", 0, 0, 0, np.nan, np.nan, 0.1),
        ("b", "fr", "atp", np.nan, np.nan, np.nan, np.nan, np.nan, np.nan),
        ("b", "fr", "saig", np.nan, np.nan, np.nan, np.nan, np.nan, np.nan),
    ]
    columns = ["fact", "language", "method", "n_reference", "n_missed_0.1", "n_missed_0.5"]
    columns += ["mass_kept_0.1", "mass_kept_0.5", "rank_correlation"]
    return pd.DataFrame(rows, columns=columns).assign(model="m")


def test_the_table_pools_neurons_and_bounds_shares_of_neurons_queries_and_facts():
    table = summarise_screening(checked_queries(), "saig", [0.1, 0.5], resamples=500)
    assert list(table.columns) == SCREENING_COLUMNS
    assert table[["language", "kept"]].values.tolist() == [
        [lang, part] for lang in ("all", "en", "fr") for part in (0.1, 0.5)
    ]
    row = table.iloc[0]
    assert (row["model"], row["reference"], row["n"]) == ("m", "saig", 2)
    assert row["value"] == pytest.approx(6 / 50)
    assert (row["lo"], row["hi"]) == (0.0, pytest.approx(6 / 40))  # fact b alone, fact a alone
    assert (row["n_queries"], row["n_reference"], row["n_missed"]) == (4, 50, 6)
    assert row["missed_bound"] == upper_bound(6, 50)
    assert (row["losing_queries"], row["losing_share"], row["losing_bound"]) == (2, 0.5, upper_bound(2, 4))
    assert (row["losing_facts"], row["losing_facts_bound"]) == (1, upper_bound(1, 2))
    assert row["mass_kept"] == pytest.approx(((0.5 + 0.3 + 0.8) / 3 + 0.6) / 2)
    assert row["rank_correlation"] == pytest.approx((0.7 + 0.8) / 2)


def test_without_a_miss_the_table_still_has_bounds():
    row = summarise_screening(checked_queries(), "saig", [0.1, 0.5], resamples=500).iloc[1]
    assert (row["value"], row["lo"], row["hi"]) == (0, 0, 0)
    assert row["missed_bound"] == pytest.approx(1 - 0.05 ** (1 / 50))
    assert row["losing_bound"] == pytest.approx(1 - 0.05 ** (1 / 4))
    assert row["losing_facts_bound"] == pytest.approx(1 - 0.05 ** (1 / 2))


def test_tables_without_checks_are_refused():
    with pytest.raises(AtlasError, match=r"no column n_missed_0\.2: nothing was checked"):
        summarise_screening(checked_queries(), "saig", [0.1, 0.2])


# the study


@pytest.mark.parametrize(
    ("screening", "sentence"),
    [
        (
            {"reference": "sagi"},
            "screening.reference: is 'sagi'; expected one of saig amig bkn null. Did you mean 'saig'",
        ),
        ({"reference": "atp"}, "screening.reference: is 'atp'; expected one of saig amig bkn null."),
        ({"reference": "saig", "share": 0}, "attribution.screening.share: is 0"),
        ({"reference": "saig", "share": 1.1}, "attribution.screening.share: is 1.1"),
        ({"reference": "saig", "kept": [0.1, 1]}, "attribution.screening.kept[1]: is 1"),
        ({"reference": "saig", "kept": [0]}, "attribution.screening.kept[0]: is 0"),
        ({"reference": "saig", "kept": []}, "attribution.screening.kept: is []"),
    ],
)
def test_a_mistake_is_a_sentence(screening, sentence):
    with pytest.raises(AtlasError) as error:
        study(run=RUN, screening=screening)
    assert sentence in str(error.value)


def test_a_screening_without_atp_is_refused(lm, queries):
    with pytest.raises(AtlasError, match=r"is 'saig', but atp, which it checks, is not in attribution.run \(bkn amig"):
        study(run=RUN[:3], screening={"reference": "saig"})
    with pytest.raises(AtlasError, match="A screening checks 'atp', but the methods are saig; add it"):
        shard(lm, queries, [SAIG], HALF)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((ATP, 0.1, KEPT), "reference is 'atp', the method that is checked"),
        ((SAIG, 0.0, KEPT), "share is 0.0; expected a number above 0 and at most 1"),
        ((SAIG, 1.5, KEPT), "share is 1.5"),
        ((SAIG, 0.1, (0.1, 1.0)), r"kept is \[0.1, 1.0\]; expected shares above 0 and below 1"),
        ((SAIG, 0.1, ()), r"kept is \[\]"),
    ],
)
def test_a_wrong_screening_is_refused(arguments, sentence):
    with pytest.raises(AtlasError, match=sentence):
        Screening(*arguments)


def test_the_reference_is_the_method_of_the_study():
    asked = {"reference": "saig", "share": 0.25, "kept": [0.2]}
    settings = study(run=RUN, quadrature="checked", methods={"saig": {"steps": 7}}, screening=asked)["attribution"]
    settings = attribution_settings({"attribution": settings, "seed": 3})
    method = replace(preset("saig"), quadrature="checked", steps=7)
    assert configured_screening(settings, "causal") == Screening(method, 0.25, (0.2,), 3)


def test_a_study_that_checks_nothing_has_no_screening_and_its_settings_do_not_know_of_it():
    settings = attribution_settings(study(run=RUN, screening={"share": 0.7}))
    assert "screening" not in settings and configured_screening(settings, "masked") is None


def test_a_plan_counts_the_reference_on_the_drawn_share_alone(tmp_path):
    base = {"study": "p", "languages": ["en"], "models": ["gpt2"], "facts": {"source": "mpararel"}}
    base |= {"selection": {"selections": ["bkn"]}}

    def flops(run, **screening):
        asked = {"run": run, "completeness": False, "screening": screening}
        plan = plan_study(read_study(base | {"attribution": asked}), tmp_path)
        return next(row.flops for row in plan.stages if row.stage == "attribution")

    plain, tenth = flops(["bkn", "atp"]), flops(["bkn", "atp"], reference="saig", share=0.1)
    assert tenth - plain == pytest.approx(0.1 * (flops(["bkn", "atp"], reference="saig", share=1.0) - plain))
    assert tenth > plain
    assert flops(RUN, reference="saig") == flops(RUN)
