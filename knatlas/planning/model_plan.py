"""What the costs of one model depend on, and the row that a stage of it becomes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from knatlas.attribution.configured import configured_methods, configured_screening
from knatlas.attribution.cost import QuerySize, paid_points
from knatlas.attribution.footprint import n_parameters
from knatlas.attribution.methods import AttributionMethod
from knatlas.attribution.shape import ModelShape
from knatlas.planning.rates import Rates
from knatlas.planning.workload import Workload
from knatlas.study import attribution_settings

GB, NUMBER_BYTES = 1e9, {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
# memory of a job beside weights and rows: Python with its libraries, and a share for tables
BASE_GB = 0.6


@dataclass(frozen=True)
class Stage:
    """One stage of one model. seconds: of all its jobs, without their start; start_seconds: of all starts.

    device: "gpu" or "cpu". gpu_gb, memory_gb: the largest of its jobs. kept_gb: disk at the end; held_gb: at
    most while it runs.
    """

    model: str
    stage: str
    device: str
    jobs: int
    flops: float = 0.0
    seconds: float = 0.0
    start_seconds: float = 0.0
    gpu_gb: float = 0.0
    memory_gb: float = BASE_GB
    kept_gb: float = 0.0
    held_gb: float = 0.0


@dataclass(frozen=True)
class ModelPlan:
    """All that the stages of a model depend on.

    n_facts: facts whose neurons are searched; n_shards: into which they are dealt out.
    points_of: the points of a path that are evaluated.
    """

    name: str
    record: Mapping
    shape: ModelShape
    study: Mapping
    languages: Sequence[str]
    work: Workload
    rates: Rates
    n_facts: int
    n_shards: int = 1
    points_of: Callable[[AttributionMethod], float] = paid_points

    @property
    def is_trained(self) -> bool:
        """Whether the workflow trains the model."""
        return self.record["origin"] == "embedded"

    @property
    def weights_gb(self) -> float:
        """Weights in the study's dtype."""
        return n_parameters(self.shape) * NUMBER_BYTES[self.study["dtype"]] / GB

    @property
    def methods(self) -> list[AttributionMethod]:
        """The study's methods, of those with equal integrals one."""
        methods = configured_methods(self.study["attribution"], self.shape.kind)
        return list({method.integral: method for method in methods}.values())

    @property
    def check(self) -> tuple[AttributionMethod, float] | None:
        """The method that only checks `atp`, and the share of the queries it takes; None where none does."""
        screening = configured_screening(attribution_settings(self.study), self.shape.kind)
        is_extra = screening and screening.reference.name not in self.study["attribution"]["run"]
        return (screening.reference, screening.share) if is_extra else None

    def sizes(self) -> list[tuple[str, QuerySize, float]]:
        """Language, size of a query, and how many such queries a fact has."""
        found = []
        for language in self.languages:
            queries = self.work.queries(self.shape.kind, language, self.is_trained)
            found += [(language, size, share * queries.per_fact) for size, share in queries.sizes()]
        return found

    def starts(self, n_jobs: int) -> float:
        """Seconds until jobs have imported their libraries and loaded the model."""
        return n_jobs * (self.rates("seconds_per_job") + self.weights_gb * GB / self.rates("load"))

    def model_stage(self, stage: str, n_jobs: int, work: tuple[float, float], **others: float) -> Stage:
        """A stage that runs the model. work: operations, and seconds of all jobs."""
        is_gpu = self.rates.device == "gpu"
        rows_gb = others.pop("rows_gb", 0.0)
        return Stage(
            model=self.name,
            stage=stage,
            device=self.rates.device,
            jobs=n_jobs,
            flops=work[0],
            seconds=work[1],
            start_seconds=self.starts(n_jobs),
            gpu_gb=self.weights_gb + rows_gb if is_gpu else 0.0,
            memory_gb=BASE_GB + self.weights_gb + (0.0 if is_gpu else rows_gb) + others.pop("files_gb", 0.0),
            **others,
        )
