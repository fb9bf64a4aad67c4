"""New knowledge by fine-tuning chosen neurons' parameters alone (Table V of MATRICE)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from knatlas.errors import AtlasError
from knatlas.experiments.injection_queries import NEW, split_queries
from knatlas.experiments.injection_settings import Injection
from knatlas.interventions.finetuning import Curve, finetune, trainable_parts
from knatlas.interventions.finetuning_settings import FineTuning
from knatlas.interventions.original import Original, restored
from knatlas.models.answers import BATCH_ROWS, answer_probabilities
from knatlas.models.encoding import EncodedQuery, encode_prompts
from knatlas.models.language_model import LanguageModel
from knatlas.progress import Report, silent
from knatlas.selection.neuron_set import NeuronSets
from knatlas.selection.pooled import pooled_neurons

DIRECT = "direct"
DEFAULTS = Injection()
IDENTITY = ["model", "selection", "language", "learning_rate"]
COLUMNS = [
    *("model", "selection", "language", "split", "fact", "relation", "query"),
    *("n_neurons", "n_parameters", "learning_rate"),
    *("is_right_before", "is_right_after", "p_before", "p_after"),
    *("n_own_neurons", "n_shared", "n_found", "is_trained"),
]
CURVE_COLUMNS = [*IDENTITY, "step", "epoch", "loss", "accuracy"]


class Injected(NamedTuple):
    """measurements: a row per query, selection and learning rate; curves: a row per step of each fine-tuning."""

    measurements: pd.DataFrame
    curves: pd.DataFrame


def inject(
    lm: LanguageModel,
    sets: Mapping[str, NeuronSets],
    prompts: pd.DataFrame,
    settings: Injection = DEFAULTS,
    seed: int = 0,
    progress: Report = silent,
    batch_rows: int = BATCH_ROWS,
) -> Injected:
    """Fine-tune on what the model answers wrongly, language by language, and ask again.

    In each language Q_new are the queries answered wrongly before, Q_old those answered rightly (every answer token the
    most probable one). A selection trains the parameters of the neurons in its sets of the facts of Q_new, a random
    control as many neurons, `direct` all parameters, each at every learning rate and from the same original weights.

    Args: sets by selection (random controls: their draw 0); prompts of one or both kinds; seed, of the queries left
    out, the random neurons and the order of queries; batch_rows, rows of the forward passes that measure (speed only).
    Returns: columns COLUMNS and CURVE_COLUMNS. n_own_neurons, of the fact's own set; n_shared, neurons that a control
    shares with its reference; n_found, queries of the split before max_queries; is_trained is False, and n_neurons 0,
    where a language has no Q_new or its facts no neurons: then after is as before, and there is no curve.
    The model is as before in the end, bit for bit. Raises: AtlasError when no fact has a prompt.
    """
    cases = _cases(lm, _chosen_prompts(lm, sets, prompts, settings), settings, seed, batch_rows)
    runs = [_Run(case, name, training) for case in cases for name, training in _methods(sets, settings)]
    work, parts = _Progress(progress, runs), []
    with restored(lm) as original:
        for run in runs:
            plan = run.plan(lm, sets, settings, seed)
            with restored(lm, original):
                curve = plan.train(lm, seed, work, original)
                parts.append((plan.measure(lm, curve, batch_rows), plan.curve_table(lm, curve)))
            work.finish(run)
    measurements, curves = (pd.concat(tables, ignore_index=True) for tables in zip(*parts, strict=True))
    return Injected(measurements[COLUMNS], curves[CURVE_COLUMNS])


def _chosen_prompts(
    lm: LanguageModel, sets: Mapping[str, NeuronSets], prompts: pd.DataFrame, settings: Injection
) -> pd.DataFrame:
    chosen = prompts[prompts["kind"] == lm.kind]
    if settings.facts == "searched":
        chosen = chosen[chosen["fact"].isin({fact for part in sets.values() for fact in part.facts})]
    if not len(chosen):
        raise AtlasError(f"{lm.name}: none of the facts has a {lm.kind} prompt; rerun build_prompts")
    return chosen.reset_index(drop=True)


def _methods(sets: Mapping[str, NeuronSets], settings: Injection) -> Iterator[tuple[str, FineTuning]]:
    for name in [*sets, *([DIRECT] if settings.has_direct else [])]:
        yield from ((name, training) for training in settings.trainings(name == DIRECT))


@dataclass(frozen=True, eq=False)
class _Case:
    """The queries of one language: a row each, with its split and encoded form."""

    language: str
    rows: pd.DataFrame
    encoded: list[EncodedQuery]

    @property
    def new(self) -> list[EncodedQuery]:
        is_new = self.rows["split"] == NEW
        return [query for query, is_trained in zip(self.encoded, is_new, strict=True) if is_trained]

    @property
    def new_facts(self) -> list[str]:
        return sorted(set(self.rows.loc[self.rows["split"] == NEW, "fact"]))


def _cases(lm: LanguageModel, prompts: pd.DataFrame, settings: Injection, seed: int, batch_rows: int) -> list[_Case]:
    encoded = encode_prompts(lm, prompts)
    before = answer_probabilities(lm, encoded, batch_rows)
    answers = prompts[["fact", "relation", "language", "query"]].assign(
        number=np.arange(len(prompts)),
        p_before=before["p"].to_numpy(),
        is_right_before=before["is_argmax"].to_numpy(bool),
    )
    groups = split_queries(answers, settings, seed).groupby("language", sort=False)
    return [_Case(name, rows.reset_index(drop=True), [encoded[i] for i in rows["number"]]) for name, rows in groups]


class _Run(NamedTuple):
    """One fine-tuning that is asked for."""

    case: _Case
    selection: str
    training: FineTuning

    @property
    def n_steps(self) -> int:
        return max(1, self.training.n_steps(len(self.case.new)))

    @property
    def title(self) -> str:
        return f"{self.case.language} {self.selection}"

    def plan(self, lm: LanguageModel, sets: Mapping[str, NeuronSets], settings: Injection, seed: int) -> "_Plan":
        """The run with its neurons; nothing is chosen where a language has no new knowledge."""
        facts, shape = self.case.new_facts, (lm.n_layers, lm.n_neurons)
        if self.selection == DIRECT:
            return _Plan(self, np.full(shape, bool(facts)), 0, None, np.full(len(self.case.rows), np.prod(shape)))
        is_chosen, n_shared = pooled_neurons(self.selection, sets, facts, self.case.language, settings.min_facts, seed)
        own = [_n_own(sets[self.selection], fact, self.case.language) for fact in self.case.rows["fact"]]
        return _Plan(self, is_chosen, n_shared, sets[self.selection], np.array(own, dtype=np.int64))


def _n_own(sets: NeuronSets, fact: str, language: str) -> int:
    return len(sets.of(fact, language)[0]) if sets.is_searched(fact, language) else 0


@dataclass(frozen=True, eq=False)
class _Plan:
    """A run with the neurons that it trains: sets is None where all parameters are."""

    run: _Run
    is_chosen: np.ndarray
    n_shared: int
    sets: NeuronSets | None
    n_own: np.ndarray

    def train(self, lm: LanguageModel, seed: int, work: "_Progress", original: Original) -> Curve:
        """Fine-tune in place."""
        parts = None if self.sets is None else trainable_parts(lm, *np.nonzero(self.is_chosen))
        new = self.run.case.new
        return finetune(lm, new, parts, self.run.training, seed, work.of(self.run, self.is_chosen.any()), original)

    def measure(self, lm: LanguageModel, curve: Curve, batch_rows: int) -> pd.DataFrame:
        """The answers of the model as it is now; before is after where nothing was trained."""
        rows = self.run.case.rows
        after = {"p_after": rows["p_before"], "is_right_after": rows["is_right_before"]}
        if curve.is_trained:
            answers = answer_probabilities(lm, self.run.case.encoded, batch_rows)
            after = {"p_after": answers["p"].to_numpy(), "is_right_after": answers["is_argmax"].to_numpy(bool)}
        sizes = {"n_neurons": int(self.is_chosen.sum()), "n_shared": self.n_shared, "n_own_neurons": self.n_own}
        trained = {"n_parameters": curve.n_parameters, "is_trained": curve.is_trained}
        return rows.assign(**self._identity(lm), **after, **sizes, **trained)

    def curve_table(self, lm: LanguageModel, curve: Curve) -> pd.DataFrame:
        """The curve with its identifying columns."""
        return curve.table().assign(**self._identity(lm))

    def _identity(self, lm: LanguageModel) -> dict:
        rate = self.run.training.rate(self.sets is None)
        return dict(zip(IDENTITY, (lm.name, self.run.selection, self.run.case.language, rate), strict=True))


class _Progress:
    """Steps of all fine-tunings together; one that has nothing to train is done at once, and says so."""

    def __init__(self, report: Report, runs: list[_Run]):
        self.report, self.total, self.done = report, sum(run.n_steps for run in runs), 0

    def of(self, run: _Run, has_neurons: bool) -> Report:
        """The report of one fine-tuning."""
        if not run.case.new or not has_neurons:
            reason = "no neurons" if run.case.new else "no wrong answers"
            self.report(self.done, self.total, f"{run.title}: {reason}, nothing is trained")
        return lambda step, _, message: self.report(self.done + step, self.total, f"{run.title} {message}")

    def finish(self, run: _Run) -> None:
        """Say that a fine-tuning is done."""
        self.done += run.n_steps
        self.report(self.done, self.total, run.title)
