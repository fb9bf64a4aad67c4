"""The questions that edits of facts are measured with, asked of a model before and after."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from knatlas.experiments.edit_targets import Labels
from knatlas.models.answers import answer_details
from knatlas.models.encoding import EncodedQuery, encode_prompt
from knatlas.models.language_model import LanguageModel

NOT_ASKED = -1
MEASURES = ["p_old", "p_new", "is_old", "is_new", "is_old_first", "is_new_first", "predicted"]


class Asked(NamedTuple):
    """Numbers of the questions of each probe: about the probed fact's own object, and about o' (NOT_ASKED: none)."""

    old: Int[np.ndarray, " probe"]
    new: Int[np.ndarray, " probe"]

    def of(self, rows: np.ndarray) -> "Asked":
        """Those of some of the probes."""
        return Asked(self.old[rows], self.new[rows])

    def without_new(self) -> "Asked":
        """Only the questions about the own object."""
        return Asked(self.old, np.full_like(self.new, NOT_ASKED))


class _Answers(NamedTuple):
    """By number of question; where it was not asked the values mean nothing."""

    p: Float[np.ndarray, " question"]
    is_argmax: Bool[np.ndarray, " question"]
    is_first_argmax: Bool[np.ndarray, " question"]
    predicted: np.ndarray  # tuples of token ids


class Questions:
    """Queries with the object whose probability is asked for; each is tokenised once.

    Args: prompts of the model's kind; probes as `plan_edit_probes` returns them; objects, the labels of o' by fact and
    language, asked for in the facts' own queries; batch_rows, rows of a forward pass.
    """

    def __init__(
        self,
        lm: LanguageModel,
        prompts: pd.DataFrame,
        probes: pd.DataFrame,
        objects: Mapping[str, Labels],
        batch_rows: int,
    ):
        self.lm, self.batch_rows = lm, batch_rows
        self.rows = {(row.fact, row.language, row.query): row for row in prompts.itertuples(index=False)}
        self.numbers: dict[tuple, int] = {}
        self.encoded: list[EncodedQuery] = []
        self.asked = self._number(probes, objects)
        self.clean = self._ask(np.arange(len(self.encoded)))

    def before(self, asked: Asked) -> dict[str, np.ndarray]:
        """MEASURES of each probe in the model as it is, which were taken once per question."""
        return _measures(self.clean, asked)

    def now(self, asked: Asked) -> dict[str, np.ndarray]:
        """MEASURES of each probe in the model as it is at this moment."""
        numbers = np.unique(np.concatenate(asked))
        return _measures(self._ask(numbers[numbers != NOT_ASKED]), asked)

    def _number(self, probes: pd.DataFrame, objects: Mapping[str, Labels]) -> Asked:
        columns = ["fact", "language", "probe", "probed_fact", "query", "answer"]
        pairs = []
        for fact, language, probe, probed_fact, query, answer in probes[columns].itertuples(index=False, name=None):
            key = (probed_fact, language, query)
            label = objects.get(fact, {}).get(language) if probe != "locality" else None
            pairs.append((self._question(*key, answer), self._question(*key, label) if label else NOT_ASKED))
        return Asked(*np.array(pairs, dtype=np.int64).reshape(-1, 2).T)

    def _question(self, fact: str, language: str, query: int, answer: str) -> int:
        key = (fact, language, query, answer)
        if key not in self.numbers:
            self.numbers[key] = len(self.encoded)
            self.encoded.append(encode_prompt(self.lm, self.rows[key[:3]]._replace(answer=answer)))
        return self.numbers[key]

    def _ask(self, numbers: np.ndarray) -> _Answers:
        details = answer_details(self.lm, [self.encoded[number] for number in numbers], self.batch_rows)
        n = len(self.encoded)
        answers = _Answers(np.full(n, np.nan), np.zeros(n, bool), np.zeros(n, bool), np.full(n, None, dtype=object))
        for name, values in answers._asdict().items():
            values[numbers] = details[name].to_numpy()
        return answers


def _measures(answers: _Answers, asked: Asked) -> dict[str, np.ndarray]:
    """Of a probe without a question about o', p_new is NaN, is_new and is_new_first are false."""
    is_asked = asked.new != NOT_ASKED
    measures = (
        *(answers.p[asked.old], np.where(is_asked, answers.p[asked.new], np.nan)),
        *(answers.is_argmax[asked.old], answers.is_argmax[asked.new] & is_asked),
        *(answers.is_first_argmax[asked.old], answers.is_first_argmax[asked.new] & is_asked),
        answers.predicted[asked.old],
    )
    return dict(zip(MEASURES, measures, strict=True))
