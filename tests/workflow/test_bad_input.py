"""What a user gets wrong, through Snakemake's own process; tests/bad_input has the cases area by area."""

import shutil

import pytest

from .conftest import Workflow, refused

pytestmark = pytest.mark.workflow


def test_a_mistake_in_the_configuration_is_refused_before_anything_runs(clone):
    name = clone.configure("wrong.yaml", {"languages": ["en", "jp"], "models": ["smoke-gtp2"]})
    shown = refused(clone, "-n", "all", configfile=name)
    assert "languages[1] is 'jp'; expected a language of catalog/languages.yaml" in shown
    assert "Did you mean 'smoke-gpt2'?" in shown and "Job stats" not in shown


def test_an_unknown_target_is_refused_with_the_nearest(clone):
    assert "Did you mean 'figures'?" in refused(clone, "-n", "figurs")


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


def test_facts_of_ones_own_in_mpararels_format_are_read_and_their_edits_noticed(clone, root):
    study = mpararel_study(clone, root)
    clone.run("data", configfile=study)
    assert (clone.results / "facts" / "facts.parquet").exists()
    assert clone.plan("data", configfile=study) == {}
    path = sorted((clone.folder / "own" / "mpararel" / "tuples" / "en").glob("*.jsonl"))[0]
    path.write_text(path.read_text() + "\n")
    assert clone.plan("data", configfile=study)["read_facts"] == 1


def test_a_broken_line_names_file_and_line(clone, root):
    study = mpararel_study(clone, root)
    path = sorted((clone.folder / "own" / "mpararel" / "tuples" / "en").glob("*.jsonl"))[0]
    path.write_text("{broken\n" + path.read_text())
    shown = refused(clone, "--cores", "1", "data", configfile=study)
    assert f"{path.name}, line 1" in shown


def test_a_model_that_misses_its_gate_stops_the_study_with_the_figures(clone):
    recipes = clone.folder / "catalog" / "models.yaml"
    head, tail = recipes.read_text().split("smoke-gpt2:")
    recipes.write_text(f"{head}smoke-gpt2:{tail.replace('ffn_share: 0.25', 'ffn_share: 0.999', 1)}")
    shown = refused(clone, "--cores", "1", "results/smoke/known/smoke-gpt2.parquet")
    assert "smoke-gpt2 misses ffn_share; all figures:" in shown and "accuracy: Share of trained queries" in shown
    assert not (clone.results / "models" / "smoke-gpt2" / "source.json").exists()
    # what was computed before stays; whether the prompts were is the scheduler's choice
    assert (clone.results / "facts" / "facts.parquet").exists()
