"""What the CounterFact experiment is run with, and the editors that follow from it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from knatlas.errors import AtlasError
from knatlas.experiments.coarse_neurons import coarse_neurons
from knatlas.interventions.causal_neuron_edit import CausalNeurons
from knatlas.interventions.editing import Editor, EditRequest, prompt_of
from knatlas.interventions.editors import Bench, EditorSettings, check_editors, make_editors
from knatlas.interventions.key_statistics import KeyStatistics
from knatlas.interventions.knowledge_edit import KnowledgeEdit
from knatlas.interventions.rome import Rome
from knatlas.interventions.tracing import AUTO, Noise, TraceSettings, noise_sigma
from knatlas.models.answers import BATCH_ROWS
from knatlas.models.language_model import LanguageModel
from knatlas.progress import Report, silent

EDITORS = ("kn_e", "cne", "rome", "rome_last")  # those of Table 3
ON_COARSE_SETS = ("kn_e", "erase")


@dataclass(frozen=True)
class CounterfactEdits:
    """How facts of CounterFact are edited.

    records, the first so many; editors, of knatlas.interventions.editors. ratio and steps of kn_e's coarse sets (B-KN's
    score above ratio * the largest; steps of its integral). lambda1, lambda2, scaling, subtract, embedding and preset,
    as `KnowledgeEdit` has them, for kn_e and cne; preset `code` also takes B-KN as its authors' code computes it.
    cne_variant and cne_top_k as `CausalNeurons` has them; noise ("s3" or a standard deviation), samples and window of
    its traces; rome, the settings of `Rome` that are not its defaults (rome_last takes another layer).

    Raises: AtlasError for an unknown editor, a word or number that is not allowed.
    """

    records: int | None = 1000
    editors: Sequence[str] = EDITORS
    ratio: float = 0.2
    steps: int = 20
    lambda1: float = 1.0
    lambda2: float = 8.0
    scaling: str = "norm"
    subtract: str = "object"
    embedding: str = "output"
    preset: str = "default"
    cne_variant: str = "neuron_ie"
    cne_top_k: int = 1
    noise: float | str = 0.1
    samples: int = 10
    window: int | str = AUTO
    rome: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_editors(self.editors)
        if not 0 <= self.ratio < 1:
            raise AtlasError(f"counterfact: ratio is {self.ratio}; expected a number from 0 to below 1")
        self.of_editors()

    def of_editors(self) -> EditorSettings:
        """The settings of each editor."""
        names = ("lambda1", "lambda2", "scaling", "subtract", "embedding", "preset")
        formula = KnowledgeEdit(**{name: getattr(self, name) for name in names})
        return EditorSettings(formula, CausalNeurons(self.cne_variant, self.cne_top_k), Rome(**self.rome))


def editors_of(
    lm: LanguageModel,
    requests: Sequence[EditRequest],
    settings: CounterfactEdits,
    statistics: KeyStatistics | None = None,
    seed: int = 0,
    batch_rows: int = BATCH_ROWS,
    attribution_rows: int = 0,
    progress: Report = silent,
    log: Callable[[str], None] = lambda _: None,
) -> dict[str, Editor]:
    """The editors of the settings for these requests, by name; ROME's are left out for masked models.

    The requests' coarse sets are found here, all at once, where an editor needs them; noise "s3" is that of their
    subjects. Args: statistics, of the keys, for ROME; seed of noise and prefixes; batch_rows and attribution_rows of
    forward passes and of attribution sweeps, speed and memory only; progress, of the coarse sets; log, told what is
    left out.
    """
    tracing = _tracing(lm, requests, settings, seed, batch_rows)
    found = {}
    if set(ON_COARSE_SETS) & set(settings.editors):
        of_sets = (settings.ratio, settings.steps, settings.preset)
        found = coarse_neurons(lm, requests, *of_sets, attribution_rows, progress)
    bench = Bench(lm, settings.of_editors(), lambda _, request: found[request], tracing, statistics, seed)
    return make_editors(bench, settings.editors, log)


def _tracing(
    lm: LanguageModel, requests: Sequence[EditRequest], settings: CounterfactEdits, seed: int, batch_rows: int
) -> TraceSettings:
    pairs = [(prompt_of(request, request.target_true, lm.kind), request.subject) for request in requests]
    noise = Noise(noise_sigma(lm, pairs, settings.noise), settings.samples, seed)
    return TraceSettings(noise, ["mlp"], settings.window, batch_rows=batch_rows)
