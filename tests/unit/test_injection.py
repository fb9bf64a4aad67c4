"""Fine-tuning of chosen neurons: what moves, what must not, what is measured, and what the tables say of it."""

import numpy as np
import pandas as pd
import pytest
import torch

from knatlas.attribution.shape import ModelShape, shape_of
from knatlas.errors import AtlasError
from knatlas.experiments import injection
from knatlas.experiments.injection import COLUMNS, CURVE_COLUMNS, Injection, inject
from knatlas.experiments.injection_queries import split_queries
from knatlas.experiments.injection_settings import injection_of
from knatlas.interventions.finetuning import FineTuning, _checkpointed, answer_loss, finetune, restored, trainable_parts
from knatlas.interventions.finetuning_memory import finetuning_bytes, neuron_parameters
from knatlas.interventions.original import Original
from knatlas.interventions.trainable import tapped_gradients
from knatlas.models.answers import answer_probabilities, token_probabilities
from knatlas.models.encoding import EncodedQuery, encode_prompts
from knatlas.selection.neuron_set import FoundSet, NeuronSets, as_table
from knatlas.selection.pooled import pooled, pooled_neurons
from knatlas.statistics.injection import summarise_curves, summarise_injection
from tests.tiny_models import HIDDEN, MODEL_TYPES, NEURONS, tiny_model, tiny_prompts

FOUR = ["gpt2", "bert", "llama", "phi3"]
CHOSEN = ([0, 2, 2], [5, 3, 23])  # layers and indices
FAST = FineTuning(learning_rate=1e-2, epochs=3, batch=4)
ALL_SLICE = slice(None)
# parameter inside a layer, and the place of neuron j in it
PLACES = {
    "gpt2": ("transformer.h", {"mlp.c_fc.weight": (1, 0), "mlp.c_fc.bias": (0, 0), "mlp.c_proj.weight": (0, 0)}),
    "bert": (
        "bert.encoder.layer",
        {"intermediate.dense.weight": (0, 0), "intermediate.dense.bias": (0, 0), "output.dense.weight": (1, 0)},
    ),
    "llama": (
        "model.layers",
        {"mlp.gate_proj.weight": (0, 0), "mlp.up_proj.weight": (0, 0), "mlp.down_proj.weight": (1, 0)},
    ),
    # the second half of the fused matrix is the up projection
    "phi3": ("model.layers", {"mlp.gate_up_proj.weight": (0, NEURONS), "mlp.down_proj.weight": (1, 0)}),
}


def queries_of(lm, n_queries=1):
    return encode_prompts(lm, tiny_prompts(lm.kind, n_queries))


def copies(lm):
    return {name: parameter.detach().clone() for name, parameter in lm.model.named_parameters()}


def expected_mask(model_type, name, parameter):
    """Which entries of a parameter belong to CHOSEN, written out by the names of the modules."""
    mask = torch.zeros_like(parameter, dtype=torch.bool)
    layers, places = PLACES[model_type]
    for layer, index in zip(*CHOSEN, strict=True):
        for path, (axis, second) in places.items():
            if name == f"{layers}.{layer}.{path}":
                for place in {index, index + second}:
                    mask[place if axis == 0 else (ALL_SLICE, place)] = True
    return mask


def probability(lm, queries):
    return answer_probabilities(lm, queries)["p"].to_numpy()


# what moves


@pytest.mark.parametrize("model_type", FOUR)
def test_the_masked_entries_move_and_no_other(model_type):
    lm = tiny_model(model_type)
    before = copies(lm)
    finetune(lm, queries_of(lm), trainable_parts(lm, *CHOSEN), FAST)
    n_masked = 0
    for name, parameter in lm.model.named_parameters():
        mask = expected_mask(model_type, name, parameter)
        assert torch.equal(parameter != before[name], mask), name
        n_masked += int(mask.sum())
    assert n_masked == trainable_parts(lm, *CHOSEN).n_parameters


@pytest.mark.parametrize(
    ("model_type", "per_neuron"),
    [("gpt2", 2 * HIDDEN + 1), ("bert", 2 * HIDDEN + 1), ("llama", 3 * HIDDEN), ("phi3", 3 * HIDDEN)],
)
def test_parameters_are_counted_as_by_hand(model_type, per_neuron):
    lm = tiny_model(model_type)
    parts = trainable_parts(lm, [0, 2, 2, 2], [5, 3, 23, 23])  # one neuron twice
    assert (parts.n_neurons, parts.n_parameters) == (3, 3 * per_neuron)
    curve = finetune(lm, queries_of(lm), parts, FAST)
    assert curve.n_parameters == 3 * per_neuron


def test_all_parameters_are_counted_once_where_they_are_tied():
    lm = tiny_model("gpt2")
    assert finetune(lm, queries_of(lm), None, FAST).n_parameters == lm.model.num_parameters()


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_gradients_of_slices_are_those_of_the_whole_matrices(model_type):
    lm = tiny_model(model_type, "float64")
    parts, queries = trainable_parts(lm, *CHOSEN), queries_of(lm)
    leaves = [part.read().requires_grad_(True) for part in parts.slices]
    with tapped_gradients(parts.slices, leaves):
        answer_loss(lm, queries).backward()
    assert all(parameter.grad is None for parameter in lm.model.parameters())
    lm.model.requires_grad_(True)
    answer_loss(lm, queries).backward()
    for part, leaf in zip(parts.slices, leaves, strict=True):
        whole = part.parameter.grad.index_select(part.axis, part.places).movedim(part.axis, 0)
        # the computations in float32 of some architectures limit the agreement
        torch.testing.assert_close(leaf.grad, whole, rtol=1e-5, atol=1e-8)
        assert leaf.grad.abs().max() > 0


@pytest.mark.parametrize("model_type", FOUR)
def test_the_forward_pass_of_a_training_is_that_of_the_model(model_type):
    lm = tiny_model(model_type)
    parts, queries = trainable_parts(lm, *CHOSEN), queries_of(lm)
    plain = token_probabilities(lm, queries)
    with tapped_gradients(parts.slices, [part.read().requires_grad_(True) for part in parts.slices]):
        tapped = token_probabilities(lm, queries)
    assert all(torch.equal(a, b) for a, b in zip(plain, tapped, strict=True))


@pytest.mark.parametrize("model_type", FOUR)
@pytest.mark.parametrize("is_all", [False, True])
def test_training_raises_the_probability_of_the_answers(model_type, is_all):
    lm = tiny_model(model_type)
    queries = queries_of(lm)
    before = probability(lm, queries)
    settings = FineTuning(learning_rate=3e-2, epochs=15, batch=4)
    curve = finetune(lm, queries, None if is_all else trainable_parts(lm, *CHOSEN), settings)
    assert np.log(probability(lm, queries)).mean() > np.log(before).mean() + 1
    assert curve.losses[-1] < curve.losses[0]


def test_a_step_is_adamw_with_the_clipped_gradient():
    lm = tiny_model("llama", "float64")
    queries, parts = queries_of(lm), trainable_parts(lm, [1], [4])
    values = [part.read().requires_grad_(True) for part in parts.slices]
    with tapped_gradients(parts.slices, values):
        answer_loss(lm, queries).backward()
    norm = torch.sqrt(sum((value.grad**2).sum() for value in values))
    settings = FineTuning(learning_rate=1e-2, epochs=1, batch=100, clip=float(norm) / 4)
    for value in values:
        value.grad *= settings.clip / (norm + 1e-6)
    torch.optim.AdamW(values, lr=1e-2, weight_decay=0.0).step()
    finetune(lm, queries, parts, settings)
    for part, value in zip(parts.slices, values, strict=True):
        torch.testing.assert_close(part.read(), value.detach(), rtol=1e-12, atol=0)


def test_nothing_decays():
    lm = tiny_model("llama")
    queries = queries_of(lm)
    unused = sorted(set(range(lm.n_vocabulary)) - {token for query in queries for token in query.input_ids} - {0})
    embedding = lm.model.get_input_embeddings().weight
    before = embedding.detach().clone()
    finetune(lm, queries, None, FineTuning(learning_rate=0.1, epochs=5))
    assert len(unused) > 3 and torch.equal(embedding[unused], before[unused])
    assert not torch.equal(embedding, before)


# the loss


@pytest.mark.parametrize("model_type", FOUR)
def test_the_loss_is_that_of_the_answers_tokens(model_type):
    lm = tiny_model(model_type, "float64")
    queries = queries_of(lm)
    assert len({len(query.targets) for query in queries}) > 1
    per_token = []
    for query in queries:
        logits = lm.model(input_ids=torch.tensor([query.input_ids])).logits[0]
        for position, target in zip(query.positions, query.targets, strict=True):
            per_token.append(-logits[position].log_softmax(-1)[target])
    assert answer_loss(lm, queries).item() == pytest.approx(float(torch.stack(per_token).mean()), rel=1e-6)


@pytest.mark.parametrize("model_type", ["gpt2", "bert"])
def test_no_other_position_has_a_target(model_type):
    lm = tiny_model(model_type)
    queries, seen = queries_of(lm), []
    handle = lm.head.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0].shape))
    answer_loss(lm, queries)
    handle.remove()
    assert seen == [(sum(len(query.targets) for query in queries), HIDDEN)]
    # what the query's own tokens are called as targets is nowhere read
    others = [type(query)(**{**vars(query), "replaceable": ()}) for query in queries]
    assert answer_loss(lm, others).item() == answer_loss(lm, queries).item()


# nothing remains


@pytest.mark.parametrize("model_type", FOUR)
@pytest.mark.parametrize("is_all", [False, True])
def test_restored_puts_every_bit_back(model_type, is_all):
    lm = tiny_model(model_type)
    before, queries = copies(lm), queries_of(lm)
    with restored(lm):
        finetune(lm, queries, None if is_all else trainable_parts(lm, *CHOSEN), FAST)
        assert any(not torch.equal(p, before[name]) for name, p in lm.model.named_parameters())
    for name, parameter in lm.model.named_parameters():
        assert torch.equal(parameter, before[name]) and not parameter.requires_grad and parameter.grad is None


@pytest.mark.parametrize("is_all", [False, True])
def test_restored_after_an_exception_in_the_middle_of_a_training(is_all):
    lm = tiny_model("gpt2")
    before, queries = copies(lm), queries_of(lm)

    def stop(done, total, message):
        if done == 2:
            raise KeyboardInterrupt

    parts = None if is_all else trainable_parts(lm, *CHOSEN)
    with pytest.raises(KeyboardInterrupt), restored(lm):
        finetune(lm, queries, parts, FineTuning(batch=4, checkpointing=True), progress=stop)
    assert all(torch.equal(parameter, before[name]) for name, parameter in lm.model.named_parameters())
    assert not any(module._forward_hooks for module in lm.model.modules())
    assert not any("forward" in vars(layer) or layer.training for layer in lm.layers())


def test_a_frozen_entry_that_moved_is_an_error():
    lm = tiny_model("bert")

    def spoil(done, total, message):
        if done == 1:
            lm.layers()[0].output.dense.weight[2, 6] += 1e-3

    with pytest.raises(AtlasError, match=r"1 frozen entries of bert.encoder.layer.0.output.dense.weight changed"):
        finetune(lm, queries_of(lm), trainable_parts(lm, *CHOSEN), FAST, progress=spoil)


def test_the_sign_of_zero_is_a_bit():
    lm = tiny_model("gpt2")
    lm.layers()[0].mlp.c_fc.bias[0] = 0.0
    original = Original.of(lm)
    lm.layers()[0].mlp.c_fc.bias[0] = -0.0
    assert sum(int(is_changed.sum()) for _, is_changed in original.changed(lm)) == 1


# options


@pytest.mark.parametrize("model_type", FOUR)
@pytest.mark.parametrize("is_all", [False, True])
def test_checkpointing_changes_no_number(model_type, is_all):
    lm = tiny_model(model_type)
    parts, results = None if is_all else trainable_parts(lm, *CHOSEN), []
    for checkpointing in (False, True):
        with restored(lm):
            settings = FineTuning(learning_rate=1e-2, epochs=2, batch=4, checkpointing=checkpointing)
            losses = finetune(lm, queries_of(lm), parts, settings).losses
            results.append((losses, copies(lm)))
    assert results[0][0] == results[1][0]
    assert all(torch.equal(results[0][1][name], results[1][1][name]) for name in results[0][1])


def test_checkpointing_runs_the_layers_again():
    lm = tiny_model("gpt2")
    calls = []
    handle = lm.layers()[1].mlp.register_forward_pre_hook(lambda *_: calls.append(1))
    for checkpointing in (False, True):
        finetune(lm, queries_of(lm), None, FineTuning(epochs=1, batch=100, checkpointing=checkpointing))
    handle.remove()
    assert len(calls) == 1 + 2


def test_the_seed_alone_decides_the_course():
    lm = tiny_model("gpt2")
    parts, losses = trainable_parts(lm, *CHOSEN), []
    for seed in (1, 1, 2):
        with restored(lm):
            losses.append(finetune(lm, queries_of(lm), parts, FAST, seed).losses)
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize("is_all", [False, True])
def test_bfloat16_weights_learn_by_steps_smaller_than_their_own(is_all):
    lm = tiny_model("llama", "bfloat16")
    before, queries = copies(lm), queries_of(lm)
    # a step of 1e-4 is lost in a bfloat16 weight of 0.3, whose neighbours are 1e-3 away
    parts = None if is_all else trainable_parts(lm, *CHOSEN)
    finetune(lm, queries, parts, FineTuning(learning_rate=1e-4, epochs=20, batch=100, decay="constant"))
    weight = lm.layers()[2].mlp.down_proj.weight
    is_moved = weight[:, [3, 23]] != before["model.layers.2.mlp.down_proj.weight"][:, [3, 23]]
    assert weight.dtype == torch.bfloat16 and is_moved.float().mean() > 0.5


def test_float16_cannot_be_trained():
    lm = tiny_model("gpt2", "float16")
    with pytest.raises(AtlasError, match="gradients underflow in float16"):
        finetune(lm, queries_of(lm), None)


def test_nothing_to_train_is_no_training():
    lm = tiny_model("gpt2")
    before = copies(lm)
    for queries, parts in (([], None), (queries_of(lm), trainable_parts(lm, [], []))):
        curve = finetune(lm, queries, parts)
        assert not curve.is_trained and curve.n_parameters == 0 and not len(curve.table())
    assert all(torch.equal(parameter, before[name]) for name, parameter in lm.model.named_parameters())


def test_a_neuron_of_another_model_is_a_sentence():
    with pytest.raises(AtlasError, match=r"no neuron \(layer 1, index 24\); the model has 3 layers of 24"):
        trainable_parts(tiny_model("gpt2"), [0, 1], [3, 24])


def test_the_curve_has_a_row_per_step_and_the_accuracy_after_each_epoch():
    lm = tiny_model("gpt2")
    told, settings = [], FineTuning(learning_rate=0.05, epochs=12, batch=4, has_accuracy=True)
    curve = finetune(lm, queries_of(lm), None, settings, progress=lambda *step: told.append(step))
    table = curve.table()
    assert table["step"].tolist() == list(range(24)) and table["epoch"].tolist() == [i // 2 for i in range(24)]
    assert table["accuracy"].notna().tolist() == [False, True] * 12
    assert table["accuracy"].iat[-1] == answer_probabilities(lm, queries_of(lm))["is_argmax"].mean() > 0.5
    assert told[-1] == (24, 24, "epoch 12") and len(told) == 24


def test_rates():
    settings = FineTuning()
    assert (settings.rate(False), settings.rate(True)) == (1e-3, 5e-5)
    linear, constant = FineTuning(learning_rate=0.4), FineTuning(learning_rate=0.4, decay="constant")
    assert [linear.rate_at(step, 4, True) for step in range(4)] == pytest.approx([0.4, 0.3, 0.2, 0.1])
    assert {constant.rate_at(step, 4, True) for step in range(4)} == {0.4}
    assert FineTuning(epochs=3, batch=4).n_steps(9) == 9 and FineTuning().n_steps(0) == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"decay": "linea"}, "decay is 'linea'.*Did you mean 'linear'"),
        ({"epochs": 0}, "epochs is 0; expected at least 1"),
        ({"batch": 0}, "batch is 0; expected at least 1"),
        ({"clip": 0.0}, "clip is 0.0; expected a number above 0"),
        ({"learning_rates": {"chosen": -1}}, "learning_rate is -1.0"),
        ({"learning_rates": {"direct": 1e-3}}, "learning_rates is 'direct'; expected what is trained"),
        ({"learning_rates": {"all": []}}, "empty list"),
        ({"fact": "all"}, "a setting is 'fact'.*Did you mean 'facts'"),
        ({"facts": "every"}, "facts is 'every'"),
        ({"min_facts": 0}, "min_facts is 0; expected at least 1"),
    ],
)
def test_settings_that_cannot_be_meant_are_sentences(settings, message):
    with pytest.raises(AtlasError, match=message):
        injection_of(settings).trainings(is_all=False)


def test_learning_rates_are_one_or_several():
    settings = injection_of({"learning_rates": {"chosen": [1e-3, 1e-2, 1e-3]}, "epochs": 2})
    assert [(one.learning_rate, one.epochs) for one in settings.trainings(is_all=False)] == [(1e-3, 2), (1e-2, 2)]
    assert [one.learning_rate for one in settings.trainings(is_all=True)] == [5e-5]
    assert [one.learning_rate for one in injection_of({"learning_rates": {"all": 2}}).trainings(True)] == [2.0]


# memory

LLAMA3 = ModelShape("causal", 32, 4096, 14336, 128256, 32, 8, 128, is_gated=True, is_tied=False)


def test_memory_of_an_eight_billion_model_by_hand():
    layer = 2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336
    n_all = 32 * layer + 2 * 128256 * 4096
    n = neuron_parameters(LLAMA3, 5000)
    assert n == 5000 * 3 * 4096
    chosen = finetuning_bytes(LLAMA3, n, FineTuning(), n_tokens=20, n_answers=3, bytes_per_number=2)
    assert (chosen.weights, chosen.host_copy) == (2 * n_all, 2 * n_all)
    assert (chosen.masters, chosen.gradients, chosen.optimiser) == (4 * n, 4 * n, 8 * n)
    per_token = 32 * (13 * 4096 + 4 * 14336)
    assert chosen.activations == 32 * (20 * per_token * 2 + 3 * 128256 * 12)
    assert 16e9 < chosen.total < 24e9  # one GPU of 24 GB
    direct = finetuning_bytes(LLAMA3, None, FineTuning(), n_tokens=20, n_answers=3, bytes_per_number=2)
    assert (direct.masters, direct.gradients, direct.optimiser) == (4 * n_all, 2 * n_all, 8 * n_all)
    assert direct.step == 3 * 4 * 128256 * 4096
    wide = finetuning_bytes(LLAMA3, None, FineTuning(), n_tokens=20, n_answers=3)
    assert (wide.masters, wide.gradients, wide.optimiser) == (0, 4 * n_all, 8 * n_all)


def test_memory_grows_with_what_is_trained_and_shrinks_with_checkpointing():
    totals = [finetuning_bytes(LLAMA3, n, FineTuning()).total for n in (1, 10**6, 10**8, 10**9)]
    assert totals == sorted(set(totals))
    by_batch = [finetuning_bytes(LLAMA3, 1, FineTuning(batch=batch)).total for batch in (1, 8, 64)]
    assert by_batch == sorted(set(by_batch))
    lean = finetuning_bytes(LLAMA3, 1, FineTuning(checkpointing=True), n_tokens=20)
    assert lean.activations == 32 * (20 * 4 * (13 * 4096 + 4 * 14336 + 32 * 4096) + 3 * 128256 * 12)
    assert lean.activations < finetuning_bytes(LLAMA3, 1, FineTuning(), n_tokens=20).activations


def kept_bytes(lm, queries, checkpointing):
    """Bytes that a backward pass through all parameters keeps, the weights themselves left out."""
    kept, weights = {}, {parameter.untyped_storage().data_ptr() for parameter in lm.model.parameters()}

    def note(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)  # held, so that no address is used twice
        return tensor

    lm.model.requires_grad_(True)
    with _checkpointed(lm, checkpointing), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        answer_loss(lm, queries)
    lm.model.requires_grad_(False)
    return sum(n_bytes for n_bytes, _ in kept.values())


@pytest.mark.parametrize("model_type", ["gpt2", "bert", "llama"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_forecast_of_activations_is_not_exceeded(model_type, checkpointing):
    inner = "n_inner" if model_type == "gpt2" else "intermediate_size"
    lm = tiny_model(model_type, hidden_size=64, num_attention_heads=4, **{inner: 256})
    query = EncodedQuery("fact", "en", 0, lm.kind, tuple(range(20)), (18, 19), (1, 2), ())
    settings = FineTuning(batch=16, checkpointing=checkpointing)
    forecast = finetuning_bytes(shape_of(lm.model.config), None, settings, n_tokens=20, n_answers=2)
    measured_bytes = kept_bytes(lm, [query] * 16, checkpointing)
    assert measured_bytes < forecast.activations < (10 if checkpointing else 2.5) * measured_bytes


# which queries


def answers(rows):
    columns = ["language", "fact", "query", "is_right_before"]
    return pd.DataFrame(rows, columns=columns).assign(relation="P1", p_before=0.1)


def test_splits_by_hand():
    rows = [
        *[("en", "a", query, is_right) for query, is_right in enumerate([False, True, False])],
        *[("en", "b", query, is_right) for query, is_right in enumerate([True, True, False])],
        ("en", "c", 0, False),  # a single query is never held out
        ("fi", "a", 7, False),
        ("fi", "a", 4, False),
    ]
    table = split_queries(answers(rows), Injection(), 0)
    assert table["split"].tolist() == [
        *("new", "old", "new_heldout"),
        *("old", "old", "new_untrained"),  # of b nothing is trained
        "new",
        *("new_heldout", "new"),  # the last is that with the greatest number
    ]
    assert table.groupby(["language", "split"])["n_found"].first().to_dict() == {
        ("en", "new"): 2,
        ("en", "new_heldout"): 1,
        ("en", "new_untrained"): 1,
        ("en", "old"): 3,
        ("fi", "new"): 1,
        ("fi", "new_heldout"): 1,
    }
    without = split_queries(answers(rows), Injection(holdout_queries=0), 0)
    assert set(without["split"]) == {"new", "old"} and (without["split"] == "new").sum() == 6


def test_at_most_so_many_queries_whatever_the_order_of_the_rows():
    rows = [("en", f"f{i:02}", query, i % 2 == 0) for i in range(40) for query in range(2)]
    settings = Injection(max_queries=5)
    table = split_queries(answers(rows), settings, 3)
    assert table["split"].value_counts().to_dict() == {"new": 5, "new_heldout": 5, "new_untrained": 5, "old": 5}
    assert table.groupby("split")["n_found"].first().to_dict() == {
        "new": 20,
        "new_heldout": 5,
        "new_untrained": 15,
        "old": 40,
    }
    taught = set(table.loc[table["split"] == "new", "fact"])
    assert set(table.loc[table["split"] == "new_heldout", "fact"]) == taught
    keys = ["fact", "query", "split"]
    other = split_queries(answers(rows[::-1]), settings, 3)
    assert set(map(tuple, other[keys].values)) == set(map(tuple, table[keys].values))
    assert set(map(tuple, split_queries(answers(rows), settings, 4)[keys].values)) != set(
        map(tuple, table[keys].values)
    )


# which neurons


def sets_of(neurons, selection="matrice", shape=(3, NEURONS), **origin):
    """Sets for all languages from {fact: [(layer, index), ...]}."""
    found = []
    for fact, pairs in neurons.items():
        layers, indices = np.array(pairs, dtype=int).reshape(-1, 2).T
        found.append(FoundSet(fact, "all", 0, layers, indices, np.ones(len(pairs))))
    origin = {"model": {"name": "tiny"}, **origin}
    return NeuronSets(as_table(selection, found), selection, list(neurons), ["all"], *shape, origin=origin)


def pairs_of(is_chosen):
    return list(zip(*(axis.tolist() for axis in np.nonzero(is_chosen)), strict=True))


def test_neurons_are_pooled_over_facts():
    sets = sets_of({"a": [(0, 1), (2, 5)], "b": [(2, 5), (1, 7)], "c": [(2, 9)]})
    assert pairs_of(pooled(sets, ["a", "b"], "en")) == [(0, 1), (1, 7), (2, 5)]
    assert pairs_of(pooled(sets, ["a", "b", "c"], "en", min_facts=2)) == [(2, 5)]
    assert pairs_of(pooled(sets, ["a", "never searched"], "en")) == [(0, 1), (2, 5)]
    assert pairs_of(pooled(sets, [], "en")) == []


def controls(found, drawn, name="random", shape=(3, NEURONS)):
    sets = {"matrice": sets_of(found, shape=shape), name: sets_of(drawn, name, shape, reference="matrice")}
    return sets, pooled_neurons("matrice", sets, list(found), "en", 1, 0)[0]


def test_a_random_control_has_as_many_neurons_as_its_reference():
    # the random sets hold four neurons, the found ones three: found sets share neurons, random ones do not
    found, drawn = {"a": [(0, 1), (0, 2)], "b": [(0, 1), (2, 4)]}, {"a": [(1, 1), (1, 2)], "b": [(1, 3), (0, 2)]}
    sets, reference = controls(found, drawn)
    chosen, n_shared = pooled_neurons("random", sets, ["a", "b"], "en", 1, 0)
    assert chosen.sum() == reference.sum() == 3 and n_shared == 0
    assert pairs_of(chosen) == [(1, 1), (1, 2), (1, 3)]  # its own draw, without the found neuron
    few, _ = pooled_neurons("random", sets, ["a", "b"], "en", 2, 0)  # one neuron is in the sets of both facts
    assert few.sum() == 1


def test_a_layer_matched_control_has_as_many_neurons_in_every_layer():
    found, drawn = {"a": [(0, 1), (0, 2), (2, 4)]}, {"a": [(0, 3), (1, 3), (2, 3)]}
    sets, reference = controls(found, drawn, "random_layer_matched")
    chosen, n_shared = pooled_neurons("random_layer_matched", sets, ["a"], "en", 1, 0)
    assert chosen.sum(axis=1).tolist() == reference.sum(axis=1).tolist() == [2, 0, 1] and n_shared == 0
    assert {(0, 3), (2, 3)} < set(pairs_of(chosen))


def test_a_control_shares_neurons_only_where_too_few_are_left():
    found = {"a": [(0, 0), (0, 1), (0, 2)]}
    sets, _ = controls(found, {"a": []}, shape=(1, 4))
    chosen, n_shared = pooled_neurons("random", sets, ["a"], "en", 1, 0)
    assert chosen.sum() == 3 and n_shared == 2 and chosen[0, 3]


def test_a_control_needs_its_reference():
    with pytest.raises(AtlasError, match="random is the control of bkn, which is not among those compared"):
        pooled_neurons("random", {"random": sets_of({"a": []}, "random", reference="bkn")}, ["a"], "en", 1, 0)


# the experiment

FACTS = ["P36:FR>Paris", "P36:FI>Helsinki", "P36:HU>Budapest"]
FOUND = {FACTS[0]: [(0, 1), (1, 3), (2, 5)], FACTS[1]: [(2, 5), (2, 6)], FACTS[2]: []}
RANDOM = {FACTS[0]: [(0, 2), (0, 3), (0, 4)], FACTS[1]: [(1, 9), (1, 10)], FACTS[2]: []}
SETS = {"matrice": sets_of(FOUND), "random": sets_of(RANDOM, "random", reference="matrice")}
QUICK = injection_of({"learning_rates": {"chosen": [1e-2, 0.1], "all": 1e-2}, "epochs": 4, "batch": 4})


def taught_model(model_type, is_taught):
    """A tiny model that answers those queries rightly of which `is_taught` is true."""
    lm = tiny_model(model_type)
    prompts = tiny_prompts(lm.kind, 3)
    queries = [query for query in encode_prompts(lm, prompts) if is_taught(query)]
    finetune(lm, queries, None, FineTuning(learning_rate=1e-2, epochs=40))
    return lm, prompts


def is_chinese(query):
    return query.language == "zh"


@pytest.mark.parametrize("model_type", ["bert", "gpt2", "llama"])
def test_the_experiment_on_a_model_that_knows_one_language(model_type):
    lm, prompts = taught_model(model_type, is_chinese)
    before, first = copies(lm), answer_probabilities(lm, encode_prompts(lm, prompts))
    told = []
    table, curves = inject(lm, SETS, prompts, QUICK, 1, lambda *step: told.append(step))
    assert table.columns.tolist() == COLUMNS and curves.columns.tolist() == CURVE_COLUMNS
    assert all(torch.equal(parameter, before[name]) for name, parameter in lm.model.named_parameters())
    keys = ["fact", "language", "query"]
    expected = first.set_index(keys).loc[pd.MultiIndex.from_frame(table[keys])]
    np.testing.assert_allclose(table["p_before"], expected["p"], rtol=1e-5)
    assert table["is_right_before"].tolist() == expected["is_argmax"].tolist()
    assert ((table["split"] == "old") == table["is_right_before"]).all()
    # every query of the language, under every selection and rate
    assert table.groupby(["selection", "learning_rate", "language"]).size().unstack().to_dict("list") == {
        "en": [9] * 5,
        "zh": [6] * 5,
        "ja": [3] * 5,
    }
    sizes = table.drop_duplicates(["language", "selection"]).set_index(["language", "selection"])
    assert sizes.loc[("en", "matrice"), "n_neurons"] == sizes.loc[("en", "random"), "n_neurons"] == 4
    assert sizes.loc[("ja", "matrice"), "n_neurons"] == sizes.loc[("ja", "random"), "n_neurons"] == 3
    assert sizes.loc[("en", "direct"), "n_parameters"] == lm.model.num_parameters()
    own = table[table["selection"] == "matrice"].groupby("fact")["n_own_neurons"].first()
    assert own.to_dict() == {FACTS[0]: 3, FACTS[1]: 2, FACTS[2]: 0}
    trained = table[table["split"] == "new"]
    assert (np.log(trained["p_after"]) > np.log(trained["p_before"])).mean() > 0.8
    assert told[-1][0] == told[-1][1] and [step[0] for step in told] == sorted(step[0] for step in told)


def test_a_language_without_wrong_answers_passes_and_is_counted():
    lm, prompts = taught_model("gpt2", is_chinese)
    told = []
    table, curves = inject(lm, SETS, prompts, QUICK, 1, lambda *step: told.append(step[2]))
    chinese = table[table["language"] == "zh"]
    assert set(chinese["split"]) == {"old"} and set(curves["language"]) == {"en", "ja"}
    assert not chinese["is_trained"].any() and set(chinese["n_neurons"]) == set(chinese["n_parameters"]) == {0}
    assert (chinese["p_after"] == chinese["p_before"]).all() and chinese["is_right_after"].all()
    assert "zh matrice: no wrong answers, nothing is trained" in told
    summary = summarise_injection(table, resamples=20).set_index(
        ["selection", "language", "learning_rate", "statistic"]
    )
    none, whole = summary.loc[("matrice", "zh", 0.01, "q_new")], summary.loc[("matrice", "zh", 0.01, "q_old")]
    assert np.isnan(none["value"]) and none["n"] == none["n_queries"] == 0
    assert (whole["value"], whole["lo"], whole["hi"], whole["n_untrained"]) == (100, 100, 100, 1)
    assert summary.loc[("matrice", "all", 0.01, "q_new"), "n_languages"] == 2
    assert summary.loc[("matrice", "all", 0.01, "q_new"), "n_untrained"] == 1


def test_an_empty_union_trains_nothing_and_says_so():
    lm, prompts = tiny_model("gpt2"), tiny_prompts("causal")
    told, empty = [], {"likn": sets_of({fact: [] for fact in FACTS}, "likn")}
    settings = injection_of({"has_direct": False})
    table, curves = inject(lm, empty, prompts, settings, 0, lambda *step: told.append(step[2]))
    assert not len(curves) and curves.columns.tolist() == CURVE_COLUMNS
    assert (table["p_after"] == table["p_before"]).all() and set(table["n_neurons"]) == {0}
    assert not table["is_trained"].any() and "en likn: no neurons, nothing is trained" in told


def test_held_out_queries_are_never_trained_on(monkeypatch):
    lm, prompts, seen = tiny_model("gpt2"), tiny_prompts("causal", 3), []

    def spy(lm, queries, *rest):
        seen.extend(queries)
        return finetune(lm, queries, *rest)

    monkeypatch.setattr(injection, "finetune", spy)
    table, _ = inject(lm, SETS, prompts, QUICK)
    assert {query.query for query in seen} == {0, 1}
    assert set(table.loc[table["split"] == "new_heldout", "query"]) == {2}
    trained = {(query.language, query.fact, query.query) for query in seen}
    assert trained == set(map(tuple, table.loc[table["split"] == "new", ["language", "fact", "query"]].values))


def test_all_facts_or_the_searched_ones():
    lm, prompts = tiny_model("gpt2"), tiny_prompts("causal")
    few = {"matrice": sets_of({FACTS[1]: [(2, 5)]})}
    searched, _ = inject(lm, few, prompts, QUICK)
    every, _ = inject(lm, few, prompts, injection_of({"facts": "all", "epochs": 1}))
    assert set(searched["fact"]) == {FACTS[1]} and set(every["fact"]) == set(FACTS)
    chosen = every[every["selection"] == "matrice"]
    assert set(chosen.loc[chosen["language"] == "ja", "n_neurons"]) == {0}  # its fact was never searched
    assert chosen.groupby("fact")["n_own_neurons"].first().to_dict() == {FACTS[0]: 0, FACTS[1]: 1, FACTS[2]: 0}
    with pytest.raises(AtlasError, match="none of the facts has a causal prompt"):
        inject(lm, few, tiny_prompts("masked"))


def test_the_order_of_the_experiment_leaves_no_trace():
    lm, prompts = tiny_model("bert"), tiny_prompts("masked", 2)
    table, curves = inject(lm, SETS, prompts, QUICK)
    alone, its_curves = inject(lm, {"matrice": SETS["matrice"]}, prompts, QUICK)
    for both, one in ((table, alone), (curves, its_curves)):
        found = both[both["selection"].isin(["matrice", "direct"])].reset_index(drop=True)
        pd.testing.assert_frame_equal(found, one)


# the tables


def measured(rows, **settings):
    columns = ["language", "split", "fact", "query", "is_right_after"]
    fixed = {"model": "tiny", "selection": "matrice", "learning_rate": 0.1, "n_neurons": 6, "n_parameters": 60}
    fixed |= {"n_own_neurons": 2, "n_shared": 0, "n_found": 4, "is_trained": True}
    return pd.DataFrame(rows, columns=columns).assign(**{**fixed, **settings})


ROWS = [
    *[("en", "new", "a", query, is_right) for query, is_right in enumerate([True, True, False])],
    ("en", "new", "b", 0, False),
    ("en", "new_heldout", "a", 3, True),
    ("en", "old", "b", 1, True),
    ("en", "old", "c", 0, False),
    ("fi", "new", "a", 0, True),
    ("fi", "new_untrained", "d", 0, False),
    ("fi", "old", "c", 0, True),
]


def values(table, column="value"):
    return table.set_index(["language", "statistic"])[column].to_dict()


def test_summaries_by_hand():
    found = values(summarise_injection(measured(ROWS), seed=1, resamples=50))
    expected = {
        ("en", "q_new"): 50.0,  # of queries, not of facts
        ("en", "q_new_heldout"): 100.0,
        ("en", "q_old"): 50.0,
        ("en", "average"): 50.0,
        ("fi", "q_new"): 100.0,
        ("fi", "q_new_untrained"): 0.0,
        ("fi", "q_old"): 100.0,
        ("fi", "average"): 100.0,
        ("all", "q_new"): 75.0,  # mean over languages
        ("all", "q_new_heldout"): 100.0,
        ("all", "q_new_untrained"): 0.0,
        ("all", "q_old"): 75.0,
        ("all", "average"): 75.0,
    }
    assert {key: value for key, value in found.items() if not np.isnan(value)} == expected
    assert set(found) - set(expected) == {("en", "q_new_untrained"), ("fi", "q_new_heldout")}


def test_what_is_counted():
    rows = measured(ROWS)
    rows.loc[rows["fact"] == "b", "n_own_neurons"] = 0
    rows.loc[rows["language"] == "fi", "n_neurons"] = 2
    table = summarise_injection(rows, resamples=50)
    n, n_queries, n_empty = (values(table, column) for column in ("n", "n_queries", "n_empty"))
    assert (n["en", "q_new"], n_queries["en", "q_new"], n_empty["en", "q_new"]) == (2, 4, 1)
    assert (n["all", "average"], n_queries["all", "average"], n_empty["all", "average"]) == (3, 8, 1)
    assert values(table, "n_left_out")["en", "q_old"] == 2  # four were found
    assert values(table, "n_neurons")["all", "q_new"] == 4
    assert values(table, "n_languages")["all", "q_new_heldout"] == 1


def test_an_average_needs_both_halves():
    rows = measured([row for row in ROWS if row[1] == "old"])
    table = summarise_injection(rows, resamples=50).query("statistic == 'average'")
    assert table["value"].isna().all() and set(table["n"]) == set(table["n_queries"]) == {0}


def test_intervals_draw_facts_with_all_their_queries_and_languages():
    # two facts, one always right, one never: a resample is 0, 50 or 100 % right in both languages at once
    rows = [(lang, "new", fact, q, fact == "a") for lang in ("en", "fi") for fact in "ab" for q in range(9)]
    table = summarise_injection(measured(rows), seed=0, resamples=400).query("statistic == 'q_new'")
    assert table[["value", "lo", "hi", "n"]].values.tolist() == [[50, 0, 100, 2]] * 3
    same = summarise_injection(measured([(*row[:4], True) for row in rows]), resamples=50)
    assert same.query("statistic == 'q_new'")[["value", "lo", "hi"]].values.tolist() == [[100, 100, 100]] * 3


def test_every_rate_model_and_selection_is_a_line_of_its_own():
    parts = [measured(ROWS, learning_rate=rate, selection=name) for rate in (0.1, 0.2) for name in ("likn", "random")]
    table = summarise_injection(pd.concat(parts), resamples=20)
    assert table.groupby(["selection", "learning_rate"], sort=False).size().tolist() == [15] * 4
    assert not table.duplicated(["model", "selection", "learning_rate", "language", "statistic"]).any()


def test_curves_are_averaged_over_the_steps_of_an_epoch():
    fixed = {"model": "tiny", "selection": "matrice", "learning_rate": 0.1}
    rows = [("en", 0, 0, 4.0, np.nan), ("en", 1, 0, 2.0, 0.5), ("en", 2, 1, 1.0, 1.0), ("fi", 0, 0, 5.0, np.nan)]
    curves = pd.DataFrame(rows, columns=["language", "step", "epoch", "loss", "accuracy"]).assign(**fixed)
    table = summarise_curves(curves).set_index(["statistic", "language", "epoch"])
    assert table["value"].to_dict() == {
        ("loss", "en", 0): 3.0,
        ("loss", "en", 1): 1.0,
        ("loss", "fi", 0): 5.0,
        ("loss", "all", 0): 4.0,
        ("loss", "all", 1): 1.0,
        ("accuracy", "en", 0): 50.0,
        ("accuracy", "en", 1): 100.0,
        ("accuracy", "all", 0): 50.0,
        ("accuracy", "all", 1): 100.0,
    }
    assert table.loc[("loss", "all", 0), "n"] == 3
    assert len(summarise_curves(curves.iloc[:0])) == 0
