"""Forward passes in which the subject's embeddings are noisy and some hidden states are as without noise."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from knatlas.models.answers import BATCH_ROWS, token_probabilities
from knatlas.models.architectures import module_at
from knatlas.models.encoding import EncodedQuery
from knatlas.models.language_model import LanguageModel
from knatlas.models.neuron_hooks import tapped_layer

KINDS = ("block", "mlp", "attention")
NEURON = "neuron"


@dataclass(frozen=True, eq=False)
class Runs:
    """A query's run without noise, and one with noise per sample, as far as restorations need them.

    clean: by kind what the layers gave without noise, (layer, token, hidden); `neuron`, the inputs of the down
    projections, (layer, token, neuron). corrupted: outputs of the layers under noise, (layer, sample, token, hidden).
    noise is what the embeddings at `positions` got; predicted, the most probable tokens without noise at the query's
    positions; p_corrupted, P of the query's targets in each sample; is_tuple, the layers give a tuple.
    """

    lm: LanguageModel
    query: EncodedQuery
    positions: tuple[int, ...]
    noise: Float[Tensor, "sample position hidden"]
    clean: Mapping[str, Tensor]
    corrupted: Float[Tensor, "layer sample token hidden"]
    predicted: tuple[int, ...]
    p_clean: float
    p_corrupted: Float[Tensor, " sample"]
    is_tuple: bool

    @property
    def n_samples(self) -> int:
        """How often noise was drawn."""
        return self.corrupted.shape[1]


def outputs_of(lm: LanguageModel, kind: str) -> list[nn.Module]:
    """The module of each layer whose output is the layer's ("block"), or what the MLP or the attention adds to it."""
    record = lm.architecture
    if kind == "block":
        return lm.layers()
    path = record.attention_output if kind == "attention" else record.mlp_output or record.down_projection
    return [module_at(layer, path) for layer in lm.layers()]


@torch.no_grad()
def run_with_noise(
    lm: LanguageModel,
    query: EncodedQuery,
    positions: Sequence[int],
    noise: Float[Tensor, "sample position hidden"],
    kinds: Sequence[str] = KINDS,
    is_predicted: bool = False,
) -> Runs:
    """Run a query without noise and with each sample of it, in one batch, and keep what `kinds` name.

    The noise is added to the output of the input embedding at `positions` only. is_predicted: the targets become what
    the run without noise finds most probable at the query's positions.
    """
    n_rows = 1 + len(noise)
    silent_first = torch.cat([torch.zeros_like(noise[:1]), noise])
    kept: dict[str, list] = {kind: [] for kind in dict.fromkeys(["block", *kinds])}
    with ExitStack() as hooks:
        hooks.enter_context(_noisy_embedding(lm, positions, silent_first))
        for kind, found in kept.items():
            hooks.enter_context(_captured(lm, kind, found))
        per_row = torch.stack(token_probabilities(lm, [query] * n_rows))  # (row, position, word)
    predicted = tuple(per_row[0].argmax(dim=1).tolist())
    query = replace(query, targets=predicted) if is_predicted else query
    p = _of_targets(per_row, query)
    first = {kind: [_state(value) for value in found] for kind, found in kept.items()}
    clean = {kind: torch.stack([_in_rows(value, query)[0] for value in found]) for kind, found in first.items()}
    corrupted = torch.stack([value[1:] for value in first["block"]])
    is_tuple = isinstance(kept["block"][0], tuple)
    return Runs(lm, query, tuple(positions), noise, clean, corrupted, predicted, float(p[0]), p[1:], is_tuple)


@torch.no_grad()
def restored_probabilities(
    runs: Runs,
    kind: str,
    layers: range,
    is_restored: Bool[Tensor, "restoration token"],
    batch_rows: int = BATCH_ROWS,
) -> Float[Tensor, "restoration sample"]:
    """P of the targets under noise, with the states of a kind put back as without noise.

    Each restoration is a choice of tokens, restored in all of `layers`; blocks are restored in one layer only, the
    last of them. Layers below keep their states of the run with noise and aren't run again.

    Args: batch_rows, rows (restorations times samples) of one forward pass, for speed and memory only.
    """
    n_kept = layers.stop if kind == "block" else layers.start
    modules = outputs_of(runs.lm, kind)
    parts = []
    for restoration, sample in _chunks(len(is_restored), runs, batch_rows):
        chosen = is_restored[restoration][:, :, None]  # (row, token, 1)
        with ExitStack() as hooks:
            if kind == "block":
                last = layers.stop - 1
                states = torch.where(chosen, runs.clean[kind][last], runs.corrupted[last, sample])
                hooks.enter_context(_kept_layers(runs, n_kept, states))
            else:
                hooks.enter_context(_kept_below(runs, n_kept, sample))
                for layer in layers:
                    hooks.enter_context(_restored(modules[layer], chosen, runs.clean[kind][layer]))
            parts.append(_probabilities(runs, len(sample)))
    return torch.cat(parts).unflatten(0, (len(is_restored), runs.n_samples))


@torch.no_grad()
def neuron_probabilities(
    runs: Runs, layer: int, position: int, neurons: Int[Tensor, "restoration k"], batch_rows: int = BATCH_ROWS
) -> Float[Tensor, "restoration sample"]:
    """P of the targets under noise, with k neurons of a layer at one position put back as without noise.

    The runs must have kept `neuron`. Args: batch_rows as in `restored_probabilities`.
    """
    clean = runs.clean[NEURON][layer, position]  # (neuron,)
    parts = []
    for restoration, sample in _chunks(len(neurons), runs, batch_rows):
        rows, chosen = torch.arange(len(sample), device=sample.device)[:, None], neurons[restoration]

        def put_back(values: Tensor, rows: Tensor = rows, chosen: Tensor = chosen) -> Tensor:
            values = values.clone()
            values[rows, position, chosen] = clean[chosen]
            return values

        with _kept_below(runs, layer, sample), tapped_layer(runs.lm, layer, "down_input", put_back):
            parts.append(_probabilities(runs, len(sample)))
    return torch.cat(parts).unflatten(0, (len(neurons), runs.n_samples))


def _chunks(n_restorations: int, runs: Runs, batch_rows: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Numbers of the restorations and of the samples of each batch's rows."""
    rows = torch.arange(n_restorations * runs.n_samples, device=runs.corrupted.device)
    for part in rows.split(batch_rows):
        yield part // runs.n_samples, part % runs.n_samples


def _probabilities(runs: Runs, n_rows: int) -> Float[Tensor, " row"]:
    return _of_targets(torch.stack(token_probabilities(runs.lm, [runs.query] * n_rows)), runs.query)


def _of_targets(per_row: Float[Tensor, "row position word"], query: EncodedQuery) -> Float[Tensor, " row"]:
    """The product of the targets' probabilities in each row."""
    targets = torch.tensor(query.targets, device=per_row.device)
    return per_row[:, torch.arange(len(targets), device=per_row.device), targets].double().prod(dim=1)


def _state(output: Tensor | tuple) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


def _in_rows(value: Tensor, query: EncodedQuery) -> Float[Tensor, "row token hidden"]:
    """Of some architectures the tokens of all rows lie along one axis in the feed-forward network."""
    return value.reshape(-1, len(query.input_ids), value.shape[-1])


@contextmanager
def _noisy_embedding(lm: LanguageModel, positions: Sequence[int], noise: Tensor) -> Iterator[None]:
    """Inside the block row r has `noise[r]` added to its embeddings at the positions."""

    def add(_module: nn.Module, _inputs: tuple, output: Tensor) -> Tensor:
        output = output.clone()
        output[:, list(positions)] += noise.to(output)
        return output

    handle = lm.model.get_input_embeddings().register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _captured(lm: LanguageModel, kind: str, found: list) -> Iterator[None]:
    """Inside the block the outputs of a kind, or the neurons, are noted layer by layer."""

    def note(value: Tensor | tuple) -> Tensor | tuple:
        found.append(value)
        return value

    with ExitStack() as hooks:
        if kind == NEURON:
            for layer in range(lm.n_layers):
                hooks.enter_context(tapped_layer(lm, layer, "down_input", note))
        else:
            for module in outputs_of(lm, kind):
                handle = module.register_forward_hook(lambda _module, _inputs, output: note(output))
                hooks.callback(handle.remove)
        yield


@contextmanager
def _restored(module: nn.Module, chosen: Tensor, clean: Tensor) -> Iterator[None]:
    """Inside the block a module's output is as without noise where `chosen` (row, token, 1) says so."""

    def put_back(_module: nn.Module, _inputs: tuple, output: Tensor) -> Tensor:
        by_row = output.reshape(len(chosen), chosen.shape[1], -1)
        return torch.where(chosen, clean, by_row).reshape(output.shape)

    handle = module.register_forward_hook(put_back)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _kept_below(runs: Runs, layer: int, sample: Tensor) -> Iterator[None]:
    """Inside the block the layers below `layer` give what they gave under noise; layer 0 needs the noise itself."""
    below = _kept_layers(runs, layer, runs.corrupted[layer - 1, sample]) if layer else None
    with below or _noisy_embedding(runs.lm, runs.positions, runs.noise[sample]):
        yield


@contextmanager
def _kept_layers(runs: Runs, n_kept: int, states: Float[Tensor, "row token hidden"]) -> Iterator[None]:
    """Inside the block the first layers aren't run, and the next one begins with `states`."""
    output = (states, None) if runs.is_tuple else states
    with ExitStack() as undo:
        for layer in runs.lm.layers()[:n_kept]:
            # a hook could change what a layer gives, but not spare its work
            undo.callback(_set_forward, layer, vars(layer).get("forward"))
            _set_forward(layer, lambda *_inputs, **_settings: output)
        yield


def _set_forward(layer: nn.Module, forward: Callable | None) -> None:
    """Give a layer another forward pass, or (None) that of its class."""
    if forward is None:
        vars(layer).pop("forward", None)
    else:
        layer.forward = forward
