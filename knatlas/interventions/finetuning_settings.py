"""How a fine-tuning runs. No model is opened: the configuration and the forecast are checked with it."""

from dataclasses import dataclass

from knatlas.errors import AtlasError, unknown

DECAYS = ("linear", "constant")
# learning rates where nothing is said: of chosen neurons' parameters, and of all parameters
CHOSEN_RATE, ALL_RATE = 1e-3, 5e-5


@dataclass(frozen=True)
class FineTuning:
    """Settings of AdamW without weight decay on the answers' tokens; the paper states none of them.

    learning_rate: None is 1e-3 for chosen neurons and 5e-5 for all parameters. batch: queries of one step. decay: the
    rate falls in a line from its value at the first step to 0 after the last (`linear`), or stays (`constant`). clip:
    largest norm of the gradient of all trained entries. checkpointing: activations inside layers are computed again in
    the backward pass, which saves memory and changes no number. has_accuracy: the share of right answers among the
    trained queries is taken after each epoch.

    Raises: AtlasError for a value that is not allowed.
    """

    learning_rate: float | None = None
    epochs: int = 10
    batch: int = 32
    decay: str = "linear"
    clip: float = 1.0
    checkpointing: bool = False
    has_accuracy: bool = False

    def __post_init__(self) -> None:
        if self.decay not in DECAYS:
            raise AtlasError(unknown("injection: decay", self.decay, "a course of the learning rate", DECAYS))
        for name in ("epochs", "batch"):
            if getattr(self, name) < 1:
                raise AtlasError(f"injection: {name} is {getattr(self, name)}; expected at least 1")
        for name in ("learning_rate", "clip"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise AtlasError(f"injection: {name} is {value}; expected a number above 0")

    def rate(self, is_all: bool) -> float:
        """The learning rate of the first step, of all parameters or of chosen ones."""
        return self.learning_rate or (ALL_RATE if is_all else CHOSEN_RATE)

    def rate_at(self, step: int, n_steps: int, is_all: bool) -> float:
        """The learning rate of a step, counted from 0."""
        left = 1 - step / n_steps if self.decay == "linear" else 1.0
        return self.rate(is_all) * left

    def n_steps(self, n_queries: int) -> int:
        """Steps of the whole training; the last step of an epoch takes the queries that are left."""
        return self.epochs * -(-n_queries // self.batch)
