"""An upper bound of a probability from counts."""

from scipy.special import betaincinv

from knatlas.errors import AtlasError

LEVEL = 0.95


def upper_bound(n_events: int, n: int, level: float = LEVEL) -> float:
    """One-sided Clopper-Pearson upper bound of a probability, from independent trials.

    The largest p under which n_events or fewer of n happen with probability 1 - level: the `level` quantile of
    Beta(n_events + 1, n - n_events). Without events it is 1 - (1 - level)^(1/n); it is 1 where every trial is one, and
    without trials. Raises: AtlasError unless 0 <= n_events <= n.
    """
    if not 0 <= n_events <= n:
        raise AtlasError(f"{n_events} events of {n} trials; expected whole numbers, 0 <= events <= trials.")
    return 1.0 if n_events == n else float(betaincinv(n_events + 1, n - n_events, level))
