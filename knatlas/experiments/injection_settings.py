"""Settings of the knowledge injection. No model is opened: the configuration is checked with it."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from knatlas.errors import AtlasError, unknown
from knatlas.interventions.finetuning_settings import ALL_RATE, CHOSEN_RATE, FineTuning

FACTS = ("searched", "all")
CHOSEN, ALL_PARAMETERS = "chosen", "all"
TRAINING = ("epochs", "batch", "decay", "clip", "checkpointing", "has_accuracy")


@dataclass(frozen=True)
class Injection:
    """What is injected, and how.

    facts: whose queries, of the facts that the selections searched, or of `all` with prompts. max_queries: at most so
    many queries of each split in a language, drawn with the seed (None: all). holdout_queries: a fact's last queries in
    a language that are never trained on; the first is always left for training. min_facts: a neuron is trained when it
    is in the sets of so many facts of Q_new. has_direct: also train all parameters. rates: learning rates of `chosen`
    neurons and of `all` parameters, each of which is measured. training: the rest of a fine-tuning.

    Raises: AtlasError for a value that is not allowed.
    """

    facts: str = "searched"
    max_queries: int | None = 500
    holdout_queries: int = 1
    min_facts: int = 1
    has_direct: bool = True
    rates: Mapping[str, tuple[float, ...]] | None = None
    training: FineTuning = FineTuning()  # noqa: RUF009 - frozen

    def __post_init__(self) -> None:
        if self.facts not in FACTS:
            raise AtlasError(unknown("injection: facts", self.facts, "a choice of facts", FACTS))
        least = {"max_queries": 1, "holdout_queries": 0, "min_facts": 1}
        for name, smallest in least.items():
            value = getattr(self, name)
            if value is not None and value < smallest:
                raise AtlasError(f"injection: {name} is {value}; expected at least {smallest}")

    def trainings(self, is_all: bool) -> list[FineTuning]:
        """The fine-tunings of a selection (or of all parameters): one per learning rate."""
        name = ALL_PARAMETERS if is_all else CHOSEN
        rates = (self.rates or {}).get(name, (ALL_RATE if is_all else CHOSEN_RATE,))
        return [replace(self.training, learning_rate=rate) for rate in rates]


def injection_of(settings: Mapping) -> Injection:
    """The settings of a study: fields of `Injection` and, beside them, those of its training.

    `learning_rates` is a mapping of `chosen` and `all` to a number or a list of them.
    Raises: AtlasError for a setting that there is not, or a value that is not allowed.
    """
    own = [field.name for field in fields(Injection) if field.name not in ("rates", "training")]
    for name in settings:
        if name not in (*own, *TRAINING, "learning_rates"):
            raise AtlasError(unknown("injection: a setting", name, "its name", (*own, *TRAINING, "learning_rates")))
    training = FineTuning(**{name: settings[name] for name in TRAINING if name in settings})
    chosen = {name: settings[name] for name in own if name in settings}
    return Injection(**chosen, rates=_rates(settings.get("learning_rates", {})), training=training)


def _rates(given: Mapping) -> dict[str, tuple[float, ...]]:
    names = (CHOSEN, ALL_PARAMETERS)
    for name in given:
        if name not in names:
            raise AtlasError(unknown("injection: learning_rates", name, "what is trained", names))
    lists = {name: rates if isinstance(rates, list | tuple) else [rates] for name, rates in given.items()}
    if any(not rates for rates in lists.values()):
        raise AtlasError("injection: learning_rates has an empty list; expected at least one rate")
    return {name: tuple(dict.fromkeys(map(float, rates))) for name, rates in lists.items()}
