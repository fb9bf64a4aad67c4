"""Noise on word embeddings: it is what a model with a changed matrix computes, and nothing of it remains."""

from copy import deepcopy

import numpy as np
import pandas as pd
import pytest
import torch

from knatlas.errors import AtlasError
from knatlas.experiments.noisy_answers import Level, NoisyAnswers, WordNoise, answers_to, position_noise
from knatlas.experiments.perturbation import COLUMNS, Perturbation, noise_levels, perturb
from knatlas.figures.perturbation import plot_perturbation
from knatlas.interventions.embedding_noise import (
    READINGS,
    hits_head,
    input_matrix,
    is_tied,
    mean_size,
    noisy_head,
    noisy_inputs,
    output_matrix,
    printed_sigma,
)
from knatlas.models.answers import answer_probabilities, token_probabilities
from knatlas.models.encoding import encode_prompts
from knatlas.statistics.perturbation import TABLE_COLUMNS, summarise_perturbation
from tests.tiny_models import FLOAT32_NORMS, MODEL_TYPES, tiny_model, tiny_prompts

SHAPES = [("bert", True), ("bert", False), ("gpt2", True), ("gpt2", False), ("llama", True), ("llama", False)]
SIGMA = 0.2
BY_WORD = ["tied_matrix", "head_only"]


def model_of(model_type, tied=None, dtype="float64", **settings):
    settings |= {} if tied is None else {"tie_word_embeddings": tied}
    return tiny_model(model_type, dtype, **settings)


def queries_of(lm, n_queries=2):
    return encode_prompts(lm, tiny_prompts(lm.kind, n_queries))


def level(reading, sigma=SIGMA):
    return Level(reading, "1", sigma, 1.0, 0.0)


def close(lm):
    """Norms of some architectures are taken in single precision."""
    return {"rel": 2e-5 if lm.architecture.model_type in FLOAT32_NORMS else 1e-10}


def weights_of(lm):
    return {name: tensor.clone() for name, tensor in lm.model.state_dict().items()}


def are_same_bits(one, other):
    return all(torch.equal(one[name].view(torch.int64), other[name].view(torch.int64)) for name in one)


def answer_of(model, query, **inputs):
    """P(answer) and P of its first token from a forward pass of one sentence, without any code of the package."""
    logits = model(attention_mask=torch.ones(1, len(query.input_ids), dtype=torch.long), **inputs).logits[0]
    p = logits.double().softmax(-1)[list(query.positions), list(query.targets)]
    return p.prod().item(), p[0].item()


@pytest.mark.parametrize(("model_type", "tied"), SHAPES)
def test_noise_of_zero_leaves_every_answer_exactly(model_type, tied):
    lm = model_of(model_type, tied, "float32")
    queries = queries_of(lm)
    clean = answers_to(lm, queries)
    zeros = [torch.zeros(len(query.input_ids), input_matrix(lm).shape[1]) for query in queries]
    n_read = sum(len(query.positions) for query in queries)
    with noisy_inputs(lm, zeros), noisy_head(lm, torch.ones_like(output_matrix(lm)), torch.zeros(n_read)):
        assert answers_to(lm, queries) == clean


@pytest.mark.parametrize("model_type", ["bert", "gpt2", "llama"])
def test_noise_by_position_equals_noise_on_hand_made_embeddings(model_type):
    lm = model_of(model_type)
    queries = queries_of(lm)
    noisy = NoisyAnswers(lm, queries, n_draws=2, seed=5, batch_rows=5).by_position([level("input_only")])
    assert len({len(query.input_ids) for query in queries}) > 1  # batches are padded
    for (number, _, draw), answer in noisy.items():
        query = queries[number]
        embedded = lm.model.get_input_embeddings()(torch.tensor([query.input_ids]))
        embedded = embedded + SIGMA * position_noise(lm, query, draw, seed=5)
        p, p_first = answer_of(lm.model, query, inputs_embeds=embedded)
        assert (answer.p, answer.p_first) == (pytest.approx(p, **close(lm)), pytest.approx(p_first, **close(lm)))


def changed_model(lm, noise, reading):
    """A copy of a model whose matrices were really changed."""
    model = deepcopy(lm.model)
    old, old_head = input_matrix(lm), output_matrix(lm)
    if reading == "tied_matrix":
        rows = torch.stack([noise.of([word])[0] for word in range(len(old))])
        model.get_input_embeddings().weight.data = old + SIGMA * rows
    if reading == "head_only" or is_tied(lm):
        # a parameter of its own: the input embedding of the copy is changed above or stays
        model.get_output_embeddings().weight = torch.nn.Parameter(old_head + SIGMA * noise.head)
    return model


@pytest.mark.parametrize("reading", BY_WORD)
@pytest.mark.parametrize(("model_type", "tied"), [*SHAPES, *((name, None) for name in MODEL_TYPES)])
def test_noise_by_word_equals_a_model_whose_matrix_was_changed(model_type, tied, reading):
    lm = model_of(model_type, tied)
    queries = queries_of(lm)
    noisy = NoisyAnswers(lm, queries, n_draws=1, seed=3, batch_rows=3).by_word([level(reading)])
    for fact in {query.fact for query in queries}:
        model = changed_model(lm, WordNoise(lm, fact, 0, 3), reading)
        for number, query in enumerate(queries):
            if query.fact == fact:
                p, p_first = answer_of(model, query, input_ids=torch.tensor([query.input_ids]))
                answer = noisy[number, level(reading), 0]
                assert answer.p == pytest.approx(p, **close(lm))
                assert answer.p_first == pytest.approx(p_first, **close(lm))


@pytest.mark.parametrize(("model_type", "tied"), SHAPES)
def test_the_head_is_hit_where_it_is_the_same_matrix_only(model_type, tied):
    lm = model_of(model_type, tied)
    assert is_tied(lm) == tied == hits_head(lm, "tied_matrix")
    assert hits_head(lm, "head_only") and not hits_head(lm, "input_only")
    query = queries_of(lm)[0]
    answer = NoisyAnswers(lm, [query], 1).by_word([level("tied_matrix")])[0, level("tied_matrix"), 0]
    with noisy_inputs(lm, [SIGMA * WordNoise(lm, query.fact, 0, 0).of(query.input_ids)]):
        (inputs_alone,) = answers_to(lm, [query])
    assert (answer.p == pytest.approx(inputs_alone.p, rel=1e-6)) != tied


@pytest.mark.parametrize(("model_type", "tied"), SHAPES)
def test_nothing_of_the_noise_remains_after_a_measurement(model_type, tied):
    lm = model_of(model_type, tied)
    weights, clean = weights_of(lm), answers_to(lm, queries_of(lm))
    perturb(lm, tiny_prompts(lm.kind), Perturbation(n_draws=1))
    assert are_same_bits(weights, weights_of(lm))
    assert answers_to(lm, queries_of(lm)) == clean


@pytest.mark.parametrize(("model_type", "tied"), SHAPES)
def test_nothing_of_the_noise_remains_after_an_exception(model_type, tied):
    lm = model_of(model_type, tied)
    weights, queries = weights_of(lm), queries_of(lm)
    clean = answers_to(lm, queries)
    noise, sigmas = torch.ones_like(output_matrix(lm)), torch.ones(1)
    inputs = [torch.ones(len(query.input_ids), input_matrix(lm).shape[1]) for query in queries]
    with pytest.raises(AtlasError, match="1 noise levels"), noisy_inputs(lm, inputs), noisy_head(lm, noise, sigmas):
        answers_to(lm, queries)
    assert are_same_bits(weights, weights_of(lm))
    assert answers_to(lm, queries) == clean


def test_noise_for_other_rows_than_the_batch_has_is_an_error():
    lm = model_of("bert")
    with (
        noisy_inputs(lm, [torch.zeros(3, input_matrix(lm).shape[1])]),
        pytest.raises(AtlasError, match="noise for 1 row"),
    ):
        answers_to(lm, queries_of(lm))


@pytest.mark.parametrize("kind", ["masked", "causal"])
def test_batches_change_nothing(kind):
    lm, settings = tiny_model(kind, "float64"), Perturbation(n_draws=2)
    one, many = (perturb(lm, tiny_prompts(kind, 2), settings, batch_rows=rows) for rows in (1, 7))
    pd.testing.assert_frame_equal(one, many, rtol=1e-9)


def test_a_fact_has_the_same_noise_whatever_is_measured_beside_it():
    lm, settings = tiny_model("causal", "float64"), Perturbation(n_draws=1)
    prompts = tiny_prompts("causal", 2)
    alone = prompts[(prompts["fact"] == "P36:FI>Helsinki") & (prompts["query"] == 0)]
    keys = ["fact", "language", "query", "reading", "level"]
    both = perturb(lm, prompts, settings).merge(perturb(lm, alone, settings), on=keys)
    assert len(both) == len(alone) * 3 * 5
    np.testing.assert_allclose(both["p_noisy_x"], both["p_noisy_y"], rtol=1e-9)


def test_seed_and_draw_change_the_noise_and_levels_share_it():
    lm = tiny_model("masked", "float64")
    query = queries_of(lm)[0]
    noise = position_noise(lm, query, 0, 0)
    assert torch.equal(noise, position_noise(lm, query, 0, 0))
    for other in (position_noise(lm, query, 1, 0), position_noise(lm, query, 0, 1)):
        assert not torch.equal(noise, other)
    words = [WordNoise(lm, query.fact, *place).head for place in ((0, 0), (1, 0), (0, 1))]
    assert not torch.equal(words[0], words[1]) and not torch.equal(words[0], words[2])
    table = perturb(lm, tiny_prompts("masked"), Perturbation(relative=(0.001, 0.002), n_draws=1))
    change = (table["p_noisy"] - table["p_clean"]).to_numpy()
    small, double = (
        change[(table["level"] == name) & (table["reading"] == "input_only")] for name in ("0.001", "0.002")
    )
    # of the same noise at twice the size the effect is nearly twice as large
    np.testing.assert_allclose(double, 2 * small, rtol=0.05)


def embedded(lm, queries, noise):
    """What the word embedding gives to the model, (rows, tokens, hidden)."""
    seen = []
    with noisy_inputs(lm, noise):
        handle = lm.model.get_input_embeddings().register_forward_hook(lambda _m, _i, output: seen.append(output))
        token_probabilities(lm, queries)
        handle.remove()
    return seen[0]


@pytest.mark.parametrize("kind", ["masked", "causal"])
def test_noise_has_its_size_on_every_token_and_none_on_padding(kind):
    lm = tiny_model(kind, "float64")
    queries, width = queries_of(lm), input_matrix(lm).shape[1]
    zeros = [torch.zeros(len(query.input_ids), width) for query in queries]
    clean, changes = embedded(lm, queries, zeros), []
    for draw in range(20):
        noise = [SIGMA * position_noise(lm, query, draw, 0) for query in queries]
        changes.append(embedded(lm, queries, noise) - clean)
    changes = torch.stack(changes)  # draws, rows, tokens, hidden
    is_token = torch.arange(clean.shape[1]) < torch.tensor([len(query.input_ids) for query in queries])[:, None]
    assert not is_token.all() and bool((changes[:, ~is_token] == 0).all())
    on_tokens = changes[:, is_token].flatten() / SIGMA
    # the mean of n squares of standard normal numbers has standard deviation sqrt(2 / n); five of these
    assert abs(on_tokens.square().mean().item() - 1) < 5 * (2 / len(on_tokens)) ** 0.5
    assert abs(on_tokens.mean().item()) < 5 * len(on_tokens) ** -0.5
    # independent between tokens: neighbours' correlation is a mean of products of variance 1
    pairs = is_token[:, 1:] & is_token[:, :-1]
    products = (changes[:, :, 1:] * changes[:, :, :-1])[:, pairs].flatten() / SIGMA**2
    assert abs(products.mean().item()) < 5 * len(products) ** -0.5


@pytest.mark.parametrize("tied", [True, False])
def test_a_word_has_one_noise_of_variance_one_in_all_queries_of_a_fact(tied):
    lm = model_of("gpt2", tied)
    noise = WordNoise(lm, "a fact", 0, 0)
    words = list(range(len(input_matrix(lm))))
    values = noise.of(words)
    assert torch.equal(values[[4, 2, 4]], noise.of([4, 2, 4]))
    assert abs(values.square().mean().item() - 1) < 5 * (2 / values.numel()) ** 0.5
    assert torch.equal(values, noise.head) == tied
    if not tied:
        assert WordNoise(lm, "a fact", 0, 0, has_head=False).head is None


def test_the_printed_level_is_a_third_of_the_mean_size_cut_off_to_two_decimals():
    assert [printed_sigma(size) for size in (0.1132, 0.0408, 0.0299, 0.3)] == [0.03, 0.01, 0.0, 0.1]


def test_levels_are_multiples_of_the_mean_size_of_the_matrix_that_is_hit():
    lm = model_of("llama", tied=False)
    levels = noise_levels(lm, Perturbation(relative=(0.5,)))
    size = {reading: mean_size(lm, reading) for reading in READINGS}
    assert size["input_only"] == size["tied_matrix"] == pytest.approx(input_matrix(lm).abs().mean().item())
    assert size["head_only"] == pytest.approx(output_matrix(lm).abs().mean().item())
    assert size["head_only"] != size["input_only"]
    assert [(one.reading, one.level) for one in levels] == [(r, n) for r in READINGS for n in ("printed", "0.5")]
    for one in levels:
        assert one.sigma == (printed_sigma(size[one.reading]) if one.level == "printed" else 0.5 * size[one.reading])
        assert one.relative_sigma == pytest.approx(one.sigma / size[one.reading])


def test_a_printed_level_without_noise_is_left_out_and_said():
    lm = tiny_model("causal", scale=0.02)
    rows = perturb(lm, tiny_prompts("causal"), Perturbation(n_draws=1, relative=(1.0,)))
    assert set(rows["level"]) == {"1"} and set(rows["printed_sigma"]) == {0.0}
    table = summarise_perturbation(rows, resamples=20)
    left_out = table[table["is_left_out"]]
    assert set(left_out["level"]) == {"printed"} and set(left_out["n"]) == {0} and left_out["value"].isna().all()
    assert set(left_out["reading"]) == set(READINGS)
    # no answer of the random model is right, so none can be lost
    assert table.loc[~table["is_left_out"] & (table["statistic"] != "answers_lost"), "value"].notna().all()


def test_rows_say_what_was_measured():
    lm, told = tiny_model("causal"), []
    prompts = tiny_prompts("causal", 2)
    rows = perturb(lm, pd.concat([prompts, tiny_prompts("masked")]), Perturbation(n_draws=2), progress=told_to(told))
    assert rows.columns.tolist() == COLUMNS and len(rows) == len(prompts) * 3 * 5 * 2
    assert not rows.duplicated(["fact", "language", "query", "reading", "level", "draw"]).any()
    assert told[-1][:2] == (len(rows), len(rows)) and rows["is_tied"].all() and set(rows["model"]) == {lm.name}
    clean = answer_probabilities(lm, encode_prompts(lm, prompts))
    first = rows[(rows["reading"] == "head_only") & (rows["level"] == "0.25") & (rows["draw"] == 1)]
    np.testing.assert_allclose(first["p_clean"], clean["p"], rtol=1e-4)
    assert first["is_right_clean"].tolist() == clean["is_argmax"].tolist()
    assert (rows["p_first_noisy"] >= rows["p_noisy"]).all() and (rows["p_first_noisy"] > rows["p_noisy"]).any()
    assert (rows["p_noisy"] != rows["p_clean"]).all()


def told_to(told):
    return lambda *line: told.append(line)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"readings": ["tied"]}, "Did you mean 'tied_matrix'"),
        ({"relative": [0.0]}, "all above 0"),
        ({"relative": [0.1, 0.1]}, "different multiples"),
        ({"n_draws": 0}, "n_draws is 0"),
        ({"max_facts": 0}, "max_facts is 0"),
    ],
)
def test_settings_that_cannot_be_meant_are_errors(settings, words):
    with pytest.raises(AtlasError, match=words):
        Perturbation(**settings)


def summary_rows():
    """Relation A has one fact, B three; two draws; P with noise differs by draw."""
    facts = {"a1": ("A", 0.8, (0.4, 0.2)), "b1": ("B", 0.2, (0.1, 0.1)), "b2": ("B", 0.1, (0.1, 0.1))}
    facts["b3"] = ("B", 0.3, (0.4, 0.4))
    rows = [
        {
            **{"model": "m", "fact": fact, "relation": relation, "language": "en", "query": 0, "reading": "input_only"},
            **{"level": "1", "sigma": 0.5, "relative_sigma": 1.0, "printed_sigma": 0.1, "is_tied": True, "draw": draw},
            **{"p_clean": clean, "p_noisy": p, "p_first_clean": clean, "p_first_noisy": p / 2},
            **{"is_right_clean": clean > 0.15, "is_right_noisy": p > 0.3},
        }
        for fact, (relation, clean, noisy) in facts.items()
        for draw, p in enumerate(noisy)
    ]
    return pd.DataFrame(rows)


def value_of(table, statistic, relation="all"):
    (line,) = table[(table["statistic"] == statistic) & (table["relation"] == relation)].to_dict("records")
    return line


def test_relations_count_equally_in_the_mean_over_relations():
    table = summarise_perturbation(summary_rows(), resamples=50)
    assert table.columns.tolist() == TABLE_COLUMNS
    # A: 80 to 30, B: 20, 10, 30 to 10, 10, 40: a mean change of 0
    assert value_of(table, "difference", "A")["value"] == pytest.approx(-50)
    assert value_of(table, "difference", "B")["value"] == pytest.approx(0, abs=1e-12)
    assert value_of(table, "difference")["value"] == pytest.approx(-25)
    assert value_of(table, "difference_over_facts")["value"] == pytest.approx(-12.5)
    assert value_of(table, "p_clean")["value"] == pytest.approx(50)
    assert value_of(table, "p_noisy")["value"] == pytest.approx(25)
    assert value_of(table, "relative_change")["value"] == pytest.approx(-50)
    assert value_of(table, "difference_first")["value"] == pytest.approx((-65 - 10) / 2)


def test_lost_answers_are_those_that_were_right_and_draws_have_a_range():
    table = summarise_perturbation(summary_rows(), resamples=50)
    # A: 1 right, lost in one draw of two; B: b1 and b3 right, b1 lost in both
    assert value_of(table, "answers_lost", "A")["value"] == pytest.approx(50)
    lost = value_of(table, "answers_lost", "B")
    assert lost["value"] == pytest.approx(50) and lost["n"] == 2
    line = value_of(table, "difference", "A")
    assert (line["draw_min"], line["draw_max"]) == (pytest.approx(-60), pytest.approx(-40))
    assert line["n"] == 1 and line["lo"] == line["hi"] == line["value"]
    whole = value_of(table, "difference")
    assert whole["lo"] < whole["value"] < whole["hi"] and whole["n"] == 4


def test_no_change_is_exactly_zero_and_no_rows_give_an_empty_table():
    rows = summary_rows().assign(p_noisy=lambda table: table["p_clean"])
    line = value_of(summarise_perturbation(rows, resamples=50), "difference")
    assert (line["value"], line["lo"], line["hi"]) == (0, 0, 0)
    empty = summarise_perturbation(pd.DataFrame(columns=COLUMNS))
    assert empty.empty and empty.columns.tolist() == TABLE_COLUMNS


def test_the_figure_shows_every_level_of_all_relations(tmp_path):
    rows = perturb(tiny_model("causal"), tiny_prompts("causal"), Perturbation(n_draws=1))
    table = summarise_perturbation(rows, resamples=20)
    paths = plot_perturbation(table, tmp_path / "figure")
    drawn = pd.read_csv(paths[2])
    assert all(path.exists() for path in paths)
    assert set(drawn["relation"]) == {"all"} and set(drawn["statistic"]) == {"difference"}
    assert len(drawn) == len(table[["language", "reading", "level"]].drop_duplicates())
    with pytest.raises(AtlasError, match="the table has no difference"):
        plot_perturbation(table[:0], tmp_path / "none")
