"""Every way of editing a fact by its name, behind one interface: a request in, the edit of value vectors out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from knatlas.errors import AtlasError, unknown
from knatlas.interventions.causal_neuron_edit import CausalNeurons, cne
from knatlas.interventions.editing import Editor
from knatlas.interventions.key_statistics import KeyStatistics
from knatlas.interventions.knowledge_edit import KnowledgeEdit, NeuronsOf, erasure, kn_e
from knatlas.interventions.rome import Rome, layer_number, rome_editor
from knatlas.interventions.tracing import TraceSettings
from knatlas.models.language_model import LanguageModel


@dataclass(frozen=True)
class EditorSettings:
    """The settings of all editors: of the formula of KN-E and CNE, of CNE's neurons, and of ROME."""

    formula: KnowledgeEdit = field(default_factory=KnowledgeEdit)
    causal: CausalNeurons = field(default_factory=CausalNeurons)
    rome: Rome = field(default_factory=Rome)


@dataclass(frozen=True, eq=False)
class Bench:
    """What editors of one model are made of.

    neurons_of, the neurons that kn_e and erase edit; tracing, with cne's noise; statistics, which rome and rome_last
    need; seed of their prefixes.
    """

    lm: LanguageModel
    settings: EditorSettings
    neurons_of: NeuronsOf
    tracing: TraceSettings
    statistics: KeyStatistics | None = None
    seed: int = 0


def _rome(bench: Bench, settings: Rome) -> Editor:
    if bench.statistics is None:
        raise AtlasError(
            f"{bench.lm.name}: rome needs the second moment of the keys, and none was measured; give key statistics, "
            "or leave rome and rome_last out of counterfact: editors"
        )
    return rome_editor(bench.lm, settings, bench.statistics, bench.seed)


EDITORS: dict[str, Callable[[Bench], Editor]] = {
    "kn_e": lambda bench: kn_e(bench.neurons_of, bench.settings.formula),
    "cne": lambda bench: cne(bench.settings.causal, bench.settings.formula, bench.tracing),
    "rome": lambda bench: _rome(bench, bench.settings.rome),
    "rome_last": lambda bench: _rome(bench, replace(bench.settings.rome, layer="last")),
    "erase": lambda bench: erasure(bench.neurons_of),
}
ROMES = ("rome", "rome_last")  # defined for causal models only


def check_editors(names: Sequence[str]) -> None:
    """AtlasError unless every name is one of `EDITORS`, each once."""
    for name in names:
        if name not in EDITORS:
            raise AtlasError(unknown("counterfact: editors", name, "an editor", EDITORS))
    if len(set(names)) < len(names):
        raise AtlasError(f"counterfact: editors are {' '.join(names)}; expected each once")


def make_editors(bench: Bench, names: Sequence[str], log: Callable[[str], None] = lambda _: None) -> dict[str, Editor]:
    """The editors of a model by name, in the order of the names; ROME's are left out for masked models.

    Args: log, told what is left out, and where two editors do the same in this model.
    Raises: AtlasError for an unknown or repeated name, or ROME without key statistics.
    """
    check_editors(names)
    lm, left_out = bench.lm, [name for name in names if name in ROMES and bench.lm.kind != "causal"]
    if left_out:
        log(f"{lm.name} is a masked model: {' and '.join(left_out)} left out, which edit causal models only")
    elif set(ROMES) <= set(names):
        layers = {layer_number(layer, lm.n_layers) for layer in (bench.settings.rome.layer, "last")}
        if len(layers) == 1:
            log(f"{lm.name}: rome and rome_last both edit layer {layers.pop()} of its {lm.n_layers}")
    return {name: EDITORS[name](bench) for name in names if name not in left_out}
