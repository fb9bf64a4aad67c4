"""The analytic count of operations: against published counts, a counter of PyTorch, and the engine itself."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM

from knatlas.attribution.cost import (
    Flops,
    QuerySize,
    Readout,
    attribution_flops,
    capture_flops,
    head_flops,
    layer_flops,
    n_paths,
    paid_points,
    path_flops,
    row_flops,
)
from knatlas.attribution.engine import attribute_queries
from knatlas.attribution.footprint import n_parameters, sweep_row_bytes
from knatlas.attribution.memory import row_bytes
from knatlas.attribution.methods import AttributionMethod, preset
from knatlas.attribution.shape import ModelShape, shape_of
from knatlas.catalog import read_catalog
from knatlas.errors import AtlasError
from knatlas.models.architectures import ARCHITECTURES
from knatlas.models.blocks import network_of
from knatlas.models.encoding import EncodedQuery
from knatlas.models.language_model import as_language_model
from knatlas.planning.shapes import catalog_shape
from tests.tiny_models import MODEL_TYPES, tiny_config, tiny_model
from tests.tiny_tokenizers import TOKENIZERS

MEAN_PATH = replace(preset("amig"), path="mean_path")
# TFLOP per query at 20 steps: B-KN, the path from the mean baseline, one path per token
PUBLISHED = {
    ("mbert", 12): (0.447, 0.470, 4.88),
    ("mbert", 20): (0.686, 0.750, 12.9),
    ("gpt2", 12): (0.073, 0.087, 0.867),
    ("gpt2", 20): (0.075, 0.111, 1.46),
    ("mgpt", 12): (1.47, 1.66, 17.4),
    ("mgpt", 20): (1.49, 1.99, 29.2),
    ("llama-2-7b", 12): (8.1, 9.1, 96.7),
    ("llama-2-7b", 20): (8.2, 11.0, 162),
    ("llama-3-8b", 12): (9.7, 10.8, 115),
    ("llama-3-8b", 20): (9.8, 12.8, 193),
}
# two layers, hidden size 4, 8 neurons, 10 words, 2 heads of 2: small enough to count by hand
SMALL = ModelShape("causal", 2, 4, 8, 10, 2, 2, 2)


def catalog_model(name):
    row = read_catalog("models")[name]
    return catalog_shape(row["shape"], row["kind"])


@pytest.mark.parametrize("name, n_tokens", PUBLISHED)
def test_counts_are_those_of_the_prototype(name, n_tokens):
    shape = catalog_model(name)
    # the prototype replaced all tokens of a causal query, and all but the mask of a masked one
    size = QuerySize(n_tokens, 1, n_tokens - (shape.kind == "masked"))
    counts = [
        attribution_flops(shape, size, [method]).total / 1e12 for method in (preset("bkn"), MEAN_PATH, preset("saig"))
    ]
    assert counts == pytest.approx(PUBLISHED[name, n_tokens], rel=0.03)


def test_a_layer_of_one_token_by_hand():
    # keys and values 2 x 2*4*4, query 2*4*4, output 2*4*4, neurons 2*4*8, down 2*8*4, attention to 3 tokens 2 x 2*3*4
    assert layer_flops(SMALL, 1, 3) == 64 + 32 + 32 + 64 + 64 + 48


def test_gated_networks_have_one_more_matrix_and_grouped_heads_narrower_keys():
    gated = replace(SMALL, is_gated=True, kv_heads=1)
    assert layer_flops(gated, 1, 3) == layer_flops(SMALL, 1, 3) + 64 - 32


def test_attribution_of_one_token_by_hand():
    # one point of its own per layer beside the shared one, which rises from layer 0 through layer 1
    row, head, down = layer_flops(SMALL, 1, 1), 4 * 4 * 10, 2 * 4 * 8
    found = attribution_flops(SMALL, QuerySize(1, 1, 1), [AttributionMethod("two", path="zero", steps=2)])
    assert found.sweep == 2 * row * (1 + 1)  # layer 0's point, the shared one; layer 1's point has no layer above
    assert found.head == head * (2 + 1)
    assert found.projection == 2 * 2 * down  # in each layer there and back
    assert found.capture == row + row - down
    assert found.total == found.sweep + found.head + found.projection + found.capture


@pytest.mark.parametrize(
    "rule, steps, paid",
    [("right", 20, 19), ("left", 20, 20), ("linspace", 20, 19), ("trapezoid", 20, 20), ("gauss", 6, 6)],
)
def test_the_end_point_is_paid_once_for_all_paths(rule, steps, paid):
    assert paid_points(AttributionMethod("m", rule=rule, steps=steps)) == paid


def test_equal_integrals_are_counted_once():
    size = QuerySize(9, 1, 7)
    both = attribution_flops(SMALL, size, [preset("amig"), preset("saig")])
    assert both == attribution_flops(SMALL, size, [preset("saig")])
    assert attribution_flops(SMALL, size, [preset("bkn"), preset("saig")]).total > both.total


def test_points_that_are_not_evaluated_cost_nothing():
    size = QuerySize(9, 1, 7)
    full = attribution_flops(SMALL, size, [preset("saig")])
    third = attribution_flops(SMALL, size, [preset("saig")], lambda method: paid_points(method) / 3)
    assert third.capture == full.capture and third.projection == full.projection
    shared = 2 * row_flops(SMALL, Readout(9, 1), 0)
    assert third.sweep - shared == pytest.approx((full.sweep - shared) / 3)


def test_completeness_costs_half_a_point_in_the_layers_and_half_in_the_head():
    method, readout = preset("saig"), Readout(9, 1)
    more, less = (path_flops(SMALL, readout, method, 19, flag) for flag in (True, False))
    point = path_flops(SMALL, readout, method, 1, False)
    assert more.sweep - less.sweep == pytest.approx(point.sweep / 2)
    assert more.head - less.head == pytest.approx(point.head / 2)


def test_a_point_before_the_non_linearity_passes_the_down_projection_twice():
    before = replace(preset("bkn"), neuron_site="pre_activation")
    size = QuerySize(5, 1, 5)
    more = attribution_flops(SMALL, size, [before]).sweep - attribution_flops(SMALL, size, [preset("bkn")]).sweep
    assert more == 19 * 2 * (2 * 2 * 4 * 8)


def test_paths_per_token_are_as_many_as_tokens_are_replaced():
    size = QuerySize(9, 2, 5)
    everything = replace(preset("saig"), replace_special=True)
    assert [n_paths(size, method) for method in (preset("bkn"), MEAN_PATH, preset("saig"), everything)] == [1, 1, 5, 9]


def test_causal_sentences_are_run_from_where_they_differ():
    shape = replace(SMALL, n_layers=1)
    # tokens 1, 2, 3 of 4 are replaced: 4 + 3 + 2 + 1 rows have keys and values, 4 sentences are read
    read = layer_flops(shape, 1, 4) - 64 - 64
    assert capture_flops(shape, QuerySize(4, 1, 3), [preset("saig")]) == 10 * 64 + 4 * read


def test_flops_add_up_and_scale():
    assert (Flops(1, 2, 3, 4) + Flops(1, 1, 1, 1) * 2) == Flops(3, 4, 5, 6)


@pytest.mark.parametrize("size", [QuerySize(0, 1, 0), QuerySize(3, 0, 1), QuerySize(3, 4, 1), QuerySize(3, 1, 4)])
def test_impossible_sizes_are_refused(size):
    with pytest.raises(AtlasError, match="The size of a query is"):
        attribution_flops(SMALL, size, [preset("bkn")])


# against the counter of PyTorch


def counted(function):
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


@pytest.mark.parametrize("model_type", ["bert", "gpt2", "llama", "opt", "distilbert", "gpt_neox"])
def test_a_forward_pass_has_the_operations_of_its_layers_and_its_head(model_type):
    lm = tiny_model(model_type)
    lm.model.set_attn_implementation("eager")  # the counter does not know the fused attention of processors
    shape, ids = shape_of(lm.model.config), torch.zeros(1, 7, dtype=torch.long)
    expected = shape.n_layers * layer_flops(shape, 7, 7) + head_flops(shape, 7, with_gradient=False)
    with torch.no_grad():
        assert counted(lambda: lm.model(input_ids=ids)) == expected


def test_a_point_that_rises_through_one_layer_has_twice_its_forward_operations():
    # a layer by hand: one token over kept keys and values of two others, forward and backward to the input alone
    generator = torch.Generator().manual_seed(0)
    query, key, value, output, inward, down = (
        torch.randn(shape, generator=generator) for shape in [(4, 4)] * 4 + [(4, 8), (8, 4)]
    )
    keys, values = torch.randn(2, 3, 2, generator=generator), torch.randn(2, 3, 2, generator=generator)
    x = torch.randn(5, 4, generator=generator, requires_grad=True)  # five points

    def rise():
        heads = (x @ query).view(5, 2, 2).transpose(0, 1)
        own = (x @ key).sum() + (x @ value).sum()
        attended = (heads @ keys.transpose(1, 2)).softmax(-1) @ values
        y = attended.transpose(0, 1).reshape(5, 4) @ output + own
        torch.autograd.grad(((y @ inward).relu() @ down).sum(), x)

    assert counted(rise) == 5 * 2 * row_flops(SMALL, Readout(3, 1), 0)


# sizes at which matrix products count, as they do in models that are used
SIZES = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "max_position_embeddings": 64}
KINDS = {
    "gpt2": {"n_inner": 256},
    "llama": {"intermediate_size": 160, "num_key_value_heads": 2},
    "bert": {"intermediate_size": 256},
}
QUERIES = {
    "one answer token": QuerySize(13, 1, 10),
    "three answer tokens": QuerySize(15, 3, 10),
}


@cache
def medium_model(model_type):
    tokenizer = TOKENIZERS[model_type]()
    config = AutoConfig.for_model(model_type, vocab_size=1000, **SIZES, **KINDS[model_type])
    loader = AutoModelForMaskedLM if model_type == "bert" else AutoModelForCausalLM
    torch.manual_seed(0)
    return as_language_model(model_type, loader.from_config(config).eval(), tokenizer, revision="random")


def query_of(size, kind):
    ids = tuple(range(5, 5 + size.n_tokens))
    if kind == "masked":
        positions = tuple(range(size.n_tokens - 1 - size.n_positions, size.n_tokens - 1))
        own = tuple(range(1, 1 + size.n_own))
    else:
        positions = tuple(range(size.n_tokens - size.n_positions, size.n_tokens))
        own = tuple(range(positions[0] + 1 - size.n_own, positions[0] + 1))
    return EncodedQuery("P36:FR>Paris", "en", 0, kind, ids, positions, tuple(range(size.n_positions)), own)


METHODS = {
    "B-KN": [preset("bkn")],
    "mean path": [MEAN_PATH],
    "path per token": [preset("saig")],
    "left rule before the non-linearity": [replace(preset("saig"), rule="left", neuron_site="pre_activation")],
    "B-KN and path per token": [preset("bkn"), preset("amig"), preset("saig")],
}


@pytest.mark.parametrize("model_type", KINDS)
@pytest.mark.parametrize("size", QUERIES.values(), ids=QUERIES)
@pytest.mark.parametrize("methods", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("completeness", [False, True])
def test_the_engine_has_the_operations_of_the_count(model_type, size, methods, completeness):
    lm = medium_model(model_type)
    query, shape = query_of(size, lm.kind), shape_of(lm.model.config)
    expected = attribution_flops(shape, size, methods, completeness=completeness).total
    found = counted(lambda: attribute_queries(lm, [query], methods, completeness=completeness, path="fast"))
    assert found == pytest.approx(expected, rel=0.02)


# shapes and bytes


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_shapes_are_read_from_every_architecture(model_type):
    config = tiny_config(model_type, 50)
    shape, lm = shape_of(config), tiny_model(model_type)
    assert shape == shape_of(config.to_dict())
    assert (shape.kind, shape.n_layers, shape.neurons) == (lm.kind, lm.n_layers, lm.n_neurons)
    assert shape.vocabulary == 50
    assert shape.is_gated == (len(ARCHITECTURES[model_type].up_projections) == 2 or model_type == "phi3")


@pytest.mark.parametrize("model_type", ["bert", "gpt2", "llama", "distilbert"])
def test_parameters_are_those_of_the_matrices(model_type):
    lm = tiny_model(model_type)
    matrices = [
        p for name, p in lm.model.named_parameters() if p.dim() == 2 and "position" not in name and "wpe" not in name
    ]
    n_types = sum(p.numel() for name, p in lm.model.named_parameters() if "token_type" in name)
    assert n_parameters(shape_of(lm.model.config)) == sum(p.numel() for p in matrices) - n_types


@pytest.mark.parametrize("name, millions", [("gpt2", 124), ("mgpt", 1413), ("llama-2-7b", 6738), ("llama-3-8b", 8030)])
def test_published_models_have_their_published_sizes(name, millions):
    assert n_parameters(catalog_model(name)) / 1e6 == pytest.approx(millions, rel=0.005)


@pytest.mark.parametrize("model_type", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize("dtype, n_bytes", [("float32", 4), ("float64", 8)])
def test_rows_have_the_bytes_that_the_engine_reckons_with(model_type, dtype, n_bytes):
    lm = tiny_model(model_type, dtype)
    n_tokens = 7 if lm.kind == "masked" else 1  # a causal row is one token, however long the query
    assert sweep_row_bytes(shape_of(lm.model.config), 7, n_bytes) == row_bytes(network_of(lm), n_tokens)


def test_unknown_model_types_and_missing_sizes_are_named():
    with pytest.raises(AtlasError, match="model_type is 'gpt3'; expected a known architecture"):
        shape_of({"model_type": "gpt3"})
    with pytest.raises(AtlasError, match=r"config\.json has none of vocab_size"):
        shape_of({"model_type": "gpt2", "n_layer": 2, "n_embd": 8, "n_head": 2})
