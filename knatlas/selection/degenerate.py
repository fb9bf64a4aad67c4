"""Degenerate neurons (Eqs. 9-10, Algorithm 1 of AMIG): any one of them can go unnoticed, all of them together cannot.

The model is not touched here: a function is passed in that answers with probabilities.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from knatlas.errors import AtlasError, unknown

KINDS = ("relative", "absolute")
# Numbers into the list of a fact's neurons, ascending.
Combination = tuple[int, ...]
Probabilities = Float[np.ndarray, " combination"]
# P(answer) with each combination of neurons suppressed together.
Probability = Callable[[Sequence[Combination]], Probabilities]
# The same for many facts at once: pairs of the number of a fact and a combination of its neurons.
JointProbability = Callable[[Sequence[tuple[int, Combination]]], Probabilities]


@dataclass(frozen=True)
class Thresholds:
    """What counts as a small and as a large drop of P(answer), and how far to search.

    kind: drops are shares of P before ("relative") or differences of probabilities ("absolute"); low, T_low: a drop of
    at most this is safe; high, T_high: one of more than this is large; top, neurons of a fact that are searched;
    largest, neurons of the largest combination; beam, safe combinations of a size that grow to the next.
    Raises: AtlasError for an unknown kind, numbers out of range, or high below low.
    """

    kind: str = "relative"
    low: float = 0.2
    high: float = 0.25
    top: int = 20
    largest: int = 2
    beam: int = 50

    def __post_init__(self):
        where = "experiments.degenerate"
        if self.kind not in KINDS:
            raise AtlasError(unknown(f"{where}.kind", self.kind, "a kind of drop", KINDS))
        if not self.low <= self.high:
            raise AtlasError(
                f"{where}: high is {self.high} and low {self.low}; expected high at or above low, or else one drop "
                "would be small and large at once"
            )
        for name, least in {"top": 1, "largest": 2, "beam": 1}.items():
            if getattr(self, name) < least:
                raise AtlasError(f"{where}.{name} is {getattr(self, name)}; expected a number from {least} on")

    def drops(self, p_before: float, p: Probabilities) -> Probabilities:
        """How far P fell, in the unit of `kind`; below 0 where it rose. Relative drops from P before = 0 are 0."""
        difference = p_before - np.asarray(p, dtype=np.float64)
        if self.kind == "absolute":
            return difference
        return difference / p_before if p_before > 0 else np.zeros(len(difference))


class Suppressed(NamedTuple):
    """A combination that was suppressed: P(answer) after it, and the drop in the unit of the thresholds."""

    neurons: Combination
    p: float
    drop: float


@dataclass(frozen=True)
class Found:
    """What the search measured for one fact: each neuron alone, then the larger combinations, by size."""

    p_before: float
    settings: Thresholds
    singles: list[Suppressed]
    larger: list[Suppressed]

    @property
    def candidates(self) -> list[int]:
        """Neurons whose suppression alone is safe (first pass of Algorithm 1)."""
        return [part.neurons[0] for part in self.singles if part.drop <= self.settings.low]

    @property
    def n_raised(self) -> int:
        """Candidates whose suppression raises P: they pass the test without storing the fact."""
        return sum(self.singles[neuron].p > self.p_before for neuron in self.candidates)

    @property
    def pairs(self) -> list[Suppressed]:
        """Every tested pair of candidates."""
        return [part for part in self.larger if len(part.neurons) == 2]

    @property
    def clusters(self) -> list[Suppressed]:
        """The degenerate combinations, by size."""
        return [part for part in self.larger if self.is_degenerate(part)]

    def is_degenerate(self, part: Suppressed) -> bool:
        """Whether the drop of a tested combination is large (Eq. 10); its subsets were safe (Eq. 9) to be tested."""
        return part.drop > self.settings.high

    def sum_of_drops(self, part: Suppressed) -> float:
        """What the drop of a combination would be if those of its neurons alone added up."""
        return sum(self.singles[neuron].drop for neuron in part.neurons)

    def excess(self, part: Suppressed) -> float:
        """The drop of a combination beyond that sum: above 0 for neurons that stand in for each other."""
        return part.drop - self.sum_of_drops(part)


def search(n_neurons: int, probability: Probability, settings: Thresholds) -> Found:
    """Search the degenerate combinations among `n_neurons` neurons of one fact.

    First pass: a neuron is a candidate when its drop is at most low. Second pass: every pair of candidates is
    suppressed, and degenerate when its drop is more than high. This needs 1 + n + n (n - 1) / 2 probabilities at most.

    With `largest` above 2 combinations grow: one of size k is tested when all its subsets of size k - 1 are safe, that
    is have a drop of at most low, and are known to be so all the way down; then Eq. 9 holds for every proper subset.
    It is degenerate when its own drop is more than high (Eq. 10), and safe when it is at most low. Of the safe ones of
    a size from 2 on only the `beam` with the largest drop grow (of equal drops the first); the others don't count as
    safe for larger ones. So all that is found is degenerate, but not all that is degenerate is found.

    P before = 0 can't fall: every neuron is a candidate and no pair is degenerate.

    Args: probability, called once with the empty combination (P before) and once for each size.
    """
    p_before = probability([()])
    return search_together([n_neurons], p_before, lambda asked: probability([part for _, part in asked]), settings)[0]


def search_together(
    sizes: Sequence[int], p_before: Sequence[float], probability: JointProbability, settings: Thresholds
) -> list[Found]:
    """`search` for many facts in step: the combinations of one size of all facts are asked for in one call.

    Args: sizes, numbers of neurons, and p_before, P(answer) without suppression, by fact.
    """
    found: list[Found] = [None] * len(sizes)
    walks = {i: _walk(size, float(p), settings) for i, (size, p) in enumerate(zip(sizes, p_before, strict=True))}
    answers: dict[int, Probabilities | None] = dict.fromkeys(walks)
    while walks:
        asked = {}
        for i, answer in answers.items():
            try:
                asked[i] = walks[i].send(answer)
            except StopIteration as end:
                found[i] = end.value
                del walks[i]
        answers = _answer(asked, probability)
    return found


def most_combinations(n_neurons: int, settings: Thresholds) -> int:
    """The most combinations that a search among `n_neurons` neurons asks for, P before not counted."""
    total = n_neurons + comb(n_neurons, 2)
    for size in range(3, settings.largest + 1):
        # each of the beam has n - size + 1 neurons to grow by, and every combination grows from each of its subsets
        grown = settings.beam * max(0, n_neurons - size + 1) // size
        total += min(grown, comb(n_neurons, size))
    return total


def _answer(asked: dict[int, list[Combination]], probability: JointProbability) -> dict[int, Probabilities]:
    """Ask for everything at once, and deal the answers out."""
    together = [(i, part) for i, parts in asked.items() for part in parts]
    if not together:
        return {}
    ends = np.cumsum([len(parts) for parts in asked.values()])
    return dict(zip(asked, np.split(np.asarray(probability(together)), ends[:-1]), strict=True))


def _walk(n_neurons: int, p_before: float, settings: Thresholds) -> Generator[list[Combination], Probabilities, Found]:
    """The search of one fact, which yields the combinations to suppress and is sent P(answer) of each."""
    singles = yield from _suppress([(neuron,) for neuron in range(n_neurons)], p_before, settings)
    found = Found(p_before, settings, singles, [])
    safe = [(neuron,) for neuron in found.candidates]
    for size in range(2, settings.largest + 1):
        tested = yield from _suppress(_grow(safe, size), p_before, settings)
        found.larger.extend(tested)
        safe = _keep_safe(tested, settings)
    return found


def _suppress(
    parts: list[Combination], p_before: float, settings: Thresholds
) -> Generator[list[Combination], Probabilities, list[Suppressed]]:
    p = (yield parts) if parts else np.zeros(0)
    drops = settings.drops(p_before, p)
    return [Suppressed(*row) for row in zip(parts, map(float, p), map(float, drops), strict=True)]


def _grow(safe: Sequence[Combination], size: int) -> list[Combination]:
    """Combinations of `size` neurons all of whose subsets with one neuron less are in `safe`, ascending."""
    known = set(safe)
    members = sorted({neuron for part in safe for neuron in part})
    larger = ((*part, neuron) for part in sorted(safe) for neuron in members if neuron > part[-1])
    return [part for part in larger if all(subset in known for subset in combinations(part, size - 1))]


def _keep_safe(tested: Sequence[Suppressed], settings: Thresholds) -> list[Combination]:
    safe = [part for part in tested if part.drop <= settings.low]
    return [part.neurons for part in sorted(safe, key=lambda part: -part.drop)[: settings.beam]]
