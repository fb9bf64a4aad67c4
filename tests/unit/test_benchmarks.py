"""The benchmarks compare equals: one definition on both sides, the right peer, each number in its place."""

import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.jobs import CHECKED, EXACT, FLOAT64, RTOL, Contestant, job_of, method_of
from benchmarks.models import P_RANGE, SHAPES, most_probable, random_model, random_queries, small, text_of
from benchmarks.peers import AMIG, ELEUTHERAI, find_peers, peer_scores
from benchmarks.speed import _result as result_of
from benchmarks.speed import run_job
from benchmarks.tables import checked_table, fill, rounding_table, speed_table
from knatlas.errors import AtlasError

PEER = """
import einops
import torch

class {name}:
    def __init__(self, model, tokenizer, model_type, device):
        self.words = (model_type, device)

    def get_scores(self, prompt, answer, steps, pbar, batch_size={batch}):
        rows = einops.repeat(torch.ones(1, 2), "b d -> (r b) d", r=batch_size)
        return rows * steps
"""


def folder_with_peer(path: Path, name: str, batch: int) -> Path:
    """A package in the form of a peer: the class is in the file by which it is recognised."""
    package = path / "knowledge_neurons"
    package.mkdir(parents=True)
    module = "garns" if name == "garns" else "knowledge_neurons"
    (package / f"{module}.py").write_text(PEER.format(name=name, batch=batch))
    (package / "__init__.py").write_text(f"from .{module} import {name}\n")
    return path


@pytest.fixture
def peers(tmp_path):
    folders = [folder_with_peer(tmp_path / "a", "garns", 3), folder_with_peer(tmp_path / "b", "KnowledgeNeurons", 5)]
    return find_peers(":".join(map(str, folders)))


def test_peers_are_recognised_by_their_files_and_kept_apart(peers):
    lm = random_model(small(SHAPES["gpt2"]))
    (query,) = random_queries(lm, 6, 1)
    assert {name: peer.folder.name for name, peer in peers.items()} == {AMIG: "a", ELEUTHERAI: "b"}
    assert peer_scores(peers[AMIG], lm, query, steps=7).tolist() == [[7.0, 7.0]] * 3
    assert peer_scores(peers[ELEUTHERAI], lm, query, steps=7, batch_size=2).tolist() == [[7.0, 7.0]] * 2


def test_importing_a_peer_leaves_no_module_behind(peers):
    assert not [name for name in sys.modules if name.split(".")[0] == "knowledge_neurons"]
    assert not any(str(peer.folder) in sys.path for peer in peers.values())


def test_a_folder_without_a_peer_is_refused(tmp_path):
    with pytest.raises(AtlasError, match=r"holds none of the peers; expected the file knowledge_neurons/garns\.py"):
        find_peers(str(tmp_path))


def test_a_peer_named_twice_is_refused(tmp_path):
    folders = [folder_with_peer(tmp_path / name, "garns", 3) for name in "ab"]
    with pytest.raises(AtlasError, match="names AMIG twice"):
        find_peers(":".join(map(str, folders)))


@pytest.mark.parametrize("shape", SHAPES)
def test_queries_have_the_answer_that_the_model_gives(shape):
    lm = random_model(small(SHAPES[shape]))
    for query in random_queries(lm, 8, 3):
        p, target = most_probable(lm.model, query.input_ids, query.positions[0])
        assert query.targets == (target,) and P_RANGE[0] <= p <= P_RANGE[1] and len(query.input_ids) == 8
        assert tuple(lm.tokenizer(text_of(lm, query.input_ids)).input_ids) == query.input_ids


@pytest.mark.parametrize("name", ["gpt2-12-bkn", "gpt2-12-saig", "mbert-12-saig", "llama-12-saig"])
def test_the_engine_agrees_with_captum_in_a_job(name):
    result = run_job(job_of(name), {}, rounds=1, is_small=True)
    errors = {(pair["reference"], pair["other"]): pair for pair in result["agreement"]}
    (opponent,) = job_of(name).opponents
    assert max(errors[FLOAT64, label]["relative_l2"] for label in (opponent, EXACT)) <= 1e-5
    assert errors[EXACT, CHECKED]["worst_layer"] <= RTOL
    assert len(speed_table([result]).splitlines()) == 3
    assert len(checked_table([result]).splitlines()) == len(rounding_table([result]).splitlines()) == 3


def test_the_released_definitions_are_those_of_the_released_code():
    code = method_of(job_of("gpt2-12-amig"))
    assert (code.path, code.rule, code.multiplier, code.replace_special) == ("mean_path", "left", "full", True)
    assert code.neuron_site == "pre_activation"
    code = method_of(job_of("mbert-12-eleutherai"))
    assert (code.path, code.rule, code.neuron_site) == ("zero", "linspace", "down_input")


def test_seconds_of_one_layer_count_for_all_layers():
    one = Contestant("x", run=lambda: np.zeros((1, 1)), layers=(1,))
    assert result_of(one, [1.0, 2.0, 9.0], n_layers=4)["cpu_seconds"] == 8.0


def test_tables_fill_the_page_between_their_markers():
    page = "a\n<!-- x: generated -->\nold\n<!-- x: end -->\nb"
    assert fill(page, {"x": r"new \1"}) == "a\n<!-- x: generated -->\nnew \\1\n<!-- x: end -->\nb"


def test_a_page_without_a_marker_is_refused():
    with pytest.raises(AtlasError, match="has no lines '<!-- y: generated -->'"):
        fill("", {"y": ""})
