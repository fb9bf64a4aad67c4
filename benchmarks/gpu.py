"""The engine on a GPU at the shape of LLaMA-2-7B with random weights: python -m benchmarks.gpu.

Without a GPU it runs the same steps on the processor at a small shape, to show that it runs; its rates say nothing
about a GPU.
"""

import argparse
import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import torch

from benchmarks.commands import say_errors
from benchmarks.jobs import CHECKED, EXACT, checked
from benchmarks.machine import describe, peak, reset_peak
from benchmarks.models import Shape, random_model, random_queries, tokenizer_of
from knatlas.attribution import AttributionMethod
from knatlas.attribution.cost import QuerySize, attribution_flops
from knatlas.attribution.engine import attribute_queries
from knatlas.attribution.records import QueryAttribution
from knatlas.attribution.shape import shape_of as sizes_of
from knatlas.models.encoding import EncodedQuery
from knatlas.models.language_model import LanguageModel, as_language_model
from knatlas.models.loading import DTYPES
from knatlas.storage import write_json

ROUNDS = 3
LOGIT_STD = 3.6  # of the random head: answers of some percent to some tens of percent
FOLDER = Path("results/benchmarks")
METHOD = AttributionMethod("m")
METHODS = {EXACT: METHOD, CHECKED: checked(METHOD)}


@dataclass(frozen=True)
class Setting:
    """What is run: sizes of the model, queries of a batch, their tokens, the dtype of the body, the device."""

    device: str
    dtype: str
    layers: int
    hidden: int
    vocabulary: int
    queries: int
    tokens: int
    batch_rows: int

    @property
    def shape(self) -> Shape:
        """A llama with the proportions of LLaMA-2-7B: 11,008 neurons at a hidden size of 4,096, heads of 128."""
        heads = max(1, self.hidden // 128)
        sizes = (self.layers, self.hidden, self.hidden * 43 // 16, self.vocabulary, heads, heads)
        return Shape(f"llama {self.layers} x {self.hidden}", "llama", *sizes, LOGIT_STD * self.hidden**-0.5)


def _wait(device: str) -> None:
    """Let a GPU finish what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def product_rate(setting: Setting, rows: int = 4096) -> float:
    """The best measured rate of this device for the model's own matrix product in its dtype, FLOP per second."""
    shape, dtype = setting.shape, DTYPES[setting.dtype]
    left = torch.randn(rows, shape.hidden, device=setting.device).to(dtype)
    right = torch.randn(shape.hidden, shape.neurons, device=setting.device).to(dtype)
    n_products = 50 if setting.device == "cuda" else 3
    best = 0.0
    for _ in range(5):
        _wait(setting.device)
        start = perf_counter()
        for _ in range(n_products):
            left @ right
        _wait(setting.device)
        best = max(best, n_products * 2 * rows * shape.hidden * shape.neurons / (perf_counter() - start))
    return best


def run_mode(lm: LanguageModel, queries: Sequence[EncodedQuery], mode: str, setting: Setting) -> dict:
    """Seconds on the clock per query, counted useful FLOPs, peak memory and points of one mode, after a first run."""
    found = _attribute(lm, queries, mode, setting.batch_rows)
    before = _start_peak(setting.device)
    seconds = []
    for _ in range(ROUNDS):
        _wait(setting.device)
        start = perf_counter()
        found = _attribute(lm, queries, mode, setting.batch_rows)
        _wait(setting.device)
        seconds.append(perf_counter() - start)
    points = points_per_path(found, lm.n_layers)
    size = QuerySize(setting.tokens, 1, len(queries[0].replaceable))
    flops = attribution_flops(sizes_of(lm.model.config), size, [METHOD], lambda _: points).total
    each = median(seconds) / len(queries)
    return {
        "mode": mode,
        "runs_seconds": seconds,
        "seconds_per_query": each,
        "flops_per_query": flops,
        "flops_per_second": flops / each,
        "peak_gibibytes": _peak_gibibytes(setting.device),
        "before_gibibytes": before,
        "points_per_path": points,
    }


def _attribute(
    lm: LanguageModel, queries: Sequence[EncodedQuery], mode: str, batch_rows: int
) -> list[QueryAttribution]:
    """All queries in one batch."""
    options = {"completeness": False, "batch_queries": len(queries)}
    return attribute_queries(lm, queries, [METHODS[mode]], batch_rows, **options)


def _start_peak(device: str) -> float:
    """Start a new peak of memory; what is in use before it, GiB."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / 2**30
    return reset_peak() / 1024


def _peak_gibibytes(device: str) -> float:
    """Peak of memory in GiB, the weights included: allocated on the GPU, or resident in main memory."""
    return torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else peak() / 1024


def points_per_path(found: Sequence[QueryAttribution], n_layers: int) -> float:
    """Gradients taken per path and layer, without the shared end point, mean over the queries."""
    records = [attribution.records[METHOD.name] for attribution in found]
    return float(np.mean([(record.n_points / n_layers - 1) / record.n_baselines for record in records]))


def agreement(setting: Setting) -> list[dict]:
    """Relative L2 error against float64 on the processor, 4 layers of 512, for float32 and the setting's dtype.

    Weights are rounded to the dtype first: what is left is the error of the computation.
    """
    shape = Shape("llama 4 x 512", "llama", 4, 512, 1408, 32000, 8, 4, 0.16)
    rows = []
    for dtype in dict.fromkeys(["float32", setting.dtype]):
        rounded = random_model(shape).model.to(DTYPES[dtype])
        precise = _as_lm(copy.deepcopy(rounded).double(), shape)
        queries = random_queries(precise, 12, 2)
        expected = _scores(precise, queries, EXACT)
        lm = _as_lm(rounded.to(setting.device), shape)
        for mode in METHODS:
            error = np.linalg.norm(_scores(lm, queries, mode) - expected) / np.linalg.norm(expected)
            rows.append({"dtype": dtype, "mode": mode, "relative_l2": float(error)})
    return rows


def _as_lm(model: torch.nn.Module, shape: Shape) -> LanguageModel:
    """A model of a causal shape with its tokenizer."""
    return as_language_model(shape.name, model, tokenizer_of(shape.vocabulary, "causal"), "random")


def _scores(lm: LanguageModel, queries: Sequence[EncodedQuery], mode: str) -> np.ndarray:
    """Scores of the queries, (queries, layers, neurons) float64."""
    found = _attribute(lm, queries, mode, batch_rows=0)
    return np.stack([attribution.scores[METHOD.name] for attribution in found]).astype(np.float64)


def run(setting: Setting) -> dict:
    """All measurements of a setting, a JSON object of raw numbers."""
    rate = product_rate(setting)
    lm = random_model(setting.shape, DTYPES[setting.dtype], setting.device)
    queries = random_queries(lm, setting.tokens, setting.queries)
    modes = [run_mode(lm, queries, mode, setting) for mode in METHODS]
    del lm
    return {
        "setting": asdict(setting),
        "machine": describe(torch.get_num_threads(), gpu=setting.device == "cuda"),
        "product_flops_per_second": rate,
        "modes": [{**mode, "share_of_product_rate": mode["flops_per_second"] / rate} for mode in modes],
        "agreement": agreement(setting),
    }


def _setting() -> Setting:
    """The setting of the command line; without a GPU two layers of 256 in float32."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda" if torch.cuda.is_available() else "cpu")
    is_gpu = parser.parse_known_args()[0].device == "cuda"
    parser.add_argument("--dtype", choices=sorted(DTYPES), default="float16" if is_gpu else "float32")
    parser.add_argument("--layers", type=int, default=32 if is_gpu else 2)
    parser.add_argument("--hidden", type=int, default=4096 if is_gpu else 256, help="a multiple of 128")
    parser.add_argument("--vocabulary", type=int, default=32000)
    parser.add_argument("--queries", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--batch-rows", type=int, default=0, help="0: chosen from free memory")
    return Setting(**vars(parser.parse_args()))


def _report(result: Mapping) -> None:
    """The numbers as lines."""
    print(f"{result['machine']}: matrix products {result['product_flops_per_second'] / 1e12:.2f} TFLOP/s")
    for mode in result["modes"]:
        print(
            f"{mode['mode']}: {mode['seconds_per_query']:.4f} s per query, {mode['share_of_product_rate']:.0%}, "
            f"{mode['peak_gibibytes']:.1f} GiB, {mode['points_per_path']:.2f} points per path"
        )
    for row in result["agreement"]:
        print(f"{row['dtype']} {row['mode']}: relative L2 {row['relative_l2']:.1e} against float64")


def main() -> None:
    """Run the setting, print it, write it."""
    setting = _setting()
    if setting.device == "cpu":
        print("No GPU is used: this shows that the benchmark runs; its rates are those of the processor.")
    result = run(setting)
    _report(result)
    write_json(result, FOLDER / f"{setting.device}-{setting.dtype}.json")


if __name__ == "__main__":
    say_errors(main)
