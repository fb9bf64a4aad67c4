"""Selections by name: each is one function from the scores of a fact to the neurons chosen, and one entry here."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from knatlas.errors import AtlasError, unknown
from knatlas.selection.certificates import LeftOut, highest_by_language, over_languages, over_queries
from knatlas.selection.controls import CONTROLS, draw_controls
from knatlas.selection.neuron_set import ALL, FoundSet, NeuronSets, as_table
from knatlas.selection.scores import Scores
from knatlas.selection.thresholds import (
    Choice,
    choose_above,
    choose_more_than,
    describe,
    intersect,
    not_searched,
)
from knatlas.selection.uncertainty import language_uncertainty, neutral_level, query_uncertainty

Choices = dict[str, Choice]
Choose = Callable[[Scores, Mapping, int], Choices]
Selected = tuple[NeuronSets, pd.DataFrame]
# the scores of a fact by language, and the range of those left out where only candidates are known
Known = tuple[np.ndarray, LeftOut | None]


@dataclass(frozen=True)
class Recipe:
    """A way of choosing neurons: a function (scores, settings, number of the fact) to a choice by language or "all"."""

    name: str
    choose: Choose
    is_per_language: bool


RECIPES: dict[str, Recipe] = {}


def recipe(name: str, is_per_language: bool) -> Callable[[Choose], Choose]:
    """Enter a function into the registry under the selection's name."""

    def enter(choose: Choose) -> Choose:
        RECIPES[name] = Recipe(name, choose, is_per_language)
        return choose

    return enter


@recipe("bkn", is_per_language=True)
def choose_bkn(scores: Scores, settings: Mapping, i: int) -> Choices:
    """B-KN on the first query of each language: score > tau * max."""
    return _above(scores, _known(scores, "bkn", "first", i), settings["bkn"]["tau"])


@recipe("refined", is_per_language=True)
def choose_refined(scores: Scores, settings: Mapping, i: int) -> Choices:
    """Refined knowledge neurons: those in the coarse sets of more than a share p of the fact's queries."""
    least = settings["refined"]["share"]
    known = _known(scores, "bkn", "share", i)
    return _by_language(scores, known, lambda block, _, left_out: choose_more_than(block, least, left_out))


@recipe("amig", is_per_language=True)
def choose_amig(scores: Scores, settings: Mapping, i: int) -> Choices:
    """AMIG on the first query of each language: score > tau * max (Eqs. 6-7 of AMIG)."""
    return _above(scores, _known(scores, "amig", "first", i), settings["amig"]["tau"])


@recipe("likn", is_per_language=False)
def choose_likn(scores: Scores, settings: Mapping, i: int) -> Choices:
    """Language-independent neurons: in AMIG's set of every language (Eq. 8 of AMIG)."""
    return _intersection(scores, choose_amig(scores, settings, i))


@recipe("matrice", is_per_language=False)
def choose_matrice(scores: Scores, settings: Mapping, i: int) -> Choices:
    """Language-agnostic neurons of MATRICE: uncertainty over queries, then over languages, then Eqs. 12-13."""
    grid, matrice = scores.grid(i), settings["matrice"]
    source = grid and grid.source(matrice["alpha1"], matrice["alpha2"])
    return _language_agnostic(scores, _over_queries(scores, settings, i), settings, i, source)


@recipe("matrice_without_query_uncertainty", is_per_language=False)
def choose_without_query_uncertainty(scores: Scores, settings: Mapping, i: int) -> Choices:
    """MATRICE with the first query of each language alone (Table II, w/o UaQ)."""
    grid = scores.grid(i)
    return _language_agnostic(scores, _known(scores, "saig", "first", i), settings, i, grid and grid.first_query)


@recipe("matrice_without_language_uncertainty", is_per_language=False)
def choose_without_language_uncertainty(scores: Scores, settings: Mapping, i: int) -> Choices:
    """MATRICE with a threshold in each language and the intersection of these sets (Table II, w/o UaL)."""
    known = _over_queries(scores, settings, i)
    return _intersection(scores, _above(scores, known, {"default": settings["matrice"]["tau"]}))


def selection_names() -> list[str]:
    """Every selection that can be asked for."""
    return [*RECIPES, *CONTROLS]


def select(scores: Scores, settings: Mapping, seed: int = 0) -> list[Selected]:
    """The neuron sets of the selections that `settings` names, in their order, each with its summary.

    Args: settings, the part `selection` of a study; seed, the run seed of the random controls.
    Returns: pairs (sets, summary); a summary has a row per fact and language: selection, fact, language, n_neurons,
    max_score, percentile_999, threshold, neutral_level (S_0), is_empty, is_searched, is_certified, sentence.
    Raises: AtlasError for an unknown selection, missing scores, guard `stop`, or uncertified `stop` and a set from
    candidates that may not be that of all neurons.
    """
    found: dict[str, Selected] = {}
    for name in settings["selections"]:
        _find(name, scores, settings, seed, found)
    return [found[name] for name in settings["selections"]]


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


def _known(scores: Scores, method: str, statistic: str, i: int) -> Known:
    return scores.of(method, statistic, i), scores.left_out(method, statistic, i)


def _above(scores: Scores, known: Known, tau: Mapping[str, float]) -> Choices:
    def choose(part: np.ndarray, language: str, left_out: float) -> Choice:
        return choose_above(part, tau.get(language, tau["default"]), left_out=left_out)

    return _by_language(scores, known, choose)


def _by_language(scores: Scores, known: Known, choose: Callable[[np.ndarray, str, float], Choice]) -> Choices:
    block, left_out = known
    present, highest = scores.languages_with(block), highest_by_language(left_out, len(scores.languages))
    return {
        language: choose(part, language, bound) if language in present else _no_attribution(scores, [language])
        for language, part, bound in zip(scores.languages, block, highest, strict=True)
    }


def _over_queries(scores: Scores, settings: Mapping, i: int) -> Known:
    alphas = settings["matrice"]["alpha1"], settings["matrice"]["alpha2"]
    (mean, rest_of_mean), (std, rest_of_std) = (_known(scores, "saig", name, i) for name in ("mean", "std"))
    return query_uncertainty(mean, std, *alphas), over_queries(rest_of_mean, rest_of_std, scores.grid(i), *alphas)


def _language_agnostic(scores: Scores, known: Known, settings: Mapping, i: int, source: int | None) -> Choices:
    block, left_out = known
    missing = [language for language in scores.languages if language not in scores.languages_with(block)]
    if len(missing) == len(scores.languages):
        return {ALL: _no_attribution(scores, missing)}
    is_present = np.array([language not in missing for language in scores.languages])
    matrice, block = settings["matrice"], block[is_present]
    reading = (matrice["beta1"], matrice["beta2"], matrice["eq9_axis"], matrice["eq9_floor"])
    bound = over_languages(block, left_out and left_out.of_languages(is_present), matrice, scores.grid(i), source)
    neutral, where = neutral_level(block, *reading), f"fact {scores.facts[i]}"
    score = language_uncertainty(block, *reading)
    choice = choose_above(score, matrice["tau"], neutral, matrice["guard"], where, bound)
    return {ALL: _note_missing(choice, missing)}


def _intersection(scores: Scores, choices: Choices) -> Choices:
    missing = [language for language, choice in choices.items() if not choice.is_searched]
    if len(missing) == len(choices):
        return {ALL: _no_attribution(scores, missing)}
    searched = [choice for choice in choices.values() if choice.is_searched]
    return {ALL: _note_missing(intersect(searched), missing)}


def _note_missing(choice: Choice, missing: list[str]) -> Choice:
    note = f"no attribution in {' '.join(missing)}" if missing else ""
    return replace(choice, sentence="; ".join(filter(None, [choice.sentence, note])))


def _no_attribution(scores: Scores, languages: list[str]) -> Choice:
    return not_searched(scores.shape, f"no attribution in {' '.join(languages)}")
