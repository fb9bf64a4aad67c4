"""What ablated neurons are set to: zero, their mean over other prompts of the language, or another fact's values."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from knatlas.errors import AtlasError, unknown
from knatlas.experiments.evaluation import QueryEncoder
from knatlas.facts.sampling import first_queries
from knatlas.interventions.neuron_values import at_positions, neuron_values
from knatlas.models.language_model import LanguageModel
from knatlas.selection.controls import random_stream

ABLATIONS = ("zero", "mean", "resample")
# fact, language, query
Key = tuple[str, str, int]
Values = Float[np.ndarray, "position layer neuron"]
ByAblation = dict[str, Values | None]
Queries = Sequence[tuple[Key, str]]
ValuesOf = Callable[[Sequence[Key]], Sequence[Values]]
CHUNK = 64  # prompts whose values of all neurons are in memory together


def values_with(
    lm: LanguageModel, prompts: pd.DataFrame, batch_rows: int, where: str = "answer", site: str = "down_input"
) -> ValuesOf:
    """A function from queries to their neurons' values (positions, layers, neurons), as `evaluate_with` scales them."""
    encode, site = QueryEncoder(lm, prompts), site if lm.kind == "causal" else "down_input"
    return lambda keys: neuron_values(lm, [encode(*key) for key in keys], batch_rows, where, site)


def replacements(
    queries: Queries,
    prompts: pd.DataFrame,
    values_of: ValuesOf,
    settings: Mapping,
    seed: int,
) -> dict[Key, ByAblation]:
    """What each kind of ablation sets the neurons of each query to, at each of its positions; None for zero.

    mean: over the first queries of at most `mean_prompts` other facts of the language, evenly over relations, the
    prompt's mean over its positions first. resample: of the first query of one other fact of the same relation and
    language, drawn with the seed, with another answer where there is one; position by position, its last where it has
    fewer. A query without such facts lacks the kind.

    Args: queries with their relations; prompts of one kind of model; settings with ablations, mean_prompts.
    Raises: AtlasError for an unknown kind.
    """
    for name in settings["ablations"]:
        if name not in ABLATIONS:
            raise AtlasError(unknown("fidelity.ablations", name, "a kind of ablation", ABLATIONS))
    first = first_queries(prompts.sort_values(["fact", "language", "query"]), None, 1, seed)
    found: dict[Key, ByAblation] = {key: {} for key, _ in queries}
    for name in settings["ablations"]:
        make = {"zero": _zero, "mean": _mean, "resample": _resample}[name]
        for key, values in make(queries, first, values_of, settings["mean_prompts"], seed).items():
            found[key][name] = values
    return found


def _zero(queries: Queries, *_: object) -> dict[Key, None]:
    return {key: None for key, _ in queries}


def _mean(queries: Queries, first: pd.DataFrame, values_of: ValuesOf, at_most: int, seed: int) -> dict[Key, Values]:
    """The mean over others, from the sum over the language's prompts less the query's own."""
    found, facts = {}, {fact for (fact, *_), _ in queries}
    for language in dict.fromkeys(key[1] for key, _ in queries):
        chosen = _keys(first_queries(first[first["language"] == language], at_most, 1, seed))
        total, own = _sums(chosen, facts, values_of)
        for key, _ in queries:
            n_others = len(chosen) - (key[0] in own)
            if key[1] == language and n_others > 0:
                found[key] = ((total - own.get(key[0], 0.0)) / n_others)[None]
    return found


def _sums(keys: Sequence[Key], facts: set[str], values_of: ValuesOf) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The sum of the prompts' values (layers, neurons), and those of some facts, a few prompts in memory at a time."""
    total, own = np.zeros(()), {}
    for start in range(0, len(keys), CHUNK):
        part = keys[start : start + CHUNK]
        for (fact, *_), values in zip(part, values_of(part), strict=True):
            mean = values.mean(axis=0, dtype=np.float64)
            total = total + mean
            own |= {fact: mean} if fact in facts else {}
    return total, own


def _resample(queries: Queries, first: pd.DataFrame, values_of: ValuesOf, _: int, seed: int) -> dict[Key, Values]:
    """Values of one other fact for each query that has one."""
    donors = {key: donor for key, relation in queries if (donor := _donor(key, relation, first, seed)) is not None}
    values = values_of(list(donors.values()))
    own = values_of(list(donors))
    return {key: at_positions(other, len(part)) for key, other, part in zip(donors, values, own, strict=True)}


def _donor(key: Key, relation: str, first: pd.DataFrame, seed: int) -> Key | None:
    """The first query of another fact of the relation, one with another answer where there is any."""
    fact, language, _ = key
    alike = first[(first["relation"] == relation) & (first["language"] == language)]
    others = alike[alike["fact"] != fact]
    answers = set(alike.loc[alike["fact"] == fact, "answer"])
    different = others[~others["answer"].isin(answers)]
    pool = _keys(different if len(different) else others)
    return pool[random_stream(seed, "resample", fact, language).integers(len(pool))] if pool else None


def _keys(rows: pd.DataFrame) -> list[Key]:
    return list(rows[["fact", "language", "query"]].itertuples(index=False, name=None))
