"""Causal fidelity over facts: do attribution scores rank neurons as their causal effects do?

statistic: spearman, of scores and single effects (the fall of P); precision_at_k, the share of the k best scored
neurons that are among the k with the largest effects; area, under the suppression curve (the share of P that is lost)
over the logarithm of the set size. Draws are averaged per query, queries and languages per fact; facts are resampled.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from knatlas.selection.rankings import MATCHED, OWN, ranked_by, rankings
from knatlas.selection.scores import Scores
from knatlas.statistics.bootstrap import DEFAULT_RESAMPLES, bootstrap_mean
from knatlas.statistics.multiple_tests import with_holm
from knatlas.statistics.permutation import DEFAULT_PERMUTATIONS, sign_flip
from knatlas.statistics.rank_agreement import area_over_log_size, precision_at, rank_correlation

ALL, DIFFERENCE = "all", "difference"
SPEARMAN, AREA = "spearman", "area"
CELL = ["model", "language", "ablation", "method", "ranking"]
QUERY = ["model", "fact", "language", "ablation"]
MEASURED = [*QUERY, "method", "ranking", "statistic", "value"]
TABLE_COLUMNS = [
    *(*CELL, "statistic", "value", "lo", "hi", "n", "p", "p_holm", "n_tests", "test"),
    *("coverage", "n_ablated", "n_neurons", "scores"),
]
CURVE_COLUMNS = [*CELL, "size", "value", "lo", "hi", "n"]


def rank_measures(effects: pd.DataFrame, scores: Scores, at: Sequence[int], draws: int, seed: int) -> pd.DataFrame:
    """MEASURED of one model: rank correlation, and precision at each k of `at` that is below the number of neurons.

    Args: effects, EFFECT_COLUMNS of `measure_fidelity`; scores, draws and seed, those it was given.
    """
    lines = []
    for (fact, language), of_query in effects.groupby(["fact", "language"], sort=False):
        found = rankings(scores, scores.facts.index(fact), language, draws, seed)
        for ablation, rows in of_query.groupby("ablation", sort=False):
            key = (rows["model"].iat[0], fact, language, ablation)
            lines += [(*key, *line) for line in _rank_lines(rows, found, scores.shape, at)]
    return _draws_averaged(pd.DataFrame(lines, columns=MEASURED))


def _rank_lines(rows: pd.DataFrame, found: list, shape: tuple[int, int], at: Sequence[int]) -> Iterator[tuple]:
    """Method, ranking, statistic and value of one query and kind of ablation, for every draw."""
    measured = np.ravel_multi_index((rows["layer"], rows["index"]), shape)
    known = (measured, (rows["p_before"] - rows["p_after"]).to_numpy(float), rows["weight"].to_numpy(float))
    for ranking in found:
        flat = ranking.scores.ravel()
        yield ranking.method, ranking.ranking, SPEARMAN, rank_correlation(flat, *known)
        for k in at:
            if k < len(flat):
                yield ranking.method, ranking.ranking, f"precision_at_{k}", precision_at(k, flat, *known)


def areas(curves: pd.DataFrame, min_p_before: float = 0.0) -> pd.DataFrame:
    """MEASURED: the area under every suppression curve, queries with a smaller P before, or with none, left out."""
    lost = _lost(curves, min_p_before)
    keys = [*QUERY, "method", "ranking", "draw"]
    lines = [
        (*key[:-1], AREA, area_over_log_size(part["size"].to_numpy(float), part["value"].to_numpy(float)))
        for key, part in lost.groupby(keys, sort=False)
    ]
    return _draws_averaged(pd.DataFrame(lines, columns=MEASURED))


def summarise_fidelity(
    measured: pd.DataFrame,
    coverage: pd.DataFrame,
    seed: int = 0,
    resamples: int = DEFAULT_RESAMPLES,
    permutations: int = DEFAULT_PERMUTATIONS,
) -> pd.DataFrame:
    """TABLE_COLUMNS: means over facts by model, language (and "all"), ablation, method and ranking.

    ranking: `own`, the method's scores (of `random` random ones, of `oracle` the true single effects);
    `random_layer_matched`, the method's scores dealt out anew within layers; `difference`, own less that, by fact. p is
    of a sign-flip test of the difference, for all languages together; p_holm over the tests of one statistic, n_tests.
    coverage says whether `every` neuron was ablated alone or a `sample`; n_ablated, how many per query, of n_neurons;
    scores, what of the method's scores ranks the neurons.

    Args: measured, MEASURED of all models; coverage, of `covered`.
    """
    by_fact = _by_fact(measured)
    lines = [line for whole in (by_fact, _differences(by_fact)) for line in _lines(whole, seed, resamples)]
    table = pd.DataFrame(lines, columns=[*CELL, "statistic", "value", "lo", "hi", "n"])
    tests = pd.DataFrame(_tests(_differences(by_fact), seed, permutations), columns=[*CELL, "statistic", "p", "test"])
    table = table.merge(with_holm(tests, ["statistic"]), on=[*CELL, "statistic"], how="left")
    table = table.merge(coverage, on=["model", "ablation"], how="left", validate="many_to_one")
    names = dict(zip(coverage["model"], coverage["ranked_by"], strict=True))
    pairs = zip(table["model"], table["method"], strict=True)
    return table.assign(scores=[names[model].get(method) for model, method in pairs])[TABLE_COLUMNS]


def covered(effects: pd.DataFrame, scores: Scores) -> pd.DataFrame:
    """What of a model was ablated alone, by kind of ablation: model, ablation, coverage, n_ablated (mean per query),
    n_neurons; and ranked_by, what of each method's scores ranks the neurons."""
    n_neurons = int(np.prod(scores.shape))
    counts = effects.groupby(["model", "ablation", "fact", "language"], sort=False).size()
    mean = counts.groupby(["model", "ablation"], sort=False).mean().rename("n_ablated").reset_index()
    kinds = np.where(mean["n_ablated"] == n_neurons, "every", "sample")
    return mean.assign(coverage=kinds, n_neurons=n_neurons, ranked_by=[ranked_by(scores)] * len(mean))


def summarise_curves(
    curves: pd.DataFrame, min_p_before: float = 0.0, seed: int = 0, resamples: int = DEFAULT_RESAMPLES
) -> pd.DataFrame:
    """CURVE_COLUMNS: the share of P(answer) that is lost when the first neurons of an order are ablated together."""
    lost = _lost(curves, min_p_before)
    lost = lost.groupby([*QUERY, "method", "ranking", "size"], sort=False)["value"].mean().reset_index()
    whole = pd.concat([lost, lost.assign(language=ALL)], ignore_index=True)
    by_fact = whole.groupby([*CELL, "size", "fact"], sort=False)["value"].mean().reset_index()
    lines = [
        (*key, *bootstrap_mean(part["value"].to_numpy(), seed, resamples))
        for key, part in by_fact.groupby([*CELL, "size"], sort=False)
    ]
    return pd.DataFrame(lines, columns=CURVE_COLUMNS)


def _lost(curves: pd.DataFrame, min_p_before: float) -> pd.DataFrame:
    """The curves with `value`, the share of P lost: 1 - P after / P before."""
    known = curves[(curves["p_before"] > 0) & (curves["p_before"] >= min_p_before)]
    return known.assign(value=1 - known["p_after"] / known["p_before"])


def _draws_averaged(lines: pd.DataFrame) -> pd.DataFrame:
    return lines.groupby(MEASURED[:-1], sort=False)["value"].mean().reset_index()


def _by_fact(measured: pd.DataFrame) -> pd.DataFrame:
    """The mean over a fact's queries in each language, and over its languages ("all")."""
    whole = pd.concat([measured, measured.assign(language=ALL)], ignore_index=True)
    return whole.groupby([*CELL, "statistic", "fact"], sort=False)["value"].mean().reset_index()


def _differences(by_fact: pd.DataFrame) -> pd.DataFrame:
    """Each method's value less that of its layer-matched control, by fact."""
    keys = [name for name in by_fact if name not in ("ranking", "value")]
    pairs = by_fact.pivot_table("value", keys, "ranking", sort=False)
    if MATCHED not in pairs:
        return by_fact.iloc[:0]
    difference = (pairs[OWN] - pairs[MATCHED]).dropna().rename("value").reset_index()
    return difference.assign(ranking=DIFFERENCE)[list(by_fact)]


def _lines(by_fact: pd.DataFrame, seed: int, resamples: int) -> Iterator[tuple]:
    for key, part in by_fact.groupby([*CELL, "statistic"], sort=False):
        yield *key, *bootstrap_mean(part["value"].to_numpy(float), seed, resamples)


def _tests(differences: pd.DataFrame, seed: int, permutations: int) -> Iterator[tuple]:
    for key, part in differences[differences["language"] == ALL].groupby([*CELL, "statistic"], sort=False):
        test = sign_flip(part["value"].to_numpy(float), seed, permutations)
        yield *key, test.p, test.method


def fidelity_tables(
    parts: Sequence[tuple[pd.DataFrame, pd.DataFrame, Scores]],
    settings: Mapping,
    seed: int = 0,
    resamples: int = DEFAULT_RESAMPLES,
    permutations: int = DEFAULT_PERMUTATIONS,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables of fidelity and of suppression curves.

    Args: of each model effects, curves and scores; settings with precision_at, draws, min_p_before.
    """
    curves = pd.concat([part for _, part, _ in parts], ignore_index=True)
    ranked = [
        rank_measures(part, scores, settings["precision_at"], settings["draws"], seed) for part, _, scores in parts
    ]
    measured = pd.concat([*ranked, areas(curves, settings["min_p_before"])], ignore_index=True)
    coverage = pd.concat([covered(part, scores) for part, _, scores in parts], ignore_index=True)
    table = summarise_fidelity(measured, coverage, seed, resamples, permutations)
    return table, summarise_curves(curves, settings["min_p_before"], seed, resamples)
