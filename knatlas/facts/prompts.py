"""Prompts from facts and templates: sentences with a gap for masked models, beginnings of sentences for causal ones."""

import re

import pandas as pd

from knatlas.errors import AtlasError, unknown
from knatlas.facts.table import IDENTITY, PROMPT_COLUMNS, STEP_COLUMNS, TEMPLATE_COLUMNS, check_columns

AR_PROMPTS = ("auto", "final", "prefix", "erased", "cued")
KINDS = ("masked", "causal")
PUNCTUATION = re.compile(r"[\s.。．｡,，、;；:：!！?？…]*")
FRAME_COLUMNS = ["relation", "language", "kind", "template", "mode", "frame", "separator", "after"]


def build_prompts(
    facts: pd.DataFrame,
    templates: pd.DataFrame,
    languages: dict[str, dict[str, str]],
    ar_prompt: str,
    min_queries: int,
    kinds: tuple[str, ...] = KINDS,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Fill the facts into the templates; keep the facts that have enough distinct prompts in every language.

    Masked prompts use every template. Causal prompts follow ar_prompt: `final`, the text before an [Y] that ends the
    sentence; `prefix`, the text before any [Y] that comes after [X]; `erased`, the sentence without [Y]; `cued`, the
    sentence with a visible gap, and the cue on a line of its own; `auto`, `final` alone where a relation and language
    have min_queries distinct final prompts, otherwise `final` and, for the other templates, `cued`.

    Args: facts and templates (tables of knatlas.facts.table); languages, for each language of the study its blank, cue
    and separator; kinds, those of the study's models, among "masked" and "causal".
    Returns: the table of prompts, sorted by kind, language and fact, and the table of steps. A fact with fewer than
    min_queries prompts of a kind in one language is dropped in all languages and both kinds.
    Raises: AtlasError for tables without their columns, an unknown ar_prompt, kind or language, or min_queries below 1.
    """
    check_columns(facts, [*IDENTITY, "language", "subject_label", "object_label"], "the table of facts")
    check_columns(templates, TEMPLATE_COLUMNS, "the table of templates")
    check(templates, languages, ar_prompt, min_queries, kinds)
    facts = facts[facts["language"].isin(languages)]
    frames = build_frames(templates[templates["language"].isin(languages)], languages, ar_prompt, min_queries, kinds)
    filled = fill(facts, frames)
    merged = merge_equal(filled)
    kept = keep_parallel(merged, list(languages), min_queries, kinds)
    stages = [("filled", filled), ("merged", merged), ("parallel", kept)]
    steps = count_steps(facts, templates, stages, list(languages), min_queries)
    return order(kept, list(languages), kinds), steps


def mode_shares(prompts: pd.DataFrame) -> pd.DataFrame:
    """How the prompts of each language and kind were built: language, kind, mode, n (prompts) and share (0 to 1)."""
    counts = prompts.groupby(["language", "kind", "mode"], sort=True).size().rename("n").reset_index()
    counts["share"] = counts["n"] / counts.groupby(["language", "kind"])["n"].transform("sum")
    return counts


def check(
    templates: pd.DataFrame, languages: dict[str, dict], ar_prompt: str, min_queries: int, kinds: tuple[str, ...]
) -> None:
    """Raise AtlasError for options that cannot be meant, all of them at once."""
    wrong = []
    if ar_prompt not in AR_PROMPTS:
        wrong.append(unknown("prompts: ar_prompt", ar_prompt, "a way to prompt causal models", AR_PROMPTS))
    if min_queries < 1:
        wrong.append(f"prompts: min_queries is {min_queries}; expected at least 1 prompt per fact and language.")
    wrong += [unknown("prompts: kinds", kind, "a kind of model", KINDS) for kind in kinds if kind not in KINDS]
    present = sorted(templates["language"].unique())
    wrong += [
        unknown("prompts: a language", code, "a language of the templates", present)
        for code in languages
        if code not in present
    ]
    if wrong:
        raise AtlasError("\n".join(wrong))


def build_frames(
    templates: pd.DataFrame,
    languages: dict[str, dict[str, str]],
    ar_prompt: str,
    min_queries: int,
    kinds: tuple[str, ...],
) -> pd.DataFrame:
    """What each template becomes for each kind of model, with [X] still in it (columns FRAME_COLUMNS)."""
    rows = []
    for (relation, language), group in templates.groupby(["relation", "language"], sort=False):
        numbered = list(zip(group["template"], group["pattern"], strict=True))
        for kind in kinds:
            modes = ["mask"] * len(group) if kind == "masked" else causal_modes(group, ar_prompt, min_queries)
            for (number, pattern), mode in zip(numbered, modes, strict=True):
                if mode is not None:
                    frame = make_frame(pattern, mode, languages[language])
                    rows.append((relation, language, kind, number, mode, *frame))
    return pd.DataFrame(rows, columns=FRAME_COLUMNS)


def causal_modes(group: pd.DataFrame, ar_prompt: str, min_queries: int) -> list[str | None]:
    """The mode of each template of one relation and language; None where the template cannot be used."""
    patterns = list(group["pattern"])
    if ar_prompt in ("erased", "cued"):
        return [ar_prompt] * len(patterns)
    if ar_prompt == "prefix":
        return ["prefix" if is_subject_first(pattern) else None for pattern in patterns]
    finals = {pattern.split("[Y]")[0].rstrip() for pattern in patterns if is_final(pattern)}
    needs_others = ar_prompt == "auto" and len(finals) < min_queries
    return ["final" if is_final(pattern) else "cued" if needs_others else None for pattern in patterns]


def is_subject_first(pattern: str) -> bool:
    """Whether [X] comes before [Y]."""
    return pattern.index("[X]") < pattern.index("[Y]")


def is_final(pattern: str) -> bool:
    """Whether nothing but punctuation follows [Y]."""
    return PUNCTUATION.fullmatch(pattern.split("[Y]")[1]) is not None


def make_frame(pattern: str, mode: str, language: dict[str, str]) -> tuple[str, str, str]:
    """Text before the answer, separator and text after the answer that a template becomes in a mode."""
    before, after = pattern.split("[Y]")
    separator = " " if before.endswith(" ") else ""
    if mode == "mask":
        return before.rstrip(), separator, after
    if mode in ("final", "prefix"):
        return before.rstrip(), separator, ""
    if mode == "erased":
        # An answer that follows a whole sentence is set off as the language sets off words, unless the template says so
        return re.sub(r" {2,}", " ", before + after).strip(), separator or language["separator"], ""
    return f"{before}{language['blank']}{after}\n{language['cue']}", language["separator"], ""


def fill(facts: pd.DataFrame, frames: pd.DataFrame) -> pd.DataFrame:
    """Every fact in every frame of its relation and language."""
    columns = ["fact", "relation", "language", "subject_label", "object_label"]
    filled = facts[columns].merge(frames, on=["relation", "language"])
    pairs = {side: zip(filled[side], filled["subject_label"], strict=True) for side in ("frame", "after")}
    texts = {side: [text.replace("[X]", subject) for text, subject in pairs[side]] for side in pairs}
    return filled.assign(before=texts["frame"], after=texts["after"], answer=filled["object_label"])


def merge_equal(filled: pd.DataFrame) -> pd.DataFrame:
    """One prompt for those of a fact, language and kind that a model reads alike; the first template stands."""
    # A causal prompt is `before` alone: the blank after it belongs to the answer.
    read_separator = filled["separator"].where(filled["kind"] == "masked", "")
    key = ["fact", "language", "kind", "before", "read_separator", "after"]
    is_repeated = filled.assign(read_separator=read_separator).sort_values("template", kind="stable").duplicated(key)
    return filled[~is_repeated.reindex(filled.index)]


def keep_parallel(merged: pd.DataFrame, languages: list[str], min_queries: int, kinds: tuple[str, ...]) -> pd.DataFrame:
    """The prompts of the facts that have min_queries prompts in each language and of each kind."""
    counts = merged.groupby(["fact", "language", "kind"]).size()
    enough = counts[counts >= min_queries].groupby("fact").size()
    complete = enough[enough == len(languages) * len(kinds)].index
    return merged[merged["fact"].isin(complete)]


def order(kept: pd.DataFrame, languages: list[str], kinds: tuple[str, ...]) -> pd.DataFrame:
    """The prompts by kind and language as given, fact and template, with their number within fact, language, kind."""
    places = kept.assign(
        kind_place=kept["kind"].map(kinds.index),
        language_place=kept["language"].map(languages.index),
    )
    ordered = places.sort_values(["kind_place", "language_place", "relation", "fact", "template"], ignore_index=True)
    ordered["query"] = ordered.groupby(["fact", "language", "kind"]).cumcount()
    return ordered[PROMPT_COLUMNS]


def count_steps(
    facts: pd.DataFrame,
    templates: pd.DataFrame,
    stages: list[tuple[str, pd.DataFrame]],
    languages: list[str],
    min_queries: int,
) -> pd.DataFrame:
    """Facts, templates and prompts after each step, over all languages and in each of them."""
    sentences = {
        "filled": "facts filled into the templates",
        "merged": "prompts that a model reads alike merged",
        "parallel": f"facts with fewer than {min_queries} prompts in some language dropped in all languages",
    }
    rows = []
    for language in ["all", *languages]:
        facts_here, templates_here = of_language(facts, language), of_language(templates, language)
        rows.append((1, "given", language, facts_here["fact"].nunique(), len(templates_here), None, "facts, templates"))
        for step, (name, table) in enumerate(stages, start=2):
            here = of_language(table, language)
            n_templates = len(here[["relation", "language", "template"]].drop_duplicates())
            rows.append((step, name, language, here["fact"].nunique(), n_templates, len(here), sentences[name]))
    table = pd.DataFrame(rows, columns=STEP_COLUMNS).sort_values("step", kind="stable", ignore_index=True)
    return table.astype(dict.fromkeys(("facts", "templates", "prompts"), "Int64"))


def of_language(table: pd.DataFrame, language: str) -> pd.DataFrame:
    """The rows of a language; all rows for "all"."""
    return table if language == "all" else table[table["language"] == language]
