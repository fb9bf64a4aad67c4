"""Random controls: as many neurons as a found set has, disjoint from it, uniform or with its layer histogram."""

import hashlib
from collections.abc import Callable

import numpy as np
import pandas as pd
from jaxtyping import Bool

from knatlas.selection.neuron_set import FoundSet, NeuronSets, as_table

IsFound = Bool[np.ndarray, "layer neuron"]
Drawn = tuple[np.ndarray, np.ndarray]  # layers, indices


def random_stream(seed: int, *names: object) -> np.random.Generator:
    """A generator whose numbers depend on the run seed and the names alone, not on the order or sharding of work."""
    text = "\0".join([str(seed), *map(str, names)])
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big"))


def draw_uniform(is_found: IsFound, random: np.random.Generator) -> Drawn:
    """As many neurons as are found, uniform over all that are not found; fewer where fewer are left."""
    free = np.flatnonzero(~is_found)
    chosen = random.choice(free, size=min(int(is_found.sum()), len(free)), replace=False)
    return np.unravel_index(np.sort(chosen), is_found.shape)


def draw_layer_matched(is_found: IsFound, random: np.random.Generator) -> Drawn:
    """In every layer as many neurons as are found there, uniform over its others; fewer where fewer are left."""
    drawn = [draw_uniform(layer[None], random)[1] for layer in is_found]
    layers = np.repeat(np.arange(len(drawn)), [len(part) for part in drawn])
    return layers, np.concatenate(drawn)


CONTROLS: dict[str, Callable[[IsFound, np.random.Generator], Drawn]] = {
    "random": draw_uniform,
    "random_layer_matched": draw_layer_matched,
}


def draw_controls(name: str, reference: NeuronSets, n_draws: int, seed: int) -> tuple[NeuronSets, pd.DataFrame]:
    """Random sets to compare a found selection with, `n_draws` for each of its facts and languages.

    Every draw is disjoint from the found set. The seed of a draw comes from the run seed, the fact, the language and
    the draw. Scores are NaN. Returns sets and summary as `select` does.
    """
    parts, rows = [], []
    for fact in reference.facts:
        for language in reference.languages:
            drawn = [_draw(name, reference, fact, language, draw, seed) for draw in range(n_draws)]
            parts += drawn
            rows.append(_describe(name, reference, fact, language, len(drawn[0].layers)))
    sets = NeuronSets(
        as_table(name, parts),
        name,
        reference.facts,
        reference.languages,
        *reference.shape,
        n_draws=n_draws,
        not_searched=reference.not_searched,
        origin={**reference.origin, "reference": reference.selection, "seed": seed},
    )
    return sets, pd.DataFrame(rows)


def _draw(name: str, reference: NeuronSets, fact: str, language: str, draw: int, seed: int) -> FoundSet:
    is_found = np.zeros(reference.shape, bool)
    is_found[reference.of(fact, language)] = True
    layers, indices = CONTROLS[name](is_found, random_stream(seed, name, fact, language, draw))
    return FoundSet(fact, language, draw, layers, indices, np.full(len(layers), np.nan))


def _describe(name: str, reference: NeuronSets, fact: str, language: str, n_drawn: int) -> dict:
    n_found = len(reference.of(fact, language)[0])
    short = f"only {n_drawn} of {n_found} neurons could be drawn: too few are left outside the found set"
    return {
        "selection": name,
        "fact": fact,
        "language": language,
        "n_neurons": n_drawn,
        **dict.fromkeys(["max_score", "percentile_999", "threshold", "neutral_level"], np.nan),
        "is_empty": n_drawn == 0,
        "is_searched": reference.is_searched(fact, language),
        "is_certified": True,
        "sentence": short if n_drawn < n_found else "",
    }
