"""Reading a written page as a browser would, without one."""

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

VOID = {"meta", "link", "img", "br"}


class Reader(HTMLParser):
    """Reads a page: tags that are not closed in order, links, ids, images without a text, and all text."""

    def __init__(self, page: str):
        super().__init__()
        self.open, self.wrong, self.links, self.ids, self.bare, self.text = [], [], [], [], [], []
        self.feed(page)
        self.close()
        self.wrong += self.open

    def handle_starttag(self, tag, attrs):
        of = dict(attrs)
        self.open += [] if tag in VOID else [tag]
        self.links += [of[name] for name in ("href", "src") if name in of]
        self.ids += [of["id"]] if "id" in of else []
        self.bare += [of] if tag == "img" and not of.get("alt") else []

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()
        else:
            self.wrong.append(f"/{tag}")

    def handle_data(self, data):
        self.text.append(data)


def broken_links(page: Path, read: Reader) -> list[str]:
    """Links of a page to places and files that are not there."""
    inside = [link for link in read.links if link.startswith("#") and link[1:] not in read.ids]
    files = [link for link in read.links if not link.startswith(("#", "data:"))]
    return inside + [link for link in files if not (page.parent / unquote(link)).is_file()]
