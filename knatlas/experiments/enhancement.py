"""Enhance a fact's neurons in low-resource languages: which queries become right (Figure 6 of MATRICE).

The neurons were searched with the right answers, those of the low-resource queries among them; only the selection
`matrice_leave_language_out` hasn't seen the language that it is measured in. The model is not touched here: functions
are passed in that answer a list of requests.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from knatlas.errors import AtlasError, unknown
from knatlas.experiments.measurement import CHUNK, NONE, Evaluate, Request, searched_facts
from knatlas.progress import Report, silent
from knatlas.selection.neuron_set import NeuronSets

LOW_RESOURCE = ("fi", "hu", "ja", "ko")
NOTIONS = ("exact", "ranked")
KEY = ["fact", "language", "query"]
# From requests to what the model says to each, as text.
Predict = Callable[[Sequence[Request]], list[str]]
COLUMNS = [
    *("model", "selection", "draw", "language", "fact", "relation", "query", "n_neurons"),
    *("p_before", "p_after", "is_right_before", "is_right_after"),
    *("answer", "predicted_before", "predicted_after"),
]


@dataclass(frozen=True)
class Enhancement:
    """How answers are enhanced, and which are shown.

    languages, the low-resource ones; enhance_factor, by which activations are multiplied; draws, the first so many of
    a random selection; notion of a right answer: `exact`, every token is the argmax, or `ranked`, the object has the
    largest P of those of the relation; is_predicted, whether what the model says is noted (a forward row more for each
    measurement; `ranked` needs it); n_cases, facts shown of each kind, with the `top` most probable tokens.

    Raises: AtlasError for another notion, or `ranked` without predictions.
    """

    languages: Sequence[str] = LOW_RESOURCE
    enhance_factor: float = 2.0
    draws: int = 5
    notion: str = "exact"
    is_predicted: bool = True
    n_cases: int = 2
    top: int = 5

    def __post_init__(self) -> None:
        if self.notion not in NOTIONS:
            raise AtlasError(unknown("enhancement.notion", self.notion, "a notion of the right answer", NOTIONS))
        if self.notion == "ranked" and not self.is_predicted:
            raise AtlasError("enhancement.notion is 'ranked', which needs predictions; set is_predicted to true")


def enhance_answers(
    sets: Sequence[NeuronSets],
    prompts: pd.DataFrame,
    evaluate: Evaluate,
    settings: Enhancement,
    predict: Predict | None = None,
    progress: Report = silent,
) -> pd.DataFrame:
    """Answers before and after the enhancement of a fact's neurons, one row per selection, draw and query.

    All queries of the searched facts in the low-resource languages. Before is measured once per query. An empty set
    has after = before and is not run. A language without prompts, or that a selection did not search, has no rows.

    Args: sets, all of one model; prompts, the queries of that model's kind (fact, relation, language, query, answer);
    evaluate, from requests to P(answer) and whether it is right by `exact`; predict, from requests to what the model
    says, as text (by the same notion as in the settings).
    Returns: COLUMNS; answer, the right object; predicted_before and predicted_after, empty without `predict`.
    Raises: AtlasError when a searched fact has no prompts in any language.
    """
    is_asked = prompts["fact"].isin(searched_facts(sets, prompts)) & prompts["language"].isin(list(settings.languages))
    queries = prompts.loc[is_asked, [*KEY, "relation", "answer"]].reset_index(drop=True)
    plans = [plan for part in sets for plan in _plans(part, queries, settings.draws)]
    searched = [plan[KEY] for plan in plans]
    asked = queries.merge(pd.concat([queries[KEY][:0], *searched]).drop_duplicates(), on=KEY)
    total = len(asked) + sum(int((plan["n_neurons"] > 0).sum()) for plan in plans)
    ask = _Ask(evaluate, predict, settings.notion, progress, total)
    before = _before(asked, ask)
    parts = [_after(plan.merge(before, on=KEY, validate="one_to_one"), ask, settings) for plan in plans]
    return pd.concat(parts, ignore_index=True)[COLUMNS]


class _Ask:
    """The functions passed in as one, called in chunks, with progress in requests."""

    def __init__(self, evaluate: Evaluate, predict: Predict | None, notion: str, progress: Report, total: int):
        self.evaluate, self.predict, self.notion = evaluate, predict, notion
        self.progress, self.total, self.done = progress, total, 0

    def __call__(self, requests: list[Request], answers: Sequence[str], message: str) -> pd.DataFrame:
        """Columns p, is_right, predicted of requests whose right answers are given."""
        found = pd.DataFrame({"p": 0.0, "is_right": False, "predicted": ""}, index=range(len(requests)))
        for start in range(0, len(requests), CHUNK):
            part = requests[start : start + CHUNK]
            rows = slice(start, start + len(part) - 1)
            found.loc[rows, "p"], found.loc[rows, "is_right"] = self.evaluate(part)
            if self.predict is not None:
                found.loc[rows, "predicted"] = self.predict(part)
            self.done += len(part)
            self.progress(self.done, self.total, message)
        if self.notion == "ranked":
            found["is_right"] = found["predicted"].to_numpy() == np.asarray(answers)
        return found


def _plans(sets: NeuronSets, queries: pd.DataFrame, draws: int) -> list[pd.DataFrame]:
    """The queries of one selection for each of its first draws, with the neurons as arrays."""
    pairs = zip(queries["fact"], queries["language"], strict=True)
    is_searched = np.array([sets.is_searched(fact, language) for fact, language in pairs], dtype=bool)
    searched = queries[is_searched].reset_index(drop=True)
    return [_with_neurons(sets, searched, draw) for draw in range(min(sets.n_draws, draws))]


def _with_neurons(sets: NeuronSets, queries: pd.DataFrame, draw: int) -> pd.DataFrame:
    pairs = zip(queries["fact"], queries["language"], strict=True)
    neurons = [sets.of(fact, language, draw) for fact, language in pairs]
    plan = queries.assign(model=sets.model, selection=sets.selection, draw=draw)
    plan["n_neurons"] = np.array([len(layers) for layers, _ in neurons], dtype=np.int64)
    # each cell is an array
    plan["neurons"] = pd.Series(neurons, index=plan.index, dtype=object)
    return plan


def _before(queries: pd.DataFrame, ask: _Ask) -> pd.DataFrame:
    requests = [Request(*key, NONE, NONE, 1.0) for key in queries[KEY].itertuples(index=False, name=None)]
    found = ask(requests, queries["answer"].to_numpy(), "before")
    return pd.concat([queries[KEY], found.add_suffix("_before")], axis=1)


def _after(plan: pd.DataFrame, ask: _Ask, settings: Enhancement) -> pd.DataFrame:
    names = ["p", "is_right", "predicted"]
    plan = plan.assign(**{f"{name}_after": plan[f"{name}_before"] for name in names})
    is_run = (plan["n_neurons"] > 0).to_numpy()
    if is_run.any():
        run = plan[is_run]
        fields = run[[*KEY, "neurons"]].itertuples(index=False, name=None)
        requests = [Request(*key, *neurons, settings.enhance_factor) for *key, neurons in fields]
        found = ask(requests, run["answer"].to_numpy(), f"{run['selection'].iat[0]} enhanced")
        for name in names:
            plan.loc[is_run, f"{name}_after"] = found[name].to_numpy()
    return plan
