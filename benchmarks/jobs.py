"""What is compared with what: the jobs, and for each the contestants that compute the same scores."""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from jaxtyping import Float
from numpy import ndarray

from benchmarks.captum_loop import captum_scores
from benchmarks.models import SHAPES
from benchmarks.peers import AMIG, ELEUTHERAI, Peer, peer_scores
from knatlas.attribution import AttributionMethod
from knatlas.attribution.engine import attribute_queries
from knatlas.attribution.records import MethodRecord
from knatlas.errors import AtlasError, unknown
from knatlas.models.architectures import architecture_of
from knatlas.models.encoding import EncodedQuery
from knatlas.models.language_model import LanguageModel, as_language_model

STEPS, MANY_STEPS, RTOL = 20, 300, 1e-3
EXACT, CHECKED, FLOAT64 = "exact", "checked", "exact, float64"
# the engine puts queries of a study together; no other code here can
QUERIES = 8
EXACT_MANY, CHECKED_MANY = f"exact, {QUERIES} queries", f"checked, {QUERIES} queries"
CAPTUM, CAPTUM_ONE_LAYER = "captum", "captum x L"
ELEUTHERAI_WIDE = "EleutherAI, batch 20"
Scores = Float[ndarray, "layer neuron"]

DEFINITIONS = {
    ELEUTHERAI: "B-KN as EleutherAI's code has it",
    AMIG: "AMIG as its class has it",
    "bkn": "B-KN, right sum",
    "saig": "sum over a baseline per token, right sum",
    "steps": "sum over a baseline per token, right sum",
}


@dataclass(frozen=True)
class Job:
    """One comparison: a model's shape, the number of tokens of the query, a definition of the scores, opponents.

    definition: a key of `DEFINITIONS`. opponents: labels of the contestants beside the engine's two modes.
    """

    name: str
    shape: str
    tokens: int
    definition: str
    opponents: tuple[str, ...]

    @property
    def needs(self) -> set[str]:
        """The peers without which this job has no opponent."""
        return {self.definition} & {ELEUTHERAI, AMIG}


@dataclass
class Contestant:
    """One way of computing the scores: `run` returns those of `layers`, (layers, neurons).

    is_timed_once: too slow for several rounds, there to be agreed with. records: of the engine, filled by `run`.
    """

    label: str
    run: Callable[[], Scores]
    layers: tuple[int, ...]
    is_engine: bool = False
    is_timed_once: bool = False
    n_queries: int = 1  # run together; the scores are those of the first, the seconds per query
    records: list[MethodRecord] = field(default_factory=list)


def _jobs() -> Iterable[Job]:
    """All jobs, the shapes in the order of `SHAPES` so that each model is made once."""
    sizes = {"gpt2": (12, 20), "mbert": (12,), "llama": (12,)}
    for shape in SHAPES:
        for tokens in sizes[shape]:
            stem = f"{shape}-{tokens}"
            if shape != "llama":  # neither peer knows gated networks
                yield Job(f"{stem}-eleutherai", shape, tokens, ELEUTHERAI, (ELEUTHERAI, ELEUTHERAI_WIDE))
                yield Job(f"{stem}-amig", shape, tokens, AMIG, (AMIG,))
            yield Job(f"{stem}-bkn", shape, tokens, "bkn", (CAPTUM,))
            yield Job(f"{stem}-saig", shape, tokens, "saig", (CAPTUM_ONE_LAYER,))
        yield Job(f"{shape}-12-steps", shape, 12, "steps", ())


JOBS = {job.name: job for job in _jobs()}


def job_of(name: str) -> Job:
    """A job by name. Raises: AtlasError."""
    if name not in JOBS:
        raise AtlasError(unknown("The job of the speed benchmark", name, "one of", JOBS))
    return JOBS[name]


def method_of(job: Job) -> AttributionMethod:
    """The exact method that computes a job's definition.

    EleutherAI: nodes k/(N-1) from zero. AMIG: left sum on the path from the mean of the baselines of all tokens, times
    the activation. Both: the value before the non-linearity in GPT-2, the one after it in BERT.
    """
    is_causal = architecture_of(SHAPES[job.shape].model_type).kind == "causal"
    site = "pre_activation" if is_causal else "down_input"
    if job.definition == ELEUTHERAI:
        return AttributionMethod("m", path="zero", rule="linspace", steps=STEPS, neuron_site=site)
    if job.definition == AMIG:
        options = {"multiplier": "full", "replace_special": True, "neuron_site": site}
        return AttributionMethod("m", path="mean_path", rule="left", steps=STEPS, **options)
    return AttributionMethod("m", path="zero" if job.definition == "bkn" else "per_token", steps=STEPS)


def checked(method: AttributionMethod, steps: int = STEPS) -> AttributionMethod:
    """The method in checked mode at `RTOL`."""
    return replace(method, steps=steps, quadrature="checked", rtol=RTOL)


def contestants(
    job: Job, lm: LanguageModel, queries: Sequence[EncodedQuery], peers: Mapping[str, Peer]
) -> list[Contestant]:
    """The contestants of a job: float64, opponents, the engine's modes. All of them compute the same definition.

    Args: queries of like length; the first is everybody's, all of them are the engine's where it takes several.
    """
    method, query = method_of(job), queries[0]
    if job.definition == "steps":
        return _of_steps(job, lm, query, method)
    opponents = [_opponent(label, lm, query, method, peers) for label in job.opponents]
    modes = [_engine(EXACT, lm, [query], method), _engine(CHECKED, lm, [query], checked(method))]
    modes.append(_engine(CHECKED_MANY, lm, queries, checked(method)))
    if method.path != "per_token":  # with many baselines one query fills the batches
        modes.append(_engine(EXACT_MANY, lm, queries, method))
    return [_in_float64(lm, query, method), *opponents, *modes]


def _in_float64(lm: LanguageModel, query: EncodedQuery, method: AttributionMethod) -> Contestant:
    """The exact mode on the same weights in float64: what everybody's rounding is measured against, run once."""

    def run() -> Scores:
        model = copy.deepcopy(lm.model).double()
        precise = as_language_model(lm.name, model, lm.tokenizer, lm.revision)
        return _engine(FLOAT64, precise, [query], method).run()

    return Contestant(FLOAT64, run, tuple(range(lm.n_layers)), is_engine=True, is_timed_once=True)


def _of_steps(job: Job, lm: LanguageModel, query: EncodedQuery, method: AttributionMethod) -> list[Contestant]:
    """Checked mode with few and many steps; the full sum of many steps once, where its hours of work are minutes."""
    found = [_engine(f"N={n}", lm, [query], checked(method, n)) for n in (STEPS, 50, MANY_STEPS)]
    if lm.kind == "causal":
        full = _engine(f"N={MANY_STEPS}, full sum", lm, [query], replace(method, steps=MANY_STEPS))
        full.is_timed_once = True
        found.append(full)
    return found


def _engine(label: str, lm: LanguageModel, queries: Sequence[EncodedQuery], method: AttributionMethod) -> Contestant:
    """The engine; what no opponent computes, the test of completeness, is left out."""
    records: list[MethodRecord] = []

    def run() -> Scores:
        found = attribute_queries(lm, queries, [method], completeness=False, batch_queries=len(queries))[0]
        records[:] = [found.records[method.name]]
        return found.scores[method.name]

    layers = tuple(range(lm.n_layers))
    return Contestant(label, run, layers, is_engine=True, n_queries=len(queries), records=records)


def _opponent(
    label: str, lm: LanguageModel, query: EncodedQuery, method: AttributionMethod, peers: Mapping[str, Peer]
) -> Contestant:
    """A peer, or captum in all layers or in the middle one."""
    layers = (lm.n_layers // 2,) if label == CAPTUM_ONE_LAYER else tuple(range(lm.n_layers))
    if label in (CAPTUM, CAPTUM_ONE_LAYER):
        return Contestant(label, partial(captum_scores, lm, query, method.path, method.steps, layers), layers)
    size = 20 if label == ELEUTHERAI_WIDE else None
    peer = peers[label.split(",")[0]]
    return Contestant(label, partial(peer_scores, peer, lm, query, method.steps, size), layers)
