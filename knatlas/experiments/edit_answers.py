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
# What `answer_details` says of a question.
DETAILS = ["p", "is_argmax", "is_first_argmax", "predicted"]
MEASURES = ["p_old", "p_new", "is_old", "is_new", "is_old_first", "is_new_first", "predicted"]
RANKED_MEASURES = ["is_old_ranked", "is_new_ranked", "best_object"]


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
    is_ranked: Bool[np.ndarray, " question"]  # no object of the relation has a larger P
    best_object: Int[np.ndarray, " question"]  # number of the question about the object with the largest P


class Questions:
    """Queries with the object whose probability is asked for; each is tokenised once.

    Args: prompts of the model's kind; probes as `plan_edit_probes` returns them; objects, the labels of o' by fact and
    language, asked for in the facts' own queries; batch_rows, rows of a forward pass; is_ranked, whether every query is
    also asked with all distinct objects of its relation in its language (those of `prompts`).
    """

    def __init__(
        self,
        lm: LanguageModel,
        prompts: pd.DataFrame,
        probes: pd.DataFrame,
        objects: Mapping[str, Labels],
        batch_rows: int,
        is_ranked: bool = False,
    ):
        self.lm, self.batch_rows = lm, batch_rows
        self.rows = {(row.fact, row.language, row.query): row for row in prompts.itertuples(index=False)}
        self.numbers: dict[tuple, int] = {}
        self.encoded: list[EncodedQuery] = []
        self.asked = self._number(probes, objects)
        own = np.arange(len(self.encoded))
        self.rivals = self._number_rivals(prompts) if is_ranked else []
        self.measures = [*MEASURES, *(RANKED_MEASURES if is_ranked else [])]
        self.clean = self._ask(own)

    def before(self, asked: Asked) -> dict[str, np.ndarray]:
        """MEASURES (and RANKED_MEASURES) of each probe in the model as it is, which were taken once per question."""
        return self._of(self.clean, asked)

    def now(self, asked: Asked) -> dict[str, np.ndarray]:
        """The same of each probe in the model as it is at this moment."""
        numbers = np.unique(np.concatenate(asked))
        return self._of(self._ask(numbers[numbers != NOT_ASKED]), asked)

    def _of(self, answers: _Answers, asked: Asked) -> dict[str, np.ndarray]:
        measures = _measures(answers, asked)
        return {name: measures[name] for name in self.measures}

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

    def _number_rivals(self, prompts: pd.DataFrame) -> list[np.ndarray]:
        """For each question so far, the numbers of those that ask its query for an object of the relation."""
        labels = prompts.groupby(["relation", "language"])["answer"].agg(lambda answers: tuple(dict.fromkeys(answers)))
        keys = [key[:3] for key in self.numbers]
        rivals = {
            key: np.array([self._question(*key, label) for label in labels[self.rows[key].relation, key[1]]])
            for key in dict.fromkeys(keys)
        }
        return [rivals[key] for key in keys]

    def _ask(self, numbers: np.ndarray) -> _Answers:
        rivals = [self.rivals[number] for number in numbers] if self.rivals else []
        asked = np.unique(np.concatenate([numbers, *rivals]))
        details = answer_details(self.lm, [self.encoded[number] for number in asked], self.batch_rows)
        answers = _no_answers(len(self.encoded))
        for name in DETAILS:
            getattr(answers, name)[asked] = details[name].to_numpy()
        for number, objects in zip(numbers, rivals, strict=bool(rivals)):
            p = answers.p[objects]
            answers.is_ranked[number] = answers.p[number] >= p.max()
            answers.best_object[number] = objects[p.argmax()]
        return answers


def _no_answers(n: int) -> _Answers:
    predicted, best = np.full(n, None, dtype=object), np.full(n, NOT_ASKED, dtype=np.int64)
    return _Answers(np.full(n, np.nan), np.zeros(n, bool), np.zeros(n, bool), predicted, np.zeros(n, bool), best)


def _measures(answers: _Answers, asked: Asked) -> dict[str, np.ndarray]:
    """Of a probe without a question about o', p_new is NaN, is_new, is_new_first and is_new_ranked are false."""
    is_asked = asked.new != NOT_ASKED
    measures = (
        *(answers.p[asked.old], np.where(is_asked, answers.p[asked.new], np.nan)),
        *(answers.is_argmax[asked.old], answers.is_argmax[asked.new] & is_asked),
        *(answers.is_first_argmax[asked.old], answers.is_first_argmax[asked.new] & is_asked),
        answers.predicted[asked.old],
        *(answers.is_ranked[asked.old], answers.is_ranked[asked.new] & is_asked),
        answers.best_object[asked.old],
    )
    return dict(zip([*MEASURES, *RANKED_MEASURES], measures, strict=True))
