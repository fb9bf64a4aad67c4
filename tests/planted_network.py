"""A GPT-2 whose weights are written by hand: which of its neurons are degenerate, and by how much, is known."""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import gelu
from transformers import GPT2Config, GPT2LMHeadModel

from knatlas.models.language_model import LanguageModel
from knatlas.models.loading import load_model
from knatlas.models.sources import resolve_model
from tests.tiny_tokenizers import byte_bpe

# all in the first layer: either of DEGENERATE is enough for the second layer, each of ADDITIVE adds STEP to the logit
# of " Paris", and PLAIN write where nothing reads
DEGENERATE, ADDITIVE, PLAIN = (3, 11), (5, 17), (8, 20)
LOST, STEP = 3.0, 0.35
HIDDEN, NEURONS = 8, 24
# two coordinates hold large constants, so that a layer norm only divides by a known number; the others come in couples
# of opposite sign, so that it has no mean to subtract
LARGE = 1e4
GAIN = LARGE / 2  # standard deviation of (LARGE, -LARGE, 0, 0, 0, 0, 0, 0)
STORE, UNUSED, ANSWER = 2, 4, 6


def couple(place: int, size: float = 1.0) -> Tensor:
    """A direction of the residual stream: `size` at `place`, -`size` beside it."""
    direction = torch.zeros(HIDDEN, dtype=torch.float64)
    direction[place], direction[place + 1] = size, -size
    return direction


def planted_network(folder: Path, dtype: str = "float64") -> LanguageModel:
    """The network, saved in a folder and loaded as any other model.

    At the end of every sentence P(" Paris") is 1 / (1 + exp(-x)), x = STEP (number of ADDITIVE that are active - 1)
    - LOST (none of DEGENERATE is active); all other tokens are equally probable.
    """
    tokenizer = byte_bpe()
    sizes = {"n_embd": HIDDEN, "n_layer": 2, "n_head": 1, "n_inner": NEURONS, "n_positions": 64}
    drops = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    model = GPT2LMHeadModel(GPT2Config(**sizes, **drops, vocab_size=len(tokenizer), eos_token_id=0, bos_token_id=0))
    model = model.double()
    for parameter in model.parameters():
        parameter.data.zero_()
    _write_embeddings(model, tokenizer.convert_tokens_to_ids("ĠParis"))
    first, second = (block.mlp for block in model.transformer.h)
    _write_first_layer(first)
    _write_second_layer(second)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return load_model(resolve_model("planted", "folder", str(folder)), dtype, "cpu")


def _write_embeddings(model: GPT2LMHeadModel, answer: int) -> None:
    body = model.transformer
    body.wte.weight.data += couple(0, LARGE)
    body.wte.weight.data[answer] += couple(ANSWER)
    n_others = len(body.wte.weight) - 1
    # the logit at which all of the neurons together leave P = 1 / (1 + exp(-STEP))
    start = torch.tensor(float(n_others)).log().item() - STEP - LOST
    body.wpe.weight.data += couple(ANSWER, start / 2)
    for norm in (body.h[0].ln_2, body.h[1].ln_2, body.ln_f):
        norm.weight.data[STORE:] = GAIN


def _write_first_layer(mlp: torch.nn.Module) -> None:
    active = 3.0
    size = gelu(torch.tensor(active, dtype=torch.float64), approximate="tanh")
    for neurons, direction in {
        DEGENERATE: couple(STORE, 0.5),
        ADDITIVE: couple(ANSWER, STEP / 2),
        PLAIN: couple(UNUSED, 0.5),
    }.items():
        for neuron in neurons:
            mlp.c_fc.bias.data[neuron] = active
            mlp.c_proj.weight.data[neuron] = direction / size


def _write_second_layer(mlp: torch.nn.Module) -> None:
    """Two neurons whose difference is 0 where the store holds 0, and 10 where it holds 1 or 2."""
    for neuron, (bias, sign) in enumerate([(0.0, 1.0), (-10.0, -1.0)]):
        mlp.c_fc.weight.data[:, neuron] = couple(STORE, 10.0)
        mlp.c_fc.bias.data[neuron] = bias
        mlp.c_proj.weight.data[neuron] = couple(ANSWER, sign * LOST / 10 / 2)
