"""Hooks on an unmodified model: see the neurons of every layer, and replace them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from torch import Tensor

from knatlas.models.language_model import LanguageModel
from knatlas.models.neuron_hooks import tapped_layer

# Takes a layer's number and its neurons (rows, tokens, neurons); returns what the model shall go on with.
Tap = Callable[[int, Tensor], Tensor]


@contextmanager
def tapped(lm: LanguageModel, site: str, tap: Tap) -> Iterator[None]:
    """While open, every forward pass sends the neurons of each layer through `tap`.

    site: "down_input", the input of the down projections, or "pre_activation", the value before the non-linearity (see
    `AttributionMethod.neuron_site`).
    """
    with ExitStack() as hooks:
        for layer in range(lm.n_layers):
            hooks.enter_context(tapped_layer(lm, layer, site, partial(tap, layer)))
        yield
