"""Fact-checking: which wrong objects are taken, what is scored, what thresholds may see, the metrics."""

import numpy as np
import pandas as pd
import pytest
import torch

from knatlas.attribution import preset
from knatlas.attribution.engine import attribute
from knatlas.errors import AtlasError
from knatlas.experiments.fact_checking import (
    CANDIDATE_COLUMNS,
    SCORE_COLUMNS,
    choose_objects,
    degenerate_neurons,
    score_candidates,
)
from knatlas.experiments.object_activations import completed, object_activations
from knatlas.models.answers import answer_probabilities
from knatlas.models.encoding import encode_prompt, encode_prompts
from knatlas.statistics.checking_splits import CheckSettings, draw_test_facts, kept_neurons
from knatlas.statistics.fact_checking import (
    CHECK_COLUMNS,
    COVERAGE_COLUMNS,
    DETECTORS,
    STATISTICS,
    check_facts,
    choose_threshold,
    coverage,
)
from tests.tiny_models import tiny_model, tiny_prompts

LABELS = {"x": "Xenia", "y": "Ypern", "z": "Zug", "w": "Wien", "v": "Vaduz", "u": "Ulm", "t": "XENIA"}
# subject b has two true objects; t is written like x
FACTS = ["P1:a>x", "P1:b>y", "P1:b>z", "P1:c>w", "P1:d>v", "P1:e>u", "P1:f>t", "P2:g>only", "P2:h>only"]
SPLITS = {"splits": 5, "train_share": 0.8, "count_share": 0.7, "code_threshold": 1e-6}


def prompts(facts=FACTS, languages=("en", "fi")):
    rows = [
        {
            "fact": fact,
            "relation": fact[:2],
            "language": language,
            "answer": f"{LABELS.get(fact[-1], 'only')}{'' if language == 'en' else 'i'}",
        }
        for language in languages
        for fact in facts
    ]
    return pd.DataFrame(rows)


def labels_of(objects, fact, language):
    return objects[(objects["fact"] == fact) & (objects["language"] == language)]["label"].tolist()


def test_candidate_zero_is_true_and_the_others_are_other_objects_of_the_relation():
    objects = choose_objects(prompts(), prompts(), 3, seed=1)
    assert (objects["is_true"] == (objects["candidate"] == 0)).all()
    assert labels_of(objects, "P1:c>w", "en")[0] == "Wien"
    of_relation = objects[objects["relation"] == "P1"]
    assert (of_relation.groupby(["fact", "language"])["candidate"].agg(list).map(lambda of: of == [0, 1, 2, 3])).all()
    assert not objects.duplicated(["fact", "language", "label"]).any()


@pytest.mark.parametrize("seed", range(5))
def test_wrong_objects_are_never_true_of_the_subject_nor_labelled_like_a_true_one(seed):
    objects = choose_objects(prompts(), prompts(), 9, seed)
    assert set(labels_of(objects, "P1:b>y", "en")) & {"Zug"} == set()
    assert set(labels_of(objects, "P1:b>z", "en")[1:]) & {"Ypern", "Zug"} == set()
    assert set(labels_of(objects, "P1:a>x", "en")[1:]) == {"Ypern", "Zug", "Wien", "Vaduz", "Ulm"}
    assert set(labels_of(objects, "P1:f>t", "en")[1:]) == {"Ypern", "Zug", "Wien", "Vaduz", "Ulm"}


def test_languages_take_the_same_objects_where_they_have_them():
    table = prompts()
    objects = choose_objects(table, table, 3, seed=2)
    assert [f"{label}i" for label in labels_of(objects, "P1:a>x", "en")] == labels_of(objects, "P1:a>x", "fi")
    gone = labels_of(objects, "P1:a>x", "fi")[1]
    without = table[(table["language"] == "en") | (table["answer"] != gone)]
    fewer = choose_objects(without, table[table["fact"] == "P1:a>x"], 3, seed=2)
    assert labels_of(fewer, "P1:a>x", "en") == labels_of(objects, "P1:a>x", "en")
    assert labels_of(fewer, "P1:a>x", "fi")[1:3] == labels_of(objects, "P1:a>x", "fi")[2:]


def test_a_relation_with_a_single_object_has_no_wrong_one():
    objects = choose_objects(prompts(), prompts(), 3, seed=1)
    assert objects[objects["relation"] == "P2"]["candidate"].tolist() == [0] * 4


def test_objects_depend_on_the_seed_and_not_on_the_order_of_rows():
    table = prompts()
    objects = choose_objects(table, table, 3, seed=1)
    shuffled = table.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(choose_objects(shuffled, shuffled[::-1], 3, seed=1), objects)
    assert not choose_objects(table, table, 3, seed=2).equals(objects)


def test_a_searched_fact_without_prompts_is_a_sentence():
    with pytest.raises(AtlasError, match=r"1 searched facts have no prompts, the first is P1:a>x in ko"):
        choose_objects(prompts(), pd.DataFrame({"fact": ["P1:a>x"], "language": ["ko"]}), 3, seed=1)


def test_neurons_of_random_sets_are_left_out():
    rows = [("found", "P1", "en", 1, 5), ("found", "P1", "en", 1, 5), ("random", "P1", "en", 0, 2)]
    clusters = pd.DataFrame(rows, columns=["sets", "relation", "language", "layer", "index"])
    assert degenerate_neurons(clusters).to_numpy().tolist() == [["P1", "en", 1, 5]]


# with a real model


NEURONS = pd.DataFrame({"relation": "P36", "language": "en", "layer": [0, 2, 2], "index": [3, 0, 23]})
METHOD = preset("amig")


def scored(lm, n_wrong=2, batch_rows=4):
    table = tiny_prompts(lm.kind, n_queries=2)
    objects = choose_objects(table, table, n_wrong, seed=0)
    return score_candidates(lm, table, objects, NEURONS, METHOD, batch_rows), table


def query_of(lm, table, row):
    rows = table[(table["fact"] == row.fact) & (table["language"] == row.language)]
    prompt = next(rows.sort_values("query").itertuples(index=False))
    return encode_prompt(lm, prompt._replace(answer=row.label))


@pytest.mark.parametrize("model_type", ["bert", "gpt2", "llama"])
def test_a_candidates_attribution_is_that_of_the_query_with_its_label(model_type):
    lm = tiny_model(model_type, "float64")
    (candidates, scores), table = scored(lm)
    assert len(scores) == 3 * len(candidates[candidates["language"] == "en"]) == 27
    assert scores.columns.tolist() == SCORE_COLUMNS and candidates.columns.tolist() == CANDIDATE_COLUMNS
    layers, indices = NEURONS["layer"].to_numpy(), NEURONS["index"].to_numpy()
    for row in candidates[candidates["language"] == "en"].itertuples(index=False):
        expected = attribute(lm, query_of(lm, table, row), [METHOD]).scores["amig"][layers, indices]
        own = scores[(scores["fact"] == row.fact) & (scores["candidate"] == row.candidate)]
        assert own[["layer", "index"]].to_numpy().tolist() == NEURONS[["layer", "index"]].to_numpy().tolist()
        np.testing.assert_allclose(own["attribution"], expected, rtol=1e-8 if model_type != "llama" else 1e-4)


@pytest.mark.parametrize("kind", ["masked", "causal"])
def test_p_and_argmax_are_those_of_the_answer_probabilities(kind):
    lm = tiny_model(kind)
    (candidates, _), table = scored(lm)
    queries = [query_of(lm, table, row) for row in candidates.itertuples(index=False)]
    expected = answer_probabilities(lm, queries, batch_rows=1)
    np.testing.assert_allclose(candidates["p"], expected["p"], rtol=1e-5)
    assert candidates["is_argmax"].tolist() == expected["is_argmax"].tolist()
    assert set(candidates["language"]) == {"en", "ja", "zh"} and set(candidates["model"]) == {lm.name}


def direct_activations(lm, ids, positions, layer):
    """What goes into a layer's down projection at some positions of a sentence run alone, (positions, neurons)."""
    seen = []
    hook = lm.down_projections()[layer].register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].clone()))
    with torch.no_grad():
        lm.model(torch.tensor([ids]))
    hook.remove()
    return seen[0].reshape(len(ids), -1)[list(positions)].numpy()


@pytest.mark.parametrize("model_type", ["bert", "gpt2", "opt"])
def test_the_activation_is_that_of_the_sentence_with_the_object_written_into_it(model_type):
    lm = tiny_model(model_type, "float64")
    queries = encode_prompts(lm, tiny_prompts(lm.kind))
    assert any(len(query.targets) > 1 for query in queries)
    layers, indices = np.array([2, 0, 2]), np.array([1, 7, 20])
    found = object_activations(lm, queries, [(layers, indices)] * len(queries), batch_rows=3)
    for query, prompt, values in zip(queries, tiny_prompts(lm.kind).itertuples(index=False), found, strict=True):
        ids, positions = completed(lm, query)
        text = prompt.before + prompt.separator + prompt.answer + prompt.after
        assert lm.mask_id not in ids if lm.kind == "masked" else ids[: len(query.input_ids)] == query.input_ids
        assert [ids[position] for position in positions] == list(query.targets)
        if prompt.language == "en":
            assert list(ids) == lm.tokenizer(text)["input_ids"]
        expected = [direct_activations(lm, ids, positions, layer).mean(0) for layer in range(3)]
        np.testing.assert_allclose(
            values, [expected[layer][i] for layer, i in zip(layers, indices, strict=True)], rtol=1e-9
        )


@pytest.mark.parametrize("kind", ["masked", "causal"])
def test_scores_hold_the_activation_of_their_candidate_and_leave_the_model_alone(kind):
    lm = tiny_model(kind, "float64")
    before = [parameter.clone() for parameter in lm.model.parameters()]
    (candidates, scores), table = scored(lm)
    row = next(candidates[(candidates["language"] == "en") & ~candidates["is_true"]].itertuples(index=False))
    ids, positions = completed(lm, query_of(lm, table, row))
    own = scores[(scores["fact"] == row.fact) & (scores["candidate"] == row.candidate)].set_index(["layer", "index"])
    for layer, index in own.index:
        expected = direct_activations(lm, ids, positions, layer)[:, index].mean()
        assert own.loc[(layer, index), "activation"] == pytest.approx(expected, rel=1e-9)
    assert all(torch.equal(one, other) for one, other in zip(before, lm.model.parameters(), strict=True))
    assert not any(module._forward_pre_hooks for module in lm.model.modules())


def test_the_size_of_batches_changes_nothing_but_rounding():
    lm = tiny_model("causal")
    one, many = (scored(lm, batch_rows=rows)[0] for rows in (1, 64))
    pd.testing.assert_frame_equal(one.candidates, many.candidates, rtol=1e-5)
    pd.testing.assert_frame_equal(one.scores, many.scores, rtol=1e-4)


def test_without_any_neuron_candidates_still_have_their_p():
    lm, table = tiny_model("masked"), tiny_prompts("masked")
    objects = choose_objects(table, table, 2, seed=0)
    found = score_candidates(lm, table, objects, NEURONS.iloc[:0], METHOD)
    assert len(found.candidates) == len(objects) and found.candidates["p"].notna().all()
    assert found.scores.columns.tolist() == SCORE_COLUMNS and len(found.scores) == 0


def test_a_sentence_that_its_last_answer_token_makes_too_long_is_a_sentence():
    lm = tiny_model("gpt2")
    query = encode_prompts(lm, tiny_prompts("causal"))[0]
    longest = type(query)(**{**vars(query), "input_ids": (1,) * lm.n_positions})
    with pytest.raises(AtlasError, match=r"has 65 tokens; the model reads at most 64"):
        completed(lm, longest)


# statistics


def table_of(n_facts=10, n_wrong=3, relations=("P1", "P2"), language="en"):
    """Candidates of facts r:i>i with P falling with the candidate."""
    rows = [
        ("tiny", f"{relation}:{i}>{i}", relation, language, candidate, f"l{candidate}", candidate == 0)
        for relation in relations
        for i in range(n_facts)
        for candidate in range(1 + n_wrong)
    ]
    table = pd.DataFrame(rows, columns=CANDIDATE_COLUMNS[:-2])
    return table.assign(p=0.5 / (1 + table["candidate"]), is_argmax=table["is_true"])


def clusters_of(candidates, neurons=((0, 1), (1, 2)), relations=None):
    """One cluster of the same neurons in every fact."""
    facts = candidates.drop_duplicates("fact")
    if relations is not None:
        facts = facts[facts["relation"].isin(relations)]
    parts = [facts.assign(layer=layer, index=index) for layer, index in neurons]
    columns = ["model", "sets", "fact", "relation", "language", "cluster", "size", "layer", "index"]
    return pd.concat(parts).assign(sets="found", cluster=0, size=len(neurons))[columns]


def scores_of(candidates, clusters, value=lambda rows: rows["is_true"].astype(float)):
    """Attribution and activation by a formula, at the neurons of the clusters."""
    neurons = clusters[["relation", "language", "layer", "index"]].drop_duplicates()
    rows = candidates.merge(neurons, on=["relation", "language"])
    return rows.assign(attribution=value(rows), activation=-value(rows))[SCORE_COLUMNS]


def check(candidates=None, value=None, clusters=None, **settings):
    candidates = table_of() if candidates is None else candidates
    clusters = clusters_of(candidates) if clusters is None else clusters
    scores = scores_of(candidates, clusters, value) if value else scores_of(candidates, clusters)
    return check_facts(candidates, scores, clusters, {**SPLITS, **settings}, seed=3, resamples=50)


def value_of(table, detector, statistic, reading="default", column="value"):
    keys = ["detector", "reading", "statistic"]
    return table.set_index(keys).loc[(detector, reading, statistic), column]


def test_the_table_has_every_detector_reading_and_statistic_once():
    table = check()
    assert table.columns.tolist() == CHECK_COLUMNS
    assert len(table) == len(DETECTORS) * 3 * len(STATISTICS)
    assert not table.duplicated(CHECK_COLUMNS[:5]).any()
    assert (table["n_relations"] == 2).all() and (table["n_skipped"] == 0).all()
    assert (table["n_tests"] == 2 * 5 * 4).all()  # two objects, five splits, two facts of each of two relations


def test_always_correct_has_an_f1_of_exactly_two_thirds():
    table = check()
    for reading in ("default", "paper", "code"):
        row = table.set_index(["detector", "reading", "statistic"]).loc[("always", reading, "f1")]
        assert row["value"] == row["lo"] == row["hi"] == 2 / 3
    assert value_of(table, "always", "precision") == value_of(table, "always", "balanced_accuracy") == 0.5
    assert value_of(table, "always", "auroc") == 0.5 and value_of(table, "always", "wrong_accepted") == 1


def noise(scale=1.0, seed=0):
    return lambda rows: np.random.default_rng(seed).normal(size=len(rows)) + scale * rows["is_true"]


def test_the_exchange_swaps_precision_and_recall_and_leaves_f1_alone():
    # with one wrong object per fact `code` asks the same questions as `paper`
    table = check(table_of(n_wrong=1), noise())
    precision, recall = (value_of(table, "dkn_attribution", name, "paper") for name in ("precision", "recall"))
    assert precision != recall
    for column in ("value", "lo", "hi"):
        for one, other in (("precision", "recall"), ("recall", "precision"), ("f1", "f1"), ("auroc", "auroc")):
            assert value_of(table, "dkn_attribution", one, "code", column) == value_of(
                table, "dkn_attribution", other, "paper", column
            )
    assert value_of(table, "dkn_attribution", "true_accepted", "code") == recall


def test_readings_with_a_fixed_threshold_use_it():
    table = check(code_threshold=0.25)
    for reading in ("paper", "code"):
        assert value_of(table, "dkn_attribution", "threshold", reading) == 0.25
        # true objects have P .5; the first wrong one .25 exactly, which is accepted, the others less
        assert value_of(table, "probability", "true_accepted", reading) == 1
    assert value_of(table, "probability", "wrong_accepted", "code") == 1
    assert 0 < value_of(table, "probability", "wrong_accepted", "paper") < 1
    assert value_of(table, "probability", "wrong_accepted") == 0


def test_a_planted_detector_is_perfect_and_its_opposite_is_perfectly_wrong():
    table = check()
    assert value_of(table, "dkn_attribution", "auroc") == 1 and value_of(table, "dkn_attribution", "f1") == 1
    assert value_of(table, "dkn_attribution", "threshold") == 0.5
    assert value_of(table, "dkn_activation", "auroc") == 0
    assert value_of(table, "dkn_activation", "threshold") == -np.inf  # accepting all is as good as it gets
    assert value_of(table, "argmax", "balanced_accuracy") == 1


def test_random_scores_have_an_area_of_about_a_half():
    table = check(table_of(n_facts=400, n_wrong=1), noise(scale=0.0), splits=3)
    lo, hi = (value_of(table, "dkn_attribution", "auroc", column=column) for column in ("lo", "hi"))
    assert lo < 0.5 < hi and hi - lo < 0.2
    assert value_of(table, "dkn_attribution", "balanced_accuracy") == pytest.approx(0.5, abs=0.08)


def test_the_area_is_the_share_of_ordered_pairs_with_half_of_the_ties():
    # two facts, one of them tested in each split: few enough to count by hand
    candidates = table_of(n_facts=2, n_wrong=1, relations=("P1",))
    scores = {("P1:0>0", 0): 1.0, ("P1:0>0", 1): 1.0, ("P1:1>1", 0): 2.0, ("P1:1>1", 1): 0.0}
    table = check(candidates, lambda rows: pd.Series(zip(rows["fact"], rows["candidate"], strict=True)).map(scores))
    facts = candidates["fact"].unique()
    tested = [facts[draw_test_facts(facts, number, 0.8, 3)][0] for number in range(5)]
    expected = np.mean([0.5 if fact == "P1:0>0" else 1.0 for fact in tested])
    assert 0.5 < expected < 1
    assert value_of(table, "dkn_attribution", "auroc") == expected


def test_the_threshold_never_sees_the_test_part():
    candidates = table_of(n_facts=20)
    facts = {relation: group["fact"].unique() for relation, group in candidates.groupby("relation")}
    is_test = np.concatenate([of[draw_test_facts(of, 0, 0.8, 3)] for of in facts.values()])

    def changed(rows):
        values = noise(0.5)(rows)
        return np.where(rows["fact"].isin(is_test), 100 - 7 * values, values)

    one, other = check(candidates, noise(0.5), splits=1), check(candidates, changed, splits=1)
    assert np.isfinite(value_of(one, "dkn_attribution", "threshold"))
    for detector in ("dkn_attribution", "dkn_activation"):
        assert value_of(one, detector, "threshold") == value_of(other, detector, "threshold")
    assert value_of(one, "dkn_attribution", "auroc") != value_of(other, "dkn_attribution", "auroc")


def test_neurons_of_the_test_part_are_not_used():
    candidates = table_of(n_facts=20, relations=("P1",))
    facts = candidates["fact"].unique()
    is_test = facts[draw_test_facts(facts, 0, 0.8, 3)]
    training = candidates[~candidates["fact"].isin(is_test)]
    own = clusters_of(candidates[candidates["fact"].isin(is_test)], neurons=((2, 2),))
    clusters = pd.concat([clusters_of(training), *[own] * 100])
    # the test part's neuron alone tells true from wrong
    table = check(candidates, lambda rows: (rows["layer"] == 2) * rows["is_true"] * 1.0, clusters, splits=1)
    assert value_of(table, "dkn_attribution", "auroc") == 0.5


@pytest.mark.parametrize(
    ("counts", "kept"),
    [
        ([1, 0, 1], [True, False, True]),  # floor(.7) = 0: all that occur
        ([10, 7, 8], [True, False, True]),  # more than 7
        ([90, 63, 64], [True, False, True]),  # .7 * 90 is 63, not a little less
        ([3, 2, 1], [True, False, False]),
        ([0, 0], [False, False]),
        ([], []),
    ],
)
def test_neurons_in_more_clusters_than_the_floor_of_the_share_of_the_maximum_are_kept(counts, kept):
    assert kept_neurons(np.array(counts, dtype=int), 0.7).tolist() == kept


@pytest.mark.parametrize(("n", "n_test"), [(2, 1), (3, 1), (5, 1), (8, 2), (10, 2), (100, 20)])
def test_a_fifth_of_the_facts_is_tested_at_least_one_and_never_all(n, n_test):
    facts = np.array([f"P1:{i:03}>x" for i in range(n)])
    splits = [draw_test_facts(facts, number, 0.8, 0) for number in range(8)]
    assert [int(part.sum()) for part in splits] == [n_test] * 8
    assert len({tuple(part) for part in splits}) > 1
    assert draw_test_facts(facts[:2], 0, 0.01, 0).sum() == 1


@pytest.mark.parametrize(
    ("true", "wrong", "expected"),
    [
        ([3, 4], [1, 2], 2.5),
        ([1, 2], [3, 4], -np.inf),
        ([1, 1], [1, 1], -np.inf),
        ([2, 4], [1, 3], 1.5),  # as good as 3.5, and smaller
        ([0.0, 5e-324], [0.0, 0.0], 5e-324),  # nothing lies between neighbouring numbers
    ],
)
def test_the_threshold_is_the_smallest_of_the_best(true, wrong, expected):
    assert choose_threshold(np.array(true, float), np.array(wrong, float)) == expected


def test_relations_that_cannot_be_used_pass_and_are_listed():
    usable, alone = table_of(), table_of(1, 3, ("P3",))
    single, without = table_of(5, 0, ("P4",)), table_of(5, 3, ("P5",))
    candidates = pd.concat([usable, alone, single, without])
    clusters = clusters_of(candidates, relations=["P1", "P2", "P3", "P4"])
    facts = candidates.drop_duplicates("fact").assign(sets="found")
    facts["n_clusters"] = facts["fact"].isin(clusters["fact"]).astype(int)
    listed = coverage(candidates, clusters, facts, SPLITS, seed=3)
    assert listed.columns.tolist() == COVERAGE_COLUMNS
    assert listed[["relation", "n_facts", "n_with_pairs", "reason", "n_splits_used"]].to_numpy().tolist() == [
        ["P1", 10, 10, "", 5],
        ["P2", 10, 10, "", 5],
        ["P3", 1, 1, "one fact", 0],
        ["P4", 5, 5, "no wrong object", 0],
        ["P5", 5, 0, "no degenerate neurons", 0],
    ]
    table = check(candidates, clusters=clusters)
    assert (table["n_relations"] == 2).all() and (table["n_skipped"] == 3).all()
    alone_too = check(usable)
    assert table["value"].equals(alone_too["value"]) and table["n_tests"].equals(alone_too["n_tests"])


def test_a_language_without_any_relation_to_use_has_rows_without_values():
    candidates = table_of()
    table = check(candidates, clusters=clusters_of(candidates, relations=[]))
    assert len(table) == len(DETECTORS) * 3 * len(STATISTICS) and table["value"].isna().all()
    assert (table[["n", "n_tests", "n_relations"]] == 0).all(axis=None) and (table["n_skipped"] == 2).all()


def test_a_split_whose_training_part_has_no_neurons_is_left_out():
    candidates = table_of(relations=("P1",))
    facts = candidates["fact"].unique()
    tested = [facts[draw_test_facts(facts, number, 0.8, 3)] for number in range(5)]
    clusters = clusters_of(candidates[candidates["fact"] == tested[0][0]])
    n_used = sum(tested[0][0] not in of for of in tested)
    assert 0 < n_used < 5
    assert (check(candidates, clusters=clusters)["n_tests"] == 2 * 2 * n_used).all()


def test_tables_do_not_depend_on_the_order_of_rows_and_categories_are_text():
    candidates = table_of()
    clusters = pd.concat([clusters_of(candidates), clusters_of(candidates[7:30], ((2, 2), (0, 5)))])
    scores = scores_of(candidates, clusters, noise())
    table = check_facts(candidates, scores, clusters, SPLITS, seed=3, resamples=50)
    shuffled = [part.sample(frac=1, random_state=1) for part in (candidates, scores, clusters)]
    shuffled[1] = shuffled[1].astype(dict.fromkeys(["model", "fact", "language"], "category"))
    pd.testing.assert_frame_equal(check_facts(*shuffled, SPLITS, seed=3, resamples=50), table)
    assert not check_facts(candidates, scores, clusters, SPLITS, seed=4, resamples=50).equals(table)


def test_another_language_or_model_changes_nothing():
    parts = [table_of(), table_of(language="fi"), table_of().assign(model="other")]
    clusters = [clusters_of(part) for part in parts]
    scores = [scores_of(part, of, noise(seed=i)) for i, (part, of) in enumerate(zip(parts, clusters, strict=True))]
    table = check_facts(*(pd.concat(of) for of in (parts, scores, clusters)), SPLITS, seed=3, resamples=50)
    own = table[(table["model"] == "tiny") & (table["language"] == "en")].reset_index(drop=True)
    pd.testing.assert_frame_equal(own, check(value=noise()))
    assert len(table) == 3 * len(own)


def test_intervals_hold_the_value_and_draw_facts_with_all_their_splits():
    table = check(table_of(n_facts=30), noise(1.0)).set_index(["detector", "reading", "statistic"])
    row = table.loc[("dkn_attribution", "default", "auroc")]
    assert row["lo"] < row["value"] < row["hi"]
    # one fact tested in every split: nothing can vary
    candidates = table_of(n_facts=2, n_wrong=1, relations=("P1",))
    facts = candidates["fact"].unique()
    seed = next(s for s in range(200) if len({facts[draw_test_facts(facts, k, 0.8, s)][0] for k in range(3)}) == 1)
    clusters = clusters_of(candidates)
    one = check_facts(candidates, scores_of(candidates, clusters), clusters, {"splits": 3}, seed, 50)
    known = one[one["value"].notna() & (one["statistic"] != "threshold")]
    assert (known["n"] == 1).all() and (known["n_tests"] == 6).all()
    assert (known["lo"] == known["value"]).all() and (known["hi"] == known["value"]).all()


def test_accepting_nothing_has_no_precision_and_an_f1_of_zero():
    table = check(table_of().assign(is_argmax=False))
    assert np.isnan(value_of(table, "argmax", "precision")) and value_of(table, "argmax", "f1") == 0
    assert value_of(table, "argmax", "balanced_accuracy") == 0.5


def test_tables_that_do_not_belong_together_are_sentences():
    candidates = table_of()
    clusters = clusters_of(candidates)
    scores = scores_of(candidates, clusters)
    more = pd.concat([clusters, clusters_of(candidates, neurons=((2, 9),))])
    with pytest.raises(AtlasError, match=r"tiny en P1: degenerate neurons without scores; rerun score_candidates"):
        check_facts(candidates, scores, more, SPLITS, 0, 50)
    with pytest.raises(AtlasError, match=r"fact P1:0>0 has degenerate neurons and no candidates"):
        check_facts(candidates[candidates["fact"] != "P1:0>0"], scores, clusters, SPLITS, 0, 50)


def test_an_unknown_setting_is_a_sentence_and_that_of_the_scores_is_not():
    assert CheckSettings.of({"wrong_objects": 5, "splits": 2}).splits == 2
    with pytest.raises(AtlasError, match=r"'split'.*Did you mean 'splits'"):
        CheckSettings.of({"split": 2})
