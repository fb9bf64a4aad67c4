"""Permutation tests over facts: the sign of each fact's paired difference is flipped, or its place among draws taken.

Under the null hypothesis a fact's difference is as likely to have one sign as the other. Facts are the units, as in the
bootstrap: their queries, languages and draws are averaged before.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int8

DEFAULT_PERMUTATIONS = 19999
ROUNDING = 1e-12  # of the sum of all sizes: sums that differ by less are ties
BLOCK = 4096  # assignments whose sums are in memory together as 64-bit numbers
SMALL = 2**20  # signs that are kept as such numbers: 8 MB
ByFact = Float[np.ndarray, " fact"]


class SignFlip(NamedTuple):
    """A two-sided test of a mean difference of 0.

    value, the mean difference over facts; p, two-sided; n, facts; n_nonzero, facts whose difference isn't 0; n_signs,
    assignments of signs that were tried; is_exact, whether these are all that there are. NaN and 0 without facts.
    """

    value: float
    p: float
    n: int
    n_nonzero: int
    n_signs: int
    is_exact: bool

    @property
    def method(self) -> str:
        """The kind of the test with its number of assignments, as tables give it."""
        return method_name(self.n_signs, self.is_exact)


def method_name(n_signs: int, is_exact: bool) -> str:
    """`exact` or `drawn`, with the number of assignments."""
    return f"{'exact' if is_exact else 'drawn'} {n_signs}"


def sign_flip(differences: ByFact, seed: int = 0, permutations: int = DEFAULT_PERMUTATIONS) -> SignFlip:
    """Test whether the mean of paired differences is 0, by flipping the signs of the facts' differences.

    Exact, over all 2^k assignments, where these are at most permutations + 1 (k: differences other than 0, since the
    sign of 0 changes nothing); else that many are drawn with the seed, and p = (1 + k') / (1 + m) with k' of m whose
    mean is at least as far from 0. NaN differences are left out.
    """
    known = np.asarray(differences, dtype=np.float64)
    known = known[~np.isnan(known)]
    if not len(known):
        return SignFlip(np.nan, np.nan, 0, 0, 0, True)
    sizes = known[known != 0]
    tried = Assignments.of(len(sizes), seed, permutations)
    p = tried.share_as_far(_n_far(sizes, tried))
    return SignFlip(float(known.mean()), p, len(known), len(sizes), tried.n_signs, tried.is_exact)


class Assignments(NamedTuple):
    """The assignments of signs to n differences that a test tries; is_exact, whether these are all that there are."""

    n: int
    n_signs: int
    is_exact: bool
    seed: int

    @classmethod
    def of(cls, n: int, seed: int, permutations: int) -> "Assignments":
        """All 2^n where these are at most permutations + 1, else as many drawn ones."""
        is_exact = n <= int(np.log2(permutations + 1))
        return cls(n, 2**n if is_exact else permutations, is_exact, seed)

    def share_as_far(self, n_far: int) -> float:
        """p where so many assignments are at least as far from 0 as what was observed."""
        return float(n_far / self.n_signs if self.is_exact else (1 + n_far) / (1 + self.n_signs))

    def blocks(self) -> Iterator[Float[np.ndarray, "assignment n"]]:
        """The signs as 64-bit numbers, at most BLOCK assignments at a time."""
        signs = (_numbers if self.n * self.n_signs <= SMALL else _signs)(self)
        yield from (signs[i : i + BLOCK].astype(np.float64, copy=False) for i in range(0, self.n_signs, BLOCK))


def _signs(tried: Assignments) -> Int8[np.ndarray, "assignment n"]:
    return all_signs(tried.n) if tried.is_exact else drawn_signs(tried.n, tried.n_signs, tried.seed)


@lru_cache(maxsize=16)
def _numbers(tried: Assignments) -> Float[np.ndarray, "assignment n"]:
    """Signs that serve many tests of few facts, as 64-bit numbers."""
    return _signs(tried).astype(np.float64)


@lru_cache(maxsize=16)
def all_signs(n: int) -> Int8[np.ndarray, "assignment n"]:
    """All 2^n assignments of -1 and 1 to n differences."""
    bits = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    return (2 * bits - 1).astype(np.int8)


@lru_cache(maxsize=8)
def drawn_signs(n: int, permutations: int, seed: int) -> Int8[np.ndarray, "assignment n"]:
    """Random assignments of -1 and 1 to n differences, the same for the same seed."""
    bits = np.random.default_rng(seed).integers(0, 2, size=(permutations, n), dtype=np.int8)
    return 2 * bits - 1


def rank_share(found: ByFact, draws: Float[np.ndarray, "fact draw"]) -> ByFact:
    """The share of each fact's draws that its found value exceeds, ties as half; 1/2 on average where both are alike.

    NaN where the found value, or every draw, is NaN.
    """
    found = np.asarray(found, dtype=np.float64)[:, None]
    is_known = ~np.isnan(draws) & ~np.isnan(found)
    points = np.where(is_known, (found > draws) + 0.5 * (found == draws), 0.0).sum(axis=1)
    n_known = is_known.sum(axis=1)
    return np.divide(points, n_known, out=np.full(len(found), np.nan), where=n_known > 0)


def rank_p(found: ByFact, draws: Float[np.ndarray, "fact draw"]) -> ByFact:
    """One-sided p of each fact's found value among its draws: (1 + draws at least as large) / (1 + draws).

    It's never below 1 / (1 + draws): 19 draws are needed to reach 0.05. NaN as in `rank_share`.
    """
    found = np.asarray(found, dtype=np.float64)[:, None]
    is_known = ~np.isnan(draws) & ~np.isnan(found)
    n_known = is_known.sum(axis=1)
    p = (1 + (is_known & (draws >= found)).sum(axis=1)) / (1 + n_known)
    return np.where(n_known > 0, p, np.nan)


def _n_far(sizes: np.ndarray, tried: Assignments) -> int:
    """How many assignments have a sum at least as far from 0 as the observed one."""
    least = abs(sizes.sum()) - ROUNDING * np.abs(sizes).sum()
    magnitudes = np.abs(sizes)
    return sum(int((np.abs(block @ magnitudes) >= least).sum()) for block in tried.blocks())
