"""Edit the neurons that a fact has in one language, and measure it in another (Table 2 of AMIG).

The model is not touched here: a function is passed in that answers a list of requests.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from knatlas.errors import AtlasError, unknown
from knatlas.experiments.manipulation import FACTORS
from knatlas.experiments.measurement import QUERY, Counted, Evaluate, Request, measure_before, searched_facts
from knatlas.experiments.probes import plan_probes
from knatlas.progress import Report, silent
from knatlas.selection.neuron_set import NeuronSets

OVERLAPS = ("compound", "once")
SIZES = ["n_likn", "n_first", "n_second", "n_left_out"]
COLUMNS = [
    "model",
    "pair",
    "edit",
    "language",
    "fact",
    "relation",
    "probe",
    "probed_fact",
    "query",
    "operation",
    "n_neurons",
    "p_before",
    "p_after",
    "is_right_before",
    "is_right_after",
    *SIZES,
]
PLANNED = ["pair", "edit", "language", "fact", "operation", "n_neurons", "change", *SIZES]
ASKED = [*QUERY, "change"]
UNCHANGED = -1
Pair = tuple[str, str]


class Edit(NamedTuple):
    """Neurons in the order of layers and indices, and how many times the activation of each is multiplied."""

    layers: np.ndarray
    indices: np.ndarray
    times: np.ndarray


def edit_across(
    sets: NeuronSets,
    prompts: pd.DataFrame,
    pairs: Sequence[tuple[str, str]],
    evaluate: Evaluate,
    factors: Mapping[str, float] = FACTORS,
    overlap: str = "compound",
    seed: int = 0,
    progress: Report = silent,
) -> pd.DataFrame:
    """Measure P(answer) in both languages of each pair before and after each edit, one row per measurement.

    The edits of a fact that was searched in both languages are those of `edits_of`; each is measured, in either
    language, on the first query of the fact (probe `own`), of another fact of its relation and of one of another
    relation, the same ones as in `manipulate`. What is asked twice, as an edit of one language's neurons in several
    pairs, is run once. An edit of no neurons has p_after = p_before and is not run.

    Args: sets, per language; prompts, the queries of the model's kind; pairs of languages, whose order says which is
    first; evaluate, from requests to P(answer) and rightness; factors, by operation; overlap as in `edits_of`.
    Returns: COLUMNS. pair, "en-zh"; language, the measured one; n_neurons, of the edit; n_likn, n_first and n_second,
    sizes of the fact's common set and of both its sets; n_left_out, facts of the sets that were not searched in both
    languages of the pair. Raises: AtlasError for a pair or an overlap that can't be edited, or missing prompts.
    """
    pairs = _checked(pairs, sets, overlap)
    edits, changes = _tabulate_edits(sets, pairs, factors, overlap)
    probes = plan_probes(prompts, searched_facts([sets], prompts), seed)
    first = probes.drop_duplicates(["fact", "language", "probe"])
    planned = edits.merge(first, on=["fact", "language"])
    n_changes = int((planned.drop_duplicates(ASKED)["change"] != UNCHANGED).sum())
    run = Counted(evaluate, progress, len(planned.drop_duplicates(QUERY)) + n_changes)
    planned = planned.merge(measure_before(planned, run), on=QUERY, validate="many_to_one")
    return _measure_after(planned, changes, run).assign(model=sets.model)[COLUMNS]


def edits_of(sets: NeuronSets, fact: str, pair: tuple[str, str], overlap: str = "compound") -> dict[str, Edit]:
    """The edits of a fact for a pair of languages.

    `likn`, the neurons that the sets of both languages have (Eq. 8, K = 2); `first` and `second`, those of one
    language; `both`, the edits of both languages one after the other: a neuron of both sets is multiplied twice, with
    overlap "once" once. Suppression by 0 is the same with either overlap.
    """
    first, second = (_numbers(sets, *sets.of(fact, language)) for language in pair)
    either, times = np.unique(np.concatenate([first, second]), return_counts=True)
    numbers = {"likn": either[times == 2], "first": first, "second": second, "both": either}
    times = {"both": times} if overlap == "compound" else {}
    return {
        name: Edit(*np.unravel_index(part, sets.shape), times.get(name, np.ones(len(part), dtype=np.int64)))
        for name, part in numbers.items()
    }


def _numbers(sets: NeuronSets, layers: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Neurons as one number each, sorted."""
    return np.unique(np.ravel_multi_index((layers, indices), sets.shape))


def _checked(pairs: Sequence[tuple[str, str]], sets: NeuronSets, overlap: str) -> list[Pair]:
    if overlap not in OVERLAPS:
        raise AtlasError(unknown("crosslingual: overlap", overlap, "a way to edit twice", OVERLAPS))
    for pair in pairs:
        for language in pair:
            if language not in sets.languages:
                allowed = f"a language of selection {sets.selection}"
                raise AtlasError(unknown(f"crosslingual: pair {'-'.join(pair)}", language, allowed, sets.languages))
        if len(set(pair)) != 2:
            raise AtlasError(f"crosslingual: pair {'-'.join(pair)}: expected two different languages")
    return list(dict.fromkeys(tuple(pair) for pair in pairs))


class _Changes:
    """Distinct neurons with their factors, numbered from 0; no neurons at all are UNCHANGED."""

    def __init__(self) -> None:
        self.numbers: dict[tuple[bytes, ...], int] = {}
        self.fields: list[tuple[np.ndarray, np.ndarray, float | np.ndarray]] = []

    def number(self, edit: Edit, factor: float) -> int:
        """The number of an edit with a factor: each activation is multiplied by it so many times."""
        if not len(edit.layers):
            return UNCHANGED
        factors = float(factor) ** edit.times
        key = (edit.layers.tobytes(), edit.indices.tobytes(), factors.tobytes())
        if key not in self.numbers:
            self.numbers[key] = len(self.fields)
            one_for_all = float(factors[0]) if (factors == factors[0]).all() else factors
            self.fields.append((edit.layers, edit.indices, one_for_all))
        return self.numbers[key]


def _tabulate_edits(
    sets: NeuronSets, pairs: Sequence[Pair], factors: Mapping[str, float], overlap: str
) -> tuple[pd.DataFrame, _Changes]:
    """Every edit of every fact and pair, with the number of its change of neurons, in each language and operation."""
    changes = _Changes()
    lines = [
        (*line[:2], language, *line[2:])
        for pair in pairs
        for line in _edits_of_pair(sets, pair, factors, overlap, changes)
        for language in pair
    ]
    return pd.DataFrame(lines, columns=PLANNED), changes


def _edits_of_pair(
    sets: NeuronSets, pair: Pair, factors: Mapping[str, float], overlap: str, changes: _Changes
) -> Iterator[tuple]:
    shared = [fact for fact in sets.facts if all(sets.is_searched(fact, language) for language in pair)]
    n_left_out = len(sets.facts) - len(shared)
    for fact in shared:
        edits = edits_of(sets, fact, pair, overlap)
        sizes = [len(edits[name].layers) for name in ("likn", "first", "second")]
        for name, edit in edits.items():
            for operation, factor in factors.items():
                change = changes.number(edit, factor)
                yield "-".join(pair), name, fact, operation, len(edit.layers), change, *sizes, n_left_out


def _measure_after(planned: pd.DataFrame, changes: _Changes, run: Counted) -> pd.DataFrame:
    """The rows with P after; what rows have in common is run once."""
    asked = planned.drop_duplicates(ASKED)  # in the order in which `ngroup` numbers them
    number = planned.groupby(ASKED, sort=False).ngroup().to_numpy()
    p, is_right = (asked[column].to_numpy(copy=True) for column in ("p_before", "is_right_before"))
    is_run = (asked["change"] != UNCHANGED).to_numpy()
    fields = asked.loc[is_run, ASKED].itertuples(index=False, name=None)
    requests = [Request(*query, *changes.fields[change]) for *query, change in fields]
    p[is_run], is_right[is_run] = run(requests, "edits")
    return planned.assign(p_after=p[number], is_right_after=is_right[number])
