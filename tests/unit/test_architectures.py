"""Every record of an architecture names the modules it says: checked on a tiny random model of each."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from knatlas.errors import AtlasError
from knatlas.models.architectures import ARCHITECTURES, architecture_of, module_at
from knatlas.models.conformance import check_record
from knatlas.models.encoding import encode_prompt
from knatlas.models.language_model import LanguageModel, as_language_model
from knatlas.models.loading import ModelSource, load_model
from knatlas.models.neuron_hooks import tapped_layer
from tests.tiny_models import MODEL_TYPES, NEURONS, TOKENIZERS, random_model, tiny_model


def bloom_gelu(x: torch.Tensor) -> torch.Tensor:
    """GELU by tanh with the digits of BLOOM."""
    return x * 0.5 * (1.0 + torch.tanh(0.79788456 * x * (1 + 0.044715 * x * x)))


ACTIVATIONS = {
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "distilbert", "gpt_neox"), torch.nn.functional.gelu),
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "phi3"), torch.nn.functional.silu),
    **dict.fromkeys(("gpt2", "gemma2", "gemma3_text"), torch.nn.GELU(approximate="tanh")),
    "opt": torch.nn.functional.relu,
    "bloom": bloom_gelu,
}
IDS = torch.tensor([[3, 7, 11, 5, 9]])


@pytest.fixture(params=sorted(ARCHITECTURES))
def lm(request: pytest.FixtureRequest) -> LanguageModel:
    return tiny_model(request.param, "float64")


def logits_of(lm: LanguageModel) -> torch.Tensor:
    with torch.no_grad():
        return lm.model(IDS).logits


def output_of(lm: LanguageModel, module: torch.nn.Module) -> torch.Tensor:
    """Output of a module in a forward pass of the whole model, (1, tokens, n)."""
    seen = []
    handle = module.register_forward_hook(lambda _, __, output: seen.append(output))
    logits_of(lm)
    handle.remove()
    return seen[0].reshape(1, IDS.shape[1], -1)


def neurons_of(lm: LanguageModel, layer: int, site: str = "down_input") -> torch.Tensor:
    """Neurons (1, tokens, neurons) of a layer in a forward pass of the whole model."""
    seen = []

    def keep(value: torch.Tensor) -> torch.Tensor:
        seen.append(value.clone())
        return value

    with tapped_layer(lm, layer, site, keep):
        logits_of(lm)
    return seen[0]


def test_tiny_models_exist_for_every_record() -> None:
    assert set(MODEL_TYPES) == set(ARCHITECTURES)


def test_kind_is_the_one_of_the_family() -> None:
    masked = {name for name, record in ARCHITECTURES.items() if record.kind == "masked"}
    causal = {name for name, record in ARCHITECTURES.items() if record.kind == "causal"}
    assert masked == {"bert", "roberta", "xlm-roberta", "distilbert"}
    others = {"gpt2", "gpt_neox", "opt", "bloom", "phi3", "gemma2", "gemma3_text"}
    assert causal == others | {"llama", "mistral", "qwen2", "qwen3"}


def test_unknown_model_type_lists_the_known_ones_and_the_nearest() -> None:
    known = "bert bloom distilbert gemma2 gemma3_text gpt2 gpt_neox llama mistral opt phi3 qwen2 qwen3 roberta "
    known += "xlm-roberta"
    with pytest.raises(AtlasError, match=rf"is 'lama'; expected a known architecture \({known}\)"):
        architecture_of("lama")
    with pytest.raises(AtlasError, match="Did you mean 'llama'"):
        architecture_of("lama")


@pytest.mark.parametrize("model_type", ["gemma3", "mixtral", "t5", "phi3small"])
def test_a_type_without_a_record_is_refused_even_when_another_is_near(model_type: str) -> None:
    with pytest.raises(AtlasError, match=f"is '{model_type}'; expected a known architecture"):
        architecture_of(model_type)


def test_a_path_that_does_not_exist_is_a_sentence(lm: LanguageModel) -> None:
    with pytest.raises(AtlasError, match=r"has no module 'nowhere\.at\.all'"):
        module_at(lm.model, "nowhere.at.all")


def test_neurons_are_counted_as_configured(lm: LanguageModel) -> None:
    assert (lm.n_layers, lm.n_neurons) == (3, NEURONS)
    for layer in range(lm.n_layers):
        for site in ("down_input", "pre_activation"):
            assert neurons_of(lm, layer, site).shape == (1, 5, NEURONS)
        n_branches = len(lm.architecture.up_projections) * lm.architecture.fused_parts
        assert len(lm.incoming_weights(layer, 0)) == n_branches


def test_gpt2_without_inner_size_has_four_times_the_hidden_size() -> None:
    lm = tiny_model("gpt2")
    lm.model.config.n_inner = None
    with pytest.raises(AtlasError, match=r"layer 0: mlp\.c_proj\.weight has shape \(24, 16\); .* should be \(64, 16\)"):
        as_language_model("tiny", lm.model, lm.tokenizer, "random")


def test_wrong_number_of_layers_is_refused() -> None:
    lm = tiny_model("llama")
    lm.model.config.num_hidden_layers = 4
    with pytest.raises(AtlasError, match="the configuration has 4 layers, the model 3"):
        as_language_model("tiny", lm.model, lm.tokenizer, "random")


def test_ffn_output_is_the_sum_of_neurons_times_value_vectors(lm: LanguageModel) -> None:
    for layer, module in enumerate(lm.down_projections()):
        values = torch.stack([lm.value_vector(layer, index) for index in range(lm.n_neurons)])
        bias = 0 if module.bias is None else module.bias
        found = neurons_of(lm, layer) @ values + bias
        torch.testing.assert_close(found, output_of(lm, module), rtol=1e-12, atol=1e-12)


def test_pre_activation_goes_into_the_non_linearity(lm: LanguageModel) -> None:
    function = ACTIVATIONS[lm.architecture.model_type]
    for layer in range(lm.n_layers):
        outputs = torch.cat([output_of(lm, module) for module in lm.up_projections(layer)], dim=-1)
        gate, *others = outputs.split(lm.n_neurons, dim=-1)
        assert torch.equal(neurons_of(lm, layer, "pre_activation"), gate)
        value = function(gate)
        for other in others:
            value = value * other
        torch.testing.assert_close(value, neurons_of(lm, layer), rtol=1e-12, atol=1e-12)


def test_what_a_tap_returns_is_what_the_model_goes_on_with(lm: LanguageModel) -> None:
    for site in ("down_input", "pre_activation"):
        with tapped_layer(lm, 1, site, lambda value: value.index_fill(2, torch.tensor([5]), 0.0)):
            logits = logits_of(lm)
            assert (neurons_of(lm, 1)[..., 5] == 0).all() and (neurons_of(lm, 1)[..., 4] != 0).any()
        assert not torch.equal(logits, logits_of(lm))


def test_incoming_weights_feed_one_neuron_only(lm: LanguageModel) -> None:
    before = neurons_of(lm, 1)
    for weights in lm.incoming_weights(1, 5):
        after = neurons_of(lm, 1)
        weights.mul_(3.0)
        assert not torch.equal(neurons_of(lm, 1), after)
    changed = (before != neurons_of(lm, 1)).any(dim=1)[0]
    assert changed.nonzero().flatten().tolist() == [5]


def test_edit_and_undo_leave_every_weight_bit_identical(lm: LanguageModel) -> None:
    original = {name: tensor.clone() for name, tensor in lm.model.state_dict().items()}
    logits = logits_of(lm)
    for weights in (lm.value_vector(2, 3), *lm.incoming_weights(2, 3)):
        copy = weights.clone()
        weights.neg_()
        assert not torch.equal(logits_of(lm), logits)
        weights.copy_(copy)
        assert torch.equal(logits_of(lm), logits)
    assert all(torch.equal(tensor, original[name]) for name, tensor in lm.model.state_dict().items())


def test_body_and_head_together_are_the_model(lm: LanguageModel) -> None:
    with torch.no_grad():
        logits = lm.head(lm.hidden_states(IDS, torch.ones_like(IDS)))
    torch.testing.assert_close(logits, logits_of(lm), rtol=1e-12, atol=1e-12)
    check_record(lm)


def test_a_saved_folder_computes_the_same_numbers(lm: LanguageModel, tmp_path: Path) -> None:
    lm.model.save_pretrained(tmp_path)
    lm.tokenizer.save_pretrained(tmp_path)
    loaded = load_model(ModelSource("tiny", tmp_path, "random", str(tmp_path)), "float64", "cpu")
    assert loaded.model.config._attn_implementation == lm.architecture.attention
    assert torch.equal(logits_of(loaded), logits_of(lm))


def test_a_model_reads_as_many_tokens_as_it_has_positions(lm: LanguageModel) -> None:
    ids = torch.full((1, lm.n_positions or 200), 7)
    with torch.no_grad():
        assert lm.model(ids).logits.isfinite().all()
    if lm.architecture.model_type == "bloom":
        assert lm.n_positions is None
    elif lm.architecture.skips_padding_positions:
        assert lm.n_positions == 62
        with pytest.raises(RuntimeError, match="out of bounds"):
            lm.model(torch.full((1, 63), 7))
    else:
        assert lm.n_positions == 64


def test_a_sentence_too_long_for_roberta_is_refused_before_the_model_fails() -> None:
    prompt = SimpleNamespace(fact="f", language="en", query=0, before="The" + " of" * 59, separator=" ", after="")
    prompt.answer = "is"
    with pytest.raises(AtlasError, match="the sentence has 63 tokens; the model reads at most 62"):
        encode_prompt(tiny_model("roberta"), prompt)


def test_the_model_is_frozen_and_in_evaluation_mode(lm: LanguageModel) -> None:
    assert not lm.model.training
    assert not any(parameter.requires_grad for parameter in lm.model.parameters())


def test_the_replacement_is_the_mask_or_the_end_of_text(lm: LanguageModel) -> None:
    expected = lm.tokenizer.mask_token_id if lm.kind == "masked" else lm.tokenizer.eos_token_id
    assert lm.replacement_id == expected


def test_a_replacement_outside_the_vocabulary_is_a_sentence() -> None:
    model = random_model("gpt2", 100, torch.float32)
    tokenizer = TOKENIZERS["gpt2"]().__class__(
        tokenizer_object=TOKENIZERS["gpt2"]().backend_tokenizer, eos_token="<added>"
    )
    lm = as_language_model("tiny", model, tokenizer, "random")
    with pytest.raises(AtlasError, match=r"end-of-text token '<added>' has id 340, but .* has 100 entries"):
        _ = lm.replacement_id


def test_a_tokenizer_without_the_token_is_a_sentence() -> None:
    lm = tiny_model("gpt2")
    with pytest.raises(AtlasError, match="the tokenizer has no mask token; set mask_token"):
        _ = lm.mask_id
