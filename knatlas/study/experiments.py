"""Mistakes in the part `experiments` of a study that its schema can't see: unknown names, settings that contradict."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from knatlas.catalog import read_catalog
from knatlas.errors import unknown
from knatlas.selection.needs import SEARCHED
from knatlas.study.fidelity import fidelity_mistakes
from knatlas.study.schema import read_schema

# keys that name a file, and the words that stand for none or for one that a rule downloads
SOURCES = {
    "punctuation.corpus": (None,),
    "causal_tracing.source": ("facts", "known_1000"),
    "counterfact.source": ("facts", "counterfact"),
    "rome.key_text.corpus": (None,),
}


def known_selections() -> list[str]:
    """The names of all selections."""
    return [*read_schema()["properties"]["selection"]["properties"]["selections"]["default"], *SEARCHED]


def experiment_mistakes(study: Mapping, models: Sequence[str], root: Path) -> Iterator[str]:
    """A sentence per mistake. Args: models, the names of all models; root, the folder that paths start from."""
    experiments = study["experiments"]
    yield from _name_mistakes(experiments, models)
    yield from _pair_mistakes(study)
    yield from _contradictions(experiments)
    yield from fidelity_mistakes(study)
    for key, words in SOURCES.items():
        yield from _source_mistakes(experiments, key, words, root)


def _name_mistakes(experiments: Mapping, models: Sequence[str]) -> Iterator[str]:
    languages, selections = read_catalog("languages"), known_selections()
    for part in ("weight_edits", "enhancement", "injection"):
        for i, name in enumerate(experiments[part]["selections"]):
            if name not in selections:
                yield unknown(f"experiments.{part}.selections[{i}]", name, "a selection", selections)
    named = {f"enhancement.languages[{i}]": name for i, name in enumerate(experiments["enhancement"]["languages"])}
    named["weight_edits.source_language"] = experiments["weight_edits"]["source_language"]
    for where, name in named.items():
        if name not in languages:
            yield unknown(f"experiments.{where}", name, "a language of catalog/languages.yaml", languages)
    for name in experiments["rome"]["layers"]:
        if name != "default" and name not in models:
            yield unknown("experiments.rome.layers: the name", name, "`default` or a model", models)


def _pair_mistakes(study: Mapping) -> Iterator[str]:
    pairs = study["experiments"]["crosslingual"]["pairs"]
    for i, pair in enumerate([] if pairs == "all" else pairs):
        for language in pair:
            if language not in study["languages"]:
                where = f"experiments.crosslingual.pairs[{i}]"
                yield unknown(where, language, "a language of the study", study["languages"])


def _contradictions(experiments: Mapping) -> Iterator[str]:
    degenerate, levels = experiments["degenerate"], experiments["punctuation"]["levels"]
    if degenerate["low"] > degenerate["high"]:
        yield (
            f"experiments.degenerate.low: is {degenerate['low']}, more than high ({degenerate['high']}); neurons that "
            "matter little alone (low) are degenerate when they matter together (high): take low <= high"
        )
    if degenerate["largest"] > degenerate["top"]:
        yield (
            f"experiments.degenerate.largest: is {degenerate['largest']}, but only {degenerate['top']} neurons of a "
            "fact are searched (top); take largest <= top"
        )
    if levels != sorted(set(levels)):
        yield f"experiments.punctuation.levels: is {levels}; expected rising shares: {sorted(set(levels))}"


def _source_mistakes(experiments: Mapping, key: str, words: tuple, root: Path) -> Iterator[str]:
    *parents, name = key.split(".")
    place = experiments
    for parent in parents:
        place = place[parent]
    if place[name] not in words and not (root / place[name]).is_file():
        listed = " ".join(str(word) for word in words if word is not None)
        remedy = f"one of {listed}, or a file" if listed else "a file, or null"
        yield f"experiments.{key}: '{place[name]}' is not there; give {remedy} (docs/data.md says where to get it)"
