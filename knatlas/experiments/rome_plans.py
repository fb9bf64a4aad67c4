"""ROME as the reference that updates are set beside: it edits each fact, whatever neurons were found for it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from knatlas.errors import AtlasError
from knatlas.experiments.edit_answers import Questions
from knatlas.experiments.edit_plans import ROME, Group, Plan, Writer, described
from knatlas.interventions.editing import SLOT, Edit, Editor, EditRequest
from knatlas.interventions.key_statistics import KeyStatistics
from knatlas.interventions.rome import Rome, rome_editor

OPERATION, SCOPE = "update", "single"  # the only ones that ROME is made for
BLANK = " "  # what a request has between its prompt and the object
NOTHING = Edit((), 0, None)


class RomeNeeds(NamedTuple):
    """What ROME is given beside a model: its key statistics, the table of facts, and the seed of its prefixes.

    log is told what is left out.
    """

    statistics: KeyStatistics | None
    facts: pd.DataFrame | None
    seed: int
    log: Callable[[str], None]


def rome_plans(probes: pd.DataFrame, questions: Questions, writer: Writer, needs: RomeNeeds) -> list[Plan]:
    """The plan of ROME's updates, one fact at a time; no plan where ROME isn't asked for, or can't be, which is logged.

    A fact's first query in the source language becomes a request for o'. Facts without o', queries that don't hold
    their subject or have no blank before the answer, and those that ROME refuses are in no group, or in one without
    edits. The plan has no n_neurons, which are as many as are edited; is_in_sample holds of the edited query alone.

    Raises: AtlasError without key statistics or facts, or as `rome_editor` does.
    """
    settings, lm = writer.settings, writer.lm
    if ROME not in settings.reference_editors:
        return []
    if reason := _why_left_out(writer):
        needs.log(f"{lm.name}: the reference editor {ROME} is left out: {reason}")
        return []
    subjects = _subjects(writer, needs)
    editor = rome_editor(lm, Rome(**settings.rome), needs.statistics, needs.seed)
    is_edited = (probes["probe"] == "reliability") & (probes["language"] == settings.source_language)
    queries = {
        fact: questions.rows[fact, settings.source_language, query]
        for fact, query in probes.loc[is_edited, ["fact", "query"]].itertuples(index=False, name=None)
    }
    rows = described(probes, OPERATION, writer)
    rows = rows.assign(selection=ROME, draw=0, scope=SCOPE, is_in_sample=is_edited)
    return [Plan(rows, questions.asked, _RomeGroups(writer, editor, queries, subjects, _places(probes, writer), needs))]


def _why_left_out(writer: Writer) -> str:
    settings = writer.settings
    if writer.lm.kind != "causal":
        return "it edits causal models only, and this one is masked"
    if OPERATION not in settings.operations or SCOPE not in settings.scopes:
        return f"it is made for operation {OPERATION} in scope {SCOPE}, which weight_edits doesn't ask for"
    return ""


def _subjects(writer: Writer, needs: RomeNeeds) -> dict[str, str]:
    """The label of each fact's subject in the source language."""
    for name, given in (("key statistics", needs.statistics), ("table of facts", needs.facts)):
        if given is None:
            raise AtlasError(
                f"{writer.lm.name}: the reference editor {ROME} was given no {name}; give it, or leave {ROME} out of "
                "weight_edits: reference_editors"
            )
    own = needs.facts[needs.facts["language"] == writer.settings.source_language]
    return dict(own[["fact", "subject_label"]].itertuples(index=False, name=None))


def _places(probes: pd.DataFrame, writer: Writer) -> dict[str, np.ndarray]:
    """The rows of each fact that has a new object."""
    source = writer.settings.source_language
    places = probes.groupby("fact", sort=False).indices
    return {fact: rows for fact, rows in places.items() if writer.target(OPERATION, fact, source)}


@dataclass(frozen=True, eq=False)
class _RomeGroups:
    """One group per fact with a new object; its edit is found when it is its turn, and not kept.

    queries, the row of prompts that is edited, subjects and places (rows of the plan), by fact.
    """

    writer: Writer
    editor: Editor
    queries: Mapping[str, object]
    subjects: Mapping[str, str]
    places: Mapping[str, np.ndarray]
    needs: RomeNeeds

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[Group]:
        refused = []
        for fact, rows in self.places.items():
            try:
                edit = self.editor(self.writer.lm, self._request(fact))
            except AtlasError as error:
                refused.append(str(error))
                edit = NOTHING
            yield Group(rows, list(edit.values), edit.n_neurons)
        if refused:
            self.needs.log(
                f"{self.writer.lm.name}: {ROME} left {len(refused)} of {len(self)} facts unedited; the first: "
                f"{refused[0]}"
            )

    def _request(self, fact: str) -> EditRequest:
        """What ROME is asked for; AtlasError where the query can't be written as a request."""
        query, subject = self.queries.get(fact), self.subjects.get(fact)
        if query is None or not subject:
            raise AtlasError(f"fact {fact} has no {'subject' if query else 'query'} in the source language")
        before, found, after = query.before.rpartition(subject)
        if not found:
            raise AtlasError(f"fact {fact}: the query '{query.before}' does not hold the subject '{subject}'")
        if query.separator != BLANK:
            raise AtlasError(f"fact {fact}: no blank stands before the answer of '{query.before}', as {ROME} needs it")
        source = self.writer.settings.source_language
        old, new = (self.writer.target(operation, fact, source) for operation in ("erase", OPERATION))
        return EditRequest(f"{before}{SLOT}{after}", subject, old, new, fact)
