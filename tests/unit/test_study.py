"""Reading a study: defaults, and every mistake said at once as `path: sentence`."""

from pathlib import Path

import pytest
import yaml

from knatlas.catalog import read_catalog
from knatlas.errors import AtlasError
from knatlas.models.embedded.recipe import recipe_in
from knatlas.selection.needs import NEEDS
from knatlas.study import attribution_settings, languages_of, localized_models, read_study
from knatlas.study.facts import own_data_files
from knatlas.study.schema import read_schema

MINIMAL = {"study": "s", "languages": ["en", "fr"], "models": ["tiny-gpt2"]}


def study(**changes) -> dict:
    return read_study({**MINIMAL, **changes})


def mistakes(**changes) -> str:
    with pytest.raises(AtlasError) as caught:
        study(**changes)
    return str(caught.value)


def test_defaults_are_filled_in_at_every_depth():
    filled = study()
    assert filled["selection"]["matrice"]["tau"] == 0.3
    assert filled["attribution"]["methods"] == {"bkn": {}, "amig": {}, "saig": {}, "atp": {}}
    assert filled["facts"]["relations"] == "all"


def test_values_given_are_kept_beside_defaults():
    filled = study(selection={"matrice": {"tau": 0.5}})
    assert filled["selection"]["matrice"]["tau"] == 0.5
    assert filled["selection"]["matrice"]["alpha1"] == 1


def test_the_order_of_keys_does_not_matter():
    backwards = dict(reversed(MINIMAL.items()))
    backwards["selection"] = {"amig": {"tau": {"fr": 0.4, "default": 0.2}}, "bkn": {}}
    forwards = {**MINIMAL, "selection": {"bkn": {}, "amig": {"tau": {"default": 0.2, "fr": 0.4}}}}
    assert str(read_study(backwards)) == str(read_study(forwards))


def test_reading_a_study_does_not_change_its_argument():
    config = dict(MINIMAL)
    read_study(config)
    assert config == MINIMAL


@pytest.mark.parametrize(
    "path", sorted(Path(__file__).resolve().parents[2].glob("studies/*.yaml")), ids=lambda p: p.stem
)
def test_every_study_of_the_repository_is_valid(path):
    assert read_study(yaml.safe_load(path.read_text()))["study"] == path.stem


def test_the_embedded_study_is_valid(root):
    assert read_study(yaml.safe_load((root / "config.yaml").read_text()))["study"] == "embedded"


def schema_leaves(schema: dict, path: str = ""):
    for name, part in schema.get("properties", {}).items():
        yield f"{path}.{name}", part
        yield from schema_leaves(part, f"{path}.{name}")


def test_every_key_of_the_schema_has_a_description_and_a_default():
    for path, part in schema_leaves(read_schema()):
        if "properties" in part:
            assert part["additionalProperties"] is False, path
            assert part["default"] == {}, path
        elif "$ref" not in part:
            assert len(part["description"]) > 15, path
        if path not in (".study", ".languages", ".models"):
            assert "default" in part, path


def test_an_unknown_key_names_the_nearest():
    assert "selection.matrice.taus: unknown key" in mistakes(selection={"matrice": {"taus": 0.2}})
    assert "Did you mean 'tau'?" in mistakes(selection={"matrice": {"taus": 0.2}})


def test_a_misspelt_key_at_the_top():
    message = mistakes(langauges=["en"])
    assert "langauges: unknown key" in message
    assert "Did you mean 'languages'?" in message


def test_all_mistakes_are_listed_at_once():
    message = mistakes(languages=["en", "jp"], models=["tiny-gpt"], facts={"relations": ["P36", "P3700"]})
    assert "3 mistake(s)" in message
    assert "languages[1] is 'jp'" in message and "Did you mean 'ja'?" in message
    assert "models[0] is 'tiny-gpt'" in message and "Did you mean 'tiny-gpt2'?" in message
    assert "facts.relations[1] is 'P3700'" in message


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"seed": -1}, "seed: is -1"),
        ({"seed": "zero"}, "seed: is 'zero'; expected a whole number"),
        (
            {"dtype": "float31"},
            "dtype: is 'float31'; expected one of float32 float64 bfloat16 float16. Did you mean 'float32'?",
        ),
        ({"facts": {"source": "mparel"}}, "facts.source: is 'mparel'"),
        ({"facts": {"relations": []}}, "facts.relations: is []"),
        ({"facts": {"folder": "nowhere"}}, "facts.folder: 'nowhere' is not there"),
        ({"facts": {"source": "mpararel", "folder": "tests"}}, "facts.folder: 'tests' has no folder mpararel in it"),
        (
            {"facts": {"source": "mpararel", "folder": "tests/data/mpararel"}},
            "'tests/data/mpararel' has no folder mpararel in it; give the folder above it, 'tests/data'",
        ),
        ({"facts": {"exclude_marks": ["brackets"]}}, "facts.exclude_marks[0]: is 'brackets'"),
        ({"facts": {"as_of": "yesterday"}}, "facts.as_of: is 'yesterday'"),
        ({"attribution": {"methods": {"saig": {"rule": "rigth"}}}}, "Did you mean 'right'?"),
        ({"attribution": {"shards": 0}}, "attribution.shards: is 0"),
        (
            {"attribution": {"run": ["bkn", "saig"]}},
            "'amig' reads the scores of 'amig', which is not in attribution.run",
        ),
        ({"attribution": {"run": ["sag"]}}, "attribution.run[0]: is 'sag'; expected one of bkn amig saig atp."),
        ({"attribution": {"keep": "some"}}, "attribution.keep: is 'some'"),
        ({"attribution": {"rtol": 0}}, "attribution.rtol: is 0"),
        ({"attribution": {"methods": {"saig": {"quadrature": "chekced"}}}}, "Did you mean 'checked'?"),
        (
            {"attribution": {"keep": "candidates"}, "selection": {"matrice": {"eq9_axis": "neuron"}}},
            "selection.matrice.eq9_axis: is 'neuron', which can't be told from candidates",
        ),
        ({"compute": {"batch_rows": -1}}, "compute.batch_rows: is -1"),
        (
            {"experiments": {"localization": {"models": ["tiny-gpt3"]}}},
            "experiments.localization.models[0] is 'tiny-gpt3'",
        ),
        (
            {"experiments": {"punctuation": {"corpus": "no.txt"}}},
            "experiments.punctuation.corpus: 'no.txt' is not there",
        ),
        (
            {"experiments": {"counterfact": {"source": "counterfacts"}}},
            "experiments.counterfact.source: 'counterfacts' is not there; give one of facts counterfact, or a file",
        ),
        ({"experiments": {"causal_tracing": {"noise": "s4"}}}, "experiments.causal_tracing.noise: is 's4'; expected"),
        ({"experiments": {"rome": {"layers": {"gpt2": 5}}}}, "the key 'default' is missing"),
        ({"selection": {"matrice": {"tau": 1.5}}}, "selection.matrice.tau: is 1.5"),
        ({"selection": {"selections": ["matrix"]}}, "Did you mean 'matrice'?"),
        ({"selection": {"selections": ["amig", "random"]}}, "selection.random.reference: is 'matrice'"),
        ({"selection": {"amig": {"tau": {"default": 0.2, "zz": 0.3}}}}, "selection.amig.tau is 'zz'"),
        ({"selection": {"amig": {"tau": {"en": 0.3}}}}, "selection.amig.tau: the key 'default' is missing"),
        ({"models": []}, "models: is []"),
        ({"languages": ["zh"], "models": ["tiny-gpt2-en"]}, "models[0]: 'tiny-gpt2-en' is studied in en only"),
        ({"facts": {"source": "mpararel"}}, "models[0]: 'tiny-gpt2' is trained on the facts"),
        (
            {"additional_models": {"m": {"origin": "hub", "kind": "causal"}}},
            "additional_models.m: origin 'hub' needs the key 'id'",
        ),
        (
            {"additional_models": {"m": {"origin": "folder", "kind": "causal", "folder": "nowhere"}}},
            "additional_models.m.folder: 'nowhere' is not a folder",
        ),
        ({"study": "a/b"}, "study: is 'a/b'"),
        (
            {"experiments": {"crosslingual": {"pairs": [["en", "zh"], ["en", "jp"]]}}},
            "experiments.crosslingual.pairs[1] is 'jp'; expected a language of the study",
        ),
        ({"experiments": {"crosslingual": {"pairs": [["en", "en"]]}}}, "crosslingual.pairs[0]: 'en' stands twice"),
        ({"experiments": {"degenerate": {"low": 2}}}, "experiments.degenerate.low: is 2"),
        ({"selection": {"selections": ["bkn", "dkn"], "random": {"reference": "bkn"}}}, "has 'dkn', which is searched"),
        (
            {"selection": {"selections": ["amig", "dkn", "random"], "random": {"reference": "dkn"}}},
            "selection.random.reference: is 'dkn'",
        ),
    ],
)
def test_a_mistake_is_a_sentence(changes, sentence):
    assert sentence in mistakes(**changes)


def test_a_selection_whose_method_is_run_is_no_mistake():
    selection = {"selections": ["bkn", "refined", "random"], "random": {"reference": "refined"}}
    assert study(attribution={"run": ["bkn"]}, selection=selection)["attribution"]["run"] == ["bkn"]


def test_a_missing_key_is_named():
    with pytest.raises(AtlasError, match="the key 'models' is missing"):
        read_study({"study": "s", "languages": ["en"]})


def test_what_decides_the_numbers_of_an_attribution_is_told_from_how_its_work_is_cut():
    settings = attribution_settings(study())
    assert "saig" in settings["run"] and settings["keep"] == "all" and settings["rtol"] == 0.001
    others = {"shards": 7, "keep_shards": False, "candidates": 99}
    assert attribution_settings(study(attribution=others)) == settings
    candidates = attribution_settings(study(attribution={**others, "keep": "candidates"}))
    assert candidates == {**settings, "keep": "candidates", "candidates": 99}


def test_a_model_is_studied_in_its_own_languages():
    assert languages_of(study(), "tiny-gpt2") == ["en", "fr"]
    assert languages_of(study(), "tiny-gpt2-en") == ["en"]


@pytest.mark.parametrize("reading", ["paper", "code"])
def test_the_embedded_study_runs_in_other_readings_by_a_second_file(root, reading):
    def add(given, more):
        return {**given, **{k: add(given.get(k, {}), v) if isinstance(v, dict) else v for k, v in more.items()}}

    first, second = (
        yaml.safe_load((root / path).read_text()) for path in ("config.yaml", f"studies/readings/{reading}.yaml")
    )
    study = read_study(add(first, second))
    assert study["attribution"]["equations"] == reading and study["models"] == first["models"]
    assert study["experiments"]["intervene_site"] == ("pre_activation" if reading == "code" else "down_input")


def test_the_localization_papers_models_are_those_of_english_alone_unless_they_are_named():
    models = ["tiny-gpt2", "tiny-gpt2-en", "tiny-bert-en"]
    assert localized_models(study(models=models)) == ["tiny-gpt2-en", "tiny-bert-en"]
    named = {"localization": {"models": ["tiny-gpt2"]}}
    assert localized_models(study(models=models, experiments=named)) == ["tiny-gpt2"]
    assert localized_models(study(models=models, experiments={"localization": {"models": "all"}})) == models
    without = study(models=["tiny-gpt2"], languages=["fr", "ko"], experiments={"localization": {"models": "all"}})
    assert localized_models(without) == []


def test_a_language_without_a_pattern_in_a_recipe_is_named_with_model_and_file(monkeypatch):
    languages = read_catalog("languages")
    monkeypatch.setitem(languages, "et", languages["fi"])
    assert "catalog/models.yaml: tiny-gpt2.recipe.dictionary has no pattern for et; add" in mistakes(
        languages=["en", "et"], models=["tiny-gpt2"]
    )


def test_a_recipe_without_other_languages_says_the_same_of_the_study_s_own():
    recipe = read_catalog("models")["tiny-gpt2"]["recipe"]
    own = recipe_in(recipe, ["en", "fi"])
    assert own["dictionary"] == {language: recipe["dictionary"][language] for language in ("en", "fi")}
    assert (own["held_out"], own["doubled"]) == ({"en": 0.1, "fi": 0.3}, ["en"])
    rest = {key for key in recipe if own[key] != recipe[key]}
    assert rest == {"dictionary", "held_out", "doubled"} and recipe_in(recipe, list(recipe["dictionary"])) == recipe


def test_a_selection_whose_scores_are_not_named_is_a_sentence(monkeypatch):
    named = {name: scores for name, scores in NEEDS.items() if name != "matrice"}
    monkeypatch.setattr("knatlas.study.NEEDS", named)
    assert "'matrice' has no row in NEEDS of knatlas/selection/needs.py" in mistakes()


def test_the_files_of_a_data_set_of_ones_own_are_inputs_but_for_hidden_ones(tmp_path):
    names = ["mpararel/tuples/en/P36.jsonl", "mpararel/.git/HEAD", "mpararel/patterns/en/.P36.jsonl", "pararel/x.jsonl"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    own = {"facts": {"source": "mpararel", "folder": str(tmp_path)}}
    assert own_data_files(own) == [str(tmp_path / names[0])]
    assert own_data_files({"facts": {"source": "mpararel", "folder": None}}) == []
