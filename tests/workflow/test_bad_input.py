"""What a user gets wrong: one sentence, exit code not 0, no traceback on the terminal, nothing computed lost."""

import shutil

import pytest

from .conftest import Workflow, refused

pytestmark = pytest.mark.workflow


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"langauges": ["en"]}, "langauges: unknown key"),
        ({"languages": ["en", "jp"]}, "languages[1] is 'jp'; expected a language of catalog/languages.yaml"),
        ({"facts.relations": ["P36", "P99"]}, "facts.relations[1] is 'P99'; expected a relation of source 'cldr'"),
        ({"facts.source": "mpararel", "facts.folder": "no/such/folder"}, "facts.folder: 'no/such/folder' is not there"),
        ({"models": ["smoke-gtp2"]}, "Did you mean 'smoke-gpt2'?"),
    ],
)
def test_a_mistake_in_the_configuration_is_refused_before_anything_runs(clone, change, sentence):
    name = clone.configure("wrong.yaml", change)
    assert sentence in refused(clone, "-n", "all", configfile=name)


def test_a_template_without_a_slot_names_file_relation_and_number(clone):
    path = clone.folder / "catalog" / "templates" / "fr.yaml"
    path.write_text(path.read_text().replace('"[X]', '"X', 1))
    shown = refused(clone, "--cores", "1", "data")
    assert "fr.yaml" in shown and "P36" in shown and "[X]" in shown


def mpararel_study(workflow: Workflow, root) -> str:
    """A study on the hand-written files in mParaRel's format, which are copied so that a test may break them."""
    shutil.copytree(root / "tests" / "data" / "mpararel", workflow.folder / "own" / "mpararel")
    languages = ["en", "fr"]
    study = {
        "facts": {"source": "mpararel", "folder": "own", "min_queries": 1},
        "languages": languages,
        "models": ["mbert"],
    }
    return workflow.configure("own.yaml", study)


def test_facts_of_ones_own_in_mpararels_format_are_read(clone, root):
    clone.run("data", configfile=mpararel_study(clone, root))
    assert (clone.results / "facts" / "facts.parquet").exists()


def test_a_broken_line_names_file_and_line(clone, root):
    study = mpararel_study(clone, root)
    path = sorted((clone.folder / "own" / "mpararel" / "tuples" / "en").glob("*.jsonl"))[0]
    path.write_text("{broken\n" + path.read_text())
    shown = refused(clone, "--cores", "1", "data", configfile=study)
    assert f"{path.name}, line 1" in shown


def test_a_data_folder_without_the_data_set_is_named(clone):
    (clone.folder / "own").mkdir()
    change = {"facts": {"source": "mpararel", "folder": "own"}, "models": ["mbert"]}
    shown = refused(clone, "-n", "data", configfile=clone.configure("own.yaml", change))
    assert "own/mpararel" in shown


def test_a_model_folder_without_weights_is_a_sentence(clone):
    (clone.folder / "bare").mkdir()
    (clone.folder / "bare" / "config.json").write_text('{"model_type": "gpt2"}')
    own = {"bare": {"origin": "folder", "folder": "bare", "kind": "causal"}}
    name = clone.configure("bare.yaml", {"models": ["bare"], "additional_models": own})
    shown = refused(clone, "--cores", "1", "results/smoke/models/bare/source.json", configfile=name)
    assert "bare has no weights in the safetensors format" in shown


def test_a_hub_model_without_network_is_a_sentence(clone):
    name = clone.configure("hub.yaml", {"models": ["mbert"]})
    shown = refused(clone, "--cores", "1", "results/smoke/models/mbert/source.json", configfile=name)
    assert "models: mbert: 'google-bert/bert-base-multilingual-cased' is not in the local cache" in shown


def test_a_model_that_misses_its_gate_stops_the_study_with_the_figures(clone):
    recipes = clone.folder / "catalog" / "models.yaml"
    head, tail = recipes.read_text().split("smoke-gpt2:")
    recipes.write_text(f"{head}smoke-gpt2:{tail.replace('ffn_share: 0.25', 'ffn_share: 0.999', 1)}")
    shown = refused(clone, "--cores", "1", "results/smoke/known/smoke-gpt2.parquet")
    assert "smoke-gpt2 misses ffn_share; all figures:" in shown and "accuracy: Share of trained queries" in shown
    assert not (clone.results / "models" / "smoke-gpt2" / "source.json").exists()
    # what was computed before stays; whether the prompts were is the scheduler's choice
    assert (clone.results / "facts" / "facts.parquet").exists()
