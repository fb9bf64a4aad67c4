"""Scaling neurons while the model runs: the right ones, at the right positions, per row, and nothing left behind."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch

from knatlas.errors import AtlasError
from knatlas.interventions.activations import NeuronScaling, enhance, scaled, scaled_activations, suppress
from knatlas.models.answers import answer_probabilities
from knatlas.models.encoding import EncodedQuery, encode_prompts
from knatlas.models.language_model import LanguageModel
from knatlas.models.scaling import positions_of
from tests.tiny_models import MODEL_TYPES, tiny_model, tiny_prompts

SET = NeuronScaling(np.array([0, 1, 1, 2]), np.array([3, 0, 23, 7]), 0.0)


@pytest.fixture(params=MODEL_TYPES)
def lm(request: pytest.FixtureRequest) -> LanguageModel:
    return tiny_model(request.param, "float64")


@pytest.fixture
def queries(lm: LanguageModel) -> list[EncodedQuery]:
    return encode_prompts(lm, tiny_prompts(lm.kind))


def neurons_seen(lm: LanguageModel, query: EncodedQuery) -> list[torch.Tensor]:
    """What reaches each layer's down projection (tokens, neurons) for one query."""
    seen: list[torch.Tensor] = []
    handles = [
        module.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].reshape(-1, lm.n_neurons).clone()))
        for module in lm.down_projections()
    ]
    with torch.no_grad():
        lm.model(torch.tensor([query.input_ids]))
    for handle in handles:
        handle.remove()
    return seen


def logits_of(lm: LanguageModel, query: EncodedQuery) -> torch.Tensor:
    with torch.no_grad():
        return lm.model(torch.tensor([query.input_ids])).logits[0]


def edited_by_hand(
    lm: LanguageModel, query: EncodedQuery, layer: int, edit: Callable[[torch.Tensor], None]
) -> torch.Tensor:
    """Logits when `edit` changes in place what goes into one down projection."""

    def hook(_: torch.nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        changed = inputs[0].clone()
        edit(changed.view(1, -1, lm.n_neurons))
        return (changed,)

    handle = lm.down_projections()[layer].register_forward_pre_hook(hook)
    logits = logits_of(lm, query)
    handle.remove()
    return logits


def n_hooks(lm: LanguageModel) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in lm.model.modules())


def test_suppression_sets_exactly_the_chosen_activations_to_zero(
    lm: LanguageModel, queries: list[EncodedQuery]
) -> None:
    query = queries[1]
    only_first = NeuronScaling(np.array([0, 0]), np.array([3, 11]), 0.0)
    before = neurons_seen(lm, query)[0]
    with scaled_activations(lm, [query], [only_first]):
        after = neurons_seen(lm, query)[0]
    expected = before.clone()
    for position in query.positions:
        expected[position, [3, 11]] = 0.0
    assert torch.equal(after, expected)
    assert not torch.equal(after, before)


@pytest.mark.parametrize("factor", [0.0, 2.0, -1.5])
def test_scaling_equals_editing_the_activation_by_hand(
    lm: LanguageModel, queries: list[EncodedQuery], factor: float
) -> None:
    query = queries[1]

    def edit(values: torch.Tensor) -> None:
        for position in query.positions:
            values[0, position, 5] *= factor

    expected = edited_by_hand(lm, query, 1, edit)
    with scaled_activations(lm, [query], [NeuronScaling(np.array([1]), np.array([5]), factor)]):
        assert torch.equal(logits_of(lm, query), expected)
    assert not torch.equal(logits_of(lm, query), expected)


def test_each_neuron_is_multiplied_by_its_own_factor(lm: LanguageModel, queries: list[EncodedQuery]) -> None:
    query, factors = queries[4], np.array([4.0, 0.0, -1.5, 2.0])
    before = neurons_seen(lm, query)[1]
    with scaled_activations(lm, [query], [NeuronScaling(np.full(4, 1), np.array([5, 0, 23, 7]), factors)]):
        after = neurons_seen(lm, query)[1]
    expected = before.clone()
    assert len(query.positions) > 1
    for position in query.positions:
        for index, factor in zip([5, 0, 23, 7], factors, strict=True):
            expected[position, index] = before[position, index] * factor
    assert torch.equal(after, expected)


def test_equal_factors_are_one_factor_to_the_bit(lm: LanguageModel, queries: list[EncodedQuery]) -> None:
    scalings = [NeuronScaling(SET.layers, SET.indices, factor) for factor in (2.0, np.full(4, 2.0))]
    one, each = (answer_probabilities(lm, queries, interventions=[part] * len(queries)) for part in scalings)
    assert each.equals(one)


@pytest.mark.parametrize("n_factors", [0, 1, 3, 5])
def test_a_wrong_number_of_factors_is_a_sentence(n_factors: int) -> None:
    with pytest.raises(AtlasError, match=rf"^{n_factors} factors for 4 neurons; give one number for all of them"):
        NeuronScaling(SET.layers, SET.indices, np.ones(n_factors))


def test_factor_one_and_no_scaling_change_no_bit(lm: LanguageModel, queries: list[EncodedQuery]) -> None:
    one = NeuronScaling(SET.layers, SET.indices, 1.0)
    plain = answer_probabilities(lm, queries)
    assert answer_probabilities(lm, queries, interventions=[one] * len(queries)).equals(plain)
    assert answer_probabilities(lm, queries, interventions=[None] * len(queries)).equals(plain)


def test_positions_to_choose_from(lm: LanguageModel, queries: list[EncodedQuery]) -> None:
    query = queries[4]
    assert len(query.positions) > 1
    assert positions_of(query, "answer") == query.positions
    assert positions_of(query, "last") == query.positions[-1:]
    assert positions_of(query, "all") == tuple(range(len(query.input_ids)))
    for where in ("answer", "last", "all"):
        before = neurons_seen(lm, query)[0]
        with scaled_activations(lm, [query], [NeuronScaling(np.array([0]), np.array([3]), 3.0)], where):
            changed = (neurons_seen(lm, query)[0] != before).any(dim=1)
        nonzero = {position for position in positions_of(query, where) if before[position, 3] != 0}
        assert set(changed.nonzero().flatten().tolist()) == nonzero


def test_each_row_of_a_batch_has_its_own_neurons(lm: LanguageModel, queries: list[EncodedQuery]) -> None:
    other = NeuronScaling(np.array([2, 0]), np.array([1, 1]), 2.0)
    empty = NeuronScaling(np.array([], dtype=int), np.array([], dtype=int), 0.0)
    scalings = [SET, None, other, SET, empty, NeuronScaling(SET.layers, SET.indices, 0.5)]
    together = answer_probabilities(lm, queries, batch_rows=6, interventions=scalings)["p"]
    alone = [
        answer_probabilities(lm, [query], interventions=[scaling])["p"].item()
        for query, scaling in zip(queries, scalings, strict=True)
    ]
    assert together.tolist() == pytest.approx(alone, rel=1e-6)
    plain = answer_probabilities(lm, queries)["p"]
    assert (together - plain).abs().gt(1e-5 * plain).tolist() == [True, False, True, True, False, True]


def test_one_query_with_several_neuron_sets_in_one_batch(lm: LanguageModel, queries: list[EncodedQuery]) -> None:
    factors = [0.0, 1.0, 2.0, 5.0]
    scalings = [NeuronScaling(SET.layers, SET.indices, factor) for factor in factors]
    p = answer_probabilities(lm, [queries[0]] * 4, interventions=scalings)["p"]
    assert p.nunique() == 4
    assert p[1] == pytest.approx(answer_probabilities(lm, queries[:1])["p"][0], rel=1e-6)


def test_a_neuron_named_twice_is_scaled_once(lm: LanguageModel, queries: list[EncodedQuery]) -> None:
    once = NeuronScaling(np.array([1]), np.array([5]), 2.0)
    twice = NeuronScaling(np.array([1, 1]), np.array([5, 5]), 2.0)
    p = [answer_probabilities(lm, queries[:1], interventions=[scaling])["p"][0] for scaling in (once, twice)]
    assert p[0] == p[1]


def test_sites_agree_on_suppression_and_not_on_enhancement(lm: LanguageModel, queries: list[EncodedQuery]) -> None:
    def p(factor: float, site: str) -> pd.Series:
        scalings = [NeuronScaling(SET.layers, SET.indices, factor)] * len(queries)
        return answer_probabilities(lm, queries, interventions=scalings, site=site)["p"]

    assert p(0.0, "pre_activation").tolist() == pytest.approx(p(0.0, "down_input").tolist(), rel=1e-6)
    # relu(2 x) is 2 relu(x)
    is_relu = lm.architecture.model_type == "opt"
    assert np.allclose(p(2.0, "pre_activation"), p(2.0, "down_input"), rtol=1e-4, atol=0) == is_relu
    assert not np.allclose(p(-1.0, "pre_activation"), p(-1.0, "down_input"), rtol=1e-4, atol=0)


def test_pre_activation_scales_before_the_non_linearity() -> None:
    lm = tiny_model("gpt2", "float64")
    query = encode_prompts(lm, tiny_prompts("causal"))[0]
    seen: list[torch.Tensor] = []
    with scaled_activations(lm, [query], [NeuronScaling(np.array([0]), np.array([3]), 2.0)], site="pre_activation"):
        handle = lm.pre_activations()[0].register_forward_hook(lambda _, __, output: seen.append(output))
        after = neurons_seen(lm, query)[0]
        handle.remove()
    with torch.no_grad():
        torch.testing.assert_close(after, torch.nn.GELU(approximate="tanh")(seen[0][0]), rtol=1e-12, atol=1e-12)


def test_hooks_are_removed_also_after_an_exception(lm: LanguageModel, queries: list[EncodedQuery]) -> None:
    weights = {name: tensor.clone() for name, tensor in lm.model.state_dict().items()}
    plain = logits_of(lm, queries[0])
    with pytest.raises(RuntimeError, match="stop"), scaled_activations(lm, queries[:1], [SET]):
        assert [len(module._forward_pre_hooks) for module in lm.down_projections()] == [1, 1, 1]
        raise RuntimeError("stop")
    assert n_hooks(lm) == 0
    assert torch.equal(logits_of(lm, queries[0]), plain)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in lm.model.state_dict().items())


def test_hooks_are_removed_when_a_later_layer_cannot_be_hooked(
    lm: LanguageModel, queries: list[EncodedQuery], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise RuntimeError("no hook here")

    monkeypatch.setattr(lm.down_projections()[2], "register_forward_pre_hook", refuse)
    with pytest.raises(RuntimeError, match="no hook here"), scaled_activations(lm, queries[:1], [SET]):
        raise AssertionError("the block must not run")
    assert n_hooks(lm) == 0


def test_neurons_of_another_model_are_a_sentence(lm: LanguageModel, queries: list[EncodedQuery]) -> None:
    for layers, indices in (([0, 3], [0, 0]), ([0, 0], [0, 24]), ([0, -1], [0, 0])):
        wrong = NeuronScaling(np.array(layers), np.array(indices), 0.0)
        sentence = (
            rf"there is no neuron \(layer {layers[1]}, index {indices[1]}\); the model has 3 layers of 24 neurons"
        )
        with pytest.raises(AtlasError, match=sentence):
            answer_probabilities(lm, queries[:1], interventions=[wrong])
    assert n_hooks(lm) == 0


def test_unknown_choices_are_sentences(lm: LanguageModel, queries: list[EncodedQuery]) -> None:
    with pytest.raises(AtlasError, match=r"intervene_positions is 'first'; .*\(answer last all\)"):
        answer_probabilities(lm, queries[:1], interventions=[SET], where="first")
    with pytest.raises(AtlasError, match=r"neuron_site is 'down'; .*\(down_input pre_activation\)"):
        answer_probabilities(lm, queries[:1], interventions=[SET], site="down")


def test_a_neuron_set_becomes_a_scaling() -> None:
    neurons = pd.DataFrame({"layer": [2, 0], "index": [5, 1], "score": [0.9, 0.8]})
    for scaling, factor in ((suppress(neurons), 0.0), (enhance(neurons), 2.0), (scaled(neurons, -1.0), -1.0)):
        assert scaling.layers.tolist() == [2, 0]
        assert scaling.indices.tolist() == [5, 1]
        assert scaling.factor == factor
    assert enhance(neurons, 4.0).factor == 4.0
    assert suppress(neurons.iloc[:0]).layers.tolist() == []
