"""Accuracy on new and on old knowledge after fine-tuning, with bootstrap intervals (Table V of MATRICE)."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from knatlas.experiments.injection_queries import NEW, OLD, SPLITS
from knatlas.statistics.bootstrap import DEFAULT_RESAMPLES, LEVEL, resample_weights
from knatlas.statistics.paired_tests import Paired

GROUP = ["model", "selection", "learning_rate"]
SUMMARY_COLUMNS = [
    *("model", "selection", "language", "learning_rate", "statistic", "value", "lo", "hi", "n", "n_queries"),
    *("n_neurons", "n_parameters", "n_empty", "n_shared", "n_left_out", "n_languages", "n_untrained"),
]
CURVE_KEYS = ["model", "selection", "language", "learning_rate", "epoch"]
CURVE_COLUMNS = [*CURVE_KEYS, "statistic", "value", "n"]
ALL = "all"
# the splits whose accuracies a statistic is the mean of
STATISTICS = {f"q_{split}": [split] for split in SPLITS} | {"average": [NEW, OLD]}
SIZES = ["n_neurons", "n_parameters", "n_shared"]


def summarise_injection(rows: pd.DataFrame, seed: int = 0, resamples: int = DEFAULT_RESAMPLES) -> pd.DataFrame:
    """Percent of queries answered rightly after fine-tuning, from the rows that `inject` measured.

    Before training, Q_new and its held-out queries are 0 % and Q_old is 100 % right by construction: 100 - q_old is
    what was forgotten. Q_new is trained on and asked again, as in the paper; q_new_heldout are other queries of the
    same facts, q_new_untrained wrong ones of facts of which nothing is trained.

    statistic: q_new, q_new_heldout, q_new_untrained, q_old, and average, the mean of q_new and q_old (undefined where
    either is). Language "all": mean over the languages that have the statistic. Intervals: 95% bootstrap over facts,
    each with all its queries and languages; resamples without a value don't count.

    n, facts, and n_queries, queries of the statistic; n_left_out, further ones beyond max_queries; n_neurons,
    n_parameters, n_shared (mean over languages for "all"); n_empty, the statistic's facts whose own set is empty in a
    language; n_languages, with the statistic; n_untrained, languages where nothing was trained.
    """
    lines = []
    for key, group in rows.groupby(GROUP, sort=False):
        fixed = dict(zip(GROUP, key, strict=True))
        languages = list(dict.fromkeys(group["language"]))
        for name in [*languages, ALL]:
            part = group if name == ALL else group[group["language"] == name]
            counts = Counts.of(part)
            fixed |= {"language": name, **_sizes(part)}
            lines += [{**fixed, **line} for line in _lines(part, counts, seed, resamples)]
    return pd.DataFrame(lines, columns=SUMMARY_COLUMNS)


def summarise_curves(curves: pd.DataFrame) -> pd.DataFrame:
    """Mean loss (nats per answer token) of each epoch's steps, and the accuracy after it (percent) where it was taken.

    Language "all": mean over languages that were trained so long. No intervals: a step's loss belongs to no fact.
    Returns: columns CURVE_COLUMNS, n the steps (loss) or the measurements (accuracy).
    """
    parts = []
    for name, factor in {"loss": 1.0, "accuracy": 100.0}.items():
        known = curves[curves[name].notna()]
        by_language = known.groupby(CURVE_KEYS, sort=False)[name].agg(value="mean", n="size").reset_index()
        keys = [key for key in CURVE_KEYS if key != "language"]
        pooled = by_language.groupby(keys, sort=False).agg(value=("value", "mean"), n=("n", "sum")).reset_index()
        table = pd.concat([by_language, pooled.assign(language=ALL)], ignore_index=True)
        parts.append(table.assign(statistic=name, value=factor * table["value"]))
    return pd.concat(parts, ignore_index=True)[CURVE_COLUMNS]


@dataclass(frozen=True)
class Counts:
    """Queries, and right ones among them after training, of each fact, language and split."""

    n_queries: Float[np.ndarray, "fact language split"]
    n_right: Float[np.ndarray, "fact language split"]

    @classmethod
    def of(cls, rows: pd.DataFrame) -> "Counts":
        (facts, fact), (languages, language) = (
            np.unique(rows[name].to_numpy(str), return_inverse=True) for name in ("fact", "language")
        )
        cells, split = (len(facts), len(languages), len(SPLITS)), pd.Index(SPLITS).get_indexer(rows["split"])
        cell = np.ravel_multi_index((fact, language, split), cells)
        weights = (None, rows["is_right_after"].to_numpy(float))
        sums = (np.bincount(cell, part, np.prod(cells)).astype(float).reshape(cells) for part in weights)
        return cls(*sums)

    def accuracies(self, weights: Float[np.ndarray, "draw fact"]) -> Float[np.ndarray, "draw language split"]:
        """Percent right where each draw takes facts with these weights; NaN where it has no query."""
        return _percent(*(np.tensordot(weights, counts, axes=1) for counts in (self.n_right, self.n_queries)))


@dataclass(frozen=True)
class _Asked:
    """What was asked, one entry per query, and by split how many queries were left out."""

    fact: Int[np.ndarray, " query"]
    split: np.ndarray
    is_empty: Bool[np.ndarray, " query"]
    left_out: dict[str, int]

    @classmethod
    def of(cls, rows: pd.DataFrame) -> "_Asked":
        found = rows.groupby(["language", "split"])["n_found"].agg(["first", "size"])
        left_out = (found["first"] - found["size"]).groupby("split").sum().astype(int).to_dict()
        is_empty = (rows["n_own_neurons"] == 0).to_numpy()
        return cls(pd.factorize(rows["fact"])[0], rows["split"].to_numpy(str), is_empty, left_out)

    def counts(self, splits: list[str]) -> dict[str, int]:
        """Facts, queries, facts without neurons, and queries left out, of some splits."""
        is_in = np.isin(self.split, splits)
        return {
            "n": len(np.unique(self.fact[is_in])),
            "n_queries": int(is_in.sum()),
            "n_empty": len(np.unique(self.fact[is_in & self.is_empty])),
            "n_left_out": sum(self.left_out.get(split, 0) for split in splits),
        }


def _lines(rows: pd.DataFrame, counts: Counts, seed: int, resamples: int) -> Iterator[dict]:
    n_facts, asked = len(counts.n_queries), _Asked.of(rows)
    values = counts.accuracies(np.ones((1, n_facts)))
    resampled = counts.accuracies(resample_weights(n_facts, resamples, seed))
    for name, splits in STATISTICS.items():
        where = [SPLITS.index(split) for split in splits]
        by_language = values[..., where].mean(axis=-1)
        n_languages = int((~np.isnan(by_language)).sum())
        yield {
            "statistic": name,
            "value": _mean(by_language)[0],
            **_bounds(_mean(resampled[..., where].mean(axis=-1))),
            # an average without one of its halves is none, so that nothing is counted under it
            **asked.counts(splits if n_languages else []),
            "n_languages": n_languages,
        }


def paired_accuracies(one: Counts, other: Counts, name: str) -> Paired:
    """A statistic of `summarise_injection` after two fine-tunings of the same queries, for all languages together.

    Args: name, of STATISTICS. Facts without such queries are left out.
    """
    where = [SPLITS.index(split) for split in STATISTICS[name]]
    asked = one.n_queries[..., where]
    has_queries = asked.any(axis=(1, 2))
    columns = [np.stack([part.n_right[..., where], asked], axis=1)[has_queries] for part in (one, other)]

    def statistic(means: Float[np.ndarray, "draw column"]) -> Float[np.ndarray, " draw"]:
        right, asked = np.moveaxis(means.reshape(len(means), *columns[0].shape[1:]), 1, 0)
        return _mean(_percent(right, asked).mean(axis=-1))

    return Paired(*(part.reshape(len(part), 2 * asked[0].size) for part in columns), statistic)


def _percent(right: np.ndarray, asked: np.ndarray) -> np.ndarray:
    return np.divide(100 * right, asked, out=np.full(asked.shape, np.nan), where=asked > 0)


def _mean(by_language: Float[np.ndarray, "draw language"]) -> Float[np.ndarray, " draw"]:
    """Mean over the languages that have a value; NaN where none has."""
    is_known = ~np.isnan(by_language)
    n, sums = is_known.sum(axis=1), np.where(is_known, by_language, 0.0).sum(axis=1)
    return np.divide(sums, n, out=np.full(len(n), np.nan), where=n > 0)


def _bounds(resampled: Float[np.ndarray, " draw"]) -> dict[str, float]:
    known = resampled[~np.isnan(resampled)]
    if not len(known):
        return {"lo": np.nan, "hi": np.nan}
    lo, hi = np.percentile(known, [50 * (1 - LEVEL), 50 * (1 + LEVEL)], method="nearest")
    return {"lo": float(lo), "hi": float(hi)}


def _sizes(rows: pd.DataFrame) -> dict:
    """What was trained: means over the languages, and in how many of them nothing was."""
    by_language = rows.groupby("language")[[*SIZES, "is_trained"]].first()
    return {**by_language[SIZES].mean().to_dict(), "n_untrained": int((~by_language["is_trained"].astype(bool)).sum())}
