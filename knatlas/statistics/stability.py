"""How stable neuron sets are: over paraphrases, facts and languages, and how much of them any fact would give.

Everything is a Jaccard index of two sets (shared neurons over those in either), or a share of neurons, beside its
chance level: what layer-matched random sets of the same sizes give. A fact is the unit, relations where it says so.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int
from scipy.sparse import csr_array

from knatlas.selection.controls import random_stream
from knatlas.selection.neuron_set import ALL, NeuronSets
from knatlas.statistics.bootstrap import DEFAULT_RESAMPLES, bootstrap_mean
from knatlas.statistics.chance import chance_jaccard, chance_of_frequent

STABILITY_COLUMNS = ["model", "selection", "other", "language", "statistic", "value", "lo", "hi", "n", "chance"]
FREQUENT = 0.2  # of the facts: a neuron in the sets of so many is frequent
MAJORITY = 0.5  # of a relation's facts: a neuron in the sets of more is the relation's
SPLITS = 20  # of a relation's facts into halves
ROUNDING = 1e-9  # of a share
BLOCK = 512  # facts whose overlaps with all others are in memory together
N_PARTNERS = 20  # other facts per fact, with which chance levels are drawn


class Sets(NamedTuple):
    """The searched facts of a selection in a language: relation of each, and which neurons are in its set.

    members, (facts, layers x neurons), 0 or 1; layers, neurons per fact and layer; n_neurons, neurons of a layer.
    """

    facts: list[str]
    relations: np.ndarray
    members: csr_array
    layers: Int[np.ndarray, "fact layer"]
    n_neurons: int

    @classmethod
    def of(cls, sets: NeuronSets, language: str, relations: Mapping[str, str]) -> "Sets":
        """The sets of draw 0; sets for all languages stand for each."""
        facts = [fact for fact in sets.facts if sets.is_searched(fact, language)]
        found = [sets.of(fact, language) for fact in facts]
        rows = np.repeat(np.arange(len(facts)), [len(layers) for layers, _ in found])
        layers, indices = (np.concatenate([np.zeros(0, int), *(part[i] for part in found)]).astype(int) for i in (0, 1))
        columns = layers * sets.n_neurons + indices
        shape = (len(facts), sets.n_layers * sets.n_neurons)
        members = csr_array((np.ones(len(rows)), (rows, columns)), shape=shape)
        names = np.array([relations[fact] for fact in facts], dtype=str)
        return cls.with_members(facts, names, members, sets.n_neurons)

    @classmethod
    def with_members(cls, facts: list[str], relations: np.ndarray, members: csr_array, n_neurons: int) -> "Sets":
        """Sets from the neurons alone; their number in each layer is counted."""
        n_layers = members.shape[1] // n_neurons
        coo = members.tocoo()
        cells = coo.row.astype(np.int64) * n_layers + coo.col // n_neurons
        layers = np.bincount(cells, minlength=len(facts) * n_layers).reshape(len(facts), n_layers)
        return cls(facts, relations, members, layers, n_neurons)

    @property
    def sizes(self) -> Int[np.ndarray, " fact"]:
        """Neurons per fact."""
        return self.layers.sum(axis=1)

    @property
    def least_frequent(self) -> int:
        """How many facts' sets a frequent neuron is in, at least: 20%, and two."""
        return max(int(np.ceil(FREQUENT * len(self.facts) - 1e-9)), 2)

    def is_frequent(self) -> Bool[np.ndarray, " neuron"]:
        """Whether a neuron is in the sets of at least `least_frequent` facts."""
        return np.asarray(self.members.sum(axis=0)).ravel() >= self.least_frequent

    def only(self, is_kept: Bool[np.ndarray, " neuron"]) -> "Sets":
        """The sets without the neurons that aren't kept."""
        kept = csr_array(self.members.multiply(is_kept[None]))
        kept.eliminate_zeros()
        return Sets.with_members(self.facts, self.relations, kept, self.n_neurons)


def stability_table(
    sets: Sequence[NeuronSets],
    relations: Mapping[str, str],
    pairs: Sequence[tuple[str, str]] = (),
    seed: int = 0,
    resamples: int = DEFAULT_RESAMPLES,
) -> pd.DataFrame:
    """How stable the sets of one model's selections are, a row per selection, language and statistic.

    same_relation, other_relation: Jaccard of a fact's set with those of other facts, mean over these; with
    `_without_frequent` after the frequent neurons were taken out of all sets. frequent_share: share of a set's neurons
    that are in the sets of at least 20% of the facts (and of two). split_half: Jaccard of the neurons that more than
    half of the facts of one half of a relation have with those of its other half, mean over 20 random splits; n,
    relations of at least four facts. languages: Jaccard of a fact's sets in two languages, mean over pairs.
    paraphrases: of the sets of `selection`, from all queries, and of `other`, from the first query of each language.

    lo, hi: 95% bootstrap over facts (split_half: relations). chance: mean over the same facts with layer-matched random
    sets in place of one of the two, of frequent_share of all. Pairs of two empty sets don't count.

    Args: sets of one model; relations, by fact; pairs of selections for `paraphrases`, those without sets are skipped.
    """
    lines = []
    by_name = {part.selection: part for part in sets}
    for part in sets:
        stream = random_stream(seed, "stability", part.model, part.selection)
        by_language = {language: Sets.of(part, language, relations) for language in part.languages}
        for language, own in by_language.items():
            lines += [(part.selection, "", language, *line) for line in _over_facts(own, stream)]
        if len(by_language) > 1:
            lines.append((part.selection, "", ALL, "languages", *_over_languages(by_language, stream)))
    for names in pairs:
        if set(names) <= set(by_name):
            lines += _over_paraphrases(*(by_name[name] for name in names), relations, seed)
    return summarised(sets[0].model, lines, seed, resamples) if sets else pd.DataFrame(columns=STABILITY_COLUMNS)


def jaccard(shared: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Shared neurons over those in either set; NaN where both are empty."""
    either = np.asarray(first + second - shared, dtype=float)
    return np.divide(shared, either, out=np.full(either.shape, np.nan), where=either > 0)


def pairs_between(first: Sets, second: Sets, one: np.ndarray, other: np.ndarray, stream: np.random.Generator) -> tuple:
    """Jaccard of set number `one` of the first with number `other` of the second, per pair, and its chance level."""
    shared = np.asarray(first.members[one].multiply(second.members[other]).sum(axis=1)).ravel()
    value = jaccard(shared, first.sizes[one], second.sizes[other])
    return value, chance_jaccard(first.layers[one], second.layers[other], first.n_neurons, stream)


def _over_facts(own: Sets, stream: np.random.Generator) -> Iterator[tuple[str, np.ndarray, float]]:
    """Statistic, values per fact (or relation) and chance level of one selection and language."""
    is_frequent = own.is_frequent()
    rare = own.only(~is_frequent)
    for suffix, sets in (("", own), ("_without_frequent", rare)):
        for name in ("same_relation", "other_relation"):
            yield name + suffix, *_with_others(sets, name == "same_relation", stream)
    share = np.divide(own.sizes - rare.sizes, own.sizes, out=np.full(len(own.facts), np.nan), where=own.sizes > 0)
    yield "frequent_share", share, chance_of_frequent(own.layers, own.n_neurons, own.least_frequent)
    yield "split_half", *_split_half(own, stream)


def _with_others(sets: Sets, is_same: bool, stream: np.random.Generator) -> tuple[np.ndarray, float]:
    """Mean Jaccard of each fact's set with those of other facts of the same or of other relations, and its chance."""
    values, partners = np.full(len(sets.facts), np.nan), [np.zeros((2, 0), int)]
    for start in range(0, len(values), BLOCK):
        rows = np.arange(len(values))[start : start + BLOCK]
        is_other = (sets.relations[rows, None] == sets.relations) == is_same
        is_other[np.arange(len(rows)), rows] = False
        shared = (sets.members[rows] @ sets.members.T).toarray()
        found = jaccard(shared, sets.sizes[rows, None], sets.sizes)
        values[rows] = row_means(np.where(is_other, found, np.nan))
        is_open = is_other.any(axis=1)
        drawn = _partners(is_other[is_open], stream)
        partners.append((np.repeat(rows[is_open], N_PARTNERS), drawn.ravel()))
    one, other = (np.concatenate(part) for part in zip(*partners, strict=True))
    return values, _mean(chance_jaccard(sets.layers[one], sets.layers[other], sets.n_neurons, stream))


def _partners(is_other: Bool[np.ndarray, "fact other"], stream: np.random.Generator) -> Int[np.ndarray, "fact drawn"]:
    """N_PARTNERS of each row's others, drawn with replacement."""
    in_front = np.argsort(~is_other, axis=1, kind="stable")
    places = stream.integers(0, is_other.sum(axis=1)[:, None], size=(len(is_other), N_PARTNERS))
    return np.take_along_axis(in_front, places, axis=1)


def row_means(values: np.ndarray) -> np.ndarray:
    """Mean of each row's values that aren't NaN; NaN without any."""
    is_known = ~np.isnan(values)
    sums, n = np.where(is_known, values, 0.0).sum(axis=1), is_known.sum(axis=1)
    return np.divide(sums, n, out=np.full(len(values), np.nan), where=n > 0)


def _split_half(sets: Sets, stream: np.random.Generator) -> tuple[np.ndarray, float]:
    """Jaccard of relation-level sets from two halves of each relation's facts, mean over splits."""
    values, chances = [], []
    for relation in np.unique(sets.relations):
        rows = np.flatnonzero(sets.relations == relation)
        if len(rows) < 4:
            continue
        found = [_majorities(sets, rows, halves) for halves in _halves(len(rows), stream)]
        shared = (found[0][0] & found[1][0]).sum(axis=1)
        layers = [part[1] for part in found]
        values.append(_mean(jaccard(shared, *(part.sum(axis=1) for part in layers))))
        chances.append(_mean(chance_jaccard(*layers, sets.n_neurons, stream)))
    return np.array(values), _mean(np.array(chances))


def _halves(n: int, stream: np.random.Generator) -> list[Bool[np.ndarray, "split fact"]]:
    """Which of n facts are in the first and in the second half of each split; of an odd number one is in neither."""
    places = stream.permuted(np.tile(np.arange(n), (SPLITS, 1)), axis=1)
    return [places < n // 2, (places >= n // 2) & (places < 2 * (n // 2))]


def _majorities(sets: Sets, rows: np.ndarray, halves: Bool[np.ndarray, "split fact"]) -> tuple[np.ndarray, np.ndarray]:
    """The neurons in the sets of more than half of the facts of each half, and their number in each layer."""
    members = sets.members[rows]
    columns = np.unique(members.indices)  # of all other neurons no set of the relation has any
    shares = halves @ members[:, columns].toarray() / halves.sum(axis=1, keepdims=True)
    is_common = shares > MAJORITY + ROUNDING
    in_layer = columns[:, None] // sets.n_neurons == np.arange(sets.layers.shape[1])
    return is_common, is_common.astype(np.int64) @ in_layer


def _over_languages(by_language: Mapping[str, Sets], stream: np.random.Generator) -> tuple[np.ndarray, float]:
    """Mean Jaccard of each fact's sets over pairs of languages."""
    parts = [same_facts(*pair, stream) for pair in combinations(by_language.values(), 2)]
    table = pd.concat(parts).groupby("fact").mean()
    return table["value"].to_numpy(), _mean(table["chance"].to_numpy())


def _over_paraphrases(
    first: NeuronSets, second: NeuronSets, relations: Mapping[str, str], seed: int
) -> Iterator[tuple[str, str, str, str, np.ndarray, float]]:
    """The lines of `paraphrases` of two selections, in the languages of both."""
    stream = random_stream(seed, "paraphrases", first.model, first.selection, second.selection)
    for language in first.languages:
        if language in second.languages:
            table = same_facts(*(Sets.of(part, language, relations) for part in (first, second)), stream)
            values = table["value"].to_numpy()
            names = (first.selection, second.selection, language, "paraphrases")
            yield *names, values, _mean(table["chance"].to_numpy())


def same_facts(first: Sets, second: Sets, stream: np.random.Generator) -> pd.DataFrame:
    """Jaccard and chance of the facts that both searched: fact, value, chance."""
    place = {fact: i for i, fact in enumerate(second.facts)}
    both = [(i, place[fact]) for i, fact in enumerate(first.facts) if fact in place]
    one, other = np.array(both, dtype=int).reshape(-1, 2).T
    value, chance = pairs_between(first, second, one, other, stream)
    return pd.DataFrame({"fact": [first.facts[i] for i in one], "value": value, "chance": chance})


def summarised(model: str, lines: Iterable[tuple], seed: int = 0, resamples: int = DEFAULT_RESAMPLES) -> pd.DataFrame:
    """Rows of STABILITY_COLUMNS from lines (selection, other, language, statistic, values per fact, chance level)."""
    rows = []
    for *names, values, chance in lines:
        interval = bootstrap_mean(values, seed, resamples)
        rows.append((model, *names, *interval, chance if interval.n else np.nan))
    return pd.DataFrame(rows, columns=STABILITY_COLUMNS)


def _mean(values: np.ndarray) -> float:
    """Mean of the values that aren't NaN; NaN without any."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else np.nan
