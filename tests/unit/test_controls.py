"""Negative controls: answers of other facts, made-up subjects, untrained copies, and which facts they take."""

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from knatlas.errors import AtlasError
from knatlas.facts.controls import CONTROL_COLUMNS, control_facts, shuffled_donors
from knatlas.facts.made_up import LONGEST, SHORTEST, alphabet, made_up_names
from knatlas.facts.table import fact_id
from knatlas.models.known import cut_facts
from knatlas.models.loading import load_model
from knatlas.models.sources import model_identity, read_source_record, resolve_model, source_record, untrained_copy
from knatlas.reporting.methods_text import methods_text
from knatlas.study import read_study
from knatlas.study.controls import controlled_models
from tests.tiny_models import tiny_model

LANGUAGES = ("en", "fi")
SUBJECTS = {"FR": ("France", "Ranska"), "FI": ("Finland", "Suomi"), "BE": ("Belgium", "Belgia")}


def facts_of(pairs, relation="P1"):
    """A row per fact and language of pairs (subject, object), each named by its id and the language."""
    rows = [
        (fact_id(relation, s, o), relation, s, o, language, f"{s} in {language}", f"{o} in {language}")
        for s, o in pairs
        for language in LANGUAGES
    ]
    return pd.DataFrame(rows, columns=[name for name in CONTROL_COLUMNS if name != "answer_of"])


PAIRS = st.sets(st.tuples(st.integers(0, 12), st.integers(0, 4)), min_size=1, max_size=25)


@settings(max_examples=40, deadline=None)
@given(pairs=PAIRS, seed=st.integers(0, 3))
def test_no_fact_keeps_its_answer_or_gets_one_that_is_true_of_its_subject(pairs, seed):
    pairs = [(f"s{subject}", f"o{obj}") for subject, obj in sorted(pairs)]
    facts, changes = control_facts("shuffled_objects", facts_of(pairs), seed)
    true = {s: {o for other, o in pairs if other == s} for s, _ in pairs}
    for row in facts.itertuples(index=False):
        given_object = row.object_label.split(" ")[0]
        assert row.object_label.endswith(row.language) and given_object not in true[row.subject]
        assert row.answer_of == fact_id("P1", row.answer_of[3:].split(">")[0], given_object)
    # whoever is left out had no other answer to be given
    objects, kept = {o for _, o in pairs}, set(facts["fact"])
    for subject, obj in pairs:
        assert (fact_id("P1", subject, obj) in kept) == bool(objects - true[subject])
    assert changes.set_index("relation").loc["all", "left_out"] == len(pairs) - len(kept)


@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.integers(1, 4), min_size=2, max_size=6), seed=st.integers(0, 3))
def test_answers_are_permuted_where_no_object_has_more_than_half_of_the_facts(sizes, seed):
    pairs = [(f"s{i}.{j}", f"o{i}") for i, size in enumerate(sizes) for j in range(size)]
    donors = shuffled_donors(facts_of(pairs), seed)
    is_possible = 2 * max(sizes) <= sum(sizes)
    assert set(donors) == {fact_id("P1", s, o) for s, o in pairs}
    assert (sorted(donors.values()) == sorted(donors)) or not is_possible


def test_relations_and_the_order_of_rows_do_not_mix():
    first, second = facts_of([("a", "x"), ("b", "y"), ("c", "z")]), facts_of([("a", "u"), ("b", "v")], "P2")
    alone, both = shuffled_donors(first, 0), shuffled_donors(pd.concat([second, first[::-1]]), 0)
    assert both == alone | {"P2:a>u": "P2:b>v", "P2:b>v": "P2:a>u"}
    many = facts_of([(f"s{i}", f"o{i % 7}") for i in range(40)])
    assert shuffled_donors(many, 0) != shuffled_donors(many, 1)


def test_a_name_that_is_the_own_one_in_some_language_is_no_other_answer():
    facts = facts_of([("a", "x"), ("b", "y"), ("c", "z")])
    facts.loc[facts["object"].isin(["x", "y"]) & (facts["language"] == "fi"), "object_label"] = ["Sama", "sama"]
    donors = shuffled_donors(facts, 0)
    assert donors["P1:a>x"] == donors["P1:b>y"] == "P1:c>z" and donors["P1:c>z"] in ("P1:a>x", "P1:b>y")


def test_how_many_could_not_be_shuffled_is_counted_by_relation():
    facts = pd.concat([facts_of([("a", "x"), ("b", "x")]), facts_of([("a", "u"), ("b", "v")], "P2")])
    kept, changes = control_facts("shuffled_objects", facts, 0)
    assert changes.values.tolist() == [["P1", 2, 1, 0, 2], ["P2", 2, 2, 2, 0], ["all", 4, 3, 2, 2]]
    assert set(kept["relation"]) == {"P2"} and list(kept.columns) == CONTROL_COLUMNS


def named_facts():
    facts = facts_of([(subject, "EU") for subject in SUBJECTS])
    labels = [
        SUBJECTS[s][LANGUAGES.index(language)] for s, language in zip(facts["subject"], facts["language"], strict=True)
    ]
    return facts.assign(subject_label=labels)


@settings(max_examples=40, deadline=None)
@given(labels=st.lists(st.text(alphabet="ab", min_size=1, max_size=3), min_size=1, max_size=14), seed=st.integers(0, 2))
def test_a_made_up_name_is_never_one_of_the_data_nor_given_twice(labels, seed):
    facts = pd.DataFrame({"subject": [f"s{i}" for i in range(len(labels))], "subject_label": labels})
    facts = facts.assign(language="en", object_label="Aba")
    names = list(made_up_names(facts, seed).values())
    assert not {name.casefold() for name in names} & {label.casefold() for label in [*labels, "Aba"]}
    assert len(set(names)) == len(names) == len(labels) and set("".join(names)) <= set("ab")


def test_made_up_names_have_the_letters_and_the_capital_of_the_languages_own_names():
    facts = named_facts()
    names, again = made_up_names(facts, 0), made_up_names(facts[::-1], 0)
    assert names == again != made_up_names(facts, 1) and set(names) == {
        (lang, s) for lang in LANGUAGES for s in SUBJECTS
    }
    for (language, _), name in names.items():
        own = {letter for labels in SUBJECTS.values() for letter in labels[LANGUAGES.index(language)].lower()}
        assert name[0].isupper() and set(name.lower()) <= own and SHORTEST <= len(name) <= LONGEST


def test_letters_of_another_script_and_signs_are_left_out():
    assert sorted(alphabet(["日本", "IT-国"])) == sorted("日本国")
    assert sorted(alphabet(["São Tomé 1"])) == sorted("sãotomé")
    assert alphabet(["12"]) == ["x"]


def test_nonsense_changes_the_subject_alone_and_every_fact():
    given_facts = named_facts()
    facts, changes = control_facts("nonsense_subjects", given_facts, 0)
    same = [name for name in CONTROL_COLUMNS if name not in ("subject_label", "answer_of")]
    pd.testing.assert_frame_equal(facts[same], given_facts[same])
    assert (facts["subject_label"] != given_facts["subject_label"]).all() and (
        facts["answer_of"] == facts["fact"]
    ).all()
    assert changes.set_index("relation")["left_out"].to_dict() == {"P1": 0, "all": 0}


def test_an_unknown_control_is_a_sentence():
    with pytest.raises(AtlasError, match="Did you mean 'shuffled_objects'"):
        control_facts("shuffled_object", facts_of([("a", "x")]), 0)


def localised(n):
    return pd.DataFrame({"fact": [f"f{i}" for i in range(n)], "relation": "P1", "mean_p": 0.5, "shard": 0})


def test_a_control_takes_the_first_localised_facts_that_it_has_prompts_for():
    prompts = pd.DataFrame({"fact": ["f4", "f1", "f2", "f9"]})
    chosen = cut_facts(localised(6), prompts, 2, 2)
    assert chosen["fact"].tolist() == ["f1", "f2"] and chosen["shard"].tolist() == [0, 1]
    assert cut_facts(localised(6), prompts, None, 1)["fact"].tolist() == ["f1", "f2", "f4"]
    with pytest.raises(AtlasError, match="none of the 3 localised facts"):
        cut_facts(localised(3), prompts[3:], 2, 1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    lm = tiny_model("llama")
    lm.model.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    return resolve_model("tiny", "folder", str(folder))


def weights(source, dtype="float32"):
    return load_model(source, dtype, "cpu").model.state_dict()


def test_an_untrained_copy_has_the_same_shape_and_other_weights_which_the_seed_decides(trained):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    real, copy, again, other = (weights(s) for s in (trained, *(untrained_copy(trained, i) for i in (0, 0, 1))))
    assert {name: value.shape for name, value in copy.items()} == {name: value.shape for name, value in real.items()}
    matrices = [name for name, value in copy.items() if value.ndim == 2]
    assert len(matrices) > 10 and not any(torch.equal(copy[name], real[name]) for name in matrices)
    assert all(torch.equal(copy[name], again[name]) for name in copy)
    assert not any(torch.equal(copy[name], other[name]) for name in matrices)
    # as transformers draws them: with the configuration's spread, and from no stream of the caller's
    drawn = torch.cat([copy[name].flatten() for name in matrices])
    assert drawn.std().item() == pytest.approx(0.02, rel=0.05) and torch.equal(torch.random.get_rng_state(), before)


def test_an_untrained_copy_has_the_configuration_and_tokenizer_and_is_frozen(trained):
    real, copy = load_model(trained, device="cpu"), load_model(untrained_copy(trained, 0), device="cpu")
    assert copy.model.config.to_dict() == real.model.config.to_dict()
    assert copy.tokenizer.get_vocab() == real.tokenizer.get_vocab() and not copy.model.training
    assert not any(parameter.requires_grad for parameter in copy.model.parameters())
    half = weights(untrained_copy(trained, 0), "bfloat16")
    full = copy.model.state_dict()
    assert all(torch.equal(half[name], full[name].to(torch.bfloat16)) for name in full)


def test_an_untrained_copy_is_told_from_its_model_wherever_it_is_named(trained):
    copy = untrained_copy(trained, 7)
    record = source_record(copy)
    assert read_source_record(record) == copy and record["untrained_seed"] == "7"
    assert "untrained_seed" not in source_record(trained) and read_source_record(source_record(trained)) == trained
    identities = [model_identity(source_record(source)) for source in (trained, copy, untrained_copy(trained, 8))]
    assert len({identity["revision"] for identity in identities}) == 3
    assert {identity["name"] for identity in identities} == {"tiny"}
    assert load_model(copy, device="cpu").revision == copy.revision != trained.revision
    with pytest.raises(AtlasError, match="untrained already"):
        untrained_copy(copy, 0)


def test_an_untrained_copy_of_what_cannot_be_loaded_is_refused_as_its_model_is(trained, tmp_path):
    for file in trained.folder.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    broken = read_source_record({**source_record(untrained_copy(trained, 0)), "folder": str(tmp_path)})
    with pytest.raises(AtlasError, match="no weights"):
        load_model(broken, device="cpu")


STUDY = {"study": "s", "languages": ["en", "fi"], "models": ["bert", "gpt2"], "facts": {"source": "mpararel"}}


def test_a_study_has_controls_in_the_models_it_names_and_none_by_default():
    def models(**controls):
        return controlled_models(read_study({**STUDY, "controls": controls}))

    assert models() == models(models=["gpt2"]) == []
    assert models(kinds=["untrained"]) == ["bert", "gpt2"] and models(kinds=["untrained"], models=["gpt2"]) == ["gpt2"]


def test_a_control_or_model_that_there_is_not_is_a_sentence():
    with pytest.raises(AtlasError, match=r"controls\.models\[0\] is 'gpt'.*Did you mean 'gpt2'"):
        read_study({**STUDY, "controls": {"kinds": ["untrained"], "models": ["gpt"]}})
    with pytest.raises(AtlasError, match=r"controls\.kinds\[0\].*untrained"):
        read_study({**STUDY, "controls": {"kinds": ["untraind"]}})


def test_the_methods_tell_of_the_controls_that_a_study_has():
    plain, controlled = (
        dict(methods_text(read_study({**STUDY, "controls": {"kinds": kinds}}))) for kinds in ([], ["untrained"])
    )
    assert "Negative controls" not in plain and "untrained; models: all; 40 facts" in controlled["Negative controls"]
