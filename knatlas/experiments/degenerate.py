"""Search every fact's neurons for degenerate ones, and as many random neurons beside them (Figures 4-5 of AMIG).

The model is not touched here: a function is passed in that answers a list of requests.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import NamedTuple

import numpy as np
import pandas as pd

from knatlas.experiments.degenerate_tables import Search, tabulate
from knatlas.experiments.measurement import NONE, Counted, Evaluate, Request, searched_facts
from knatlas.progress import Report, silent
from knatlas.selection.controls import draw_layer_matched, random_stream
from knatlas.selection.degenerate import Combination, Thresholds, most_combinations, search_together
from knatlas.selection.neuron_set import ALL, FoundSet, NeuronSets, as_table

SEARCHES_AT_ONCE = 512  # searches in step: enough to fill every batch, and their combinations fit into memory
Key = tuple[str, str]  # fact, language
Tables = tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]


class Degenerate(NamedTuple):
    """What the search gives: the tables of pairs, clusters and facts, and the degenerate neurons as sets "dkn"."""

    pairs: pd.DataFrame
    clusters: pd.DataFrame
    facts: pd.DataFrame
    sets: NeuronSets


def search_degenerate(
    reference: NeuronSets,
    prompts: pd.DataFrame,
    evaluate: Evaluate,
    settings: Thresholds,
    suppress_factor: float = 0.0,
    seed: int = 0,
    progress: Report = silent,
) -> Degenerate:
    """Search the degenerate neurons of every fact and language among those of its set with the highest scores.

    P(answer) is that of the fact's first query. Beside each search (`sets` "found") stands its control ("random"): the
    same search among as many neurons of the same layers, drawn outside the fact's whole set, by the seed, the fact and
    the language alone. Empty sets have a row of zeros in the table of facts. What the reference did not search, or
    has no prompt in a language, is not searched and has no row.

    Args: reference, sets of one model (of draw 0); prompts, the queries of that model's kind; evaluate, from requests
    to P(answer) and rightness; suppress_factor, what activations are multiplied by.
    Returns: the tables of `tabulate`, and sets "dkn": the neurons of a fact's degenerate clusters among the found, with
    the number of clusters that each is in as score. Raises: AtlasError when a fact has no prompts in any language.
    """
    searched_facts([reference], prompts)  # each must have prompts
    first = _first_queries(prompts)
    languages = _languages(reference, prompts)
    keys = list(_searched(reference, first, languages))
    searches = list(_searches(reference, keys, first, settings, seed))
    run = Counted(evaluate, progress, len(keys) + _most(searches, settings))
    p_before = _measure_before(keys, first, run)
    tables = _search_all(searches, p_before, run, settings, suppress_factor)
    origin = {"reference": reference.selection, "thresholds": asdict(settings), "suppress_factor": suppress_factor}
    return Degenerate(*tables, _as_sets(tables[1], reference, languages, set(keys), origin))


def _first_queries(prompts: pd.DataFrame) -> dict[Key, tuple[str, int]]:
    """Relation, and number of the first query, by fact and language."""
    first = prompts.sort_values("query", kind="stable").drop_duplicates(["fact", "language"])
    return {(row.fact, row.language): (row.relation, row.query) for row in first.itertuples(index=False)}


def _languages(reference: NeuronSets, prompts: pd.DataFrame) -> list[str]:
    """The languages of the reference; for sets that serve all languages, those of the prompts."""
    return sorted(set(prompts["language"])) if reference.languages == [ALL] else list(reference.languages)


def _searched(reference: NeuronSets, first: Mapping[Key, object], languages: Sequence[str]) -> Iterator[Key]:
    for fact in reference.facts:
        for language in languages:
            if (fact, language) in first and reference.is_searched(fact, language):
                yield fact, language


def _searches(
    reference: NeuronSets, keys: Sequence[Key], first: Mapping[Key, tuple], settings: Thresholds, seed: int
) -> Iterator[Search]:
    """The found and the random neurons of each fact and language, one after the other."""
    known = reference.table[reference.table["draw"] == 0].groupby(["fact", "language"], sort=False)["score"]
    scores = {key: part.to_numpy() for key, part in known}
    for fact, language in keys:
        layers, indices = reference.of(fact, language)
        score = scores.get((fact, ALL if reference.languages == [ALL] else language), np.zeros(0))
        top = layers[: settings.top], indices[: settings.top], score[: settings.top]
        drawn = _draw(reference, fact, language, top[0], seed)
        sets = {"found": (len(layers), *top), "random": (len(drawn[0]), *drawn, np.full(len(drawn[0]), np.nan))}
        relation, query = first[fact, language]
        for name, neurons in sets.items():
            yield Search(reference.model, name, fact, relation, language, query, *neurons)


def _draw(
    reference: NeuronSets, fact: str, language: str, layers: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Random neurons outside the whole set, as many as `layers` has of each layer (fewer where fewer are left)."""
    is_found, random = np.zeros(reference.shape, bool), random_stream(seed, "degenerate", fact, language)
    is_found[reference.of(fact, language)] = True
    drawn = random.permutation(np.stack(draw_layer_matched(is_found, random)), axis=1)
    wanted = np.bincount(layers, minlength=reference.n_layers)
    kept = [np.flatnonzero(drawn[0] == layer)[:n] for layer, n in enumerate(wanted)]
    drawn_layers, drawn_indices = drawn[:, np.concatenate(kept)]
    return drawn_layers, drawn_indices


def _most(searches: Sequence[Search], settings: Thresholds) -> int:
    """The most combinations that searches ask for."""
    return sum(most_combinations(len(search.layers), settings) for search in searches)


def _measure_before(keys: Sequence[Key], first: Mapping[Key, tuple], run: Counted) -> dict[Key, float]:
    """P(answer) of every fact and language as the model is: the same number for found and random neurons."""
    p, _ = run([Request(*key, first[key][1], NONE, NONE, 1.0) for key in keys], "before")
    return dict(zip(keys, map(float, p), strict=True))


def _search_all(
    searches: Sequence[Search], p_before: Mapping[Key, float], run: Counted, settings: Thresholds, factor: float
) -> Tables:
    starts = range(0, max(1, len(searches)), SEARCHES_AT_ONCE)  # without facts one step, whose tables are empty
    groups = [searches[start : start + SEARCHES_AT_ONCE] for start in starts]
    parts = [_search_group(group, p_before, run, settings, factor) for group in groups]
    pairs, clusters, facts = (pd.concat(tables, ignore_index=True) for tables in zip(*parts, strict=True))
    return pairs, clusters, facts


def _search_group(
    group: Sequence[Search], p_before: Mapping[Key, float], run: Counted, settings: Thresholds, factor: float
) -> Tables:
    """Search some facts in step, and tabulate what was found."""

    def probability(asked: Sequence[tuple[int, Combination]]) -> np.ndarray:
        requests = [group[number].request(neurons, factor) for number, neurons in asked]
        return run(requests, f"{len(asked[0][1])} together")[0]

    done, sizes = run.done, [len(search.layers) for search in group]
    before = [p_before[search.fact, search.language] for search in group]
    found = search_together(sizes, before, probability, settings)
    # the total counts the most that these searches could ask for
    run.total -= _most(group, settings) - (run.done - done)
    run.progress(run.done, run.total, "")
    return tabulate(group, found)


def _as_sets(
    clusters: pd.DataFrame, reference: NeuronSets, languages: Sequence[str], searched: set[Key], origin: Mapping
) -> NeuronSets:
    """The found neurons that are in a degenerate cluster, each with the number of its clusters as score."""
    found = clusters[clusters["sets"] == "found"]
    counts = found.groupby(["fact", "language", "layer", "index"], sort=False).size().rename("score").reset_index()
    rows = dict(list(counts.groupby(["fact", "language"], sort=False)))
    keys = [(fact, language) for fact in reference.facts for language in languages]
    parts = [
        FoundSet(*key, 0, *(rows[key][name].to_numpy() for name in ("layer", "index", "score")))
        for key in keys
        if key in rows
    ]
    return NeuronSets(
        as_table("dkn", parts),
        "dkn",
        list(reference.facts),
        list(languages),
        *reference.shape,
        not_searched=[key for key in keys if key not in searched],
        origin={**reference.origin, **origin},
    )
