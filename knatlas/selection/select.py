"""The neuron sets of a study's selections: recipes on scores, random controls beside them, a summary of each set."""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from knatlas.errors import AtlasError, unknown
from knatlas.selection import matched  # noqa: F401 - enters its recipes
from knatlas.selection.controls import CONTROLS, draw_controls
from knatlas.selection.needs import SEARCHED
from knatlas.selection.neuron_set import ALL, FoundSet, NeuronSets, as_table
from knatlas.selection.recipes import RECIPES, Recipe
from knatlas.selection.scores import Scores
from knatlas.selection.thresholds import Choice, describe

Selected = tuple[NeuronSets, pd.DataFrame]


def selection_names() -> list[str]:
    """Every selection that can be asked for."""
    return [*RECIPES, *SEARCHED, *CONTROLS]


def select(scores: Scores, settings: Mapping, seed: int = 0) -> list[Selected]:
    """The neuron sets of the selections that `settings` names, in their order, each with its summary.

    Those that an experiment searches (`SEARCHED`) are left to it.

    Args: settings, the part `selection` of a study; seed, the run seed of the random controls.
    Returns: pairs (sets, summary); a summary has a row per fact and language: selection, fact, language, n_neurons,
    max_score, percentile_999, threshold, neutral_level (S_0), is_empty, is_searched, is_certified, sentence.
    Raises: AtlasError for an unknown selection, missing scores, guard `stop`, or uncertified `stop` and a set from
    candidates that may not be that of all neurons.
    """
    found: dict[str, Selected] = {}
    chosen = [name for name in settings["selections"] if name not in SEARCHED]
    for name in chosen:
        _find(name, scores, settings, seed, found)
    return [found[name] for name in chosen]


def _find(name: str, scores: Scores, settings: Mapping, seed: int, found: dict[str, Selected]) -> Selected:
    if name not in found and name in RECIPES:
        found[name] = _search(RECIPES[name], scores, settings)
    elif name not in found and name in CONTROLS:
        reference = settings["random"]["reference"]
        if reference in CONTROLS:
            raise AtlasError(f"selection.random.reference is '{reference}'; expected one of {' '.join(RECIPES)}")
        sets, _ = _find(reference, scores, settings, seed, found)
        found[name] = draw_controls(name, sets, settings["random"]["draws"], seed)
    elif name not in found:
        raise AtlasError(unknown("selection.selections", name, "a selection", selection_names()))
    return found[name]


def _search(recipe: Recipe, scores: Scores, settings: Mapping) -> Selected:
    parts, rows, unsearched = [], [], []
    for fact, language, choice in _choices(recipe, scores, settings):
        layers, indices = np.nonzero(choice.is_chosen)
        parts.append(FoundSet(fact, language, 0, layers, indices, choice.scores[layers, indices]))
        rows.append({"selection": recipe.name, "fact": fact, "language": language, **describe(choice)})
        unsearched += [] if choice.is_searched else [(fact, language)]
    summary = pd.DataFrame(rows)
    if rows and settings.get("uncertified") == "stop":
        _check_certified(recipe, summary)
    languages = list(scores.languages) if recipe.is_per_language else [ALL]
    sets = NeuronSets(
        as_table(recipe.name, parts),
        recipe.name,
        list(scores.facts),
        languages,
        *scores.shape,
        not_searched=unsearched,
        origin=scores.metadata,
    )
    return sets, summary


def _check_certified(recipe: Recipe, summary: pd.DataFrame) -> None:
    open_ones = summary[~summary["is_certified"]]
    if len(open_ones):
        fact, language = open_ones.iloc[0][["fact", "language"]]
        raise AtlasError(
            f"selection {recipe.name}: {len(open_ones)} of {len(summary)} sets may differ from those of all neurons' "
            f"scores (the first: fact {fact}, language {language}), and selection.uncertified is 'stop'. Take a larger "
            "attribution.candidates, attribution.keep 'all', a larger tau, or uncertified 'flag'"
        )


def _choices(recipe: Recipe, scores: Scores, settings: Mapping) -> Iterator[tuple[str, str, Choice]]:
    for i, fact in enumerate(scores.facts):
        for language, choice in recipe.choose(scores, settings, i).items():
            yield fact, language, choice
