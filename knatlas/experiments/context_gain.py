"""How much P(answer) gains by completed examples before the prompt (section 3.2 of the localization paper)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from knatlas.errors import AtlasError
from knatlas.facts.contexts import choose_examples, put_before, without_contexts
from knatlas.facts.sampling import first_queries
from knatlas.models.answers import BATCH_ROWS, answer_probabilities
from knatlas.models.encoding import EncodedQuery, encode_prompts
from knatlas.models.language_model import LanguageModel
from knatlas.progress import Report, silent

COLUMNS = [
    *("model", "fact", "relation", "language", "query", "n_examples", "n_given"),
    *("p_without", "p_with", "is_right_without", "is_right_with", "is_too_long"),
]
CHUNK = 1024  # prompts between two reports of progress


@dataclass(frozen=True)
class ContextGain:
    """What is measured.

    n_examples: completed examples before a prompt. max_facts: facts that are asked, drawn with the seed, of all
    relations in turn; None for all. max_queries: the first so many queries of each fact; None for all.

    Raises: AtlasError for a number below 1.
    """

    n_examples: int = 4
    max_facts: int | None = None
    max_queries: int | None = None

    def __post_init__(self) -> None:
        for name in ("n_examples", "max_facts", "max_queries"):
            value, is_limit = getattr(self, name), name != "n_examples"
            if value is None and is_limit:
                continue
            if not isinstance(value, int) or value < 1:
                allowed = "at least 1, or null for all" if is_limit else "at least 1"
                raise AtlasError(f"context_gain: {name} is {value}; expected {allowed}.")


def measure_context_gain(
    lm: LanguageModel,
    prompts: pd.DataFrame,
    settings: ContextGain,
    seed: int = 0,
    progress: Report = silent,
    batch_rows: int = BATCH_ROWS,
    templates: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """P(answer) of each prompt on its own and behind examples: one row per prompt of the model's kind.

    Examples are chosen from all of `prompts` (see `choose_examples`). A prompt whose sentence with examples is longer
    than the model reads is too long: its p_with is NaN and is_right_with False; where it is too long on its own, so are
    p_without and is_right_without. Without a single example (n_given 0) p_with = p_without.

    Args: prompts, those of the model's kind in its languages; a context that they have already is taken off; templates,
    as in `with_contexts`; batch_rows, speed and memory only. Progress is in prompts, each with and without examples.
    Returns: COLUMNS. n_examples, as asked for; n_given, as there are; p, probabilities from 0 to 1; is_right, every
    token of the answer is the argmax.
    Raises: AtlasError as `encode_prompt` does, but for a sentence that is too long.
    """
    bare = without_contexts(prompts[prompts["kind"] == lm.kind]).reset_index(drop=True)
    examples = choose_examples(bare, settings.n_examples, seed)
    asked = list(first_queries(bare, settings.max_facts, settings.max_queries, seed).index)
    given = put_before(bare, examples, templates)
    tables = [table.iloc[asked].reset_index(drop=True) for table in (bare, given)]
    without, with_context = _measure(lm, tables, progress, batch_rows)
    return tables[0].assign(
        model=lm.name,
        n_examples=settings.n_examples,
        n_given=[len(examples[row]) for row in asked],
        p_without=without[0],
        p_with=with_context[0],
        is_right_without=without[1],
        is_right_with=with_context[1],
        is_too_long=np.isnan(with_context[0]),
    )[COLUMNS]


def _measure(
    lm: LanguageModel, tables: Sequence[pd.DataFrame], progress: Report, batch_rows: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Of each table P(answer), NaN where the sentence is too long, and whether the answer is right."""
    done, total = 0, sum(len(table) for table in tables)
    # encoded without the limit, so that what is too long can be counted
    unlimited = replace(lm, architecture=replace(lm.architecture, longest=None))
    for table, message in zip(tables, ("without context", "with context"), strict=True):
        p, is_right = np.full(len(table), np.nan), np.zeros(len(table), dtype=bool)
        for start in range(0, len(table), CHUNK):
            part = encode_prompts(unlimited, table.iloc[start : start + CHUNK])
            fitting = [place for place, query in enumerate(part) if _fits(lm, query)]
            answers = answer_probabilities(lm, [part[place] for place in fitting], batch_rows)
            rows = start + np.array(fitting, dtype=np.int64)
            p[rows], is_right[rows] = answers["p"], answers["is_argmax"].astype(bool)
            done += len(part)
            progress(done, total, message)
        yield p, is_right


def _fits(lm: LanguageModel, query: EncodedQuery) -> bool:
    return lm.n_positions is None or len(query.input_ids) <= lm.n_positions
