"""The 1,000 facts of `known_1000.json` that causal tracing averages over, as prompts with their subjects."""

from pathlib import Path

import pandas as pd

from knatlas.errors import AtlasError, unknown
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
