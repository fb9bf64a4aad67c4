"""In-context examples: completed prompts of other facts before a prompt (section 3.2 of the localization paper)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from knatlas.errors import AtlasError, unknown
from knatlas.facts.sampling import rank
from knatlas.facts.steps import Steps

ANSWER_CASES = ("keep", "lower")
GROUP = ["relation", "language", "kind", "template"]
LINE = "\n"
N_LINES = {"cued": 2}  # lines of a prompt without context, by mode; one in the other modes
CUT = ("final", "prefix")  # modes that cut the template at the answer


@dataclass(frozen=True)
class PromptForm:
    """What is done to the prompts once they are built.

    context: completed examples before each prompt, 0 for none. answer_case: `keep`, or `lower`, which lower-cases the
    answers of causal prompts, as the localization paper's code does for GPT-2, but not the examples. Masked prompts
    keep theirs: the code's BERT has a tokenizer without capitals.

    Raises: AtlasError for a negative context or another word.
    """

    context: int = 0
    answer_case: str = "keep"

    def __post_init__(self) -> None:
        _check_number(self.context)
        if self.answer_case not in ANSWER_CASES:
            raise AtlasError(unknown("prompts: answer_case", self.answer_case, "one of two", ANSWER_CASES))


def form_prompts(
    prompts: pd.DataFrame, steps: pd.DataFrame, templates: pd.DataFrame, form: PromptForm, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The prompts with context and the case of the answers as asked for, and the steps with a row for each change.

    Args: prompts and steps, as `build_prompts` gives them; templates, those that the prompts were made of.
    Returns: prompts and steps. The step `context` counts the prompts that have fewer examples than asked for.
    Raises: AtlasError, with the counts of the steps, when there are no prompts.
    """
    if prompts.empty:
        raise AtlasError(_none_sentence(steps))
    record = Steps.continued(steps)
    if form.context:
        examples = choose_examples(prompts, form.context, seed)
        record.add("context", _sentence([len(chosen) for chosen in examples], form.context), prompts=prompts)
        prompts = put_before(prompts, examples, templates)
    if form.answer_case == "lower":
        lowered = prompts["answer"].where(prompts["kind"] != "causal", prompts["answer"].str.lower())
        n_changed = int((lowered != prompts["answer"]).sum())
        record.add("answer_case", f"answers of causal prompts in lower case; {n_changed} changed", prompts=prompts)
        prompts = prompts.assign(answer=lowered)
    return prompts, record.table()


def _none_sentence(steps: pd.DataFrame) -> str:
    totals = steps[steps["language"] == "all"]
    counts = ", ".join(f"{name} {n_facts}" for name, n_facts in zip(totals["name"], totals["facts"], strict=True))
    return (
        "prompts: no fact has prompts enough in every language and for every kind of model (facts after each step: "
        f"{counts}); set facts.min_queries lower, or add templates"
    )


def with_contexts(
    prompts: pd.DataFrame, n_examples: int = 4, seed: int = 0, templates: pd.DataFrame | None = None
) -> pd.DataFrame:
    """The prompts with completed prompts of other facts before them, one per line, the query last.

    Examples have the prompt's relation, template, language and kind; which they are is told in `choose_examples`. An
    example is before + separator + answer + after. Where a causal prompt is its template cut at the answer, the
    example ends as the template does ("... is Paris.").

    Args: prompts, without context; templates, the table, None where templates end in the answer.
    Returns: the table with another `before`, rows in the same order; a prompt without an example is left as it is.
    """
    return put_before(prompts, choose_examples(prompts, n_examples, seed), templates)


def without_contexts(prompts: pd.DataFrame) -> pd.DataFrame:
    """The prompts without the examples before them: what `with_contexts` was given."""
    n_lines = prompts["mode"].map(N_LINES).fillna(1).astype(int)
    bare = [
        LINE.join(text.split(LINE)[-n:]) for text, n in zip(prompts["before"], n_lines, strict=True)
    ]  # no label or template has a line break
    return prompts.assign(before=bare)


def choose_examples(prompts: pd.DataFrame, n_examples: int, seed: int) -> list[list[int]]:
    """For each prompt the row numbers (from 0) of its examples, in their order.

    A prompt's examples have objects that differ from each other and from its own; none holds the prompt's object in
    its subject or object, nor the prompt's subject in its subject; all without regard to capitals. The subject is what
    varies between the prompts of a template; letters that all subjects begin or end with are not seen as part of it.
    The seed, the fact, the template and the facts of the relation alone decide in which order the others are tried, so
    rows may be in any order, and masked and causal prompts get the same examples.

    Args: prompts, without context. Returns: up to n_examples rows each, fewer where too few facts will do.
    Raises: AtlasError for a negative n_examples.
    """
    _check_number(n_examples)
    chosen: list[list[int]] = [[] for _ in range(len(prompts))]
    facts = {name: sorted(set(group)) for name, group in prompts.groupby("relation")["fact"]}
    prompts = prompts.reset_index(drop=True)
    for (relation, _, _, template), group in prompts.groupby(GROUP, sort=False) if n_examples else ():
        lines = {line.fact: line for line in _lines(group)}
        for line in lines.values():
            order = _order(facts[relation], line.fact, template, seed)
            others = (lines[fact] for fact in order if fact in lines)
            chosen[line.row] = _take(line, others, n_examples)
    return chosen


def put_before(prompts: pd.DataFrame, examples: list[list[int]], templates: pd.DataFrame | None = None) -> pd.DataFrame:
    """The prompts with the completed prompts of the given rows before them, in that order (see `with_contexts`)."""
    completed = _completed(prompts, templates)
    pairs = zip(examples, prompts["before"], strict=True)
    return prompts.assign(before=[LINE.join([*(completed[row] for row in rows), text]) for rows, text in pairs])


@dataclass(frozen=True)
class _Line:
    """A prompt's row, fact, and its subject and object without capitals."""

    row: int
    fact: str
    subject: str
    object: str


def _lines(group: pd.DataFrame) -> Iterator[_Line]:
    """The prompts of one template."""
    # no text holds the null character, which keeps what stands before the answer from what stands after it
    subjects = _varying([f"{before}\0{after}" for before, after in zip(group["before"], group["after"], strict=True)])
    for row, fact, subject, answer in zip(group.index, group["fact"], subjects, group["answer"], strict=True):
        yield _Line(row, fact, subject.casefold(), answer.casefold())


def _varying(texts: list[str]) -> list[str]:
    """The texts without the beginning and the end that all of them share."""
    start = _n_shared(texts)
    ends = [text[start:][::-1] for text in texts]
    end = _n_shared(ends)
    return [text[end:][::-1] for text in ends]


def _n_shared(texts: list[str]) -> int:
    """How many characters all texts begin with."""
    first, last = min(texts), max(texts)  # those in between begin with whatever these two share
    return next((place for place, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))


def _order(facts: list[str], fact: str, template: int, seed: int) -> list[str]:
    """The facts in the order in which they are tried."""
    random = np.random.default_rng(int(rank(f"context:{fact}:{template}", seed), 16))
    return [facts[place] for place in random.permutation(len(facts))]


def _take(query: _Line, others: Iterator[_Line], n_examples: int) -> list[int]:
    """The rows of the first of the others that may stand before the query."""
    rows, objects = [], set()
    for other in others:
        if len(rows) == n_examples:
            break
        if other.object not in objects and _may_precede(other, query):
            rows.append(other.row)
            objects.add(other.object)
    return rows


def _may_precede(other: _Line, query: _Line) -> bool:
    """Whether another fact's line neither tells the query's object nor is about its subject."""
    if query.object in other.subject or query.object in other.object or other.subject == query.subject:
        return False
    return not query.subject or query.subject not in other.subject


def _completed(prompts: pd.DataFrame, templates: pd.DataFrame | None) -> list[str]:
    """Each prompt with its answer and what follows it."""
    endings = _endings(templates)
    lines = []
    for row in prompts.itertuples(index=False):
        end = endings.get((row.relation, row.language, row.template), "") if row.mode in CUT else ""
        lines.append(row.before + row.separator + row.answer + row.after + end)
    return lines


def _endings(templates: pd.DataFrame | None) -> dict[tuple[str, str, int], str]:
    """What follows the object in each template, where the subject does not."""
    if templates is None:
        return {}
    keys = zip(templates["relation"], templates["language"], templates["template"], strict=True)
    ends = [pattern.split("[Y]")[1] for pattern in templates["pattern"]]
    return {key: end for key, end in zip(keys, ends, strict=True) if "[X]" not in end}


def _sentence(counts: list[int], n_examples: int) -> str:
    """What the step `context` says."""
    n_fewer, least = sum(count < n_examples for count in counts), min(counts, default=0)
    why = f" (at least {least}), as too few facts of the relation have other objects" if n_fewer else ""
    return f"{n_examples} completed examples before each prompt; {n_fewer} prompts have fewer{why}"


def _check_number(n_examples: int) -> None:
    if n_examples < 0:
        raise AtlasError(f"prompts: context is {n_examples}; expected 0 (no examples) or a number of examples.")
