"""The embedded source: facts in Unicode CLDR, which Babel brings along, with their names in every language."""

from datetime import date

import pandas as pd

from knatlas.errors import AtlasError, unknown
from knatlas.facts.cldr_names import is_plain_name, is_written_in_latin, locale_of, read_name
from knatlas.facts.cldr_pairs import READINGS
from knatlas.facts.marks import mark_facts
from knatlas.facts.table import IDENTITY, STEP_COLUMNS, fact_id

Labels = dict[tuple[str, str], str | None]  # (fact, language) -> label
NAMES_OF_STEPS = {
    "read": "pairs of ids in Unicode CLDR",
    "named": "both names known in every language (row of a language: in that language)",
    "plain": "both names at most 24 characters without a comma, in every language",
    "distinct": "subject and object named differently in every language",
    "unambiguous": "no other subject or object of the relation has the same name in any language",
}


def read_cldr(
    languages: list[str], relations: list[str], as_of: str, capitals: list[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All facts of the relations that have a usable name in all languages.

    Args: languages, codes that CLDR knows; relations, of those in READINGS; as_of, the day "YYYY-MM-DD" for which
    currencies hold; capitals, ids of the time zones whose city is the capital of its territory.
    Returns: the table of facts (one row per fact and language, sorted by relation as given, then by ids) and the
    table of steps, which counts the facts left after each step.
    Raises: AtlasError for a relation, language, day or time zone that is not known.
    """
    check(languages, relations)
    day = read_day(as_of)
    identities = [identity for relation in relations for identity in read_identities(relation, day, capitals)]
    labelled = pd.DataFrame(
        [row for identity in identities for row in name_fact(identity, languages)],
        columns=[*IDENTITY, "language", "subject_label", "object_label"],
    )
    facts, steps = drop_unusable(labelled, languages)
    latin = [language for language in languages if is_written_in_latin(language)]
    return mark_facts(facts, latin), steps


def check(languages: list[str], relations: list[str]) -> None:
    """Raise AtlasError for the languages and relations that the source does not offer, all of them at once."""
    wrong = [
        unknown("the relations of the embedded facts: one", name, "a relation that CLDR answers", READINGS)
        for name in relations
        if name not in READINGS
    ]
    for language in languages:
        try:
            locale_of(language)
        except AtlasError as error:
            wrong.append(str(error))
    if wrong:
        raise AtlasError("\n".join(wrong))


def read_day(as_of: str) -> date:
    """The day as a date; raises AtlasError where it is none."""
    try:
        return date.fromisoformat(str(as_of))
    except ValueError as error:
        sentence = f"the day for which currencies hold (as_of) is '{as_of}'; expected a day such as 2025-01-01."
        raise AtlasError(sentence) from error


def read_identities(relation: str, day: date, capitals: list[str]) -> list[tuple[str, str, str, str]]:
    """Fact, relation, subject and object of every id pair of a relation, in the order of the ids."""
    pairs = READINGS[relation].pairs(day, capitals)
    return [(fact_id(relation, subject, obj), relation, subject, obj) for subject, obj in pairs]


def name_fact(identity: tuple[str, str, str, str], languages: list[str]) -> list[tuple]:
    """One row per language: the identity, the language and the two names (None where CLDR has no name)."""
    _, relation, subject, obj = identity
    reading = READINGS[relation]
    return [
        (*identity, language, read_name(reading.subject, subject, language), read_name(reading.object, obj, language))
        for language in languages
    ]


def drop_unusable(labelled: pd.DataFrame, languages: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Drop in all languages the facts that one language makes unusable, and count what each step leaves."""
    steps = [("read", "all", labelled["fact"].nunique())]
    is_named = labelled["subject_label"].notna() & labelled["object_label"].notna()
    steps += [("named", language, int((is_named & (labelled["language"] == language)).sum())) for language in languages]
    left = keep_whole(labelled, is_named)
    steps.append(("named", "all", left["fact"].nunique()))
    for name, test in (("plain", is_plain), ("distinct", is_distinct), ("unambiguous", is_unambiguous)):
        left = keep_whole(left, test(left))
        steps.append((name, "all", left["fact"].nunique()))
    return left, tabulate(steps)


def keep_whole(rows: pd.DataFrame, is_good: pd.Series) -> pd.DataFrame:
    """The rows of the facts whose rows are good in every language."""
    return rows[~rows["fact"].isin(rows.loc[~is_good, "fact"])].reset_index(drop=True)


def is_plain(rows: pd.DataFrame) -> pd.Series:
    """Whether both names can stand in a sentence."""
    return rows["subject_label"].map(is_plain_name).astype(bool) & rows["object_label"].map(is_plain_name).astype(bool)


def is_distinct(rows: pd.DataFrame) -> pd.Series:
    """Whether the names differ: that Luxembourg is the capital of Luxembourg tells nothing.

    Capitals count, because Finnish tells a country from its language by them alone ("Saksa", "saksa").
    """
    return rows["subject_label"] != rows["object_label"]


def is_unambiguous(rows: pd.DataFrame) -> pd.Series:
    """Whether no other id of the same relation and role bears the name in this language."""
    is_single = pd.Series(True, index=rows.index)
    for role in ("subject", "object"):
        n_ids = rows.groupby(["relation", "language", f"{role}_label"])[role].transform("nunique")
        is_single &= n_ids == 1
    return is_single


def tabulate(steps: list[tuple[str, str, int]]) -> pd.DataFrame:
    """The table of steps from (name, language, facts left), numbered by name."""
    names = list(NAMES_OF_STEPS)
    rows = [
        (names.index(name) + 1, name, language, n_facts, None, None, NAMES_OF_STEPS[name])
        for name, language, n_facts in steps
    ]
    counts = dict.fromkeys(("facts", "templates", "prompts"), "Int64")
    return pd.DataFrame(rows, columns=STEP_COLUMNS).astype(counts)
