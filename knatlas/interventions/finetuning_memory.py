"""What a fine-tuning needs in memory, by arithmetic alone: no model is opened."""

from dataclasses import dataclass

from knatlas.attribution.footprint import n_parameters
from knatlas.attribution.shape import ModelShape
from knatlas.interventions.finetuning_settings import FineTuning

FLOAT32 = 4
LOGIT_BYTES = 3 * FLOAT32  # logits, their softmax and their gradient, whatever the weights' dtype
# vectors of the hidden size, and of the neurons', that the backward pass keeps of a token in one layer, at most: GELU
# in its tanh form keeps as many of the latter as a gated network
HIDDEN_KEPT, NEURONS_KEPT = 13, 4
TEMPORARIES = 3  # copies of one trained parameter inside a step of AdamW


@dataclass(frozen=True)
class FineTuningBytes:
    """Bytes on the device by what they hold, and of the copy of the weights in the host's memory (`host_copy`).

    masters: float32 copies of the trained entries; optimiser: both moments of AdamW; step: what a step needs for a
    moment; activations: what the backward pass keeps, the logits included.
    """

    weights: int
    masters: int
    gradients: int
    optimiser: int
    step: int
    activations: int
    host_copy: int

    @property
    def total(self) -> int:
        """All that is on the device at once, at most."""
        return self.weights + self.masters + self.gradients + self.optimiser + self.step + self.activations


def finetuning_bytes(
    shape: ModelShape,
    n_trained: int | None,
    settings: FineTuning,
    n_tokens: int = 32,
    n_answers: int = 3,
    bytes_per_number: int = FLOAT32,
) -> FineTuningBytes:
    """Memory of a fine-tuning of `n_trained` parameters (None: all of them).

    With P parameters, N trained ones, b bytes per number of the weights and m = max(b, 4): weights b P, copied to the
    host once. Chosen neurons: masters, gradients and both moments m N each, so 4 m N and nothing per frozen parameter.
    All: gradients b P, moments 2 m P, and masters m P only where b < 4. Activations: rows * tokens * layers * (13
    hidden + 4 neurons) * b; with checkpointing one layer in full and a hidden state per layer. An upper bound: layers
    below the first chosen neuron keep nothing.

    Args: n_tokens per query and n_answers, answer tokens per query; bytes_per_number, 2 for bfloat16.
    """
    n_all, b, m = n_parameters(shape), bytes_per_number, max(bytes_per_number, FLOAT32)
    is_all = n_trained is None
    n = n_all if is_all else n_trained
    largest = min(n, shape.vocabulary * shape.hidden)
    return FineTuningBytes(
        weights=b * n_all,
        masters=m * n if not is_all or b < FLOAT32 else 0,
        gradients=(b if is_all else m) * n,
        optimiser=2 * m * n,
        step=TEMPORARIES * m * largest,
        activations=_activation_bytes(shape, settings, n_tokens, n_answers, b),
        host_copy=b * n_all,
    )


def neuron_parameters(shape: ModelShape, n_neurons: int) -> int:
    """Parameters of so many neurons: the value vectors and the incoming weights; biases are left out."""
    return n_neurons * shape.hidden * (3 if shape.is_gated else 2)


def _activation_bytes(shape: ModelShape, settings: FineTuning, n_tokens: int, n_answers: int, b: int) -> int:
    per_layer = HIDDEN_KEPT * shape.hidden + NEURONS_KEPT * shape.neurons
    numbers = per_layer * (1 if settings.checkpointing else shape.n_layers)
    numbers += shape.n_layers * shape.hidden if settings.checkpointing else 0
    return settings.batch * (n_tokens * numbers * b + n_answers * shape.vocabulary * LOGIT_BYTES)
