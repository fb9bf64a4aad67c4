"""Which selection finds which kind of planted neuron: precision, recall, average precision, and what it mistakes."""

from collections.abc import Iterator, Mapping

import pandas as pd

from knatlas.statistics.bootstrap import DEFAULT_RESAMPLES, Interval, bootstrap_mean

ALL = "all"
AGNOSTIC, SPECIFIC, PARAPHRASE, BACKGROUND = "agnostic", "specific", "paraphrase", "background"
WITH_AGNOSTIC = (AGNOSTIC, PARAPHRASE)
REFERENCE = "reference"
SELECTION = ["family", "network", "selection", "reading"]
KEYS = [*SELECTION, "strength", "kind", "measure"]
COLUMNS = [*KEYS, "value", "lo", "hi", "n", "n_not_acting"]
EFFECT_KEYS = ["family", "network", "kind", "strength", "measure"]
EFFECT_COLUMNS = [*EFFECT_KEYS, "value", "lo", "hi", "n", "n_not_acting"]
SET = ["family", "seed", "network", "group", "strength", "fact", "language", "selection", "reading"]


def average_precision(ranks: pd.DataFrame, keys: list[str]) -> pd.Series:
    """By keys: mean over the rows of the precision down to each, ties counted as found together.

    Args: ranks with n_better, neurons of the model with a higher score, and n_tied, those with the same score, itself
    among them; all rows of one key are the neurons that should be found. Down to a neuron all of n_better + n_tied are
    taken, and those rows are right that are not worse: so that a tie with thousands of zeros has a precision near 0.
    """
    found = ranks.groupby(keys, sort=False)["n_better"].rank(method="max")
    precision = found / (ranks["n_better"] + ranks["n_tied"])
    return precision.groupby([ranks[key] for key in keys], sort=False).mean()


def summarise_planted(
    ranks: pd.DataFrame, sets: pd.DataFrame, seed: int = 0, resamples: int = DEFAULT_RESAMPLES
) -> pd.DataFrame:
    """COLUMNS by selection, reading and kind, from the tables of `localise`, the reference network's rows first.

    Each strength over all families, each family over all strengths, and all together ("all").

    measure: average_precision; recall, share of the kind's neurons in the set; precision, share of a set that is of the
    kind, empty sets left out: all three over facts that have acting neurons of the kind, in languages together. size,
    neurons in the set of a fact that is stored in the kind. false_positives, size of the sets of facts without any
    agnostic neuron or pair (kind "agnostic"), and false_positive_share, the share of these that are not empty.
    confusion, share of a set of a fact with agnostic neurons that is of another kind that the fact has, or of none
    ("background"): the latter in facts of the group agnostic, where each language has a neuron of its own.
    value, lo, hi: mean over facts with a 95% bootstrap interval; n, facts (of all seeds and families); n_not_acting,
    planted neurons of the kind in a fact and language that failed the causal check and are no ground truth.
    """
    facts = pd.concat([_of_kinds(ranks, sets), _of_sets(sets), _confusion(ranks, sets)], ignore_index=True)
    missing = _not_acting(ranks)
    intervals = _intervals(facts, KEYS, seed, resamples)
    rows = [(*key, *of, missing.get(key[:-1], 0)) for key, of in intervals]
    return _reference_first(pd.DataFrame(rows, columns=COLUMNS))


def summarise_effects(plants: pd.DataFrame, seed: int = 0, resamples: int = DEFAULT_RESAMPLES) -> pd.DataFrame:
    """EFFECT_COLUMNS: what the planted neurons of each kind and strength do, over facts.

    measure: effect and effect_of_pair, shares of P(answer) that are lost; p_before; activation.
    """
    measures = ["effect", "effect_of_pair", "p_before", "activation"]
    identity = ["family", "seed", "network", "kind", "strength", "fact"]
    long = plants.melt(identity, measures, "measure", "value").dropna()
    failed = {key: len(part) for key, part in _grouped(plants[~plants["is_acting"]], EFFECT_KEYS[:-1])}
    intervals = _intervals(long, EFFECT_KEYS, seed, resamples)
    rows = [(*key, *of, failed.get(key[:-1], 0)) for key, of in intervals]
    return _reference_first(pd.DataFrame(rows, columns=EFFECT_COLUMNS))


def _reference_first(table: pd.DataFrame) -> pd.DataFrame:
    """The rows in their order, those of the reference network before those of the others."""
    return table.sort_values("network", key=lambda names: names != REFERENCE, kind="stable", ignore_index=True)


def _intervals(values: pd.DataFrame, keys: list[str], seed: int, resamples: int) -> list[tuple[tuple, Interval]]:
    """Mean over facts of `value` by the keys, after the mean over a fact's languages and neurons."""
    by_fact = values.groupby(["seed", "fact", *keys], sort=False)["value"].mean().dropna().reset_index()
    groups = [(key, part["value"].to_numpy()) for key, part in _grouped(by_fact, keys)]
    # those of one size after another: they share their resamples
    order = sorted(range(len(groups)), key=lambda i: len(groups[i][1]))
    found = {i: bootstrap_mean(groups[i][1], seed, resamples) for i in order}
    return [(key, found[i]) for i, (key, _) in enumerate(groups)]


def _grouped(rows: pd.DataFrame, keys: list[str]) -> Iterator[tuple[tuple, pd.DataFrame]]:
    """Groups by the keys: every strength over all families, every family over all strengths, and all together."""
    marginal = [rows.assign(family=ALL), rows.assign(strength=ALL), rows.assign(family=ALL, strength=ALL)]
    whole = pd.concat(marginal, ignore_index=True)
    yield from whole.groupby(keys, sort=True)


def _of_kinds(ranks: pd.DataFrame, sets: pd.DataFrame) -> pd.DataFrame:
    """Average precision, recall and precision of every kind in every set."""
    keys = [*SET, "kind"]
    acting = ranks[ranks["is_acting"]]
    groups = acting.groupby(keys, sort=False)["is_selected"]
    found = groups.sum().rename("found").reset_index().merge(sets[[*SET, "n_neurons"]], on=SET, validate="many_to_one")
    measures = {
        "average_precision": average_precision(acting, keys).to_numpy(),
        "recall": groups.mean().to_numpy(),
        "precision": (found["found"] / found["n_neurons"].where(found["n_neurons"] > 0)).to_numpy(),
    }
    return found[keys].assign(**measures).melt(keys, var_name="measure", value_name="value")


def _of_sets(sets: pd.DataFrame) -> pd.DataFrame:
    """Sizes of the sets by what the fact is stored in, and the sets of facts without agnostic neurons."""
    size = sets.assign(kind=sets["group"], measure="size", value=sets["n_neurons"].astype(float))
    wrong = size[size["group"] == SPECIFIC].assign(kind=AGNOSTIC, measure="false_positives")
    is_wrong = wrong.assign(measure="false_positive_share", value=(wrong["n_neurons"] > 0).astype(float))
    return pd.concat([size, wrong, is_wrong])[[*SET, "kind", "measure", "value"]]


def _confusion(ranks: pd.DataFrame, sets: pd.DataFrame) -> pd.DataFrame:
    """Shares of other kinds, and of neurons that were not planted for the fact, in sets of agnostic facts."""
    filled = sets[sets["group"].isin(WITH_AGNOSTIC) & (sets["n_neurons"] > 0)]
    own = ranks[ranks["group"].isin(WITH_AGNOSTIC)]
    counts = own.groupby([*SET, "kind"], sort=False)["is_selected"].sum().unstack("kind")
    shares = filled.set_index(SET).join(counts)
    found = shares[list(counts.columns)]  # NaN: the fact has no neuron of the kind
    found = found.assign(**{BACKGROUND: shares["n_neurons"] - found.sum(axis=1)})
    found = found.div(shares["n_neurons"], axis=0).drop(columns=AGNOSTIC, errors="ignore")
    long = found.melt(ignore_index=False, var_name="kind", value_name="value").reset_index().dropna(subset="value")
    # what all of them have is counted in one group, so that a share and its complement are of the same facts
    long = long[(long["group"] == AGNOSTIC) | (long["kind"] == PARAPHRASE)]
    return long.assign(measure="confusion")[[*SET, "kind", "measure", "value"]]


def _not_acting(ranks: pd.DataFrame) -> Mapping[tuple, int]:
    """How many planted neurons of a kind are no ground truth, by the keys but the measure."""
    failed = ranks[~ranks["is_acting"]]
    return {key: len(part) for key, part in _grouped(failed, KEYS[:-1])}
