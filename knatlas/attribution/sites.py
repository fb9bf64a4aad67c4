"""Hooks on an unmodified model: see the neurons of every layer, and replace them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from knatlas.models.language_model import LanguageModel

# Takes a layer's number and its neurons (rows, tokens, neurons); returns what the model shall go on with.
Tap = Callable[[int, Tensor], Tensor]


def _on_input(module: nn.Module, tap: Callable[[Tensor], Tensor]) -> RemovableHandle:
    """Put `tap` on the first input of a module."""
    return module.register_forward_pre_hook(lambda _, arguments: (tap(arguments[0]), *arguments[1:]))


def _on_output(module: nn.Module, tap: Callable[[Tensor], Tensor]) -> RemovableHandle:
    """Put `tap` on the output of a module."""
    return module.register_forward_hook(lambda _module, _arguments, output: tap(output))


@contextmanager
def tapped(lm: LanguageModel, site: str, tap: Tap) -> Iterator[None]:
    """While open, every forward pass sends the neurons of each layer through `tap`.

    site: "down_input", the input of the down projections, or "pre_activation", the output of the modules before the
    non-linearity (see `AttributionMethod.neuron_site`).
    """
    is_input = site == "down_input"
    modules = lm.down_projections() if is_input else lm.pre_activations()
    put = _on_input if is_input else _on_output
    handles = [put(module, partial(tap, layer)) for layer, module in enumerate(modules)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
