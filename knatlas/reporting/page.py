"""The landing page of a study: one HTML file with what was found, how far to trust it, and the evidence."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from knatlas.redaction import redacted
from knatlas.reporting.artefacts import caption_text, sections
from knatlas.reporting.html import data_table, element, figure, link, paragraph, sortable
from knatlas.reporting.methods_text import methods_text
from knatlas.reporting.page_style import SCRIPT, STYLE
from knatlas.reporting.verdicts import badge_section, claim_section, summary_lines
from knatlas.study import all_models

# the page asks no other machine for anything: the browser is told to refuse it
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
TRAINED = (
    "{models}: small models, trained inside the workflow on these facts. What holds in them need not hold in the "
    "papers' models, nor the other way round."
)


class Results(NamedTuple):
    """What the page shows.

    folder: of the results, in which the page lies; tables and figures in it, as paths, png files to be shown and other
    forms of them to be linked; beside: further files that are linked; captions: the folder of the captions; study: its
    configuration; revisions: of the models, by name.
    """

    folder: Path
    tables: Mapping[Path, pd.DataFrame]
    figures: Sequence[Path]
    beside: Sequence[Path]
    captions: Path
    study: Mapping
    revisions: Mapping[str, str]


def landing_page(badges: pd.DataFrame, claims: pd.DataFrame, results: Results) -> str:
    """The page as one HTML document. Args: badges and claims, of judge_badges and judge_claims; results."""
    study = results.study
    found = [*_top(claims, results), *badge_section(badges), *claim_section(claims)]
    evidence = [*_evidence(results), *_methods(study), *_provenance(results)]
    content = element("main", "\n".join([*found, *evidence]))
    title = f"Knowledge Neuron Atlas: {study['study']}"
    head = f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    head += '<meta name="viewport" content="width=device-width, initial-scale=1">'
    head += f'<link rel="icon" href="data:,"><title>{escape(title)}</title><style>{STYLE}</style>'
    body = f"<body>{content}<script>{SCRIPT}</script></body>"
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n{body}</html>\n'


def _top(claims: pd.DataFrame, results: Results) -> Iterator[str]:
    """What the study found, for a reader with ten seconds."""
    study, tables = results.study, {path.stem: table for path, table in results.tables.items()}
    yield element("h1", f"What the study “{escape(study['study'])}” found")
    facts = tables["known"]["n"].max() if "known" in tables else 0
    separation = tables.get("control_separation")
    searched = 0 if separation is None else separation["n"].max()
    counts = {"models": len(study["models"]), "languages": len(study["languages"])}
    counts |= {"facts asked": int(facts), "facts searched per model": int(searched)}
    items = [element("li", f"<strong>{count}</strong>{escape(name)}") for name, count in counts.items()]
    yield element("ul", "".join(items), class_="numbers")
    yield element("ul", "".join(element("li", escape(line)) for line in summary_lines(claims)))
    trained = [name for name in study["models"] if all_models(study)[name]["origin"] == "embedded"]
    if trained:
        yield paragraph(TRAINED.format(models=", ".join(trained)))
    if "headlines" in tables:
        lines = "".join(element("li", escape(line)) for line in tables["headlines"]["sentence"])
        yield element("h3", "In numbers") + element("ul", lines, class_="small")
    anchors = {"badges": "Badges", "claims": "Claims", "evidence": "Figures and tables", "methods": "Methods"}
    anchors |= {"provenance": "Provenance"}
    yield element("nav", "".join(f'<a href="#{anchor}">{name}</a>' for anchor, name in anchors.items()))


def _evidence(results: Results) -> Iterator[str]:
    """Figures and tables by paper and stage, each with its caption."""
    yield element("h2", "Figures and tables", id="evidence")
    figures = {path.stem: path for path in results.figures if path.suffix == ".png"}
    tables = {path.stem: path for path in results.tables}
    for title, drawn, tabulated in sections(list(figures), list(tables)):
        yield element("h3", escape(title))
        for name, caption in drawn.items():
            text = caption_text(caption, results.study, results.captions)
            others = [path for path in results.figures if path.stem == name and path.suffix != ".png"]
            yield figure(figures[name], text, [_relative(path, results.folder) for path in others])
        shown = ""
        for name, caption in tabulated.items():
            if caption != shown:
                yield paragraph(caption_text(caption, results.study, results.captions), class_="small")
            shown = caption
            yield data_table(results.tables[tables[name]], name, _relative(tables[name], results.folder))


def _methods(study: Mapping) -> Iterator[str]:
    yield element("h2", "Methods, from the configuration", id="methods")
    for heading, text in methods_text(study):
        yield element("h3", escape(heading)) + paragraph(text)


def _provenance(results: Results) -> Iterator[str]:
    """Where everything comes from: the whole configuration, models, digests of tables; no time and no machine."""
    yield element("h2", "Provenance and files beside this page", id="provenance")
    if results.beside:
        items = (element("li", link(_relative(path, results.folder))) for path in results.beside)
        yield element("ul", "".join(items))
    rows = [[escape(model), escape(revision)] for model, revision in results.revisions.items()]
    yield sortable(rows, ["model", "revision"])
    digests = [[link(_relative(path, results.folder)), _digest(path)] for path in _sorted(results.tables)]
    yield element("details", f"<summary>Digests of the tables</summary>{sortable(digests, ['table', 'sha256'])}")
    # what changes speed alone changes no number, and not this page
    study = {name: of for name, of in results.study.items() if name != "compute"}
    settings = redacted(json.dumps(study, indent=1, ensure_ascii=False, sort_keys=True, default=str))
    yield element("details", f"<summary>The configuration</summary><pre>{escape(settings)}</pre>")
    yield paragraph("Beside each file, NAME.provenance.json says how it was made: inputs, settings, versions.")


def _sorted(paths: Iterable[Path]) -> list[Path]:
    return sorted(paths, key=str)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _relative(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()
