"""Integrated gradients written down a second time: one layer, one baseline, one step at a time, on the whole model.

No code of the engine is used: the modules are named here, the full model runs on the full input with a hook, without a
cache, and every gradient is its own backward pass.
"""

from collections.abc import Callable
from contextlib import contextmanager
from functools import cache
from types import SimpleNamespace

import numpy as np
import torch
from scipy.special import roots_legendre
from torch import Tensor, nn

from knatlas.models.encoding import EncodedQuery, encode_prompt
from knatlas.models.language_model import LanguageModel
from tests.tiny_models import FLOAT32_NORMS, MODEL_TYPES, tiny_model

# how far float64 sums may differ
EXACT = {name: 1e-5 if name in FLOAT32_NORMS else 1e-10 for name in MODEL_TYPES}
# layers, and in a layer the module before the non-linearity and the one that reads the neurons
GATED = ("model.layers", "mlp.gate_proj", "mlp.down_proj")
MODULES = {
    "bert": ("bert.encoder.layer", "intermediate.dense", "output.dense"),
    "roberta": ("roberta.encoder.layer", "intermediate.dense", "output.dense"),
    "xlm-roberta": ("roberta.encoder.layer", "intermediate.dense", "output.dense"),
    "gpt2": ("transformer.h", "mlp.c_fc", "mlp.c_proj"),
    "gpt_neox": ("gpt_neox.layers", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h"),
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text"), GATED),
    "phi3": ("model.layers", "mlp.gate_up_proj", "mlp.down_proj"),
    "distilbert": ("distilbert.transformer.layer", "ffn.lin1", "ffn.lin2"),
    "opt": ("model.decoder.layers", "fc1", "fc2"),
    "bloom": ("transformer.h", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h"),
}
# the tiny vocabularies hold few words: this answer is one token in all of them, that one two or three
ONE_TOKEN, SEVERAL_TOKENS = "is", "Helsinki"


def example(lm: LanguageModel, answer: str = ONE_TOKEN, query: int = 0, fact: str = "P36:FR>Paris") -> EncodedQuery:
    """A query of a tiny model: one of three sentences and an answer."""
    after = "." if lm.kind == "masked" else ""
    texts = ("The capital is", "La capitale de la France est", "The currency of Finland is")
    row = SimpleNamespace(fact=fact, language="en", query=query, before=texts[query], separator=" ", after=after)
    row.answer = answer
    return encode_prompt(lm, row)


def site_module(lm: LanguageModel, layer: int, is_before: bool) -> tuple[nn.Module, bool]:
    """The module of a layer at which the neurons are, and whether they are its input."""
    layers, before, after = MODULES[lm.model.config.model_type]
    block = lm.model.get_submodule(layers)[layer]
    return block.get_submodule(before if is_before else after), not is_before


def in_one_row(change: Callable[[Tensor], Tensor], value: Tensor) -> Tensor:
    """`change` of a value whose tokens are one row, with or without an axis of rows."""
    return change(value) if value.dim() == 3 else change(value[None])[0]


@contextmanager
def hooked(lm: LanguageModel, layer: int, is_before: bool, change: Callable[[Tensor], Tensor]):
    """The model with `change` on the neurons of one layer.

    It gets (1, tokens, n), where the first n are the neurons: OPT has no axis of rows, Phi-3 has gate and up together.
    """
    module, is_input = site_module(lm, layer, is_before)
    if is_input:
        handle = module.register_forward_pre_hook(lambda _, inputs: (in_one_row(change, inputs[0]),))
    else:
        handle = module.register_forward_hook(lambda _, __, output: in_one_row(change, output))
    yield
    handle.remove()


def parts(query: EncodedQuery) -> list[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]:
    """(input, positions, targets) of each readout."""
    if query.kind == "masked":
        return [(query.input_ids, query.positions, query.targets)]
    pairs = zip(query.positions, query.targets, strict=True)
    return [(query.input_ids[: position + 1], (position,), (target,)) for position, target in pairs]


def neurons(lm: LanguageModel, ids: tuple[int, ...], positions: tuple[int, ...], layer: int, is_before: bool) -> Tensor:
    """Neurons of one layer at the positions, (positions, neurons)."""
    seen = []

    def keep(value: Tensor) -> Tensor:
        seen.append(value[0, list(positions), : lm.n_neurons].detach().clone())
        return value

    with hooked(lm, layer, is_before, keep):
        lm.model(torch.tensor([ids]))
    return seen[0]


def probability(lm: LanguageModel, part: tuple, layer: int, is_before: bool, point: Tensor) -> Tensor:
    """P(answer) of one readout with `point` (positions, neurons) in one layer."""
    ids, positions, targets = part

    def put(value: Tensor) -> Tensor:
        value = value.clone()
        for row, position in enumerate(positions):
            value[0, position, : lm.n_neurons] = point[row]
        return value

    with hooked(lm, layer, is_before, put):
        logits = lm.model(torch.tensor([ids])).logits[0]
    p = torch.ones((), dtype=point.dtype)
    for position, target in zip(positions, targets, strict=True):
        p = p * torch.softmax(logits[position], dim=-1)[target]
    return p


def gradient(lm: LanguageModel, part: tuple, layer: int, is_before: bool, point: Tensor) -> Tensor:
    """dP / d point, (positions, neurons)."""
    point = point.clone().requires_grad_()
    return torch.autograd.grad(probability(lm, part, layer, is_before, point), point)[0]


def nodes(rule: str, n: int) -> list[tuple[float, float]]:
    """(alpha, weight) of each node of a rule."""
    if rule == "gauss":
        points, weights = roots_legendre(n)
        return [((x + 1) / 2, w / 2) for x, w in zip(points, weights, strict=True)]
    if rule == "trapezoid":
        return [(k / n, (0.5 if k in (0, n) else 1.0) / n) for k in range(n + 1)]
    shifts = {"right": (1, n), "left": (0, n), "midpoint": (0.5, n), "linspace": (0, n - 1)}
    shift, length = shifts[rule]
    return [((k + shift) / length, 1 / n) for k in range(n)]


def replaced(query: EncodedQuery, ids: tuple[int, ...], token: int, is_special: bool) -> list[tuple[int, ...]]:
    """The baseline sentences: the input with another token at one position, for each position in question."""
    positions = range(len(ids)) if is_special else query.replaceable
    return [(*ids[:position], token, *ids[position + 1 :]) for position in positions]


def baseline_paths(
    lm: LanguageModel, query: EncodedQuery, part: tuple, layer: int, path: str, is_special: bool, is_before: bool
) -> list[Tensor]:
    """The baselines of a layer, one (positions, neurons) per path or, for "mean_path", per path to be averaged."""
    ids, positions, _ = part
    if path == "zero":
        return [torch.zeros_like(neurons(lm, ids, positions, layer, is_before))]
    token = lm.tokenizer.mask_token_id if query.kind == "masked" else lm.tokenizer.eos_token_id
    sentences = replaced(query, ids, token, is_special)
    return [neurons(lm, sentence, positions, layer, is_before) for sentence in sentences]


def layer_scores(
    lm: LanguageModel, query: EncodedQuery, part: tuple, layer: int, path: str, rule: str, n: int, **site: bool
) -> dict[str, Tensor]:
    """Scores of one layer in one readout with either factor, {"delta", "full"} -> (neurons,)."""
    is_special, is_before = site.get("is_special", False), site.get("is_before", False)
    starts = baseline_paths(lm, query, part, layer, path, is_special, is_before)
    end = neurons(lm, part[0], part[1], layer, is_before)
    delta, full = torch.zeros_like(end), torch.zeros_like(end)
    if path == "mean_path":  # average the paths point by point, then one sum along the averaged path
        for alpha, weight in nodes(rule, n):
            point = torch.stack([start + alpha * (end - start) for start in starts]).mean(0)
            step = weight * gradient(lm, part, layer, is_before, point)
            delta += (end - torch.stack(starts).mean(0)) * step
            full += end * step
        return {"delta": delta.sum(0), "full": full.sum(0)}
    for start in starts:
        for alpha, weight in nodes(rule, n):
            step = weight * gradient(lm, part, layer, is_before, start + alpha * (end - start))
            delta += (end - start) * step
            full += end * step
    return {"delta": delta.sum(0), "full": full.sum(0)}


def naive_scores(
    lm: LanguageModel, query: EncodedQuery, path: str, rule: str, n: int, **site: bool
) -> dict[str, np.ndarray]:
    """Scores of a query, mean over its readouts, {"delta", "full"} -> (layers, neurons) float64."""
    rows = [
        [layer_scores(lm, query, part, layer, path, rule, n, **site) for layer in range(lm.n_layers)]
        for part in parts(query)
    ]
    return {
        factor: np.mean([[layer[factor].numpy() for layer in readout] for readout in rows], axis=0)
        for factor in ("delta", "full")
    }


@cache
def naive(model_type: str, answer: str, path: str, rule: str, n: int, **site: bool) -> dict[str, np.ndarray]:
    """`naive_scores` of the example query in the float64 model, computed once for all tests that need it."""
    lm = tiny_model(model_type, "float64")
    return naive_scores(lm, example(lm, answer), path, rule, n, **site)


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """L2 norm of the difference over that of the expected array."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
