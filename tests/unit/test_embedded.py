"""The embedded models: tokenizers, split, batches, initialisation, training, gates."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import astuple

import numpy as np
import pandas as pd
import pytest
import torch

from knatlas.catalog import read_catalog
from knatlas.errors import AtlasError
from knatlas.models.embedded.batches import encode_sentences, endless_rows, make_batch
from knatlas.models.embedded.corpus import (
    Sentence,
    context_sentences,
    dictionary_sentences,
    fact_sentences,
    fill,
    marked_sentences,
    queries,
    split_facts,
)
from knatlas.models.embedded.gates import gate_table, load_folder, measure_gates, probe_queries, require_gates
from knatlas.models.embedded.initialisation import aligned_embeddings, initialise, parameter_groups
from knatlas.models.embedded.measures import answer_probabilities, mean_activations, measure, strongest_neurons
from knatlas.models.embedded.network import build_network, ffn_outputs, n_neurons
from knatlas.models.embedded.recipe import FAMILIES, Thresholds, read_recipe
from knatlas.models.embedded.tokenizers import build_tokenizer
from knatlas.models.embedded.training import _parts, learning_rate_factor, train_embedded, training_loss
from knatlas.models.encoding import encode_prompt
from knatlas.models.language_model import as_language_model

LANGUAGES = ["en", "fr"]
NAMES = {
    "FR": ("France", "France"),
    "FI": ("Finland", "Finlande"),
    "HU": ("Hungary", "Hongrie"),
    "JP": ("Japan", "Japon"),
    "paris": ("Paris", "Paris"),
    "helsinki": ("Helsinki", "Helsinki"),
    "budapest": ("Budapest", "Budapest"),
    "tokyo": ("Tokyo", "Tokyo"),
    "fr": ("French", "français"),
    "fi": ("Finnish", "finnois"),
    "hu": ("Hungarian", "hongrois"),
    "ja": ("Japanese", "japonais"),
}
PAIRS = {
    "P36": [("FR", "paris"), ("FI", "helsinki"), ("HU", "budapest"), ("JP", "tokyo")],
    "P37": [("FR", "fr"), ("FI", "fi"), ("HU", "hu"), ("JP", "ja")],
}
PATTERNS = {
    ("P36", "en"): ["The capital of [X] is [Y]", "The main city of [X] is [Y]", "[X] has the capital [Y]"],
    ("P36", "fr"): ["La capitale de [X] est [Y]", "[X] a pour capitale [Y]", "La ville principale de [X] est [Y]"],
    ("P37", "en"): ["The language of [X] is [Y]", "People in [X] speak [Y]", "[X] has the language [Y]"],
    ("P37", "fr"): ["La langue de [X] est le [Y]", "On parle à [X] le [Y]", "[X] a pour langue le [Y]"],
}
VALUES = {
    "width": 16,
    "layers": 2,
    "heads": 2,
    "ffn_width": 24,
    "steps": 6,
    "learning_rate": 1e-2,
    "batch": 8,
    "warm_up": 2,
    "trained_templates": 2,
    "held_out": {"fr": 0.25},
    "doubled": ["en"],
    "dictionary": {"en": "[X] in English is [Y]", "fr": "[X] en français est [Y]"},
}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def recipe_of(family, **values):
    return read_recipe({"family": family, **VALUES, **values})


@pytest.fixture(scope="module")
def facts():
    rows = [
        (f"{relation}:{subject}>{obj}", relation, subject, obj, language, NAMES[subject][i], NAMES[obj][i])
        for relation, pairs in PAIRS.items()
        for subject, obj in pairs
        for i, language in enumerate(LANGUAGES)
    ]
    columns = ["fact", "relation", "subject", "object", "language", "subject_label", "object_label"]
    return pd.DataFrame(rows, columns=columns)


@pytest.fixture(scope="module")
def templates():
    rows = [(*key, i, pattern, True) for key, patterns in PATTERNS.items() for i, pattern in enumerate(patterns)]
    return pd.DataFrame(rows, columns=["relation", "language", "template", "pattern", "is_checked"])


def untrained(family, facts, templates, seed=0):
    """A recipe, the tokenizer and the initialised model, in evaluation mode, and its queries."""
    recipe = recipe_of(family)
    rows = queries(facts, templates, split_facts(facts, templates, LANGUAGES, recipe, seed))
    labels = rows[["pattern", "subject_label", "object_label"]].itertuples(index=False)
    tokenizer = build_tokenizer(recipe, [fill(*values).text for values in labels])
    torch.manual_seed(seed)
    model = build_network(recipe, tokenizer)
    initialise(model, tokenizer, facts, templates, LANGUAGES, recipe, seed)
    return recipe, tokenizer, model.eval(), rows


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


# Recipes


def test_every_recipe_of_the_catalog_is_read():
    recipes = {name: row["recipe"] for name, row in read_catalog("models").items() if row["origin"] == "embedded"}
    assert {read_recipe(values, name).family for name, values in recipes.items()} == set(FAMILIES)


def test_recipe_refuses_unknown_and_missing_keys_together():
    with pytest.raises(AtlasError) as error:
        read_recipe({"family": "bert", "witdh": 8, "thresholds": {"acuracy": 0.9}}, "here")
    assert "here: key is 'witdh'" in str(error.value) and "Did you mean 'width'?" in str(error.value)
    assert "here lacks 'steps'; add it." in str(error.value) and "Did you mean 'accuracy'?" in str(error.value)


def test_recipe_refuses_impossible_values():
    with pytest.raises(AtlasError, match=r"held_out.fr is 1.0; expected a share from 0 to less than 1"):
        recipe_of("gpt2", held_out={"fr": 1.0})
    with pytest.raises(AtlasError, match="Did you mean 'llama'"):
        recipe_of("lama")
    with pytest.raises(AtlasError, match=r"attention_from is 2; expected a layer from 0 to 1"):
        recipe_of("gpt2", attention_from=2)


def test_recipe_refuses_parts_of_a_batch_that_leave_no_room_for_facts():
    with pytest.raises(AtlasError) as error:
        recipe_of("gpt2", context_share=1.0, punctuation=-1, longest=0)
    for part in ("context_share is 1.0; expected a share", "punctuation is -1;", "longest is 0;"):
        assert part in str(error.value)
    with pytest.raises(AtlasError, match=r"dictionary_share and punctuation_share are 1\.1 together"):
        recipe_of("gpt2", dictionary_share=0.6, punctuation_share=0.5)


# Split and sentences


def test_split_is_complete_disjoint_and_independent_of_the_order_of_rows(facts, templates):
    splits = split_facts(facts, templates, LANGUAGES, recipe_of("bert"), 0)
    assert not splits.duplicated(["fact", "language", "template"]).any() and len(splits) == 8 * 2 * 3
    shuffled = split_facts(facts.sample(frac=1, random_state=1), templates.iloc[::-1], LANGUAGES, recipe_of("bert"), 0)
    pd.testing.assert_frame_equal(splits, shuffled)
    counts = splits.groupby(["fact", "language"])["split"].agg(lambda column: tuple(sorted(column)))
    assert set(counts) == {("para", "train", "train"), ("xling", "xling", "xling")}
    assert counts[counts == ("xling",) * 3].index.get_level_values("language").tolist() == ["fr"] * 2


def test_no_fact_is_held_out_in_all_languages(facts, templates):
    recipe = recipe_of("bert", held_out={"en": 0.9, "fr": 0.9})
    splits = split_facts(facts, templates, LANGUAGES, recipe, 0)
    assert set(splits.loc[splits["split"] == "train", "fact"]) == set(facts["fact"])


def test_held_out_facts_are_never_answered_in_the_corpus(facts, templates):
    recipe = recipe_of("gpt2", dictionary={})
    rows = queries(facts, templates, split_facts(facts, templates, LANGUAGES, recipe, 0))
    sentences = fact_sentences(rows, LANGUAGES, recipe, 0)
    # trained: 8 facts x 2 templates in English, twice; 6 facts x 2 templates in French; each also code-switched
    assert len(sentences) == (8 * 2 * 2 + 6 * 2) * 2
    texts = {sentence.text for sentence in sentences}
    held_out = rows[rows["split"] == "xling"]
    subjects = [names for pair in PAIRS.values() for names in (NAMES[subject] for subject, _ in pair)]
    for row in held_out.itertuples():
        forms = {fill(row.pattern, name, row.object_label).text for pair in subjects for name in pair}
        assert fill(row.pattern, row.subject_label, row.object_label).text in forms and not forms & texts


def test_dictionary_translates_by_way_of_english(facts):
    sentences = dictionary_sentences(facts, LANGUAGES, recipe_of("bert"))
    assert len(sentences) == 2 * len(NAMES)
    assert Sentence("Japan en français est Japon", 22, 27) in sentences
    assert Sentence("Japon in English is Japan", 20, 25) in sentences
    with pytest.raises(AtlasError, match="no pattern for fr"):
        dictionary_sentences(facts, LANGUAGES, recipe_of("bert", dictionary={"en": "[X] is [Y]"}))


def test_context_is_four_trained_facts_of_the_template_with_other_answers(facts, templates):
    recipe = recipe_of("gpt2", trained_templates=3, held_out={})
    rows = queries(facts, templates, split_facts(facts, templates, LANGUAGES, recipe, 0))
    sentences = context_sentences(rows, "train", 2, 0)
    assert len(sentences) == 2 * len(rows) and len(set(sentences)) > len(rows)
    for sentence, row in zip(sentences[::2], rows.itertuples(), strict=True):
        *examples, own = sentence.text.split("\n")
        assert own == fill(row.pattern, row.subject_label, row.object_label).text
        assert sentence.text[sentence.start : sentence.end] == row.object_label and own.endswith(row.object_label)
        same = rows[(rows["relation"] == row.relation) & (rows["pattern"] == row.pattern) & (rows["fact"] != row.fact)]
        labels = same[["pattern", "subject_label", "object_label"]].itertuples(index=False)
        assert sorted(examples) == sorted(fill(*values).text for values in labels) and len(examples) == 3


def capitals(n_facts):
    """Facts of one relation in English, each answer twice."""
    subjects, answers = [f"Land{i}" for i in range(n_facts)], [f"Town{i // 2}" for i in range(n_facts)]
    columns = {"fact": subjects, "subject": subjects, "subject_label": subjects}
    return pd.DataFrame({**columns, "relation": "P36", "language": "en", "object": answers, "object_label": answers})


def test_examples_are_trained_on_and_at_most_four_and_answer_nothing_twice(templates):
    table = capitals(24)
    rows = queries(table, templates, split_facts(table, templates, ["en"], recipe_of("gpt2"), 0))
    labels = rows.loc[rows["split"] == "train", ["pattern", "subject_label", "object_label"]]
    trained = {fill(*values).text for values in labels.itertuples(index=False)}
    for split in ("train", "para"):
        sentences = context_sentences(rows, split, 3, 1)
        assert len(sentences) == 3 * (rows["split"] == split).sum()
        for sentence in sentences:
            lines = sentence.text.split("\n")
            assert len({line[line.index("Town") :].split()[0] for line in lines}) == len(lines) == 5
            assert set(lines[:-1]) <= trained


def test_a_fact_without_others_of_its_relation_comes_alone(facts, templates):
    one = facts[facts["fact"] == facts["fact"].iloc[0]]
    rows = queries(one, templates, split_facts(one, templates, ["en"], recipe_of("gpt2"), 0))
    assert {sentence.text for sentence in context_sentences(rows, "train", 1, 0)} == {
        fill(row.pattern, row.subject_label, row.object_label).text
        for row in rows[rows["split"] == "train"].itertuples()
    }


def test_the_answer_of_a_marked_sentence_is_its_mark(facts):
    sentences = marked_sentences(facts, read_catalog("punctuation"), 4, 0)
    assert "".join(text[start:end] for text, start, end in map(astuple, sentences)) == "....,,,,!!!!????;;;;"
    assert all(sentence.end == len(sentence.text) for sentence in sentences)
    assert marked_sentences(facts, {}, 0, 0) == []


# Tokens and batches


@pytest.mark.parametrize("family", FAMILIES)
def test_tokenizer_reads_all_its_text_and_more(family, facts):
    texts = [*facts["subject_label"], *facts["object_label"], "東京 は 日本", "東京 は 日本 です"]
    tokenizer = build_tokenizer(recipe_of(family), texts)
    again = build_tokenizer(recipe_of(family), reversed(texts))
    assert tokenizer.backend_tokenizer.to_str() == again.backend_tokenizer.to_str()
    assert tokenizer.decode(tokenizer("日本 Finland")["input_ids"], skip_special_tokens=True).strip() == "日本 Finland"
    assert tokenizer.pad_token_id is not None
    assert (tokenizer.mask_token_id if family == "bert" else tokenizer.eos_token_id) is not None


def test_words_of_the_corpus_are_whole_and_others_are_spelled():
    tokenizer = build_tokenizer(recipe_of("bert"), ["Oslo is far", "Oslo is near"])
    assert tokenizer.tokenize("Oslo is near") == ["Oslo", "is", "n", "##e", "##a", "##r"]


@pytest.mark.parametrize("family", FAMILIES)
def test_answer_tokens_spell_the_answer(family, facts, templates):
    recipe, tokenizer, _, rows = untrained(family, facts, templates)
    sentences = [fill(row.pattern, row.subject_label, row.object_label) for row in rows.itertuples()]
    encoded = encode_sentences(tokenizer, sentences, recipe.kind)
    spelled = [tokenizer.decode(ids[marks]).strip() for ids, marks in zip(encoded.ids, encoded.is_answer, strict=True)]
    assert spelled == rows["object_label"].tolist()
    assert not (encoded.is_answer & encoded.is_other).any()


@pytest.mark.parametrize("family", FAMILIES)
def test_batches_ask_as_prompts_do(family, facts, templates):
    _, tokenizer, model, rows = untrained(family, facts, templates)
    lm = as_language_model("m", model, tokenizer, "r")
    row = rows.iloc[0]
    before = row["pattern"].replace("[X]", row["subject_label"]).removesuffix(" [Y]")
    prompt = {"before": before, "separator": " ", "answer": row["object_label"], "after": "", "query": 0}
    prompt |= {"fact": row["fact"], "language": row["language"]}
    query = encode_prompt(lm, pd.DataFrame([prompt]).iloc[0])
    batch = probe_queries(model, tokenizer, rows.iloc[:1]).batch(np.array([0]))
    assert batch.positions.tolist() == list(query.positions) and batch.targets.tolist() == list(query.targets)
    assert batch.input_ids[0, : len(query.input_ids)].tolist() == list(query.input_ids)


def test_masked_batch_hides_what_it_asks_for_and_nothing_else():
    tokenizer = build_tokenizer(recipe_of("bert"), ["Oslo is in Norway", "Oslo is in Norway ."])
    encoded = encode_sentences(tokenizer, [Sentence("Oslo is in Norway", 11, 17)], "masked")
    batch = make_batch(encoded, np.array([0]), encoded.is_answer, "masked", tokenizer.mask_token_id)
    assert tokenizer.decode(batch.input_ids[0]) == "[CLS] Oslo is in [MASK] [SEP]"
    assert batch.positions.tolist() == [4] and tokenizer.convert_ids_to_tokens(batch.targets.tolist()) == ["Norway"]


def test_each_row_comes_once_per_pass():
    stream = endless_rows(np.array([3, 5, 4, 3, 5, 4, 3]), 2, np.random.default_rng(0))
    rows = [next(stream) for _ in range(8)]
    assert sorted(np.concatenate(rows[:4])) == sorted(np.concatenate(rows[4:])) == list(range(7))


def test_a_step_reads_each_kind_of_sentence_in_its_share(facts, templates):
    recipe = recipe_of("gpt2", batch=20, dictionary_share=0.1, punctuation_share=0.2, context_share=0.5)
    tokenizer = untrained("gpt2", facts, templates)[1]
    kinds = {
        kind: [Sentence("Oslo is in Norway", 11, 17)] for kind in ("facts", "dictionary", "punctuation", "contexts")
    }
    parts = _parts(tokenizer, kinds, recipe)
    assert [part.per_step for part in parts] == [7, 2, 4, 7]
    assert [bool(part.encoded.is_other.any()) for part in parts] == [True, True, True, False]
    none = {**kinds, "dictionary": [], "punctuation": []}
    assert [part.per_step for part in _parts(tokenizer, none, recipe_of("gpt2", batch=20))] == [20]


def test_a_sentence_longer_than_the_recipe_allows_is_named_with_the_remedy():
    tokenizer = build_tokenizer(recipe_of("bert", longest=5), ["Oslo is in Norway"] * 2)
    with pytest.raises(AtlasError, match=r"'Oslo is in Norway' has \d+ tokens; the model reads at most 5.*'longest'"):
        encode_sentences(tokenizer, [Sentence("Oslo is in Norway", 11, 17)], "masked")


# Network and loss


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_is_taken_only_where_asked(family, facts, templates):
    recipe, tokenizer, model, rows = untrained(family, facts, templates)
    recipe = recipe_of(family, sparsity=0.0)
    probe = probe_queries(model, tokenizer, rows)
    batch = probe.batch(np.arange(4))
    logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    expected = torch.nn.functional.cross_entropy(logits[batch.rows, batch.positions], batch.targets)
    torch.testing.assert_close(training_loss(model, batch, recipe), expected)


def test_sparsity_counts_no_padding(facts, templates):
    _, tokenizer, model, rows = untrained("gpt2", facts, templates)
    probe = probe_queries(model, tokenizer, rows)
    lengths = probe.encoded.lengths
    short, long = int(lengths.argmin()), int(lengths.argmax())
    alone, both = probe.batch(np.array([short])), probe.batch(np.array([short, long]))
    plain, sparse = recipe_of("gpt2", sparsity=0.0), recipe_of("gpt2", sparsity=1.0)

    def norm(batch):
        return float((training_loss(model, batch, sparse) - training_loss(model, batch, plain)).detach())

    weights = lengths[[short, long]] / lengths[[short, long]].sum()
    expected = weights @ [norm(alone), norm(probe.batch(np.array([long])))]
    assert lengths[short] < lengths[long] and norm(both) == pytest.approx(expected, rel=1e-5)


def test_names_of_a_concept_start_close_in_all_languages(facts, templates):
    recipe = recipe_of("bert")
    tokenizer = build_tokenizer(recipe, [*facts["subject_label"], *facts["object_label"]] * 2)
    tokenizer.add_tokens(sorted({*facts["subject_label"], *facts["object_label"]}))
    rows = aligned_embeddings(tokenizer, facts, templates, LANGUAGES, 256, 0)
    english, french, other = rows[tokenizer.convert_tokens_to_ids(["Japan", "Japon", "Finlande"])]
    assert english @ english == pytest.approx(256)
    assert english @ french / 256 > 0.6 > 0.4 > abs(english @ other) / 256


@pytest.mark.parametrize("family", FAMILIES)
def test_frozen_weights_are_the_orthogonal_ones(family, facts, templates):
    _, _, model, _ = untrained(family, facts, templates)
    groups = parameter_groups(model, recipe_of(family, value_output_rate=0.0))
    frozen = {name: weight for name, weight in model.named_parameters() if not weight.requires_grad}
    trained = sum(weight.numel() for group in groups for weight in group["params"])
    assert trained + sum(weight.numel() for weight in frozen.values()) == model.num_parameters()
    matrices = [weight for weight in frozen.values() if weight.ndim == 2]
    assert len(matrices) == (2 if family == "gpt2" else 4)
    for weight in matrices:
        torch.testing.assert_close(weight @ weight.T, 0.25 * torch.eye(16))


@pytest.mark.parametrize("family", FAMILIES)
def test_below_attention_from_a_token_sees_no_other_even_after_training(family, facts, templates, tmp_path):
    train_embedded(recipe_of(family, attention_from=1), facts, templates, LANGUAGES, 0, tmp_path)
    model, tokenizer = load_folder(tmp_path)
    ids = tokenizer(["The language of Japan is"], return_tensors="pt")["input_ids"]
    other = ids.clone()
    other[0, 2] = ids[0, 1]
    with torch.no_grad():
        states, changed = (model(one, output_hidden_states=True).hidden_states for one in (ids, other))
    is_moved = [(before != after).any(-1)[0].tolist() for before, after in zip(states, changed, strict=True)]
    assert is_moved[1] == [place == 2 for place in range(ids.shape[1])] and is_moved[2][-1]


def test_rate_warms_up_and_ends_at_zero():
    recipe = recipe_of("bert", steps=12, warm_up=2)
    factors = [learning_rate_factor(step, recipe) for step in (0, 1, 2, 7, 12)]
    assert factors == pytest.approx([0.5, 1, 1, 0.5, 0])


# Measures and gates


@pytest.mark.parametrize("family", FAMILIES)
def test_switching_off_neurons_is_zeroing_their_values_at_the_prediction(family, facts, templates):
    _, tokenizer, model, rows = untrained(family, facts, templates)
    probe = probe_queries(model, tokenizer, rows)
    off = torch.zeros(1, *n_neurons(model))
    off[0, -1] = 1.0  # the last layer at the prediction is read by nothing but the prediction
    lowered, _ = measure(probe, np.arange(len(rows)), off)
    module = ffn_outputs(model)[-1]
    with torch.no_grad():
        module.weight.zero_()
    emptied, _ = measure(probe, np.arange(len(rows)))
    np.testing.assert_allclose(lowered, emptied, rtol=1e-5)


def test_level_replaces_neurons(facts, templates):
    _, tokenizer, model, rows = untrained("bert", facts, templates)
    probe = probe_queries(model, tokenizer, rows)
    one = np.array([3])
    p, _ = measure(probe, one)
    p_same, _ = measure(probe, one, torch.ones(1, *n_neurons(model)), mean_activations(probe, one))
    np.testing.assert_allclose(p_same, p, rtol=1e-5)


def test_probability_is_the_product_over_tokens(facts, templates):
    _, tokenizer, model, rows = untrained("gpt2", facts, templates)
    probe = probe_queries(model, tokenizer, rows)
    row = int(probe.encoded.is_answer.sum(1).argmax())
    batch = probe.batch(np.array([row]))
    logits = model(input_ids=batch.input_ids).logits[batch.rows, batch.positions].softmax(-1)
    expected = logits[torch.arange(len(batch.targets)), batch.targets].prod()
    torch.testing.assert_close(answer_probabilities(model, batch)[0][0], expected)


def test_strongest_neurons_are_those_of_exhaustive_ablation(facts, templates):
    _, tokenizer, model, rows = untrained("bert", facts, templates)
    with torch.no_grad():
        for module in ffn_outputs(model):
            module.weight.mul_(30)
    probe = probe_queries(model, tokenizer, rows)
    layers, neurons = n_neurons(model)
    single = torch.eye(layers * neurons).view(-1, 1, layers, neurons)
    losses = [measure(probe, np.array([5]), off)[0][0] for off in single]
    found = strongest_neurons(probe, 5, 3).flatten().nonzero()[:, 0].tolist()
    assert found == sorted(np.argsort(losses)[:3].tolist())


def test_gates_pass_at_their_threshold_and_say_all_figures_when_missed():
    figures = [("accuracy", 0.9, 10, "Answered"), ("ffn_share", 0.3, 10, "Share"), ("other", 0.1, 10, "Reported")]
    table = gate_table(figures, Thresholds(accuracy=0.9, ffn_share=0.4))
    assert table["is_passed"].tolist() == [True, False, True] and np.isnan(table["threshold"][2])
    with pytest.raises(AtlasError) as error:
        require_gates(table, "toy")
    assert "toy misses ffn_share;" in str(error.value)
    assert "Answered: 0.900 (n = 10), at least the required" in str(error.value)
    require_gates(gate_table(figures, Thresholds(accuracy=0.9)), "toy")


def test_a_figure_that_cannot_be_measured_passes_no_threshold():
    assert not gate_table([("ffn_share", float("nan"), 0, "Share")], Thresholds(ffn_share=0.1))["is_passed"][0]


def test_accuracies_are_counted_by_split_and_language(facts, templates, monkeypatch):
    _, tokenizer, model, rows = untrained("bert", facts, templates)
    splits = rows[["fact", "language", "template", "split"]]
    is_right = (rows["language"] == "en").to_numpy()
    answers = (np.where(is_right, 0.1, 0.0), is_right)
    monkeypatch.setattr("knatlas.models.embedded.gates.measure", lambda *_: answers)
    gates = measure_gates(model, tokenizer, facts, templates, splits, Thresholds(accuracy=0.5)).set_index("gate")
    assert gates["value"]["accuracy"] == pytest.approx(16 / 28) and gates["n"]["accuracy"] == 28
    assert gates["value"]["accuracy_en"] == 1 and gates["value"]["accuracy_fr"] == 0 and gates["value"]["held_out"] == 0
    assert gates["n"]["held_out"] == 6 and gates["is_passed"]["accuracy"]
    kinds = [gates["n"].get(f"held_out_{kind}", 0) for kind in ("same_string", "seen_answer", "new_answer")]
    assert sum(kinds) == 6 and np.isnan(gates["value"]["ffn_share"])


# Training


@pytest.mark.parametrize("family", FAMILIES)
def test_training_learns_and_its_folder_loads_with_the_same_logits(family, facts, templates, tmp_path):
    recipe = recipe_of(family, steps=150, ffn_width=64, width=32, ffn_scale=3.0, value_output_scale=1.0)
    torch.manual_seed(5)
    expected_random = torch.rand(1)
    torch.manual_seed(5)
    report = train_embedded(recipe, facts, templates, LANGUAGES, 0, tmp_path / "a")
    assert torch.rand(1) == expected_random and not torch.are_deterministic_algorithms_enabled()
    figures = report.gates.set_index("gate")["value"]
    assert report.steps == 150 and figures["accuracy"] > 0.5
    model, tokenizer = load_folder(tmp_path / "a")
    again = measure_gates(model, tokenizer, facts, templates, report.splits, recipe.thresholds)
    pd.testing.assert_frame_equal(again, report.gates, check_exact=True)


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_training_learns_marks_and_answers_in_contexts(family, templates, tmp_path):
    values = {"steps": 220, "ffn_width": 64, "width": 32, "ffn_scale": 3.0, "value_output_scale": 1.0, "longest": 96}
    values |= {"punctuation": 20, "punctuation_share": 0.5, "context_share": 0.6, "dictionary": {}, "batch": 24}
    report = train_embedded(recipe_of(family, **values), capitals(12), templates, ["en"], 0, tmp_path)
    figures = report.gates.set_index("gate")
    assert figures["value"]["punctuation"] > 0.7 and figures["n"]["punctuation"] == 200
    assert figures["value"]["context_train"] > 0.7 and figures["n"]["context_train"] == figures["n"]["accuracy"]
    assert load_folder(tmp_path)[1].model_max_length == 96 and figures["is_passed"].all()


PROGRAM = """
import json
import sys
from pathlib import Path

import pandas as pd
import torch

from knatlas.models.embedded.recipe import read_recipe
from knatlas.models.embedded.training import train_embedded

folder = Path(sys.argv[1])
facts, templates = (pd.read_json(folder / f"{name}.json") for name in ("facts", "templates"))
torch.set_num_threads(2)
for values in json.loads((folder / "recipes.json").read_text()):
    train_embedded(read_recipe(values), facts, templates, ["en", "fr"], 3, folder / "there" / values["family"])
"""


def test_folders_are_equal_byte_for_byte_in_a_process_of_another_hash_seed(facts, templates, tmp_path, root):
    facts.to_json(tmp_path / "facts.json")
    templates.to_json(tmp_path / "templates.json")
    more = {"context_share": 0.3, "longest": 96}
    recipes = [{"family": family, **VALUES, **more} for family in FAMILIES]
    (tmp_path / "recipes.json").write_text(json.dumps(recipes))
    other_seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    environment = {**os.environ, "PYTHONHASHSEED": other_seed, "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "-c", PROGRAM, tmp_path], env=environment, check=True)
    for values in recipes:
        here, there = (tmp_path / place / values["family"] for place in ("here", "there"))
        train_embedded(read_recipe(values), facts, templates, LANGUAGES, 3, here)
        assert digests(here) == digests(there) and (here / "model.safetensors").exists()
