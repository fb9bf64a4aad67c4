"""Erase and update facts in the weights, and measure what the model answers then (Tables III and IV of MATRICE)."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from knatlas.errors import AtlasError, unknown
from knatlas.experiments.edit_answers import Questions
from knatlas.experiments.edit_plans import Group, Plan, WeightEdits, Writer, edit_plans
from knatlas.experiments.edit_targets import labels_of, new_objects, plan_edit_probes
from knatlas.experiments.measurement import searched_facts
from knatlas.experiments.rome_plans import RomeNeeds, rome_plans
from knatlas.interventions.key_statistics import KeyStatistics
from knatlas.interventions.weights import edited_values
from knatlas.models.answers import BATCH_ROWS
from knatlas.models.language_model import LanguageModel
from knatlas.progress import Report, silent
from knatlas.selection.neuron_set import ALL, NeuronSets

__all__ = ["COLUMNS", "RANKED_COLUMNS", "WeightEdits", "edit_facts"]

COLUMNS = [
    *("model", "selection", "draw", "operation", "scope", "fact", "relation", "language"),
    *("probe", "probed_fact", "query", "is_in_sample", "n_neurons", "n_edited", "object", "is_same_as_english"),
    *("p_old_before", "p_old_after", "p_new_before", "p_new_after"),
    *("is_old_before", "is_old_after", "is_new_before", "is_new_after", "is_unchanged"),
    *("is_old_first_before", "is_old_first_after", "is_new_first_before", "is_new_first_after", "is_first_unchanged"),
]
# These follow where the settings ask for ranks.
RANKED_COLUMNS = [
    *("is_old_ranked_before", "is_old_ranked_after", "is_new_ranked_before", "is_new_ranked_after"),
    "is_ranked_unchanged",
]


def edit_facts(
    lm: LanguageModel,
    sets: Sequence[NeuronSets],
    prompts: pd.DataFrame,
    settings: WeightEdits,
    seed: int = 0,
    progress: Report = silent,
    batch_rows: int = BATCH_ROWS,
    statistics: KeyStatistics | None = None,
    facts: pd.DataFrame | None = None,
    log: Callable[[str], None] = lambda _: None,
) -> pd.DataFrame:
    """Edit the value vectors of each fact's neurons and measure in every language: one row per measurement.

    probe `reliability`: the fact's first query, `generality`: its others, `locality`: those of unrelated facts. Before
    is measured once per query. Where nothing is edited (an empty set; an update without a new object, whose `object` is
    then empty) after = before and nothing is run; in scope `batch` that is so where it holds of a whole relation.
    With the reference editor `rome`, rows of selection `rome` and draw 0 follow, where ROME updates each fact of a
    causal model through its first query in the source language: see `rome_plans`. n_neurons and n_edited are those of
    the layer that is edited, 0 where it isn't; its o', probes and measurements are those of all other updates.

    Args: sets, all of one model, for all languages or for each (the source language's are taken); prompts, of which
    those of the model's kind in any of its languages count; batch_rows, speed and memory only. For ROME alone:
    statistics of the model's keys; facts, the table with subject_label by fact and language; log, told what is left
    out.
    Returns: COLUMNS. n_neurons, of the fact's set, of which common ones are removed; n_edited, neurons that the edit
    changes, also for other facts in scope `batch`. object, label in the row's language of the object that is erased or
    that is new. old is the object of probed_fact, new is o' (measured on own queries of an update, else NaN and false).
    is_old, is_new: every answer token is the argmax, with `first` only the first. is_unchanged: the argmax tokens where
    the old object is predicted are those before the edit. Progress is in edits.
    RANKED_COLUMNS follow where `is_ranked` is set: no object of the query's relation and language in `prompts` has a
    larger P than old, or new; is_ranked_unchanged, the object with the largest P (of equal ones the first in `prompts`)
    is that before the edit.
    Raises: AtlasError when a searched fact has no prompts, sets or prompts lack the source language, or ROME lacks its
    statistics or facts.
    """
    prompts = prompts[prompts["kind"] == lm.kind]
    _check_source(lm, sets, prompts, settings.source_language)
    searched = searched_facts(sets, prompts)
    objects = new_objects(prompts, searched, seed) if "update" in settings.operations else {}
    probes = plan_edit_probes(prompts, searched, settings.n_unrelated, settings.holdout_queries, seed)
    questions = Questions(lm, prompts, probes, objects, batch_rows, settings.is_ranked)
    columns = [*COLUMNS, *(RANKED_COLUMNS if settings.is_ranked else [])]
    writer = Writer(lm, settings, labels_of(prompts), objects, _predictions(probes, questions, settings))
    plans = [plan for part in sets for plan in edit_plans(part, probes, questions.asked, writer)]
    plans += rome_plans(probes, questions, writer, RomeNeeds(statistics, facts, seed, log))
    report = _Edits(progress, sum(len(plan.groups) for plan in plans))
    parts = [_measure(plan, questions, report).assign(model=lm.name)[columns] for plan in plans]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def _check_source(lm: LanguageModel, sets: Sequence[NeuronSets], prompts: pd.DataFrame, source: str) -> None:
    where = "weight_edits: source_language"
    if source not in set(prompts["language"]):
        raise AtlasError(unknown(where, source, f"a language of {lm.name}'s prompts", sorted(set(prompts["language"]))))
    for part in sets:
        if part.languages != [ALL] and source not in part.languages:
            raise AtlasError(unknown(where, source, f"a language of selection {part.selection}", part.languages))


def _predictions(probes: pd.DataFrame, questions: Questions, settings: WeightEdits) -> dict[str, tuple[int, ...]]:
    """What the unedited model says in each fact's edited query in the source language: token ids, one per position."""
    is_edited = (probes["probe"] == "reliability") & (probes["language"] == settings.source_language)
    predicted = questions.before(questions.asked.of(np.flatnonzero(is_edited)))["predicted"]
    return dict(zip(probes.loc[is_edited, "fact"], predicted, strict=True))


class _Edits:
    """Progress in edits."""

    def __init__(self, progress: Report, total: int):
        self.progress, self.total, self.done = progress, total, 0

    def __call__(self, message: str) -> None:
        self.done += 1
        self.progress(self.done, self.total, message)


def _measure(plan: Plan, questions: Questions, report: _Edits) -> pd.DataFrame:
    """The plan's rows with what was measured before its edits and after them."""
    before = questions.before(plan.asked)
    after = {name: values.copy() for name, values in before.items()}
    n_edited = np.zeros(len(plan.probes), dtype=np.int64)
    for group in plan.groups:
        for name, values in _measure_group(group, plan, questions).items():
            after[name][group.rows] = values
        n_edited[group.rows] = group.n_edited
        report(" ".join(plan.probes[["selection", "operation", "scope"]].iloc[0]))
    columns = {f"{name}_before": values for name, values in before.items()}
    columns |= {f"{name}_after": values for name, values in after.items()}
    pairs = list(zip(before["predicted"], after["predicted"], strict=True))
    is_unchanged = {
        "is_unchanged": [old == new for old, new in pairs],
        "is_first_unchanged": [old[0] == new[0] for old, new in pairs],
    }
    if "best_object" in before:
        is_unchanged["is_ranked_unchanged"] = before["best_object"] == after["best_object"]
    n_neurons = plan.probes.get("n_neurons", n_edited)
    return plan.probes.assign(**columns, **is_unchanged, n_neurons=n_neurons, n_edited=n_edited)


def _measure_group(group: Group, plan: Plan, questions: Questions) -> dict[str, np.ndarray]:
    """What is measured of a group's rows while its edits are made; nothing where it has none."""
    if not group.edits:
        return {}
    with edited_values(questions.lm, group.edits):
        return questions.now(plan.asked.of(group.rows))
