"""What experiments ask of a model: P(answer) of queries with neurons scaled, in chunks and with progress."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from knatlas.errors import AtlasError
from knatlas.progress import Report
from knatlas.selection.neuron_set import NeuronSets

QUERY = ["probed_fact", "language", "query"]
CHUNK = 4096  # requests handed over at once: enough to sort by length, and progress is told in between
NONE = np.zeros(0, dtype=np.int64)


class Request(NamedTuple):
    """One question to the model: P(answer) of a query while the neurons' activations are multiplied by a factor.

    layers and indices, arrays of equal length; factor, one number, or an array with one for each neuron; shift, added
    after that, one number or an array (neurons,) or (positions, neurons).
    """

    fact: str
    language: str
    query: int
    layers: np.ndarray
    indices: np.ndarray
    factor: float | np.ndarray
    shift: float | np.ndarray = 0.0


Evaluate = Callable[[Sequence[Request]], tuple[np.ndarray, np.ndarray]]


class Counted:
    """The evaluating function, called in chunks, with progress in measurements out of `total`."""

    def __init__(self, evaluate: Evaluate, progress: Report, total: int):
        self.evaluate, self.progress, self.total, self.done = evaluate, progress, total, 0

    def __call__(self, requests: Sequence[Request], message: str) -> tuple[np.ndarray, np.ndarray]:
        """P(answer) of the requests, and whether every answer token is the argmax, in their order."""
        p, is_right = np.zeros(len(requests)), np.zeros(len(requests), dtype=bool)
        for start in range(0, len(requests), CHUNK):
            part = slice(start, start + CHUNK)
            p[part], is_right[part] = self.evaluate(requests[part])
            self.done += len(requests[part])
            self.progress(self.done, self.total, message)
        return p, is_right


def measure_before(probes: pd.DataFrame, run: Counted) -> pd.DataFrame:
    """P(answer) of each query of the probes once, with no neuron scaled: QUERY, p_before, is_right_before."""
    queries = probes.drop_duplicates(QUERY)[QUERY].reset_index(drop=True)
    requests = [Request(*key, NONE, NONE, 1.0) for key in queries.itertuples(index=False, name=None)]
    p, is_right = run(requests, "before")
    return queries.assign(p_before=p, is_right_before=is_right)


def searched_facts(sets: Sequence[NeuronSets], prompts: pd.DataFrame) -> list[str]:
    """The facts that any of the sets searched, sorted; AtlasError when one has no prompts."""
    facts = sorted({fact for part in sets for fact in part.facts})
    missing = sorted(set(facts) - set(prompts["fact"]))
    if missing:
        raise AtlasError(
            f"{len(missing)} searched facts have no prompts, the first is {missing[0]}; rerun build_prompts"
        )
    return facts
