"""Pieces of HTML: tables one can sort, figures inside the page, links; every text is escaped."""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

import pandas as pd

# longer tables are linked, not shown: the page stays readable, and small enough to send
SHOWN_ROWS = 300
OPEN_ROWS = 12


def element(tag: str, content: str, **attributes: object) -> str:
    """An element around HTML; attributes are escaped, `class_` is class, `data_x` is data-x."""
    given = "".join(f' {name.strip("_").replace("_", "-")}="{escape(str(of))}"' for name, of in attributes.items())
    return f"<{tag}{given}>{content}</{tag}>"


def paragraph(text: str, **attributes: object) -> str:
    """A paragraph of plain text."""
    return element("p", escape(text), **attributes)


def link(path: str, text: str | None = None) -> str:
    """A link to a file beside the page (relative path)."""
    return element("a", escape(text or path), href=quote(path))


def number(value: object) -> str:
    """A value as people read it: four significant digits, nothing for a missing one."""
    if isinstance(value, float):
        return "" if value != value else f"{value:.4g}"
    return str(value)


def sortable(rows: Iterable[Sequence[str]], heads: Sequence[str], **attributes: object) -> str:
    """A table that sorts by a click on a head; rows and heads are HTML."""
    # a button inside: heads can be reached and pressed by keyboard too
    head = "".join(element("th", f'<button type="button">{name}</button>', scope="col") for name in heads)
    body = "\n".join(element("tr", "".join(element("td", cell) for cell in row)) for row in rows)
    content = f"<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody>"
    table = element("table", content, **{"class_": "sortable", **attributes})
    return element("div", table, class_="wide")


def data_table(frame: pd.DataFrame, title: str, path: str) -> str:
    """A table behind its title, with a link to its csv; a long one is linked alone."""
    size = f"{len(frame)} rows"
    if len(frame) > SHOWN_ROWS:
        columns = ", ".join(map(str, frame.columns))
        return element("p", f"{link(path)} ({size}; columns: {escape(columns)})", class_="linked")
    frame = frame.loc[:, frame.notna().any()]
    rows = [[escape(number(cell)) for cell in row] for row in frame.itertuples(index=False)]
    table = sortable(rows, [escape(str(name)) for name in frame.columns])
    summary = element("summary", f"{escape(title)} ({size})")
    content = f"{summary}<p>{link(path)}</p>{table}"
    return f"<details open>{content}</details>" if len(frame) <= OPEN_ROWS else element("details", content)


def figure(path: Path, caption: str, links: Sequence[str]) -> str:
    """A PNG inside the page, with its caption as text and links to the files beside it."""
    data = base64.b64encode(path.read_bytes()).decode()
    image = f'<img src="data:image/png;base64,{data}" alt="{escape(f"Figure {path.stem}: {caption}")}">'
    words = f"<strong>{escape(path.stem)}.</strong> {escape(caption)} " + " ".join(link(name) for name in links)
    return element("figure", image + element("figcaption", words), id=f"figure-{path.stem}")
