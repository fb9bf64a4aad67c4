"""Hooks on the neurons of one layer, in one shape for every architecture; the model itself is never changed."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from knatlas.errors import AtlasError, unknown
from knatlas.models.architectures import module_at
from knatlas.models.language_model import LanguageModel

NEURON_SITES = ("down_input", "pre_activation")
# Takes the neurons of a layer and returns what the model shall go on with, in the same shape.
Tap = Callable[[Float[Tensor, "row token neuron"]], Float[Tensor, "row token neuron"]]


def check_site(site: str) -> None:
    """AtlasError unless the site is one of `NEURON_SITES`."""
    if site not in NEURON_SITES:
        raise AtlasError(unknown("neuron_site", site, "a place of neurons", NEURON_SITES))


@contextmanager
def tapped_layer(lm: LanguageModel, layer: int, site: str, tap: Tap) -> Iterator[None]:
    """While open, every forward pass sends the neurons (rows, tokens, neurons) of a layer through `tap`.

    site: "down_input", the input of the down projection, or "pre_activation", the value before the non-linearity.
    The hooks are removed at the end, also after an exception. Raises AtlasError for an unknown site.
    """
    check_site(site)
    record, block = lm.architecture, lm.layers()[layer]
    with ExitStack() as hooks:
        if record.is_flat:
            tap = _in_rows(block, tap, hooks)
        if site == "down_input":
            _on_input(module_at(block, record.down_projection), tap, hooks)
        else:
            _on_output(module_at(block, record.pre_activation), tap, lm.n_neurons, hooks)
        yield


def _on_input(module: nn.Module, tap: Tap, hooks: ExitStack) -> None:
    handle = module.register_forward_pre_hook(lambda _, inputs: (tap(inputs[0]), *inputs[1:]))
    hooks.callback(handle.remove)


def _on_output(module: nn.Module, tap: Tap, n_neurons: int, hooks: ExitStack) -> None:
    """Put `tap` on the first `n_neurons` coordinates of the output of a module."""

    def change(_module: nn.Module, _inputs: tuple, output: Tensor) -> Tensor:
        if output.shape[-1] == n_neurons:
            return tap(output)
        first, others = output.tensor_split([n_neurons], dim=-1)
        return torch.cat([tap(first), others], dim=-1)

    hooks.callback(module.register_forward_hook(change).remove)


def _in_rows(block: nn.Module, tap: Tap, hooks: ExitStack) -> Tap:
    """`tap` for neurons (rows * tokens, neurons); rows and tokens are those of the input of the layer."""
    shape: list[int] = []

    def note(_block: nn.Module, inputs: tuple) -> None:
        shape[:] = inputs[0].shape[:2]

    hooks.callback(block.register_forward_pre_hook(note).remove)
    return lambda value: tap(value.unflatten(0, shape)).flatten(0, 1)
