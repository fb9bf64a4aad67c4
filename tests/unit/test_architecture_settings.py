"""What a configuration can switch on: it works as the explicit loop says, or it is refused with a sentence."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from knatlas.attribution import AttributionMethod
from knatlas.attribution.engine import attribute
from knatlas.errors import AtlasError
from knatlas.models.conformance import check_record
from knatlas.models.language_model import LanguageModel, as_language_model
from knatlas.models.loading import ModelSource, load_model
from tests.naive_attribution import EXACT, SEVERAL_TOKENS, example, naive_scores, relative_error
from tests.tiny_models import tiny_model

LONG = {"type": "longrope", "short_factor": [1.0, 2.0, 3.0, 4.0], "long_factor": [8.0] * 4, "factor": 2.0}
# settings of published checkpoints, or of their types, that the tiny models do not have by themselves
VARIANTS = {
    "opt like 350m": ("opt", {"do_layer_norm_before": False, "word_embed_proj_dim": 8}),
    "opt without biases": ("opt", {"enable_bias": False, "layer_norm_elementwise_affine": False}),
    "bloom like its first draft": ("bloom", {"apply_residual_connection_post_layernorm": True}),
    "bloom of 3 heads": ("bloom", {"num_attention_heads": 3}),
    "phi3 with long angles": ("phi3", {"original_max_position_embeddings": 32, "rope_scaling": LONG}),
    "gemma2 without caps": ("gemma2", {"attn_logit_softcapping": None, "final_logit_softcapping": None}),
    "gemma3 with a cap": ("gemma3_text", {"final_logit_softcapping": 3.0}),
    "gemma3 with scaled angles": ("gemma3_text", {"rope_scaling": {"rope_type": "linear", "factor": 8.0}}),
}
UNFIT = {  # settings that must not be missed
    "bert": [("is_decoder", True), ("chunk_size_feed_forward", 2), ("position_embedding_type", "relative_key")],
    "distilbert": [("chunk_size_feed_forward", 1)],
    "bloom": [("slow_but_exact", True)],
    "gemma2": [("use_bidirectional_attention", True)],
    "gemma3_text": [("use_bidirectional_attention", True), ("attn_logit_softcapping", 50.0)],
    "opt": [("quantization_config", {"quant_method": "fp8"})],
}
IDS = torch.tensor([[3, 7, 11, 5, 9]])


def variant(name: str) -> LanguageModel:
    model_type, settings = VARIANTS[name]
    return tiny_model(model_type, "float64", **settings)


def logits_of(lm: LanguageModel) -> torch.Tensor:
    with torch.no_grad():
        return lm.model(IDS).logits


@pytest.mark.parametrize("name", VARIANTS)
def test_body_and_head_together_are_the_model_also_after_saving(name: str, tmp_path: Path) -> None:
    lm = variant(name)
    logits = logits_of(lm)
    with torch.no_grad():
        assert torch.equal(lm.head(lm.hidden_states(IDS, torch.ones_like(IDS))), logits)
    lm.model.save_pretrained(tmp_path)
    lm.tokenizer.save_pretrained(tmp_path)
    loaded = load_model(ModelSource("tiny", tmp_path, "random", str(tmp_path)), "float64", "cpu")
    assert torch.equal(logits_of(loaded), logits)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_is_attributed_as_by_the_explicit_loop(name: str) -> None:
    lm = variant(name)
    query = example(lm, SEVERAL_TOKENS)
    found = attribute(lm, query, [AttributionMethod("x", steps=2)], 64).scores["x"]
    expected = naive_scores(lm, query, "per_token", "right", 2)["delta"]
    assert relative_error(found, expected) <= EXACT[lm.architecture.model_type]


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_is_another_model(name: str) -> None:
    assert not torch.equal(logits_of(variant(name)), logits_of(tiny_model(VARIANTS[name][0], "float64")))


@pytest.mark.parametrize(
    ("model_type", "setting", "value"), [(name, *setting) for name, settings in UNFIT.items() for setting in settings]
)
def test_a_setting_that_is_not_known_to_work_is_refused(
    model_type: str, setting: str, value: object, tmp_path: Path
) -> None:
    lm = tiny_model(model_type)
    setattr(lm.model.config, setting, value)
    with pytest.raises(AtlasError, match=f"{setting} is .*; expected .*, since .* Use another checkpoint"):
        as_language_model("tiny", lm.model, lm.tokenizer, "random")
    for file in ("model.safetensors", "tokenizer.json"):
        (tmp_path / file).touch()
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type, setting: value}))
    with pytest.raises(AtlasError, match=f"models: tiny: config.json: {setting} is "):
        load_model(ModelSource("tiny", tmp_path, "random", str(tmp_path)))


def test_a_cap_that_the_record_does_not_name_is_found() -> None:
    lm = tiny_model("gemma2")
    uncapped = replace(lm, architecture=replace(lm.architecture, logit_cap=None))
    with pytest.raises(AtlasError, match=r"tiny-gemma2: the modules lm_head do not give its logits: .*'gemma2'"):
        check_record(uncapped)


def test_neurons_that_pass_by_their_module_are_found() -> None:
    lm = tiny_model("bloom")
    mlp = lm.model.transformer.h[1].mlp
    mlp.pretraining_tp, mlp.slow_but_exact = 2, True
    with pytest.raises(AtlasError, match=r"tiny-bloom: layer 1 has neurons of shapes \[\] at its down_input"):
        check_record(lm)


def test_angles_that_change_with_the_length_set_a_limit() -> None:
    lm = variant("phi3 with long angles")
    assert (lm.model.config.max_position_embeddings, lm.n_positions) == (64, 32)
    with torch.no_grad():
        short, whole, long = (lm.model(torch.arange(n)[None]).logits[0, 4] for n in (5, 32, 33))
    torch.testing.assert_close(short, whole, rtol=1e-5, atol=1e-5)
    assert (short - long).abs().max() > 1e-2
