"""Rows of a sweep: from free memory, halved where it runs out, never at the cost of a number."""

from collections import namedtuple
from dataclasses import replace

import pytest
import torch

from knatlas.attribution import AttributionMethod, memory, preset
from knatlas.attribution.engine import attribute_queries
from knatlas.attribution.memory import ENOUGH, SHARE, free_bytes, is_out_of_memory, row_bytes, rows_for
from knatlas.attribution.sweep import Sweep
from knatlas.errors import AtlasError
from knatlas.models.blocks import network_of
from tests.naive_attribution import ONE_TOKEN, SEVERAL_TOKENS, example, relative_error
from tests.tiny_models import tiny_model

KINDS = ["bert", "gpt2", "llama"]
METHODS = [
    replace(preset("bkn"), steps=5),
    replace(preset("saig"), steps=4),
    AttributionMethod("before", path="mean_path", steps=3, neuron_site="pre_activation"),
    AttributionMethod("checked", rule="right", steps=12, quadrature="checked"),
]


def out_of_memory():
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nsecond line")


@pytest.fixture
def sent(monkeypatch):
    """Limit the points of a sweep (of each readout, the shared end not counted); returns what was sent and refused."""
    log, run = namedtuple("Log", "passed refused limit")([], [], {}), Sweep.run

    def limited(self, points, with_gradient, is_shared):
        n_points = sum(part.shape[1] for part in points) - is_shared
        if n_points > log.limit["points"]:
            log.refused.append(n_points)
            raise log.limit.get("error", out_of_memory)()
        log.passed.append(n_points)
        return run(self, points, with_gradient, is_shared)

    monkeypatch.setattr(Sweep, "run", limited)
    return log


@pytest.mark.parametrize("batch_queries", [1, 4])
@pytest.mark.parametrize("limit", [1, 2, 5, 17])
@pytest.mark.parametrize("model_type", KINDS)
def test_rows_are_halved_where_memory_runs_out_and_no_number_changes(model_type, limit, batch_queries, sent):
    lm = tiny_model(model_type)
    queries = [example(lm, answer) for answer in (SEVERAL_TOKENS, ONE_TOKEN)]
    sent.limit["points"] = 10**6
    expected = attribute_queries(lm, queries, METHODS, batch_queries=batch_queries)
    assert sent.refused == [] and max(sent.passed) > limit
    sent.limit["points"] = limit
    found = attribute_queries(lm, queries, METHODS, batch_queries=batch_queries)
    assert sent.refused
    for one, other in zip(found, expected, strict=True):
        for method in METHODS:
            error = relative_error(one.scores[method.name], other.scores[method.name])
            if method.quadrature == "checked":  # rounding may send a path one level further
                assert error <= method.rtol
            else:
                assert error <= 1e-6
                assert one.records[method.name].n_points == other.records[method.name].n_points


@pytest.mark.parametrize("limit", [1, 2, 5, 17])
@pytest.mark.parametrize("model_type", KINDS)
def test_what_was_too_large_once_is_not_tried_again(model_type, limit, sent):
    sent.limit["points"] = limit
    lm = tiny_model(model_type)
    attribute_queries(lm, [example(lm)], METHODS[:2], 1000)
    # each refusal at most half of the one before it
    assert all(later <= max(1, earlier // 2) for earlier, later in zip(sent.refused, sent.refused[1:], strict=False))
    assert max(sent.passed) <= limit and min(sent.passed) >= 1


@pytest.mark.parametrize("error", [out_of_memory, MemoryError, lambda: RuntimeError("can't allocate memory: 8 bytes")])
@pytest.mark.parametrize("batch_queries", [1, 4])
@pytest.mark.parametrize("model_type", KINDS)
def test_one_row_too_many_is_a_sentence_with_the_way_out(model_type, batch_queries, error, sent):
    lm = tiny_model(model_type)
    queries = [replace(example(lm, SEVERAL_TOKENS), fact=name) for name in ("a", "b", "c")]
    sent.limit.update(points=0, error=error)
    with pytest.raises(
        AtlasError, match=r"(?s)Memory ran out with one row .* smaller dtype.*The message was: "
    ) as caught:
        attribute_queries(lm, queries, METHODS, batch_queries=batch_queries)
    assert "\n" not in str(caught.value) and isinstance(caught.value.__cause__, RuntimeError | MemoryError)


def test_other_errors_are_not_taken_for_a_lack_of_memory(sent):
    sent.limit.update(points=0, error=lambda: RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    lm = tiny_model("gpt2")
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        attribute_queries(lm, [example(lm)], METHODS)
    assert len(sent.refused) == 1


def test_what_a_processor_says_when_a_tensor_finds_no_room_is_known():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(out_of_memory()) and is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shape '[2]' is invalid for input of size 3"))


def test_rows_are_those_asked_for():
    network = network_of(tiny_model("gpt2"))
    assert [rows_for(network, 1, asked).most for asked in (1, 7, 10**6)] == [1, 7, 10**6]


@pytest.mark.parametrize("model_type", KINDS)
def test_without_a_number_rows_follow_from_free_memory(model_type, monkeypatch):
    network = network_of(tiny_model(model_type))
    one = row_bytes(network, 9)
    for n_rows in (1, 10, 1000):
        monkeypatch.setattr(memory, "free_bytes", lambda device, n=n_rows: int((n + 0.5) * one / SHARE))
        assert rows_for(network, 9, 0).most == n_rows
    monkeypatch.setattr(memory, "free_bytes", lambda device: 0)
    assert rows_for(network, 9, 0).most == 1
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1 << 60)  # a processor gains nothing from more
    assert rows_for(network, 9, 0).most == ENOUGH // one


def test_rows_take_bytes_in_proportion_to_tokens_width_and_precision():
    single, double = (network_of(tiny_model("bert", dtype)) for dtype in ("float32", "float64"))
    assert row_bytes(single, 8) == 8 * row_bytes(single, 1) and row_bytes(double, 1) == 2 * row_bytes(single, 1)
    assert row_bytes(network_of(tiny_model("llama")), 1) - row_bytes(network_of(tiny_model("gpt2")), 1) == 2 * 24 * 4
    assert 0 < free_bytes(torch.device("cpu")) < 1 << 50


def test_less_free_memory_means_smaller_sweeps_with_the_same_scores(monkeypatch, sent):
    lm = tiny_model("gpt2")
    sent.limit["points"] = 10**6
    expected = attribute_queries(lm, [example(lm)], METHODS)[0]
    most = max(sent.passed)
    sent.passed.clear()
    monkeypatch.setattr(memory, "free_bytes", lambda device: int(6.5 * row_bytes(network_of(lm), 1) / SHARE))
    found = attribute_queries(lm, [example(lm)], METHODS)[0]
    assert max(sent.passed) <= 6 < most
    for method in METHODS:  # rounding may send a checked path one level further
        error = relative_error(found.scores[method.name], expected.scores[method.name])
        assert error <= (method.rtol if method.quadrature == "checked" else 1e-6)
