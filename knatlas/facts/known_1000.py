"""The 1,000 facts of `known_1000.json` that causal tracing averages over, as prompts with their subjects."""

from pathlib import Path

import pandas as pd

from knatlas.errors import AtlasError, unknown
from knatlas.facts.controls import control_facts
from knatlas.facts.json_lines import REMEDY, read_json_list
from knatlas.facts.prompts import KINDS
from knatlas.facts.table import PROMPT_COLUMNS

FIELDS = ("known_id", "subject", "attribute", "prompt", "relation_id")
COLUMNS = [*PROMPT_COLUMNS, "subject"]
# what follows the answer
AFTER = {"masked": " .", "causal": ""}


def read_known_1000(path: str | Path, kind: str = "causal") -> pd.DataFrame:
    """The facts as prompts of a kind of model, one for each, in the order of the file.

    The file is a JSON list of objects with known_id, subject, attribute, prompt and relation_id; what else they hold
    (template, prediction of a larger model) isn't read. The prompt ends where the answer, the attribute, comes.

    Returns: the columns of the table of prompts, then subject as the prompt writes it; fact is "known_1000:known_id",
    language "en", query and template 0, mode "final" (causal) or "mask".
    Raises: AtlasError for another kind, and for a file that is missing, no such list, or empty in one of the fields.
    """
    if kind not in KINDS:
        raise AtlasError(unknown("known_1000: kind", kind, "a kind of model", KINDS))
    records = read_json_list(Path(path), "known_1000.json")
    rows = [_row(path, number, record, kind) for number, record in enumerate(records)]
    return pd.DataFrame(rows, columns=COLUMNS)


def controlled_known_1000(prompts: pd.DataFrame, control: str, seed: int) -> pd.DataFrame:
    """The prompts of `read_known_1000` under a negative control that changes prompts, as `control_facts` makes one.

    A made-up subject takes the place of the last occurrence of the subject before the answer; a prompt that does not
    hold it stays as it is and can't be traced. Facts that can't be changed are left out.
    Raises: AtlasError as `control_facts` does.
    """
    labels = {"subject": "subject_label", "answer": "object_label"}
    facts = prompts.rename(columns=labels).assign(subject=prompts["subject"], object=prompts["answer"])
    changed = control_facts(control, facts, seed)[0].set_index("fact")
    kept = prompts[prompts["fact"].isin(changed.index)].reset_index(drop=True)
    subjects = changed["subject_label"].reindex(kept["fact"]).tolist()
    before = map(_renamed, kept["before"], kept["subject"], subjects)
    answers = changed["object_label"].reindex(kept["fact"]).tolist()
    return kept.assign(before=list(before), answer=answers, subject=subjects)


def _renamed(text: str, old: str, new: str) -> str:
    """The text with the last occurrence of a name replaced."""
    head, found, tail = text.rpartition(old)
    return f"{head}{new}{tail}" if found else text


def _row(path: str | Path, number: int, record: object, kind: str) -> dict:
    fields = record if isinstance(record, dict) else {}
    texts = {name: str(fields.get(name, "")).strip() for name in FIELDS}
    missing = [name for name, text in texts.items() if not text]
    if missing:
        raise AtlasError(
            f"{path}: entry {number} (from 0) has no {', '.join(missing)}; expected a fact as in known_1000.json. "
            f"{REMEDY}"
        )
    return {
        "fact": f"known_1000:{texts['known_id']}",
        "relation": texts["relation_id"],
        "language": "en",
        "kind": kind,
        "query": 0,
        "template": 0,
        "mode": "final" if kind == "causal" else "mask",
        "before": texts["prompt"],
        "separator": " ",
        "answer": texts["attribute"],
        "after": AFTER[kind],
        "subject": texts["subject"],
    }
