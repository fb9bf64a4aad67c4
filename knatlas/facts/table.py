"""The columns of the tables of facts, templates and prompts: the same for every source."""

from collections.abc import Collection, Sequence

from knatlas.errors import AtlasError

IDENTITY = ["fact", "relation", "subject", "object"]
MARKS = [
    "several_objects",  # the subject has more than one object in this relation
    "object_in_subject",  # the object's label stands inside the subject's label, in this language
    "has_brackets",  # a bracket stands in one of the two labels
    "object_has_blank",  # the object's label is more than one word
    "latin_object",  # the object's label has Latin letters only, in a language written otherwise
    "same_as_english",  # the object's label is spelled as in English
]
FACT_COLUMNS = [*IDENTITY, "language", "subject_label", "object_label", *MARKS]
TEMPLATE_COLUMNS = ["relation", "language", "template", "pattern", "is_checked"]
PROMPT_COLUMNS = [
    "fact",
    "relation",
    "language",
    "kind",
    "query",
    "template",
    "mode",
    "before",
    "separator",
    "answer",
    "after",
]
STEP_COLUMNS = ["step", "name", "language", "facts", "templates", "prompts", "sentence"]


def check_columns(found: Collection[str], expected: Sequence[str], where: str) -> None:
    """Raise AtlasError where a table (or the names of its columns), which `where` names, lacks a column."""
    missing = [column for column in expected if column not in found]
    if missing:
        raise AtlasError(
            f"{where} has no column '{missing[0]}'; expected {' '.join(expected)}. Delete its file, and run the "
            "workflow again"
        )


def fact_id(relation: str, subject: str, obj: str) -> str:
    """The identity of a fact, the same in all languages: relation, subject id and object id."""
    return f"{relation}:{subject}>{obj}"
