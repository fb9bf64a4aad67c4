"""CPU time as the number of facts grows, which must be linear: python -m benchmarks.growth."""

import argparse
from pathlib import Path
from statistics import median
from time import process_time

import torch

from benchmarks.commands import say_errors
from benchmarks.jobs import CHECKED, EXACT, checked
from benchmarks.machine import describe
from benchmarks.models import random_model, random_queries, shape_of, small
from knatlas.attribution import AttributionMethod
from knatlas.attribution.engine import attribute_queries
from knatlas.storage import write_json

SHAPE, TOKENS, FACTS, ROUNDS = "llama", 12, (1, 2, 4, 8), 2
FILE = Path("results/benchmarks/growth.json")


def growth(is_small: bool = False) -> dict:
    """CPU seconds of the sum over a baseline per token for 1, 2, 4, 8 facts of one query each, both modes in turn."""
    shape = small(shape_of(SHAPE)) if is_small else shape_of(SHAPE)
    lm = random_model(shape)
    queries = random_queries(lm, TOKENS, max(FACTS))
    method = AttributionMethod("m")
    methods = {EXACT: method, CHECKED: checked(method)}
    seconds = {(mode, n): [] for n in FACTS for mode in methods}
    for _ in range(ROUNDS):
        for (mode, n), found in seconds.items():
            start = process_time()
            attribute_queries(lm, queries[:n], [methods[mode]], 0, completeness=False)
            found.append(process_time() - start)
    rows = [{"mode": mode, "facts": n, "cpu_seconds": median(found)} for (mode, n), found in seconds.items()]
    return {"machine": describe(1), "model": shape.name, "tokens": TOKENS, "rows": rows}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="a model of 3 x 64, to try it out; nothing is written")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = growth(arguments.small)
    for row in found["rows"]:
        print(row)
    if not arguments.small:
        write_json(found, FILE)


if __name__ == "__main__":
    say_errors(main)
