"""P of the answer as it is written and in lower case, before and after a fact's neurons are suppressed.

Released code of the localization paper lower-cases answers also for a model with cased tokens (GPT-2). A name is then a
rare string with P near 0, and so is every change of it; answers that are common nouns stay as they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from knatlas.errors import AtlasError
from knatlas.models.answers import BATCH_ROWS, answer_probabilities
from knatlas.models.encoding import EncodedQuery, encode_prompt
from knatlas.models.language_model import LanguageModel
from knatlas.models.scaling import NeuronScaling
from knatlas.progress import Report, silent
from knatlas.selection.neuron_set import NeuronSets

CASES = ("kept", "lower")
CHUNK = 1024  # prompts between two reports of progress
COLUMNS = [
    *("model", "selection", "fact", "relation", "language", "query", "case"),
    *("is_same", "is_readable", "p_before", "p_after", "n_neurons"),
]


@dataclass(frozen=True)
class AnswerCase:
    """What is measured: factor, by which activations are multiplied; max_queries, the first so many of each fact.

    Raises: AtlasError for max_queries below 1 (None: all).
    """

    factor: float = 0.0
    max_queries: int | None = None

    def __post_init__(self) -> None:
        if self.max_queries is not None and self.max_queries < 1:
            raise AtlasError(f"answer_case.max_queries is {self.max_queries}; expected at least 1, or null for all")


class _Asked(NamedTuple):
    """A prompt with its answer in one case; query is None where the tokenizer can't write the answer."""

    case: str
    is_same: bool
    query: EncodedQuery | None
    neurons: NeuronScaling
    keys: dict


def measure_answer_case(
    lm: LanguageModel,
    sets: NeuronSets,
    prompts: pd.DataFrame,
    settings: AnswerCase | None = None,
    progress: Report = silent,
    batch_rows: int = BATCH_ROWS,
    positions: str = "answer",
    site: str = "down_input",
) -> pd.DataFrame:
    """Measure P(answer) in both cases before and after the neurons are scaled, one row per prompt and case.

    Args: sets, of which the first draw is taken; prompts of the model's kind, of which those of searched facts count;
    positions and site as in `answer_probabilities` (masked models: always the input of the down projection).
    Returns: COLUMNS. is_same, the answer in lower case has the same tokens: it is written so already, or the tokenizer
    makes it so; is_readable, the tokenizer can write the answer (else both P are NaN). An empty set has p_after =
    p_before. Raises: AtlasError for an answer that can't be read as it is written.
    """
    settings = settings or AnswerCase()
    site = site if lm.kind == "causal" else "down_input"
    asked = [one for row in _searched(lm, sets, prompts, settings) for one in _cases(lm, sets, row, settings.factor)]
    readable = [i for i, one in enumerate(asked) if one.query is not None]
    p = np.full((len(asked), 2), np.nan)
    for start in range(0, len(readable), CHUNK):
        part = readable[start : start + CHUNK]
        p[part] = _measured(lm, [asked[i] for i in part], batch_rows, positions, site)
        progress(min(start + CHUNK, len(readable)), len(readable), "answers in both cases")
    lines = [
        {**one.keys, "case": one.case, "is_same": one.is_same, "is_readable": one.query is not None} for one in asked
    ]
    table = pd.DataFrame(lines, columns=[name for name in COLUMNS if name not in ("p_before", "p_after")])
    return table.assign(p_before=p[:, 0], p_after=p[:, 1])[COLUMNS]


def _searched(lm: LanguageModel, sets: NeuronSets, prompts: pd.DataFrame, settings: AnswerCase) -> list:
    """The prompts to measure, in their order."""
    of_kind = prompts[prompts["kind"] == lm.kind]
    place = of_kind.groupby(["fact", "language"])["query"].rank(method="first")
    first = of_kind[place <= (settings.max_queries or np.inf)]
    return [row for row in first.itertuples(index=False) if sets.is_searched(row.fact, row.language)]


def _cases(lm: LanguageModel, sets: NeuronSets, row: object, factor: float) -> list[_Asked]:
    """A prompt as it is written, then with its answer in lower case."""
    layers, indices = sets.of(row.fact, row.language)
    keys = {name: getattr(row, name) for name in ("fact", "relation", "language", "query")}
    keys |= {"model": lm.name, "selection": sets.selection, "n_neurons": len(layers)}
    neurons, kept = NeuronScaling(layers, indices, factor), encode_prompt(lm, row)
    try:
        lower = encode_prompt(lm, row._replace(answer=row.answer.lower()))
    except AtlasError:
        # only unknown tokens, or none: a tokenizer without small letters
        lower = None
    is_same = lower is not None and lower.targets == kept.targets
    return [_Asked(case, is_same, query, neurons, keys) for case, query in zip(CASES, (kept, lower), strict=True)]


def _measured(lm: LanguageModel, asked: Sequence[_Asked], batch_rows: int, positions: str, site: str) -> np.ndarray:
    """P before and after (prompts, 2)."""
    queries = [one.query for one in asked]
    p = np.repeat(answer_probabilities(lm, queries, batch_rows)["p"].to_numpy()[:, None], 2, axis=1)
    run = [i for i, one in enumerate(asked) if len(one.neurons.layers)]
    scalings = [asked[i].neurons for i in run]
    if run:
        after = answer_probabilities(lm, [queries[i] for i in run], batch_rows, scalings, positions, site)
        p[run, 1] = after["p"].to_numpy()
    return p
