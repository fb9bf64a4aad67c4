"""Selections by name: each is one function from the scores of a fact to the neurons chosen, and one entry here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from knatlas.selection.certificates import LeftOut, highest_by_language, over_languages, over_queries
from knatlas.selection.neuron_set import ALL
from knatlas.selection.scores import Scores
from knatlas.selection.thresholds import Choice, choose_above, choose_more_than, intersect, not_searched
from knatlas.selection.uncertainty import language_uncertainty, neutral_level, query_uncertainty

Choices = dict[str, Choice]
Choose = Callable[[Scores, Mapping, int], Choices]
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
    return _language_agnostic(scores, over_queries_of(scores, settings, i), settings, i, source)


@recipe("matrice_leave_language_out", is_per_language=True)
def choose_leaving_language_out(scores: Scores, settings: Mapping, i: int) -> Choices:
    """MATRICE for each language from the scores of the others: what a language's own answers can't have told."""
    known = over_queries_of(scores, settings, i)
    # no source: the largest S that is recorded is one over all languages, and no bound of an S over some of them
    return {
        language: _language_agnostic(scores, known, settings, i, None, language)[ALL] for language in scores.languages
    }


@recipe("matrice_without_query_uncertainty", is_per_language=False)
def choose_without_query_uncertainty(scores: Scores, settings: Mapping, i: int) -> Choices:
    """MATRICE with the first query of each language alone (Table II, w/o UaQ)."""
    grid = scores.grid(i)
    return _language_agnostic(scores, _known(scores, "saig", "first", i), settings, i, grid and grid.first_query)


@recipe("matrice_without_language_uncertainty", is_per_language=False)
def choose_without_language_uncertainty(scores: Scores, settings: Mapping, i: int) -> Choices:
    """MATRICE with a threshold in each language and the intersection of these sets (Table II, w/o UaL)."""
    known = over_queries_of(scores, settings, i)
    return _intersection(scores, _above(scores, known, {"default": settings["matrice"]["tau"]}))


def _known(scores: Scores, method: str, statistic: str, i: int) -> Known:
    return scores.of(method, statistic, i), scores.left_out(method, statistic, i)


def _above(scores: Scores, known: Known, tau: Mapping[str, float]) -> Choices:
    def choose(part: np.ndarray, language: str, left_out: float) -> Choice:
        return choose_above(part, tau.get(language, tau["default"]), left_out)

    return _by_language(scores, known, choose)


def _by_language(scores: Scores, known: Known, choose: Callable[[np.ndarray, str, float], Choice]) -> Choices:
    block, left_out = known
    present, highest = scores.languages_with(block), highest_by_language(left_out, len(scores.languages))
    return {
        language: choose(part, language, bound) if language in present else _no_attribution(scores, [language])
        for language, part, bound in zip(scores.languages, block, highest, strict=True)
    }


def over_queries_of(scores: Scores, settings: Mapping, i: int) -> Known:
    """s = alpha1 mean - alpha2 std (Eq. 8) of fact number i, and its range among neurons that are no candidates."""
    alphas = settings["matrice"]["alpha1"], settings["matrice"]["alpha2"]
    (mean, rest_of_mean), (std, rest_of_std) = (_known(scores, "saig", name, i) for name in ("mean", "std"))
    rest = over_queries(rest_of_mean, rest_of_std, scores.grid(i), *alphas)
    return scores.in_range(query_uncertainty(mean, std, *alphas), rest, i), rest


def _language_agnostic(
    scores: Scores, known: Known, settings: Mapping, i: int, source: int | None, without: str | None = None
) -> Choices:
    """MATRICE over all languages with scores, but for the one named `without`."""
    block, left_out = known
    present = [language for language in scores.languages_with(block) if language != without]
    missing = [language for language in scores.languages if language not in [*present, without]]
    if not present:
        return {ALL: _no_attribution(scores, missing)}
    is_present = np.array([language in present for language in scores.languages])
    matrice, block = settings["matrice"], block[is_present]
    reading = (matrice["beta1"], matrice["beta2"], matrice["eq9_axis"], matrice["eq9_floor"])
    bound = over_languages(block, left_out and left_out.of_languages(is_present), matrice, scores.grid(i), source)
    neutral, where = neutral_level(block, *reading), f"fact {scores.facts[i]}"
    score = scores.without_unknown(language_uncertainty(block, *reading), i)
    choice = choose_above(score, matrice["tau"], bound, neutral, matrice["guard"], where)
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
    return not_searched(scores.shape, f"no attribution in {' '.join(languages) or 'any other language'}")
