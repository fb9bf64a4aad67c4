"""Candidates in place of all neurons, and shards that go on where a killed job stopped, through Snakemake for real."""

import numpy as np
import pytest

from knatlas.provenance import file_digest
from knatlas.selection.recipes import RECIPES
from knatlas.selection.scores import read_scores
from knatlas.selection.select import select
from knatlas.storage import read_json, read_metadata, read_table
from knatlas.study import read_study
from tests.candidate_scores import candidates_of
from tests.unit.test_certificates import compare

pytestmark = pytest.mark.workflow

MODEL = "smoke-gpt2"
KILL_AFTER_ONE_BATCH = """
import os
import signal

replace = os.replace

def replace_and_die(source, target):
    replace(source, target)
    if os.path.dirname(target).endswith(".partial"):
        os.kill(os.getpid(), signal.SIGKILL)

os.replace = replace_and_die
"""


@pytest.mark.parametrize("model", ["smoke-bert", "smoke-gpt2", "smoke-llama"])
@pytest.mark.parametrize("floor", ["zero", "min"])
def test_certified_sets_from_candidates_of_trained_models_are_those_of_all_scores(computed, model, floor):
    dense = read_scores(computed.results / "scores" / f"{model}.safetensors")
    settings = read_study({"study": "s", "languages": ["en"], "models": ["smoke-gpt2"]})["selection"]
    # of sets over some of the languages no close bound is recorded, and sets of a given size reach below any threshold
    names = [name for name in RECIPES if name != "matrice_leave_language_out" and not name.endswith("_matched")]
    settings = {**settings, "selections": names, "matrice": {**settings["matrice"], "eq9_floor": floor}}
    n_neurons, counts = np.prod(dense.shape), {}
    for part in (0.05, 0.2, 0.5):
        counts[part], n_sets = compare(dense, candidates_of(dense, round(part * n_neurons)), settings)
    assert counts[0.05] <= counts[0.2] <= counts[0.5]
    if floor == "zero":
        assert counts[0.5] == n_sets


def test_a_study_of_candidates_finds_the_certified_neurons_of_the_study_of_all(workflow, computed):
    name = {"attribution.keep": "candidates", "attribution.candidates": 200, "attribution.keep_shards": False}
    study = workflow.configure("candidates.yaml", name)
    target = f"results/smoke/neurons/{MODEL}/matrice.parquet"
    ran = workflow.run(target, configfile=study)
    # one job per shard, all languages in it, and nothing but the attribution again
    assert ran == {"attribute_shard": 2, "aggregate_scores": 1, "select_neurons": 1}
    assert not list((workflow.results / "attribution" / MODEL / "all").glob("*.safetensors"))
    path = workflow.results / "scores" / f"{MODEL}.safetensors"
    metadata, dense = read_metadata(path), computed.results / "scores" / f"{MODEL}.safetensors"
    assert metadata["candidates"] == 200 and metadata["languages"] == ["en", "fr", "ko"]
    assert path.stat().st_size < 0.6 * dense.stat().st_size
    sparse, whole = read_scores(path), read_scores(dense)
    settings = {**read_json(f"{workflow.results}/neurons/{MODEL}/summary.csv.provenance.json")["settings"]["selection"]}
    found = {sets.selection: summary for sets, summary in select(sparse, settings)}
    for selection in set(RECIPES) & set(found):
        ours, theirs = (
            read_table(w.results / "neurons" / MODEL / f"{selection}.parquet") for w in (workflow, computed)
        )
        certified = found[selection].query("is_certified")[["fact", "language"]]
        assert len(certified) > 0, selection
        ours, theirs = (certified.merge(frame)[["fact", "language", "layer", "index"]] for frame in (ours, theirs))
        assert ours.sort_values(list(ours)).values.tolist() == theirs.sort_values(list(theirs)).values.tolist()
    assert whole.facts == sparse.facts
    other = {"selection.matrice.tau": 0.5, "selection.matrice.alpha2": 2, "selection.matrice.beta2": 0}
    plan = workflow.plan(target, configfile=workflow.configure("other.yaml", {**name, **other}))
    assert plan == {"select_neurons": 1}
    more = workflow.configure("more.yaml", {**name, "attribution.candidates": 300})
    assert workflow.plan(target, configfile=more)["attribute_shard"] == 2


def test_a_killed_shard_goes_on_where_it_stopped(workflow):
    folder = workflow.results / "attribution" / MODEL / "fr"
    shard, partial = folder / "0.safetensors", folder / "0.partial"
    study = workflow.configure("small.yaml", {"compute.batch_queries": 1})
    target = str(shard.relative_to(workflow.folder))
    shard.unlink()
    # queries that share a sweep share its last digits: compared with an uninterrupted run in the same batches
    workflow.run(target, configfile=study)
    before = file_digest(shard)
    shard.unlink()
    (workflow.folder / "sitecustomize.py").write_text(KILL_AFTER_ONE_BATCH)
    died = workflow.snakemake("--cores", "1", target, configfile=study, PYTHONPATH=str(workflow.folder))
    assert died.returncode != 0 and not shard.exists()
    # Snakemake removes what a failed job declared as output; the finished batch lies beside it
    assert len(list(partial.iterdir())) == 1
    (workflow.folder / "sitecustomize.py").unlink()
    workflow.run(target, configfile=study)
    record = read_json(f"{shard}.provenance.json")
    assert 0 < record["resumed_queries"] < record["queries"]
    assert file_digest(shard) == before and not partial.exists()
