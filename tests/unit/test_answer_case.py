"""Answers as written and in lower case: what is measured equals what the package measures elsewhere, and is counted."""

import numpy as np
import pandas as pd
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from knatlas.errors import AtlasError
from knatlas.experiments.answer_case import COLUMNS, AnswerCase, measure_answer_case
from knatlas.facts.table import PROMPT_COLUMNS
from knatlas.models.answers import answer_probabilities
from knatlas.models.encoding import encode_prompts
from knatlas.models.language_model import as_language_model
from knatlas.models.scaling import NeuronScaling
from knatlas.selection.neuron_set import FoundSet, NeuronSets, as_table
from knatlas.statistics.answer_case import TABLE_COLUMNS, summarise_answer_case
from tests.tiny_models import LAYERS, NEURONS, tiny_model, tiny_prompts

FOUND = {"P36:FR>Paris": [(0, 3), (2, 7)], "P36:FI>Helsinki": [(1, 1)], "P36:HU>Budapest": []}


def sets_of(found, facts=None, shape=(LAYERS, NEURONS)):
    rows = []
    for fact, neurons in found.items():
        layers, indices = np.array(neurons, dtype=int).reshape(-1, 2).T
        rows.append(FoundSet(fact, "all", 0, layers, indices, np.ones(len(neurons))))
    origin = {"model": {"name": "tiny"}}
    return NeuronSets(as_table("refined", rows), "refined", list(facts or found), ["all"], *shape, origin=origin)


def english(kind, n_queries=1):
    return tiny_prompts(kind, n_queries).query("language == 'en'").reset_index(drop=True)


def p_of(lm, prompts, scale=True):
    neurons = [np.array(FOUND[fact], dtype=int).reshape(-1, 2).T for fact in prompts["fact"]]
    scalings = [NeuronScaling(*pair, 0.0) if scale and pair.size else None for pair in neurons]
    return answer_probabilities(lm, encode_prompts(lm, prompts), interventions=scalings)["p"].to_numpy()


@pytest.mark.parametrize("model_type", ["bert", "gpt2", "llama"])
def test_both_cases_are_measured_before_and_after_the_neurons_are_suppressed(model_type):
    lm = tiny_model(model_type, "float64")
    prompts = english(lm.kind, 2)
    rows = measure_answer_case(lm, sets_of(FOUND), prompts)
    assert rows.columns.tolist() == COLUMNS and len(rows) == 2 * len(prompts)
    # BERT's tiny vocabulary has no way to write "budapest"
    unreadable = rows.loc[~rows["is_readable"], ["fact", "case"]].drop_duplicates().to_numpy().tolist()
    assert unreadable == ([["P36:HU>Budapest", "lower"]] if model_type == "bert" else [])
    lowered = prompts.assign(answer=prompts["answer"].str.lower())
    for case, asked in {"kept": prompts, "lower": lowered}.items():
        of_case = rows[rows["case"] == case]
        asked = asked[of_case["is_readable"].to_numpy()]
        of_case = of_case[of_case["is_readable"]]
        np.testing.assert_allclose(of_case["p_before"], p_of(lm, asked, scale=False), rtol=1e-6)
        np.testing.assert_allclose(of_case["p_after"], p_of(lm, asked), rtol=1e-6)
    is_empty = rows["n_neurons"] == 0
    assert set(rows.loc[is_empty, "fact"]) == {"P36:HU>Budapest"}
    is_same_p = rows["p_before"].eq(rows["p_after"]) | ~rows["is_readable"]
    assert (is_same_p == is_empty).all() and not rows["is_same"].any()


def test_facts_that_were_not_searched_and_further_queries_have_no_rows():
    lm = tiny_model("causal")
    sets = sets_of({"P36:FR>Paris": [(0, 3)]})
    rows = measure_answer_case(lm, sets, english("causal", 3), AnswerCase(max_queries=2))
    assert rows[["fact", "query", "case"]].to_numpy().tolist() == [
        ["P36:FR>Paris", query, case] for query in (0, 1) for case in ("kept", "lower")
    ]
    with pytest.raises(AtlasError, match="max_queries is 0"):
        AnswerCase(max_queries=0)


def word_model():
    """A model whose tokenizer knows the words "Oslo" and "stone", and no "oslo"."""
    names = ["[UNK]", "[END]", "q", "Oslo", "stone"]
    tokenizer = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", eos_token="[END]")
    sizes = {"n_embd": 8, "n_layer": 1, "n_head": 1, "n_inner": 4, "n_positions": 8, "vocab_size": len(names)}
    return as_language_model("words", GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=1, eos_token_id=1)), fast, "0")


def test_answers_that_cannot_be_written_in_lower_case_are_counted():
    texts = [("P1:a>Oslo", "Oslo"), ("P1:b>stone", "stone")]
    rows = [(fact, "P1", "en", "causal", 0, 0, "final", "q", " ", answer, "") for fact, answer in texts]
    prompts = pd.DataFrame(rows, columns=PROMPT_COLUMNS)
    sets = sets_of({fact: [(0, 1)] for fact, _ in texts}, shape=(1, 4))
    rows = measure_answer_case(word_model(), sets, prompts)
    assert rows["is_readable"].tolist() == [True, False, True, True]
    assert rows["is_same"].tolist() == [False, False, True, True]
    assert rows["p_before"].isna().tolist() == rows["p_after"].isna().tolist() == [False, True, False, False]
    table = summarise_answer_case(rows, resamples=20)
    assert set(table["n"]) == set(table["n_same"]) == set(table["n_unreadable"]) == {1}
    assert table.pivot(index=["relation", "statistic"], columns="case", values="value").eval("kept == lower").all()


def summary_rows():
    """Two relations with one and two facts that have neurons, and a fact without; P in lower case is a hundredth."""
    facts = {"a1": ("A", 0.5, 0.4, 1), "b1": ("B", 0.2, 0.1, 2), "b2": ("B", 0.4, 0.1, 1), "b3": ("B", 0.9, 0.9, 0)}
    keys = {"model": "m", "selection": "refined", "language": "en", "query": 0, "is_same": False, "is_readable": True}
    return pd.DataFrame(
        [
            {
                **keys,
                **{"fact": fact, "relation": relation, "case": case, "n_neurons": n_neurons},
                **{"p_before": factor * before, "p_after": factor * after},
            }
            for fact, (relation, before, after, n_neurons) in facts.items()
            for case, factor in {"kept": 1.0, "lower": 0.01}.items()
        ]
    )


def test_empty_sets_are_left_out_and_relations_count_equally():
    table = summarise_answer_case(summary_rows(), resamples=50)
    assert table.columns.tolist() == TABLE_COLUMNS
    values = table.set_index(["relation", "case", "statistic"])["value"]
    assert values["A", "kept", "difference"] == pytest.approx(-10)
    assert values["B", "kept", "difference"] == pytest.approx(-20)
    assert values["all", "kept", "difference"] == pytest.approx(-15)
    assert values["all", "lower", "difference"] == pytest.approx(-0.15)
    assert values["all", "kept", "p_before"] == pytest.approx(40)
    assert values["all", "kept", "relative_change"] == pytest.approx(-37.5)
    assert values["all", "lower", "relative_change"] == pytest.approx(-37.5)
    sizes = table.set_index("relation")[["n", "n_empty", "n_same", "n_unreadable"]].drop_duplicates()
    assert sizes.loc["all"].tolist() == [3, 1, 0, 0] and sizes.loc["A"].tolist() == [1, 0, 0, 0]
    assert (table["lo"] <= table["value"] + 1e-12).all() and (table["value"] <= table["hi"] + 1e-12).all()


def test_a_relation_without_neurons_has_lines_that_count_its_facts():
    table = summarise_answer_case(summary_rows().assign(n_neurons=0), resamples=20)
    assert len(table) == 3 * 2 * 3 and table["value"].isna().all() and set(table["n"]) == {0}
    assert table.set_index("relation")["n_empty"].to_dict() == {"all": 4, "A": 1, "B": 3}


def test_no_measurements_give_an_empty_table():
    table = summarise_answer_case(pd.DataFrame(columns=COLUMNS))
    assert table.empty and table.columns.tolist() == TABLE_COLUMNS
