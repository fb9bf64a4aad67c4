"""Enhancement in low-resource languages: what is asked, with which neurons, and what comes out (Figure 6)."""

import numpy as np
import pandas as pd
import pytest
import torch

from knatlas.errors import AtlasError
from knatlas.experiments.enhancement import COLUMNS, Enhancement, enhance_answers
from knatlas.experiments.evaluation import evaluate_with
from knatlas.experiments.measurement import Request
from knatlas.experiments.top_answers import predict_with, top_of_with
from knatlas.models.answers import answer_probabilities, known_facts, token_probabilities
from knatlas.models.encoding import encode_prompts
from knatlas.models.scaling import NeuronScaling
from knatlas.models.top_tokens import token_text, top_tokens
from knatlas.selection.neuron_set import FoundSet, NeuronSets, as_table
from knatlas.selection.scores import Scores
from knatlas.selection.select import select
from knatlas.selection.uncertainty import language_uncertainty
from knatlas.statistics.enhancement import SUMMARY_COLUMNS, summarise_enhancement
from tests.candidate_scores import candidates_of, heavy_tailed
from tests.tiny_models import tiny_model, tiny_prompts

FACTS = {"P1:a>x": "X", "P1:b>y": "Y", "P2:c>z": "Z"}
SHAPES = ("bert", "gpt2", "llama", "phi3")


def prompts(n_queries=2, languages=("en", "fi", "ko")):
    rows = [
        {"fact": fact, "relation": fact[:2], "language": language, "query": query, "answer": answer}
        for language in languages
        for fact, answer in FACTS.items()
        for query in range(n_queries)
    ]
    return pd.DataFrame(rows)


def sets_of(neurons, selection="matrice", languages=("all",), n_draws=1, **settings):
    """Sets from {(fact, language, draw): [(layer, index), ...]}."""
    rows = []
    for (fact, language, draw), found in neurons.items():
        layers, indices = np.array(found, dtype=int).reshape(-1, 2).T
        rows.append(FoundSet(fact, language, draw, layers, indices, np.ones(len(found))))
    origin = {"model": {"name": "tiny"}}
    return NeuronSets(
        as_table(selection, rows), selection, list(FACTS), list(languages), 3, 24, n_draws, origin=origin, **settings
    )


MATRICE = sets_of({("P1:a>x", "all", 0): [(0, 1), (2, 5)], ("P1:b>y", "all", 0): [(1, 1)]})
RANDOM = sets_of({("P1:a>x", "all", draw): [(0, draw)] for draw in range(3)}, "random", n_draws=3)
FI_KO = Enhancement(languages=["fi", "ko"])


class Formula:
    """P = .2 * factor ** neurons / (1 + query), right above .3, where it says "X", else "other"."""

    def __init__(self):
        self.requests, self.predicted = [], []

    def p(self, request):
        return 0.2 * request.factor ** len(request.layers) / (1 + request.query)

    def __call__(self, requests):
        self.requests += requests
        p = np.array([self.p(request) for request in requests])
        return p, p > 0.3

    def predict(self, requests):
        self.predicted += requests
        return ["X" if self.p(request) > 0.3 else "other" for request in requests]


def enhanced(*sets, settings=FI_KO, **others):
    formula = Formula()
    return enhance_answers(sets or [MATRICE], prompts(), formula, settings, formula.predict, **others), formula


def rows_of(table, **values):
    for column, value in values.items():
        table = table[table[column] == value]
    return table


def test_the_columns_are_the_agreed_ones():
    table, _ = enhanced()
    assert table.columns.tolist() == COLUMNS
    assert not table.isna().any().any()
    assert set(table["model"]) == {"tiny"} and table["is_right_after"].dtype == bool


def test_all_queries_of_the_low_resource_languages_and_no_others_are_measured():
    table, formula = enhanced()
    keys = table[["language", "fact", "query"]].drop_duplicates()
    assert len(table) == len(keys) == 2 * 3 * 2
    assert set(table["language"]) == {"fi", "ko"} == {request.language for request in formula.requests}


def test_answers_before_and_after_are_those_of_the_formula():
    table, _ = enhanced()
    fact = rows_of(table, fact="P1:a>x", language="ko")
    assert fact["p_before"].tolist() == [0.2, 0.1] and fact["p_after"].tolist() == [0.8, 0.4]
    assert fact["is_right_before"].tolist() == [False] * 2 and fact["is_right_after"].tolist() == [True] * 2
    assert fact["predicted_before"].tolist() == ["other"] * 2 and fact["predicted_after"].tolist() == ["X"] * 2
    assert set(fact["answer"]) == {"X"} and set(fact["n_neurons"]) == {2} and set(fact["relation"]) == {"P1"}


def test_the_factor_is_the_setting():
    table, _ = enhanced(settings=Enhancement(languages=["fi"], enhance_factor=3.0))
    assert rows_of(table, fact="P1:a>x", query=0)["p_after"].tolist() == [pytest.approx(1.8)]


def test_empty_sets_are_not_run_and_stay_in_the_table():
    table, formula = enhanced()
    empty = rows_of(table, fact="P2:c>z")
    assert len(empty) == 4 and empty["n_neurons"].eq(0).all()
    for name in ("p", "is_right", "predicted"):
        assert (empty[f"{name}_after"] == empty[f"{name}_before"]).all()
    assert not [request for request in formula.requests if request.factor != 1.0 and not len(request.layers)]


def test_before_is_measured_once_per_query_and_both_functions_get_the_same_requests():
    _, formula = enhanced(MATRICE, RANDOM)
    clean = [request[:3] for request in formula.requests if request.factor == 1.0]
    assert len(clean) == len(set(clean)) == 3 * 2 * 2
    assert [request[:3] for request in formula.predicted] == [request[:3] for request in formula.requests]


def test_of_a_random_selection_the_first_draws_are_measured():
    table, formula = enhanced(RANDOM, settings=Enhancement(languages=["fi"], draws=2))
    assert table["draw"].unique().tolist() == [0, 1]
    assert {int(request.indices[0]) for request in formula.requests if len(request.indices)} == {0, 1}


def test_a_set_per_language_is_used_in_its_language_and_what_was_not_searched_has_no_rows():
    neurons = {("P1:a>x", "fi", 0): [(0, 1)], ("P1:a>x", "ko", 0): [(0, 1), (0, 2)]}
    sets = sets_of(neurons, "matrice_leave_language_out", ["fi", "ko"], not_searched=[("P1:b>y", "ko")])
    table, _ = enhanced(sets)
    after = rows_of(table, fact="P1:a>x", query=0).set_index("language")["p_after"].to_dict()
    assert after == {"fi": 0.4, "ko": 0.8}
    assert set(rows_of(table, fact="P1:b>y")["language"]) == {"fi"}


def test_ranked_answers_are_right_where_the_object_said_is_the_answer():
    table, _ = enhanced(settings=Enhancement(languages=["fi"], notion="ranked"))
    assert rows_of(table, fact="P1:a>x")["is_right_after"].tolist() == [True, True]
    assert rows_of(table, fact="P1:b>y", query=0)["predicted_after"].tolist() == ["X"]  # and not "Y"
    assert not rows_of(table, fact="P1:b>y")["is_right_after"].any()


def test_what_the_model_says_may_be_left_out():
    table = enhance_answers([MATRICE], prompts(), Formula(), FI_KO)
    assert set(table["predicted_before"]) | set(table["predicted_after"]) == {""}


def test_progress_ends_at_the_number_of_requests():
    steps = []
    _, formula = enhanced(progress=lambda *step: steps.append(step))
    assert steps[-1] == (len(formula.requests), len(formula.requests), "matrice enhanced")
    assert steps[0][2] == "before"


def test_a_study_without_low_resource_languages_gives_empty_tables():
    table, formula = enhanced(settings=Enhancement(languages=["hu"]))
    assert table.empty and table.columns.tolist() == COLUMNS and formula.requests == []
    summary = summarise_enhancement(table)
    assert summary.empty and summary.columns.tolist() == SUMMARY_COLUMNS


def test_settings_that_cannot_be_are_sentences():
    with pytest.raises(AtlasError, match=r"'rank'.*Did you mean 'ranked'"):
        Enhancement(notion="rank")
    with pytest.raises(AtlasError, match="needs predictions; set is_predicted to true"):
        Enhancement(notion="ranked", is_predicted=False)


def test_a_searched_fact_needs_prompts_in_some_language():
    with pytest.raises(AtlasError, match="1 searched facts have no prompts, the first is P2:c>z"):
        enhance_answers([MATRICE], prompts().query("fact != 'P2:c>z'"), Formula(), FI_KO)
    without = prompts().query("fact != 'P2:c>z' or language == 'en'")
    assert set(enhance_answers([MATRICE], without, Formula(), FI_KO)["fact"]) == {"P1:a>x", "P1:b>y"}


MATRICE_SETTINGS = {"tau": 0.3, "alpha1": 1.0, "alpha2": 1.0, "beta1": 1.0, "beta2": 1.0}
MATRICE_SETTINGS |= {"eq9_axis": "language", "eq9_floor": "zero", "guard": "raise_threshold"}


def chosen(name, scores, **matrice):
    return select(scores, {"selections": [name], "matrice": {**MATRICE_SETTINGS, **matrice}})[0]


def without_language(scores, k):
    arrays = {name: np.delete(array, k, axis=1) for name, array in scores.arrays.items()}
    return Scores(arrays, scores.facts, [name for i, name in enumerate(scores.languages) if i != k])


@pytest.mark.parametrize("matrice", [{}, {"eq9_floor": "min"}, {"eq9_axis": "neuron"}, {"beta2": 0.5, "alpha2": 2.0}])
def test_a_set_that_leaves_a_language_out_is_matrice_on_the_scores_without_it(matrice):
    scores = heavy_tailed(2, n_languages=4)
    sets, summary = chosen("matrice_leave_language_out", scores, **matrice)
    assert sets.languages == scores.languages and len(sets.table) > 0
    for k, language in enumerate(scores.languages):
        expected, of_expected = chosen("matrice", without_language(scores, k), **matrice)
        found = sets.table[sets.table["language"] == language].reset_index(drop=True)
        columns = ["fact", "layer", "index", "score"]
        pd.testing.assert_frame_equal(found[columns], expected.table[columns], check_exact=True)
        columns = ["n_neurons", "max_score", "threshold", "neutral_level", "is_empty"]
        own = summary[summary["language"] == language].reset_index(drop=True)
        pd.testing.assert_frame_equal(own[columns], of_expected[columns], check_exact=True)


def test_the_scores_of_the_language_left_out_change_nothing_in_its_set():
    scores = heavy_tailed(3, n_languages=4)
    changed = {name: array.copy() for name, array in scores.arrays.items()}
    for array in changed.values():
        array[:, 1] = 5 * array[:, 1, ::-1, ::-1] + 1
    before, after = (
        chosen("matrice_leave_language_out", part)[0].table
        for part in (scores, Scores(changed, scores.facts, scores.languages))
    )
    is_own = [table["language"] == scores.languages[1] for table in (before, after)]
    pd.testing.assert_frame_equal(before[is_own[0]].reset_index(drop=True), after[is_own[1]].reset_index(drop=True))
    assert not before[~is_own[0]].reset_index(drop=True).equals(after[~is_own[1]].reset_index(drop=True))


def test_a_language_without_attribution_is_searched_in_the_others():
    scores = heavy_tailed(4, n_languages=3)
    for array in scores.arrays.values():
        array[0, 1] = np.nan
    sets, summary = chosen("matrice_leave_language_out", scores)
    assert all(sets.is_searched(scores.facts[0], language) for language in scores.languages)
    assert summary["sentence"].head(3).tolist() == ["no attribution in fi", "", "no attribution in fi"]
    alone, summary = chosen("matrice_leave_language_out", heavy_tailed(4, n_languages=1))
    assert alone.table.empty and not alone.is_searched("P1:s0>o0", "en")
    assert set(summary["sentence"]) == {"no attribution in any other language"}


@pytest.mark.parametrize(
    ("floor", "n_languages", "n"), [("zero", 3, 60), ("zero", 5, 200), ("min", 3, 400), ("min", 5, 400)]
)
def test_nearly_every_set_that_candidates_decide_is_certified_and_is_that_of_all_scores(floor, n_languages, n):
    dense = heavy_tailed(7, n_facts=12, n_neurons=400, n_languages=n_languages)
    kept = candidates_of(dense, n)
    whole, _ = chosen("matrice_leave_language_out", dense, eq9_floor=floor)
    part, summary = chosen("matrice_leave_language_out", kept, eq9_floor=floor)
    n_decided = 0
    for row in summary.itertuples():
        i, k = dense.facts.index(row.fact), dense.languages.index(row.language)
        scores = dense.of("saig", "mean", i) - dense.of("saig", "std", i)
        agnostic = language_uncertainty(np.delete(scores, k, axis=0), floor=floor).ravel()
        is_decided = np.delete(agnostic, kept.arrays["indices"][i]).max() <= row.threshold
        n_decided += is_decided
        assert is_decided or not row.is_certified
        if row.is_certified:
            for ours, theirs in zip(part.of(row.fact, row.language), whole.of(row.fact, row.language), strict=True):
                np.testing.assert_array_equal(ours, theirs)
    assert n_decided >= 0.5 * len(summary) and summary["is_certified"].sum() >= 0.9 * n_decided


def some_neurons(lm):
    layers, indices = np.indices((lm.n_layers, lm.n_neurons))
    return layers.ravel()[::3], indices.ravel()[::3]


def by_hand(lm, query, neurons, factor):
    """The distribution at the answer's positions with hooks written here."""

    def scale(layer):
        columns = [index for at, index in zip(*neurons, strict=True) if at == layer]

        def hook(_, inputs):
            changed = inputs[0].clone()
            for position in query.positions:
                changed[0, position, columns] *= factor
            return (changed,)

        return hook

    handles = [module.register_forward_pre_hook(scale(i)) for i, module in enumerate(lm.down_projections())]
    with torch.no_grad():
        logits = lm.model(input_ids=torch.tensor([query.input_ids])).logits[0, list(query.positions)]
    for handle in handles:
        handle.remove()
    return logits.softmax(-1)


@pytest.mark.parametrize("model_type", SHAPES)
def test_a_real_model_answers_as_with_hooks_by_hand_and_is_left_as_it_was(model_type):
    lm = tiny_model(model_type, "float64")
    weights = {name: value.clone() for name, value in lm.model.state_dict().items()}
    table, neurons = tiny_prompts(lm.kind, n_queries=2), some_neurons(lm)
    facts = sorted(set(table["fact"]))
    found = as_table("matrice", [FoundSet(facts[0], "all", 0, *neurons, np.ones(len(neurons[0])))])
    sets = NeuronSets(found, "matrice", facts, ["all"], lm.n_layers, lm.n_neurons, origin={"model": lm.name})
    settings = Enhancement(languages=["zh", "ja"], enhance_factor=4.0)
    rows = enhance_answers([sets], table, evaluate_with(lm, table, 3), settings, predict_with(lm, table, 3))
    queries = {(query.fact, query.language, query.query): query for query in encode_prompts(lm, table)}
    assert set(rows["language"]) == {"zh", "ja"} & set(table.loc[table["fact"].isin(facts), "language"])
    for row in rows.itertuples():
        query = queries[row.fact, row.language, row.query]
        for when, factor in (("before", 1.0), ("after", 4.0 if row.fact == facts[0] else 1.0)):
            distribution = by_hand(lm, query, neurons, factor)
            p = distribution[range(len(query.targets)), list(query.targets)].prod().item()
            assert getattr(row, f"p_{when}") == pytest.approx(p, rel=1e-9)
            is_right = distribution.argmax(-1).tolist() == list(query.targets)
            assert getattr(row, f"is_right_{when}") == is_right
            assert getattr(row, f"predicted_{when}") == token_text(lm, distribution[0].argmax())
    assert all(torch.equal(value, weights[name]) for name, value in lm.model.state_dict().items())


@pytest.mark.parametrize("model_type", SHAPES)
def test_the_most_probable_tokens_are_those_of_the_distribution_in_batches_of_any_size(model_type):
    lm = tiny_model(model_type)
    queries = encode_prompts(lm, tiny_prompts(lm.kind))
    ids, p = top_tokens(lm, queries, k=4, batch_rows=1)
    for i, query in enumerate(queries):
        distribution = token_probabilities(lm, [query])[0][0]
        best = distribution.sort(descending=True)
        assert ids[i].tolist() == best.indices[:4].tolist()
        np.testing.assert_allclose(p[i], best.values[:4].numpy(), rtol=1e-5)
    many = top_tokens(lm, queries, k=4, batch_rows=64)
    np.testing.assert_array_equal(many[0], ids)
    np.testing.assert_allclose(many[1], p, rtol=1e-4)
    assert top_tokens(lm, queries, k=10**6, batch_rows=2)[0].shape == (len(queries), lm.n_vocabulary)


@pytest.mark.parametrize("kind", ["masked", "causal"])
def test_the_ranked_object_is_the_one_with_the_largest_p(kind):
    lm, table = tiny_model(kind), tiny_prompts(kind)
    requests = [(row.fact, row.language, row.query) for row in table.itertuples()]
    none = np.zeros(0, dtype=int)
    said = predict_with(lm, table, 4, notion="ranked")([Request(*key, none, none, 1.0) for key in requests])
    known = known_facts(lm, table)
    assert [word == answer for word, answer in zip(said, table["answer"], strict=True)] == (known["rank"] == 1).tolist()
    objects = table.groupby(["relation", "language"])["answer"].agg(set)
    assert all(word in objects[row.relation, row.language] for word, row in zip(said, table.itertuples(), strict=True))
    scaled = [Request(*key, *some_neurons(lm), 8.0) for key in requests]
    after = predict_with(lm, table, 4, notion="ranked")(scaled)
    scaling = NeuronScaling(*some_neurons(lm), 8.0)
    for row, word in zip(table.itertuples(index=False), after, strict=True):
        others = pd.DataFrame([row._replace(answer=name) for name in sorted(objects[row.relation, row.language])])
        encoded = encode_prompts(lm, others)
        p = answer_probabilities(lm, encoded, 4, [scaling] * len(encoded))["p"]
        assert word == others["answer"].iloc[int(p.argmax())]


def test_the_right_answers_first_token_is_marked():
    lm, table = tiny_model("gpt2"), tiny_prompts("causal")
    none, first = np.zeros(0, dtype=int), table.iloc[0]
    (tops,) = top_of_with(lm, table, 4, k=10**6)([Request(first.fact, first.language, 0, none, none, 1.0)])
    (query,) = encode_prompts(lm, table.head(1))
    marked = [top for top in tops if top.is_answer]
    assert len(marked) == 1 and marked[0].token == token_text(lm, query.targets[0])
    assert sum(top.p for top in tops) == pytest.approx(1.0, rel=1e-5)
    with pytest.raises(AtlasError, match="no causal prompt of fact P9, language en, query 0"):
        top_of_with(lm, table, 4)([Request("P9", "en", 0, none, none, 1.0)])
    with pytest.raises(AtlasError, match=r"'exakt'.*Did you mean 'exact'"):
        predict_with(lm, table, 4, notion="exakt")
