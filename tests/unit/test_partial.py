"""Resuming a shard: what a killed job had finished is kept, one batch at most is lost, and no number changes."""

import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from knatlas.attribution import preset
from knatlas.attribution import shard as shard_module
from knatlas.attribution.candidates import Candidates
from knatlas.attribution.combination import Dense
from knatlas.attribution.engine import attribute_queries
from knatlas.attribution.partial import FactResult, PartialResults
from knatlas.attribution.shard import Batching, attribute_shard
from tests.naive_attribution import example
from tests.tiny_models import tiny_model

METHODS = [replace(preset("bkn"), steps=3), replace(preset("saig", "paper"), steps=2)]
SETTINGS = {"model": {"name": "tiny", "revision": "1"}, "methods": "...", "code": "c0de"}
BATCHING = Batching(queries=4, rows=32)
N_FACTS = 5
KEEPS = {"dense": Dense("en"), "candidates": Candidates(("en", "fr"), 20)}


def shard_queries(lm, keep="dense"):
    """Five facts with two queries in each language that is kept."""
    facts = [replace(example(lm, query=number), fact=f"f{i}") for i in range(N_FACTS) for number in (0, 1)]
    return [replace(query, language=language) for query in facts for language in KEEPS[keep].languages]


def run(folder, keep="dense", log=print, settings=SETTINGS, queries=None):
    lm = tiny_model("gpt2")
    partial = PartialResults(folder / "0.safetensors", settings, log)
    queries = shard_queries(lm, keep) if queries is None else queries
    return attribute_shard(lm, queries, METHODS, KEEPS[keep], 0.3, BATCHING, partial=partial)


def same(one, other):
    assert one.facts == other.facts and list(one.arrays) == list(other.arrays)
    for name, array in one.arrays.items():
        assert array.tobytes() == other.arrays[name].tobytes(), name
    pd.testing.assert_frame_equal(one.queries, other.queries, check_exact=True)


@pytest.fixture
def computed(monkeypatch):
    """The queries that are attributed from here on, by fact."""
    seen = []

    def counting(lm, queries, *rest):
        seen.extend(query.fact for query in queries)
        return attribute_queries(lm, queries, *rest)

    monkeypatch.setattr(shard_module, "attribute_queries", counting)
    return seen


KILLED = """
import os, signal, sys
from pathlib import Path
import knatlas.attribution.shard as shard
from knatlas.attribution.engine import attribute_queries
from tests.unit import test_partial

batches = []

def killing(lm, queries, *rest):
    batches.append(queries)
    if len(batches) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return attribute_queries(lm, queries, *rest)

shard.attribute_queries = killing
test_partial.run(Path(sys.argv[1]), sys.argv[2])
"""


@pytest.mark.parametrize(("keep", "per_batch"), [("dense", 2), ("candidates", 1)])
def test_a_killed_job_loses_one_batch_and_changes_no_number(tmp_path, computed, root, keep, per_batch):
    uninterrupted = run(tmp_path / "other", keep)
    computed.clear()
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), keep],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-3000:]
    resumed = run(tmp_path, keep)
    # two batches were finished and the third was under way: it and what comes after it is computed, nothing else
    assert sorted(set(computed)) == [f"f{i}" for i in range(2 * per_batch, N_FACTS)]
    assert resumed.n_resumed == len(resumed.queries) / 2 - len(computed) > 0
    same(resumed, uninterrupted)


def test_a_finished_folder_leaves_nothing_to_compute(tmp_path, computed):
    first = run(tmp_path)
    computed.clear()
    again = run(tmp_path)
    assert computed == [] and again.n_resumed == 2 * N_FACTS
    same(first, again)


def test_other_batches_find_what_is_finished(tmp_path, computed):
    first = run(tmp_path)
    sorted((tmp_path / "0.partial").glob("*.safetensors"))[0].unlink()
    computed.clear()
    lm, partial = tiny_model("gpt2"), PartialResults(tmp_path / "0.safetensors", SETTINGS, print)
    again = attribute_shard(lm, shard_queries(lm), METHODS, KEEPS["dense"], 0.3, Batching(1, 32), partial=partial)
    assert len(computed) in (2, 4)
    np.testing.assert_allclose(again.arrays["saig.mean"], first.arrays["saig.mean"], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("change", [{"code": "0ther"}, {"model": {"name": "tiny", "revision": "2"}}, {"methods": "."}])
def test_results_of_other_settings_are_ignored_with_a_sentence(tmp_path, computed, change):
    run(tmp_path)
    computed.clear()
    lines = []
    assert run(tmp_path, log=lines.append, settings={**SETTINGS, **change}).n_resumed == 0
    assert len(computed) == 2 * N_FACTS and len(lines) == N_FACTS
    assert "fact f0 is of other settings or queries and was ignored" in "".join(lines)


def test_a_fact_with_other_queries_is_computed_again(tmp_path, computed):
    run(tmp_path)
    computed.clear()
    queries = shard_queries(tiny_model("gpt2"))
    queries[0] = replace(queries[0], input_ids=(*queries[0].input_ids[1:], queries[0].input_ids[-1]))
    assert run(tmp_path, queries=queries).n_resumed == 2 * N_FACTS - 2
    assert computed == ["f0", "f0"]


def test_a_torn_file_is_ignored_with_a_sentence(tmp_path, computed):
    first = run(tmp_path)
    computed.clear()
    torn = sorted((tmp_path / "0.partial").glob("*.safetensors"))[0]
    torn.write_bytes(torn.read_bytes()[:-100])
    lines = []
    same(run(tmp_path, log=lines.append), first)
    assert len(computed) in (2, 4) and len(lines) == 1 and f"{torn} is torn and was ignored" in lines[0]


def test_the_folder_lies_beside_the_shard_and_can_be_removed(tmp_path):
    partial = PartialResults(tmp_path / "en" / "3.safetensors", SETTINGS, print)
    partial.remove()
    queries = {"f": [example(tiny_model("gpt2"))]}
    row = {"fact": "f", "p": 0.1 + 0.2, "completeness_error": float("nan")}
    partial.write([FactResult("f", {"bkn.mean": np.ones((2, 3), dtype=np.float32)}, [row])], queries)
    assert partial.folder == tmp_path / "en" / "3.partial" and len(list(partial.folder.iterdir())) == 1
    (found,) = partial.read(queries)
    assert found.fact == "f" and found.arrays["bkn.mean"].tolist() == [[1, 1, 1], [1, 1, 1]]
    assert found.rows[0]["p"] == 0.1 + 0.2 and np.isnan(found.rows[0]["completeness_error"])
    partial.remove()
    assert not partial.folder.exists()
