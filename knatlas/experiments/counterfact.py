"""CounterFact: each record's fact is edited by each editor, and both objects measured (localization paper, Table 3)."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from knatlas.errors import AtlasError
from knatlas.experiments.counterfact_answers import Encoded, Nll, encode_record, mean_nll
from knatlas.facts.counterfact import CounterfactRecord
from knatlas.interventions.editing import Edit, Editor, EditRequest, edited
from knatlas.models.answers import BATCH_ROWS
from knatlas.models.language_model import LanguageModel
from knatlas.progress import Report, silent

NONE = "none"  # the editor that changes nothing
COLUMNS = [
    *("model", "language", "editor", "case", "relation", "fact", "prompt_kind", "prompt"),
    *("nll_true_before", "nll_new_before", "nll_true", "nll_new"),
    *("n_neurons", "layer", "is_too_long", "is_left_out"),
]
NOTHING = Edit((), 0, None)


def request_of(record: CounterfactRecord) -> EditRequest:
    """What a record asks of an editor."""
    return EditRequest(record.prompt, record.subject, record.target_true, record.target_new, str(record.case))


def askable_requests(lm: LanguageModel, records: Sequence[CounterfactRecord]) -> list[EditRequest]:
    """The requests of the records that the model can be asked, in their order."""
    return [request_of(record) for record in records if encode_record(lm, record).queries]


def edit_records(
    lm: LanguageModel,
    records: Sequence[CounterfactRecord],
    editors: Mapping[str, Editor],
    language: str = "en",
    batch_rows: int = BATCH_ROWS,
    progress: Report = silent,
    log: Callable[[str], None] = lambda _: None,
) -> pd.DataFrame:
    """Measure every prompt of each record before and after each editor's edit of it; one row per measurement.

    Before is measured once per prompt, and stands for after in the rows of editor "none" and where an edit changes
    nothing. Every edit is undone bit for bit before the next one.

    Args: editors by name; batch_rows of a forward pass, speed and memory only; progress is in records;
    log, told why a record is left out.
    Returns: COLUMNS, sorted by editor and record as they are given. prompt_kind: rewrite, paraphrase, neighborhood.
    nll_true, nll_new: mean negative log probability per token of the two objects, in nats. n_neurons, whose value
    vectors the edit changes; layer, where they lie in one. is_left_out: the record can't be asked (is_too_long: a
    prompt is longer than the model reads; otherwise a target that the tokenizer doesn't know); its numbers are NaN.
    Raises: AtlasError when all records are left out.
    """
    encoded = [encode_record(lm, record) for record in records]
    if not any(one.queries for one in encoded):
        raise AtlasError(f"counterfact: none of the {len(records)} records can be asked; {encoded[0].reason}")
    for one in encoded:
        if one.reason:
            log(one.reason)
    before = _before(lm, encoded, batch_rows)
    parts = {name: [] for name in [NONE, *editors]}
    for number, (record, of_record, nll) in enumerate(zip(records, encoded, before, strict=True), start=1):
        parts[NONE].append(_rows(record, of_record, nll, nll, NOTHING))
        for name, editor in editors.items():
            after, edit = _after(lm, record, of_record, nll, editor, batch_rows)
            parts[name].append(_rows(record, of_record, nll, after, edit))
        progress(number, len(records), f"record {record.case}")
    tables = [part.assign(editor=name) for name, of_editor in parts.items() for part in of_editor]
    table = pd.concat(tables, ignore_index=True).assign(model=lm.name, language=language)
    return table.astype({"layer": "Int64"})[COLUMNS]


def _before(lm: LanguageModel, encoded: Sequence[Encoded], batch_rows: int) -> list[Nll]:
    """The measurements of each record in the model as it is."""
    nll = mean_nll(lm, [query for one in encoded for query in one.queries], batch_rows)
    return np.split(nll, np.cumsum([len(one.queries) for one in encoded])[:-1])


def _after(
    lm: LanguageModel, record: CounterfactRecord, encoded: Encoded, before: Nll, editor: Editor, batch_rows: int
) -> tuple[Nll, Edit]:
    """The measurements of a record in the edited model, and the edit."""
    if not encoded.queries:
        return before, NOTHING
    edit = editor(lm, request_of(record))
    if not edit.values:
        return before, edit
    with edited(lm, edit):
        return mean_nll(lm, encoded.queries, batch_rows), edit


def _rows(record: CounterfactRecord, encoded: Encoded, before: Nll, after: Nll, edit: Edit) -> pd.DataFrame:
    """One row per prompt of a record."""
    rows = pd.DataFrame(record.prompts, columns=["prompt_kind", "prompt", "text"]).drop(columns="text")
    measured = {"nll_true_before": before[::2], "nll_new_before": before[1::2]}
    measured |= {"nll_true": after[::2], "nll_new": after[1::2]}
    is_left_out = not encoded.queries
    return rows.assign(
        **(dict.fromkeys(measured, np.nan) if is_left_out else measured),
        **{"case": record.case, "relation": record.relation, "fact": record.fact},
        **{"n_neurons": edit.n_neurons, "layer": pd.NA if edit.layer is None else edit.layer},
        **{"is_too_long": encoded.is_too_long, "is_left_out": is_left_out},
    )
