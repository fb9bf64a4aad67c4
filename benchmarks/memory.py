"""Peak memory against steps and tokens, each case in a process of its own: python -m benchmarks.memory."""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from time import process_time

import torch

from benchmarks.commands import say_errors
from benchmarks.jobs import CHECKED, EXACT, checked
from benchmarks.machine import describe, peak, reset_peak
from benchmarks.models import random_model, random_queries, shape_of, small
from knatlas.attribution import AttributionMethod
from knatlas.attribution.engine import attribute_queries
from knatlas.storage import write_json

SHAPE, TOKENS, STEPS = "llama", 12, 20
MORE_TOKENS, MORE_STEPS = (6, 24, 48), (100, 300)
FEW_ROWS = 256
FILE = Path("results/benchmarks/memory.json")


@dataclass(frozen=True)
class Case:
    """One measurement: the sum over a baseline per token of one query; batch_rows 0 as in studies."""

    shape: str
    tokens: int
    steps: int
    mode: str
    batch_rows: int
    is_small: bool = False


def cases(is_small: bool = False) -> Iterator[Case]:
    """More steps at few tokens, then more tokens at few steps; exact mode also with fixed rows."""
    for mode, batch_rows in ((EXACT, 0), (EXACT, FEW_ROWS), (CHECKED, 0)):
        for steps in (STEPS, *MORE_STEPS):
            yield Case(SHAPE, TOKENS, steps, mode, batch_rows, is_small)
        for tokens in MORE_TOKENS:
            yield Case(SHAPE, tokens, STEPS, mode, batch_rows, is_small)


def measure(case: Case) -> dict[str, float]:
    """Peak resident set above what the loaded model and its first pass take [MiB], and CPU seconds."""
    torch.set_num_threads(1)
    shape = shape_of(case.shape)
    lm = random_model(small(shape) if case.is_small else shape)
    (query,) = random_queries(lm, case.tokens, 1)
    method = AttributionMethod("m", steps=case.steps)
    method = checked(method, case.steps) if case.mode == CHECKED else method
    before, start = reset_peak(), process_time()
    attribute_queries(lm, [query], [method], case.batch_rows, completeness=False)
    return {"mebibytes": peak() - before, "cpu_seconds": process_time() - start, "model_mebibytes": before}


def measure_apart(case: Case) -> dict[str, float]:
    """`measure` in a process of its own, whose memory no other case has touched."""
    command = [sys.executable, "-m", "benchmarks.memory", "--measure", json.dumps(asdict(case))]
    found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(found.stdout.splitlines()[-1])


def main() -> None:
    """Measure all cases and write them, or measure the one of the command line and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", help="one case as JSON; prints the numbers as JSON")
    parser.add_argument("--small", action="store_true", help="a model of 3 x 64, to try it out; nothing is written")
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(Case(**json.loads(arguments.measure)))))
        return
    found = []
    for case in cases(arguments.small):
        found.append({**asdict(case), **measure_apart(case)})
        print(found[-1], flush=True)
    if not arguments.small:
        write_json({"machine": describe(1), "model": shape_of(SHAPE).name, "cases": found}, FILE)


if __name__ == "__main__":
    say_errors(main)
