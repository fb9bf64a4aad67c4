"""A record of what a source read and what each step of the cleaning left."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from knatlas.facts.table import STEP_COLUMNS

COUNTS = ("facts", "templates", "prompts")
Counted = pd.DataFrame | int | None


class Steps:
    """Call `add` after every step; `table` gives the columns STEP_COLUMNS, a row per step and, on demand, per language.

    A count that a step does not mention stays as it was: a step on templates leaves the number of facts alone.
    """

    def __init__(self) -> None:
        self.rows: list[tuple] = []
        self.n_steps = 0
        self.left: dict[str, int | None] = dict.fromkeys(COUNTS)

    @classmethod
    def continued(cls, table: pd.DataFrame) -> Steps:
        """A record that goes on after the last step of a table of steps."""
        steps = cls()
        steps.rows = [tuple(None if pd.isna(value) else value for value in row) for row in table[STEP_COLUMNS].values]
        steps.n_steps = max((row[0] for row in steps.rows), default=0)
        for row in (row for row in steps.rows if row[2] == "all"):
            steps.left = dict(zip(COUNTS, row[3:6], strict=True))
        return steps

    def add(
        self,
        name: str,
        sentence: str,
        facts: Counted = None,
        templates: Counted = None,
        prompts: Counted = None,
        languages: Iterable[str] = (),
    ) -> None:
        """Count what a step left.

        Args: name, one word; sentence, what was done; facts, templates, prompts, the tables (or the counts) after the
        step, None for what the step does not touch; languages, those that get a row of their own, with the counts of
        the tables that are given.
        """
        self.n_steps += 1
        given = dict(zip(COUNTS, (facts, templates, prompts), strict=True))
        self.left |= {kind: count(kind, table) for kind, table in given.items() if table is not None}
        self.rows.append((self.n_steps, name, "all", *self.left.values(), sentence))
        for language in languages:
            here = [count(kind, of_language(table, language)) for kind, table in given.items()]
            self.rows.append((self.n_steps, name, language, *here, sentence))

    def table(self) -> pd.DataFrame:
        """All rows, with counts that may be missing."""
        return pd.DataFrame(self.rows, columns=STEP_COLUMNS).astype(dict.fromkeys(COUNTS, "Int64"))


def count(kind: str, table: Counted) -> int | None:
    """Facts of a table (each once, whatever its languages), or rows of a table of templates or prompts."""
    if not isinstance(table, pd.DataFrame):
        return table
    return int(table["fact"].nunique()) if kind == "facts" else len(table)


def of_language(table: Counted, language: str) -> pd.DataFrame | None:
    """The rows of a language; None for what is no table."""
    return table[table["language"] == language] if isinstance(table, pd.DataFrame) else None
