"""What a build of facts and queries consists of, language by language: Table I of the MATRICE paper, counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from knatlas.facts.prompts import KINDS

COLUMNS = ["language", "family", "model", "kind", "statistic", "unit", "value", "lo", "hi", "n"]
# what Table I prints, and what a reader wants beside it
SHOWN = ["facts", "relations", "queries", "queries_per_fact", "mean_length"]
MODES = {"masked": ["mask"], "causal": ["final", "prefix", "erased", "cued"]}
# written with blanks, but in syllable blocks: Table I counts its characters all the same
BLOCK_SCRIPTS = ("Hangul",)
Line = tuple[str, str, str, str, float, int]  # model, kind, statistic, unit, value, n


def compose(
    facts: pd.DataFrame,
    prompts: pd.DataFrame,
    languages: Mapping[str, Mapping],
    known: pd.DataFrame | None = None,
    cleaning: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Counts, lengths and shares of a build, for each language and (language "all") for all together.

    A census, not a sample: `lo` and `hi` are NaN throughout. A query is what a model reads, without its answer; its
    length is in words or in characters without blanks (`unit`), as `counts_characters` says. Statistics, for each kind
    of model: facts, relations, queries, queries_per_fact, mean_length (over queries), share_MODE (of the queries);
    queries_per_named_fact (see `n_named_facts`) where it can be told; for each model share_several_tokens, of the facts
    whose object has several tokens in some query. Without kind: facts_named, with names in all languages but perhaps
    too few queries; for "all" also languages and families.

    Args: facts, prompts (tables of knatlas.facts.table); languages, rows of catalog/languages.yaml by code, in the
    order of the table; known, columns model, kind, language, fact, n_tokens, of the models that should be named;
    cleaning, the table of steps of the source.
    Returns: the columns COLUMNS; n counts what `value` is a count, a mean or a share of.
    """
    kinds = [kind for kind in KINDS if kind in set(prompts["kind"])]
    n_named = n_named_facts(cleaning)
    rows = [("all", "", *line) for line in _together(facts, prompts, languages, kinds)]
    for language, row in languages.items():
        here = _of_language(prompts, language)
        lines = [_facts_named(_of_language(facts, language))]
        for kind in kinds:
            of_kind = here[here["kind"] == kind]
            lines += [*_counts(of_kind, kind, n_named), *_lengths(of_kind, kind, row), *_mode_shares(of_kind, kind)]
        lines += [] if known is None else _several_tokens(_of_language(known, language))
        rows += [(language, row["family"], *line) for line in lines]
    table = pd.DataFrame(rows, columns=[name for name in COLUMNS if name not in ("lo", "hi")])
    return table.assign(lo=np.nan, hi=np.nan)[COLUMNS].astype({"value": float, "n": "int64"})


def n_named_facts(cleaning: pd.DataFrame | None) -> int | None:
    """Facts that all languages name, also those of relations without templates, which have no query.

    Table I counts these too. None where the source has no such facts or where facts were left out after that step (by
    marks or by sampling), so that queries and facts are no longer of the same set.
    """
    if cleaning is None:
        return None
    left = cleaning[cleaning["language"] == "all"].set_index("name")["facts"]
    if not {"parallel", "templates"} <= set(left.index) or left.iloc[-1] != left["templates"]:
        return None
    return int(left["parallel"])


def as_printed(table: pd.DataFrame) -> pd.DataFrame:
    """The table of `compose` as Table I is arranged, for people to read: one line per language and kind of model.

    Cells read "value" or, where the table has a column `paper`, "value (paper: number)"; a column per model gives the
    share of facts whose object has several of its tokens.
    """
    of_models = table["statistic"] == "share_several_tokens"
    rows = table[(table["statistic"].isin(SHOWN) & (table["kind"] != "")) | of_models]
    rows = rows.assign(column=rows["statistic"].where(~of_models, "several tokens: " + rows["model"]))
    rows["cell"] = [_cell(row) for row in rows.to_dict("records")]
    keys = ["language", "family", "kind"]
    wide = rows.pivot(index=keys, columns="column", values="cell")
    lines = pd.MultiIndex.from_frame(rows[keys].drop_duplicates())
    return wide.reindex(index=lines, columns=rows["column"].unique()).fillna("").rename_axis(columns=None).reset_index()


def _cell(row: Mapping) -> str:
    """The text of one measurement, counts in full, lengths with their unit."""
    if np.isnan(row["value"]):
        return "none"
    text = f"{row['value']:,.0f}" if row["unit"] == "count" else f"{row['value']:.3g}"
    text += f" {row['unit']}" if row["statistic"] == "mean_length" else ""
    printed = row.get("paper", np.nan)
    return text if np.isnan(printed) else f"{text} (paper: {printed:,g})"


def query_texts(prompts: pd.DataFrame) -> pd.Series:
    """What each query says without its answer: nothing stands in the place of the object."""
    separator = prompts["separator"].where(prompts["kind"] == "masked", "")
    return prompts["before"] + separator + prompts["after"]


def counts_characters(language: Mapping) -> bool:
    """Whether a language's queries are measured in characters: those written without blanks, and Korean."""
    return not language["separator"] or language["script"] in BLOCK_SCRIPTS


def measure(texts: pd.Series, in_characters: bool) -> pd.Series:
    """The length of each text: characters without blanks, or what blanks separate (a full stop on its own counts)."""
    words = texts.map(str.split)
    return words.map(lambda parts: len("".join(parts)) if in_characters else len(parts)).astype(float)


def _of_language(table: pd.DataFrame, language: str) -> pd.DataFrame:
    return table[table["language"] == language]


def _together(facts: pd.DataFrame, prompts: pd.DataFrame, languages: Mapping, kinds: list[str]) -> Iterator[Line]:
    """The rows of all languages: sums, and facts and relations each counted once."""
    families = {row["family"] for row in languages.values()}
    yield "", "", "languages", "count", len(languages), len(languages)
    yield "", "", "families", "count", len(families), len(languages)
    yield _facts_named(facts)
    here = prompts[prompts["language"].isin(languages)]
    for kind in kinds:
        yield from list(_counts(here[here["kind"] == kind], kind, None))[:3]


def _facts_named(facts: pd.DataFrame) -> Line:
    """How many facts have names."""
    n_facts = facts["fact"].nunique()
    return "", "", "facts_named", "count", n_facts, n_facts


def _counts(prompts: pd.DataFrame, kind: str, n_named: int | None) -> Iterator[Line]:
    """Facts, relations, queries and queries per fact of the prompts of a kind."""
    n_facts, n_queries = prompts["fact"].nunique(), len(prompts)
    yield "", kind, "facts", "count", n_facts, n_facts
    yield "", kind, "relations", "count", prompts["relation"].nunique(), n_facts
    yield "", kind, "queries", "count", n_queries, n_queries
    yield "", kind, "queries_per_fact", "ratio", n_queries / n_facts if n_facts else np.nan, n_facts
    if n_named:
        yield "", kind, "queries_per_named_fact", "ratio", n_queries / n_named, n_named


def _lengths(prompts: pd.DataFrame, kind: str, language: Mapping) -> Iterator[Line]:
    """The mean length of the queries."""
    in_characters = counts_characters(language)
    unit = "characters" if in_characters else "words"
    yield "", kind, "mean_length", unit, measure(query_texts(prompts), in_characters).mean(), len(prompts)


def _mode_shares(prompts: pd.DataFrame, kind: str) -> Iterator[Line]:
    """The share of the queries built in each mode of the kind, also those in which none was."""
    for mode in MODES[kind]:
        yield "", kind, f"share_{mode}", "share", (prompts["mode"] == mode).mean(), len(prompts)


def _several_tokens(known: pd.DataFrame) -> Iterator[Line]:
    """For each model the share of facts whose object takes several of its tokens in some query."""
    for (model, kind), rows in known.groupby(["model", "kind"], sort=False):
        # the first token can depend on what stands before the answer, so queries of a fact can differ
        has_several = rows.groupby("fact")["n_tokens"].max() > 1
        yield model, kind, "share_several_tokens", "share", has_several.mean(), len(has_several)
