"""P(answer): against an explicit loop, its product rule, and what may not change it (batches, padding, order)."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from knatlas.models.answers import KNOWN_COLUMNS, answer_probabilities, known_facts, token_probabilities
from knatlas.models.encoding import EncodedQuery, encode_prompts, readouts
from knatlas.models.language_model import LanguageModel
from tests.tiny_models import FLOAT32_NORMS, MODEL_TYPES, TEXTS, tiny_model, tiny_prompts


@pytest.fixture(params=MODEL_TYPES)
def lm(request: pytest.FixtureRequest) -> LanguageModel:
    # small weights: the logits of large ones round by more than the tolerance of these tests
    return tiny_model(request.param, scale=0.1)


@pytest.fixture
def queries(lm: LanguageModel) -> list[EncodedQuery]:
    return encode_prompts(lm, tiny_prompts(lm.kind))


def by_hand(lm: LanguageModel, query: EncodedQuery) -> tuple[float, bool]:
    """The product of one softmax per answer token, each from the whole model on its own readout."""
    product, is_argmax = 1.0, True
    for readout in readouts(query):
        with torch.no_grad():
            logits = lm.model(torch.tensor([readout.input_ids])).logits[0]
        for position, target in zip(readout.positions, readout.targets, strict=True):
            product *= float(logits[position].softmax(-1)[target])
            is_argmax &= int(logits[position].argmax()) == target
    return product, is_argmax


def test_probabilities_are_those_of_an_explicit_loop(lm: LanguageModel, queries: list[EncodedQuery]) -> None:
    table = answer_probabilities(lm, queries)
    expected = [by_hand(lm, query) for query in queries]
    n_tokens = table["n_tokens"].to_numpy()
    assert per_token(table["p"], n_tokens) == pytest.approx(per_token([p for p, _ in expected], n_tokens), rel=1e-6)
    assert table["is_argmax"].tolist() == [is_argmax for _, is_argmax in expected]
    assert table["n_tokens"].tolist() == [len(query.targets) for query in queries]
    assert table["fact"].tolist() == [fact for fact, *_ in TEXTS]
    assert table["n_tokens"].nunique() > 1


def per_token(p: Sequence[float], n_tokens: np.ndarray) -> np.ndarray:
    """The geometric mean of the factors of each product: in float32 each factor has its own rounding error."""
    return np.asarray(p) ** (1 / n_tokens)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_float64_agrees_to_the_last_digits(model_type: str) -> None:
    lm = tiny_model(model_type, "float64")
    queries = encode_prompts(lm, tiny_prompts(lm.kind))
    expected = [by_hand(lm, query)[0] for query in queries]
    # the rotation and the norms of these are computed in float32 even in a float64 model
    tolerance = 1e-6 if model_type in FLOAT32_NORMS else 1e-12
    for batch_rows in (1, 2, 6):
        p = answer_probabilities(lm, queries, batch_rows)["p"].tolist()
        assert p == pytest.approx(expected, rel=tolerance)


def test_the_number_of_rows_and_the_padding_change_nothing(lm: LanguageModel, queries: list[EncodedQuery]) -> None:
    alone = answer_probabilities(lm, queries, batch_rows=1)
    assert len({len(query.input_ids) for query in queries}) > 2
    for batch_rows in (2, 3, 100):
        together = answer_probabilities(lm, queries, batch_rows)
        n_tokens = alone["n_tokens"].to_numpy()
        assert per_token(together["p"], n_tokens) == pytest.approx(per_token(alone["p"], n_tokens), rel=1e-6)
        assert together.drop(columns="p").equals(alone.drop(columns="p"))


def test_order_of_queries_is_kept(lm: LanguageModel, queries: list[EncodedQuery]) -> None:
    forward = answer_probabilities(lm, queries, 2)
    backward = answer_probabilities(lm, queries[::-1], 2)[::-1].reset_index(drop=True)
    n_tokens = forward["n_tokens"].to_numpy()
    assert per_token(backward["p"], n_tokens) == pytest.approx(per_token(forward["p"], n_tokens), rel=1e-6)
    assert backward["fact"].tolist() == forward["fact"].tolist()


def test_a_distribution_sums_to_one_in_float32_also_in_half_precision() -> None:
    lm = tiny_model("gpt2", "bfloat16")
    (first, *_) = token_probabilities(lm, encode_prompts(lm, tiny_prompts("causal")))
    assert first.dtype == torch.float32
    assert first.sum(dim=1).tolist() == pytest.approx([1.0] * len(first), rel=1e-6)


def test_argmax_is_found_where_every_token_is_the_most_probable() -> None:
    lm = tiny_model("gpt2")
    query = encode_prompts(lm, tiny_prompts("causal"))[0]
    ids = list(query.input_ids)
    for _ in range(3):
        with torch.no_grad():
            ids.append(int(lm.model(torch.tensor([ids])).logits[0, -1].argmax()))
    n_prompt = len(query.input_ids)
    positions = (n_prompt - 1, n_prompt, n_prompt + 1)
    greedy = EncodedQuery("f", "en", 0, "causal", tuple(ids[:-1]), positions, tuple(ids[-3:]), ())
    wrong_last = replace(greedy, query=1, targets=(*ids[-3:-1], ids[-1] - 1))
    assert answer_probabilities(lm, [greedy, wrong_last])["is_argmax"].tolist() == [True, False]


def test_no_queries_give_an_empty_table() -> None:
    lm = tiny_model("bert")
    assert answer_probabilities(lm, []).empty
    known = known_facts(lm, tiny_prompts("causal"))
    assert known.empty
    assert list(known.columns) == KNOWN_COLUMNS


def rank_by_hand(lm: LanguageModel, prompts: pd.DataFrame, number: int) -> tuple[int, int]:
    row = prompts.iloc[number]
    same = prompts[(prompts["relation"] == row["relation"]) & (prompts["language"] == row["language"])]
    objects = sorted(set(same["answer"]))
    variants = pd.DataFrame([{**row, "answer": label} for label in objects])
    p = [by_hand(lm, query)[0] for query in encode_prompts(lm, variants)]
    return sorted(p, reverse=True).index(p[objects.index(row["answer"])]) + 1, len(objects)


def test_known_facts_rank_the_right_object_among_those_of_the_relation(lm: LanguageModel) -> None:
    prompts = tiny_prompts(lm.kind, n_queries=2)
    known = known_facts(lm, prompts, batch_rows=4)
    assert list(known.columns) == KNOWN_COLUMNS
    assert known[["fact", "relation", "language", "query", "kind"]].equals(
        prompts[["fact", "relation", "language", "query", "kind"]]
    )
    assert set(known["model"]) == {lm.name}
    assert known["n_objects"].tolist() == [3] * 6 + [2] * 4 + [1] * 2
    assert known.loc[known["query"] == 1, "rank"].isna().all()
    for number in known.index[known["query"] == 0]:
        assert (known.loc[number, "rank"], known.loc[number, "n_objects"]) == rank_by_hand(lm, prompts, number)


def test_ranks_of_all_queries_or_of_none_on_request(lm: LanguageModel) -> None:
    prompts = tiny_prompts(lm.kind, n_queries=2)
    ranked = known_facts(lm, prompts, ranked_queries=2)
    assert ranked["rank"].tolist() == [rank_by_hand(lm, prompts, number)[0] for number in range(len(prompts))]
    assert known_facts(lm, prompts, ranked_queries=0)["rank"].isna().all()


def test_objects_are_those_of_the_relation_and_the_language_only() -> None:
    lm = tiny_model("gpt2")
    prompts = tiny_prompts("causal")
    prompts.loc[2, "relation"] = "P1376"
    assert known_facts(lm, prompts)["n_objects"].tolist() == [2, 2, 1, 2, 2, 1]
