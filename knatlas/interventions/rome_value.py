"""ROME's keys and values: what a layer's neurons hold at a token, and what it should write there instead."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from knatlas.interventions.rome_prefixes import Template
from knatlas.interventions.rome_settings import Rome
from knatlas.models.answers import padded
from knatlas.models.language_model import LanguageModel
from knatlas.models.neuron_hooks import tapped_layer


@dataclass(frozen=True)
class Value:
    """A change of what a layer writes at a token, the loss it was found by, and how far the search went."""

    change: Float[Tensor, " hidden"]
    details: dict[str, float]


class _Batch:
    """Templates of one request in one padded batch."""

    def __init__(self, lm: LanguageModel, templates: Sequence[Template]):
        self.lm = lm
        self.ids, _ = padded([template.query.input_ids for template in templates], lm.device)
        self.rows = torch.arange(len(templates), device=lm.device)
        self.places = torch.tensor([template.place for template in templates], device=lm.device)

    def hidden(self) -> Float[Tensor, "row token hidden"]:
        """The final hidden states; no token of a causal model sees the padding on its right."""
        return self.lm.hidden_states(self.ids, torch.ones_like(self.ids))

    @contextmanager
    def written(self, layer: int, at_places: Callable[[Tensor], Tensor]) -> Iterator[None]:
        """Inside the block what a layer's down projection writes at the places (rows, hidden) goes through it."""
        # in some models the tokens of all rows lie along one axis
        flat = self.rows * self.ids.shape[1] + self.places

        def change(_module: nn.Module, _inputs: tuple, output: Tensor) -> Tensor:
            changed = output.reshape(-1, output.shape[-1]).clone()
            changed[flat] = at_places(changed[flat])
            return changed.view(output.shape)

        handle = self.lm.down_projections()[layer].register_forward_hook(change)
        try:
            yield
        finally:
            handle.remove()


@torch.no_grad()
def keys_and_values(
    lm: LanguageModel, layer: int, templates: Sequence[Template]
) -> tuple[Float[Tensor, "template neuron"], Float[Tensor, "template hidden"]]:
    """The input and the output (with its bias) of a layer's down projection at each template's place, in float64."""
    batch, found = _Batch(lm, templates), {}

    def keep(name: str, values: Tensor) -> Tensor:
        found[name] = values.double()
        return values

    def tap(neurons: Tensor) -> Tensor:
        keep("keys", neurons[batch.rows, batch.places])
        return neurons

    with tapped_layer(lm, layer, "down_input", tap), batch.written(layer, lambda values: keep("values", values)):
        batch.hidden()
    return found["keys"], found["values"]


def find_value(
    lm: LanguageModel,
    layer: int,
    templates: Sequence[Template],
    essence: Template,
    old: Float[Tensor, " hidden"],
    settings: Rome,
) -> Value:
    """The change d of what a layer writes at the templates' places that makes the new object probable, by Adam from 0.

    Loss: mean over templates and object tokens of the negative log probability, plus kl_factor times KL(now || before)
    of the next token in `essence`, plus decay |d| / |v0|^2. After each step |d| is at most clamp |v0|.

    Args: templates, with the new object; old, v0, what the layer writes in the bare prompt.
    Returns: the change in float32 (float64 in a float64 model); details nll_before, nll (nats, mean over templates),
    kl (nats), loss, evaluations. Only the change has gradients.
    """
    loss_of = _Loss(lm, layer, templates, essence, settings, float(old.norm()))
    precise = torch.float64 if lm.dtype == torch.float64 else torch.float32
    change = torch.zeros(len(old), dtype=precise, device=lm.device, requires_grad=True)
    optimizer = torch.optim.Adam([change], lr=settings.learning_rate)
    history = []
    with torch.enable_grad():
        for step in range(settings.steps):
            loss, terms = loss_of(change)
            history.append(terms)
            if terms["loss"] < settings.stop_below or step == settings.steps - 1:
                break
            (change.grad,) = torch.autograd.grad(loss, change)
            optimizer.step()
            _clamp(change, settings.clamp * loss_of.old_norm)
    details = {"nll_before": history[0]["nll"], **history[-1], "evaluations": float(len(history))}
    return Value(change.detach(), details)


@torch.no_grad()
def _clamp(change: Tensor, longest: float) -> None:
    norm = float(change.norm())
    if norm > longest:
        change.mul_(longest / norm)


class _Loss:
    """The loss of a change at the templates' places, and its terms."""

    def __init__(
        self,
        lm: LanguageModel,
        layer: int,
        templates: Sequence[Template],
        essence: Template,
        settings: Rome,
        old_norm: float,
    ):
        self.layer, self.settings, self.old_norm = layer, settings, old_norm
        self.batch = _Batch(lm, [*templates, essence])
        self.n_templates = len(templates)
        self.before: Tensor | None = None
        queries = [template.query for template in templates]
        places = [(row, position) for row, query in enumerate(queries) for position in query.positions]
        end = essence.place if settings.kl_read == "key" else essence.query.positions[0]
        self.places: Int[Tensor, "place 2"] = torch.tensor([*places, (len(templates), end)], device=lm.device)
        self.targets = torch.tensor([token for query in queries for token in query.targets], device=lm.device)
        # every template counts the same, however many tokens the object has behind it
        weights = [1 / (len(queries) * len(query.targets)) for query in queries for _ in query.targets]
        self.weights = torch.tensor(weights, dtype=torch.float64, device=lm.device)

    def __call__(self, change: Tensor) -> tuple[Tensor, dict[str, float]]:
        with self.batch.written(self.layer, lambda values: values + change.to(values.dtype)):
            hidden = self.batch.hidden()
        logits = self.batch.lm.head(hidden[self.places[:, 0], self.places[:, 1]])
        log_p = logits.to(change.dtype).log_softmax(dim=-1)
        nll = -(log_p[:-1].gather(1, self.targets[:, None])[:, 0] * self.weights.to(log_p)).sum()
        now = log_p[-1]
        self.before = now.detach() if self.before is None else self.before
        kl = (now.exp() * (now - self.before)).sum()
        loss = nll + self.settings.kl_factor * kl + self.settings.decay * change.norm() / self.old_norm**2
        terms = {"nll": nll, "kl": kl, "loss": loss}
        return loss, {name: float(value.detach()) for name, value in terms.items()}
