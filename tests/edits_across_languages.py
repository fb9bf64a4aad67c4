"""Five facts in three languages, and a model that is a formula, in which the effects of edits are known by hand."""

import numpy as np
import pandas as pd

from knatlas.experiments.crosslingual import edit_across
from knatlas.selection.neuron_set import FoundSet, NeuronSets, as_table

# fact: its relation, its answer, and its neurons by language; the neurons of a fact are in a layer of its own
FACTS = {
    "a": ("P1", "A", {"en": [1, 2, 3], "zh": [3, 4], "fi": [3]}),
    "b": ("P1", "B", {"en": [1], "zh": [2], "fi": []}),
    "c": ("P2", "C", {"en": [], "zh": [5], "fi": [5]}),
    "d": ("P2", "D", {"en": [1, 2], "fi": [1]}),  # not searched in Chinese
    "e": ("P2", "E", {"en": [1, 2], "zh": [2, 1], "fi": [7, 1]}),
}
BASE = {"en": 0.01, "zh": 0.005, "fi": 0.0025}
THREE = [("en", "zh"), ("en", "fi"), ("zh", "fi")]
SHAPE = (len(FACTS), 24)


def prompts():
    rows = [
        {"fact": fact, "relation": relation, "language": language, "query": query, "answer": answer}
        for language in BASE
        for fact, (relation, answer, _) in FACTS.items()
        for query in (1, 0)
    ]
    return pd.DataFrame(rows)


def sets_of(found):
    """Sets from {fact: {language: [index, ...]}} in the layer of the fact; what has no language was not searched."""
    rows = [
        FoundSet(fact, language, 0, np.full(len(of), layer), np.array(of, dtype=int), np.arange(len(of)) * 1.0)
        for layer, (fact, by_language) in enumerate(found.items())
        for language, of in by_language.items()
    ]
    missing = [(fact, language) for fact, of in found.items() for language in BASE if language not in of]
    origin = {"model": {"name": "tiny"}}
    table, languages = as_table("amig", rows), list(BASE)
    return NeuronSets(table, "amig", list(found), languages, *SHAPE, not_searched=missing, origin=origin)


SETS = sets_of({fact: found for fact, (_, _, found) in FACTS.items()})


class Formula:
    """P = base of the language * product of the factors of the fact's own neurons and of a tenth of the others'."""

    def __init__(self):
        self.requests = []

    def __call__(self, requests):
        self.requests += requests
        p = np.array([self.probability(request) for request in requests])
        return p, p > 0.015

    def probability(self, request):
        factors = np.broadcast_to(request.factor, len(request.layers))
        is_own = request.layers == list(FACTS).index(request.fact)
        return BASE[request.language] * float(np.prod(np.where(is_own, factors, 1 + (factors - 1) / 10)))


def edit(pairs=(("en", "zh"),), **settings):
    formula = Formula()
    return edit_across(SETS, prompts(), pairs, formula, **settings), formula


def rows_of(table, **values):
    for column, value in values.items():
        table = table[table[column] == value]
    return table


def only(table, **values):
    table = rows_of(table, **values)
    assert len(table) == 1
    return table.iloc[0]
