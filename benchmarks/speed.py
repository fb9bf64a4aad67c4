"""Speed of the engine beside other code, and their agreement: python -m benchmarks.speed [--job NAME].

Contestants of a job take turns in one process on one thread, in turned order in every second round; CPU time is
measured, which other work on the machine disturbs less than the time on the wall. Weights are frozen for everyone.
"""

import argparse
import gc
import os
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from statistics import median
from time import process_time

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from benchmarks.commands import say_errors
from benchmarks.jobs import DEFINITIONS, JOBS, QUERIES, Contestant, Job, contestants, job_of
from benchmarks.machine import describe
from benchmarks.models import P_RANGE, random_model, random_queries, shape_of, small
from benchmarks.peers import Peer, find_peers
from knatlas.models.language_model import LanguageModel
from knatlas.storage import write_json

ROUNDS, THREADS = 2, 1
FOLDER = Path("results/benchmarks/speed")
# what takes less than this is repeated within a round, so that its median is not made of two numbers
SHORT_SECONDS, SHORT_REPEATS = 4.0, 3


@lru_cache(maxsize=1)
def _model(shape: str, is_small: bool) -> LanguageModel:
    """The model of a shape; one is kept, jobs of a shape follow each other."""
    return random_model(small(shape_of(shape)) if is_small else shape_of(shape))


def run_job(job: Job, peers: Mapping[str, Peer], rounds: int = ROUNDS, is_small: bool = False) -> dict:
    """Time all contestants of a job and compare their scores; a JSON object of raw numbers."""
    lm = _model(job.shape, is_small)
    rivals = contestants(job, lm, random_queries(lm, job.tokens, QUERIES), peers)
    seconds: dict[str, list[float]] = {rival.label: [] for rival in rivals}
    scores: dict[str, Float[ndarray, "layer neuron"]] = {}
    for number in range(rounds):
        for rival in rivals[:: 1 if number % 2 == 0 else -1]:
            if number == 0 or not rival.is_timed_once:
                scores[rival.label] = _time(rival, seconds[rival.label])
    return {
        "job": job.name,
        "model": lm.name,
        "shape": job.shape,
        "tokens": job.tokens,
        "definition": job.definition,
        "baselines": rivals[-1].records[0].n_baselines,
        "p_range": P_RANGE,
        "machine": describe(THREADS),
        "contestants": [_result(rival, seconds[rival.label], lm.n_layers) for rival in rivals],
        "agreement": _agreement(rivals, scores),
    }


def _time(rival: Contestant, seconds: list[float]) -> Float[ndarray, "layer neuron"]:
    """Run a contestant, several times if it is quick, and append the CPU seconds per query of each run."""
    spent = 0.0
    gc.collect()
    for _ in range(SHORT_REPEATS):
        start = process_time()
        scores = rival.run()
        seconds.append((process_time() - start) / rival.n_queries)
        spent += seconds[-1] * rival.n_queries
        if spent > SHORT_SECONDS or rival.is_timed_once:
            break
    return scores


def _result(rival: Contestant, seconds: Sequence[float], n_layers: int) -> dict:
    """What is kept of a contestant; its seconds are for all layers, those of one layer times the layers."""
    factor = n_layers / len(rival.layers)
    result = {
        "label": rival.label,
        "is_engine": rival.is_engine,
        "layers": list(rival.layers),
        "runs_cpu_seconds": list(seconds),
        "cpu_seconds": median(seconds) * factor,
    }
    if rival.records:
        record = rival.records[0]
        result |= {"n_points": record.n_points, "n_full_points": record.n_full_points}
        result |= {"n_fallbacks": record.n_fallbacks, "error_estimate": float(record.error_estimate.max())}
    return result


def _agreement(rivals: Sequence[Contestant], scores: Mapping[str, Float[ndarray, "layer neuron"]]) -> list[dict]:
    """Relative L2 difference of each pair, the later contestant against the earlier one, over their common layers."""
    pairs = [(a, b) for number, a in enumerate(rivals) for b in rivals[number + 1 :]]
    return [
        {"reference": a.label, "other": b.label, **_difference(a, b, scores[a.label], scores[b.label])}
        for a, b in pairs
    ]


def _difference(
    a: Contestant, b: Contestant, of_a: Float[ndarray, "layer neuron"], of_b: Float[ndarray, "layer neuron"]
) -> dict[str, float]:
    """|b - a| / |a| over the layers that both computed, and that of the worst of these layers; float64 sums."""
    common = sorted(set(a.layers) & set(b.layers))
    first = np.stack([of_a[a.layers.index(layer)] for layer in common]).astype(np.float64)
    second = np.stack([of_b[b.layers.index(layer)] for layer in common]).astype(np.float64)
    per_layer = np.linalg.norm(second - first, axis=1) / np.linalg.norm(first, axis=1)
    overall = np.linalg.norm(second - first) / np.linalg.norm(first)
    return {"relative_l2": float(overall), "worst_layer": float(per_layer.max())}


def _arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", action="append", help=f"one job, may be repeated; all without it: {' '.join(JOBS)}")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--small", action="store_true", help="models of 3 x 64, to try it out; nothing is written")
    return parser.parse_args()


def main() -> None:
    """Run the jobs asked for whose peers are at hand, and write what each leaves."""
    arguments = _arguments()
    torch.set_num_threads(THREADS)
    peers = find_peers(os.environ.get("PEERS", ""))
    for job in [job_of(name) for name in arguments.job or JOBS]:
        missing = job.needs - set(peers)
        if missing:
            print(f"{job.name}: skipped, PEERS names no folder with the code of {' and '.join(missing)}.")
            continue
        result = run_job(job, peers, arguments.rounds, arguments.small)
        if not arguments.small:
            write_json(result, FOLDER / f"{job.name}.json")
        _report(result)


def _report(result: Mapping) -> None:
    """One line per contestant, one per pair with the engine."""
    print(f"{result['job']}: {result['model']}, {result['tokens']} tokens, {DEFINITIONS[result['definition']]}")
    for rival in result["contestants"]:
        print(f"    {rival['label']:24} {rival['cpu_seconds']:9.3f} CPU s")
    for pair in result["agreement"]:
        print(f"    {pair['other']} against {pair['reference']}: relative L2 {pair['relative_l2']:.1e}")
    sys.stdout.flush()


if __name__ == "__main__":
    say_errors(main)
