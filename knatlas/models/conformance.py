"""A loaded model against the record of its architecture: what only a configuration switches on must not be missed."""

from contextlib import ExitStack
from functools import partial

import torch
from torch import Tensor

from knatlas.errors import AtlasError
from knatlas.models.language_model import LanguageModel
from knatlas.models.neuron_hooks import NEURON_SITES, tapped_layer

N_TOKENS = 2
# of the greatest logit: what sums in another order may differ by
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 5e-2}


@torch.no_grad()
def check_record(lm: LanguageModel) -> None:
    """AtlasError unless body and head together are the model, and each layer's neurons pass its modules once.

    The model runs twice on its first two token ids: as a whole, and as body and head with hooks in every layer.
    """
    ids = torch.arange(N_TOKENS, device=lm.device)[None]
    mask = torch.ones_like(ids)
    shapes: dict[tuple[int, str], list[tuple[int, ...]]] = {}
    with ExitStack() as hooks:
        for layer in range(lm.n_layers):
            for site in NEURON_SITES:
                tap = partial(_note, shapes.setdefault((layer, site), []))
                hooks.enter_context(tapped_layer(lm, layer, site, tap))
        logits = lm.head(lm.hidden_states(ids, mask))
    for (layer, site), found in shapes.items():
        if found != [(1, N_TOKENS, lm.n_neurons)]:
            raise _misfit(lm, f"layer {layer} has neurons of shapes {found} at its {site}")
    if not _agree(logits, lm.model(input_ids=ids, attention_mask=mask).logits):
        raise _misfit(lm, f"the modules {', '.join(lm.architecture.head)} do not give its logits")


def _note(shapes: list[tuple[int, ...]], neurons: Tensor) -> Tensor:
    shapes.append(tuple(neurons.shape))
    return neurons


def _agree(found: Tensor, expected: Tensor) -> bool:
    limit = TOLERANCE[expected.dtype] * expected.abs().nan_to_num(0, 0).max().item()
    return torch.allclose(found, expected, rtol=0, atol=limit, equal_nan=True)


def _misfit(lm: LanguageModel, finding: str) -> AtlasError:
    return AtlasError(
        f"{lm.name}: {finding}: its configuration makes another model of it than the record of "
        f"'{lm.architecture.model_type}' in knatlas/models/architectures.py describes; use another checkpoint"
    )
