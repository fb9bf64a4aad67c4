"""What a model says before and after the enhancement of single facts' neurons, by language (Figure 7 of MATRICE)."""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from textwrap import shorten
from typing import NamedTuple

import pandas as pd
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Patch, Rectangle
from matplotlib.textpath import text_to_path

from knatlas.figures.style import MAX_WIDTH, font_families, house_style, panels, save

WHEN = ("before", "after")
MOST_RANKS = 5
MOST_COLUMNS = 7  # languages beside each other in a panel; more go below
MOST_COLUMNS_IN_PAIRS = 3  # panels with so few languages stand two abreast
ANSWER_COLOUR, ANSWER_GROUND = "#0072B2", "#d3e6f3"
RULE_COLOUR = "#bbbbbb"
LONGEST_FACT = 48  # letters shown
FONT_SIZE, HEADING_SIZE = 6.5, 7  # points
LINE_HEIGHT = 0.125  # inches
GAP = 2.5  # points, between a token and its probability
NO_GLYPH = "\u25a1"  # a white square
NOTE = (
    "The {n} most probable tokens at the first position of the answer, P in percent; "
    "in a list without a mark the right answer's is not among them.\n"
    "{squares}\u2026: cut for want of room. The csv has all tokens in full."
)
SQUARES = f"{NO_GLYPH} and a code point: a letter that no installed font has. "


class _Grid(NamedTuple):
    """Where lists stand: panels abreast, languages abreast in a panel, and lines under each other for a language."""

    n_abreast: int
    n_columns: int
    n_lines: int

    def points(self, share: float) -> float:
        """The width in points of a share of a language's column; some of the page is margin."""
        return share * 0.97 * 72 * MAX_WIDTH / (self.n_abreast * self.n_columns)


def plot_cases(table: pd.DataFrame, path: str | Path) -> list[Path]:
    """Draw a panel per case: in every language the most probable tokens before and after, as two ranked lists.

    The token that the right answer begins with is marked, so that its rank before and after can be read off; above the
    lists stand the language and the whole answer. A letter that no installed font has is a white square with its code
    point. Without cases there is one empty panel that says so.

    Args: table of `tabulate_cases`, of one model or more, of which ranks 1 to 5 are drawn; path without ending.
    Returns: the paths of pdf, png and csv (the rows drawn).
    """
    data = table[table["rank"] <= MOST_RANKS].reset_index(drop=True)
    with house_style():
        return save(_draw(data) if len(data) else _draw_nothing(), path, data)


def _draw_nothing() -> Figure:
    figure, (axes,) = panels(1, 1)
    axes.text(0.5, 0.5, "no fact was helped, and none failed", ha="center", va="center")
    axes.set_axis_off()
    return figure


def _draw(data: pd.DataFrame) -> Figure:
    groups = [group for _, group in data.groupby(["model", "case", "fact"], sort=False)]
    n_languages = max(group["language"].nunique() for group in groups)
    is_narrow = n_languages <= MOST_COLUMNS_IN_PAIRS
    n_ranks = int(data["rank"].max())
    grid = _Grid(1 + is_narrow, MOST_COLUMNS_IN_PAIRS if is_narrow else MOST_COLUMNS, n_ranks + 3)
    n_lines = grid.n_lines * -(-n_languages // grid.n_columns) - 0.7  # nothing follows the last row
    figure, axes = panels(len(groups), grid.n_abreast)
    figure.set_figheight(-(-len(groups) // grid.n_abreast) * (n_lines * LINE_HEIGHT + 0.3) + 0.8)
    for part, group in zip(axes, groups, strict=True):
        part.set(xlim=(0, grid.n_columns), ylim=(n_lines, 0))
        _draw_panel(part, group, grid)
    mark = Patch(facecolor=ANSWER_GROUND, edgecolor=ANSWER_COLOUR, label="the right answer's first token")
    note = NOTE.format(n=n_ranks, squares="" if _is_drawable(data) else SQUARES)
    figure.legend(handles=[mark], loc="outside lower center", title=note, title_fontsize=8)
    return figure


def _is_drawable(data: pd.DataFrame) -> bool:
    """Whether the fonts have every letter that is shown."""
    shown = data[["fact", "answer", "token_before", "token_after"]].astype(str)
    return all(_has_glyph(letter) for letter in set("".join(shown.to_numpy().ravel())))


def _draw_panel(axes: Axes, group: pd.DataFrame, grid: _Grid) -> None:
    axes.set_axis_off()
    model, case, fact = group.iloc[0][["model", "case", "fact"]]
    title = with_glyphs(shorten(fact, LONGEST_FACT, placeholder="..."))
    axes.set_title(f"{model}, {case}: {title}", loc="left", fontweight="bold", parse_math=False)
    for i, (language, rows) in enumerate(group.groupby("language", sort=False)):
        row, column = divmod(i, grid.n_columns)
        top = row * grid.n_lines
        heading = f"{language}: {rows['answer'].iat[0]}"
        _write(axes, column, top, heading, grid.points(0.95), HEADING_SIZE, fontweight="bold")
        axes.plot([column, column + 0.97], [top + 1.05] * 2, color=RULE_COLOUR, linewidth=0.6)
        for left, when in zip((column, column + 0.5), WHEN, strict=True):
            _draw_list(axes, (left, top + 1), rows, when, grid)


def _draw_list(axes: Axes, corner: tuple[float, float], rows: pd.DataFrame, when: str, grid: _Grid) -> None:
    """A list of tokens, each with P in percent, below its name; `corner` is the upper left one."""
    left, top = corner
    _write(axes, left, top, when, grid.points(0.47), FONT_SIZE, color="#666666")
    for rank, token, p, is_answer in _entries(rows, when):
        colour = ANSWER_COLOUR if is_answer else "black"
        if is_answer:
            axes.add_patch(Rectangle((left, top + rank), 0.47, 1, facecolor=ANSWER_GROUND, edgecolor="none"))
        share, look = f"{100 * p:.1f}", {"fontsize": FONT_SIZE, "color": colour}
        axes.text(left + 0.46, top + rank + 0.5, share, ha="right", va="center", **look)
        room = grid.points(0.45) - _width(share, _font(FONT_SIZE)) - GAP
        _write(axes, left, top + rank, token, room, FONT_SIZE, color=colour)


def _entries(rows: pd.DataFrame, when: str) -> Iterator[tuple]:
    """Rank, token, P and whether the answer begins with the token, line by line."""
    columns = rows["rank"], rows[f"token_{when}"].astype(str), rows[f"p_{when}"], rows[f"is_answer_{when}"]
    return zip(*columns, strict=True)


def _write(axes: Axes, left: float, top: float, text: str, room: float, size: float, **look: str) -> None:
    """A line of text from `left` on, cut to `room` points."""
    font = _font(size, look.get("fontweight", "normal"))
    shown = cut(with_glyphs(text), room, lambda part: _width(part, font))
    axes.text(left + 0.01, top + 0.5, shown, fontsize=size, ha="left", va="center", parse_math=False, **look)


@cache
def _font(size: float, weight: str = "normal") -> FontProperties:
    return FontProperties(family=font_families(), size=size, weight=weight)


def _width(text: str, font: FontProperties) -> float:
    """In points."""
    return text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]


def cut(text: str, room: float, width: Callable[[str], float]) -> str:
    """The text, or as much of its beginning as fits into `room` with an ellipsis after it (but for one letter)."""
    if width(text) <= room:
        return text
    n_letters = bisect_right(range(2, len(text)), room, key=lambda n: width(text[:n] + "\u2026"))
    return text[: n_letters + 1] + "\u2026"


def with_glyphs(text: str) -> str:
    """The text with a white square and the code point for every letter that none of the installed fonts has."""
    return "".join(letter if _has_glyph(letter) else f"{NO_GLYPH}{ord(letter):x}" for letter in text)


@cache
def _has_glyph(letter: str) -> bool:
    if letter == " ":
        return True
    # what is bold must be readable too
    return all(_has_glyph_in(letter, weight) for weight in ("normal", "bold"))


def _has_glyph_in(letter: str, weight: str) -> bool:
    fonts = [FontProperties(family=name, weight=weight) for name in font_families()]
    paths = [font_manager.findfont(font, fallback_to_default=False) for font in fonts]
    return any(font_manager.get_font(path).get_char_index(ord(letter)) for path in paths)
