"""The networks of the embedded models: ordinary transformers classes, small, without dropout."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from knatlas.models.architectures import architecture_of, head_of, module_at
from knatlas.models.embedded.batches import Batch
from knatlas.models.embedded.recipe import Recipe


def build_network(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """An untrained model of the recipe's family and sizes, initialised by torch's global random numbers."""
    build = {"bert": _bert, "gpt2": _gpt2, "llama": _llama}[recipe.family]
    return build(recipe, len(tokenizer), tokenizer)


def _bert(recipe: Recipe, n_tokens: int, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    config = BertConfig(
        vocab_size=n_tokens,
        hidden_size=recipe.width,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        intermediate_size=recipe.ffn_width,
        hidden_act=recipe.activation or "gelu",
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        max_position_embeddings=recipe.longest,
        pad_token_id=tokenizer.pad_token_id,
    )
    return BertForMaskedLM(config)


def _gpt2(recipe: Recipe, n_tokens: int, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    config = GPT2Config(
        vocab_size=n_tokens,
        n_positions=recipe.longest,
        n_embd=recipe.width,
        n_layer=recipe.layers,
        n_head=recipe.heads,
        n_inner=recipe.ffn_width,
        activation_function=recipe.activation or "gelu_new",
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return GPT2LMHeadModel(config)


def _llama(recipe: Recipe, n_tokens: int, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    config = LlamaConfig(
        vocab_size=n_tokens,
        hidden_size=recipe.width,
        intermediate_size=recipe.ffn_width,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        hidden_act=recipe.activation or "silu",
        max_position_embeddings=recipe.longest,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return LlamaForCausalLM(config)


def answer_logits(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Logits (P, vocabulary) at the positions that a batch asks for; the head is evaluated nowhere else."""
    architecture = architecture_of(model.config.model_type)
    body = module_at(model, architecture.body)
    no_cache = {"use_cache": False} if architecture.kind == "causal" else {}
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, **no_cache}
    states = body(**inputs).last_hidden_state  # (B, T, width)
    return head_of(model, architecture)(states[batch.rows, batch.positions])


def ffn_outputs(model: PreTrainedModel) -> list[nn.Module]:
    """The second FFN matrix of each layer; coordinate j of its input is neuron j of the layer."""
    architecture = architecture_of(model.config.model_type)
    return [module_at(layer, architecture.down_projection) for layer in module_at(model, architecture.layers)]


def n_neurons(model: PreTrainedModel) -> tuple[int, int]:
    """Layers, and neurons per layer."""
    modules = ffn_outputs(model)
    return len(modules), modules[0].weight.shape[architecture_of(model.config.model_type).neuron_axis]


@contextmanager
def ffn_hook(model: PreTrainedModel, change: Callable[[int, Tensor], Tensor | None]) -> Iterator[None]:
    """While open, `change(layer, activations)` sees the neurons (B, T, neurons) of each layer and may replace them."""

    def hook_of(layer: int) -> Callable:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
            changed = change(layer, inputs[0])
            return None if changed is None else (changed, *inputs[1:])

        return hook

    handles = [module.register_forward_pre_hook(hook_of(layer)) for layer, module in enumerate(ffn_outputs(model))]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
