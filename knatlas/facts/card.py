"""The data card of a build: what it holds, what it is made of, what was dropped, its defects, terms and recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import yaml

from knatlas.facts.parts import TERMS, Part
from knatlas.facts.table import MARKS

MARK_SENTENCES = {
    "several_objects": "the subject has further objects in this relation; only one counts as right",
    "object_in_subject": "the object's name stands inside the subject's: the answer can be copied from the query",
    "has_brackets": "a bracket stands in one of the two names",
    "object_has_blank": "the object's name has more than one word",
    "latin_object": "the object's name has Latin letters only, in a language written otherwise",
    "same_as_english": "the object's name is spelled as in English: no evidence of knowledge in this language",
}
DEFECTS = {
    "cldr": "The templates were written for this project and have not been checked by native speakers.",
    "mpararel": (
        "The patterns are partly machine translations: some take the wrong sense of a word, some carry endings or "
        "particles that do not fit the name. Only those marked `is_checked` were read by native speakers."
    ),
    "multilingual_pararel": (
        "Outside English the templates were made by machine from PARAREL's English patterns, and of Chinese only those "
        "marked `is_checked` were read by native speakers. Endings and particles behind a slot need not fit the name. "
        "Chinese names mix simplified and traditional characters."
    ),
    "context_pararel": (
        "English alone. Subjects and objects are names without ids, so subjects with one name count as one; many "
        "objects stand inside the subject's name."
    ),
}


@dataclass(frozen=True)
class Build:
    """Everything a card tells of a build.

    settings: the study's keys study, languages, models, seed, facts, prompts; facts, templates, prompts, cleaning,
    prompt_steps, modes: the tables of docs/data.md; parts: the public parts; files: sha256 of the built files by name.
    """

    settings: Mapping
    facts: pd.DataFrame
    templates: pd.DataFrame
    prompts: pd.DataFrame
    cleaning: pd.DataFrame
    prompt_steps: pd.DataFrame
    modes: pd.DataFrame
    parts: Sequence[Part]
    files: Mapping[str, str]


def data_card(build: Build) -> str:
    """The card as Markdown. The same build gives the same text: no day, no machine, no path stands in it."""
    source = build.settings["facts"]["source"]
    sections = {
        "What was built": what_was_built(build),
        "What it is made of": what_it_is_made_of(build.parts),
        "What each step dropped": what_was_dropped(build),
        "How the queries were built": how_queries_were_built(build),
        "Known defects": f"{DEFECTS[source]}\n\n{known_defects(build)}",
        "Who may use it": TERMS[source],
        "How to build it again": how_to_rebuild(build.settings),
    }
    title = f"# Data card: facts and queries of the study {build.settings['study']}"
    return "\n\n".join([title, *(f"## {name}\n\n{text}" for name, text in sections.items())]) + "\n"


def what_was_built(build: Build) -> str:
    """Counts of the whole, and the built files with their digests."""
    prompts, languages = build.prompts, build.settings["languages"]
    rows = {"facts": len(build.facts), "templates": len(build.templates), "prompts": len(prompts)}
    kinds = ", ".join(f"{count:,} for {kind} models" for kind, count in prompts.groupby("kind").size().items())
    sentence = (
        f"Facts: {prompts['fact'].nunique():,}, the same in every language. "
        f"Relations: {prompts['relation'].nunique():,}. Languages: {' '.join(languages)}. "
        f"Queries: {kinds or 'none'}. Source: `{build.settings['facts']['source']}`."
    )
    lines = [(f"`{name}`", f"{rows[name.split('.')[0]]:,}", digest) for name, digest in build.files.items()]
    return f"{sentence}\n\n{markdown(pd.DataFrame(lines, columns=['file', 'rows', 'sha256']))}"


def what_it_is_made_of(parts: Sequence[Part]) -> str:
    """The public parts: where, which commit or version, which licence is stated, which files were read."""
    rows = [(part.name, part.where, part.version, part.licence, part.sha256, part.remark) for part in parts]
    names = ["part", "where", "commit or version", "licence as stated", "sha256", "files"]
    sentence = (
        "The sha256 of a folder is that of all lines 'sha256 of the file, two blanks, path in the folder', sorted by "
        "path."
    )
    return f"{markdown(pd.DataFrame(rows, columns=names))}\n\n{sentence}"


def what_was_dropped(build: Build) -> str:
    """Facts after each step over all languages, how many it dropped and why; then the same of the queries."""
    sentence = "A fact is dropped in all languages together. Per language: `cleaning.csv`, `prompt_steps.csv`."
    cleaning, prompts = (totals(steps) for steps in (build.cleaning, build.prompt_steps))
    facts = cleaning[["name", "facts", "facts dropped", "templates", "sentence"]]
    queries = prompts[["name", "facts", "facts dropped", "prompts", "prompts dropped", "sentence"]]
    return "\n\n".join([sentence, markdown(facts), "Then queries:", markdown(queries)])


def totals(steps: pd.DataFrame) -> pd.DataFrame:
    """The steps over all languages, with what each dropped against the step before."""
    rows = steps[steps["language"] == "all"].reset_index(drop=True)
    counts = {name: rows[name].astype("Int64") for name in ("facts", "templates", "prompts")}
    dropped = {f"{name} dropped": -counts[name].diff() for name in counts}
    return rows.assign(**counts, **dropped)


def how_queries_were_built(build: Build) -> str:
    """Queries of each language and kind by the mode in which they were built."""
    modes = build.modes
    cells = [f"{n:,} ({share:.1%})" for n, share in zip(modes["n"], modes["share"], strict=True)]
    wide = modes.assign(cell=cells).pivot(index=["language", "kind"], columns="mode", values="cell").fillna("")
    wanted = [language for language in build.settings["languages"] if language in set(modes["language"])]
    table = wide.reindex(wanted, level="language").rename_axis(columns=None).reset_index()
    asked = f"`ar_prompt: {build.settings['prompts']['ar_prompt']}`"
    return f"Queries by mode (docs/data.md); causal models as {asked} says.\n\n{markdown(table)}"


def known_defects(build: Build) -> str:
    """How many of the facts that have queries carry each mark, by language; a mark drops nothing by itself."""
    facts = build.facts[build.facts["fact"].isin(build.prompts["fact"])]
    counts = facts.groupby("language")[MARKS].sum().T.reindex(columns=build.settings["languages"]).fillna(0).astype(int)
    anywhere = facts.groupby("fact")[MARKS].any().sum().astype(int)
    table = counts.assign(anywhere=anywhere, meaning=pd.Series(MARK_SENTENCES)).rename_axis("mark").reset_index()
    excluded = " ".join(build.settings["facts"]["exclude_marks"]) or "none"
    head = f"Facts with a mark, of {facts['fact'].nunique():,} (`anywhere`: in some language); left out by the study: "
    return f"{head}{excluded}.\n\n{markdown(table)}"


def how_to_rebuild(settings: Mapping) -> str:
    """The settings that decide the build, and the command; a folder of copies is left out, so that it is downloaded."""
    facts = {name: value for name, value in settings["facts"].items() if name != "folder"}
    study = {name: settings[name] for name in ("study", "seed", "languages", "models")}
    text = yaml.safe_dump(
        study | {"facts": facts, "prompts": dict(settings["prompts"])}, sort_keys=False, default_flow_style=None
    )
    return (
        f"Write this to `my-study.yaml`:\n\n```yaml\n{text}```\n\nand run `snakemake --configfile my-study.yaml "
        "--cores 1 data`. The models only say for which kinds of models queries are built. Public data sets are "
        "downloaded at the commits above (`facts: folder` takes copies instead); the digests above must come out."
    )


def markdown(table: pd.DataFrame) -> str:
    """A table as Markdown, missing counts empty."""
    texts = table.astype(object).where(table.notna(), "")
    return texts.to_markdown(index=False, disable_numparse=True)
