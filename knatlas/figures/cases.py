"""What a model says before and after the enhancement of single facts' neurons, by language (Figure 7 of MATRICE)."""

from functools import cache
from pathlib import Path
from textwrap import shorten

import numpy as np
import pandas as pd
from matplotlib import font_manager
from matplotlib.axes import Axes

from knatlas.figures.style import font_families, house_style, panels, save, write_legend

LOOKS = {"before": "#999999", "after": "#0072B2"}
WIDTH = 0.4  # of a bar; languages are 1 apart
LONGEST_TOKEN, LONGEST_FACT = 12, 48  # letters shown
NO_GLYPH = "\u25a1"  # a white square
ROOM_FOR_TOKENS = 1.6  # the axis of a probability ends here, for the words above the bars


def plot_cases(table: pd.DataFrame, path: str | Path) -> list[Path]:
    """Draw a panel per case: in every language the probability of the most probable token before and after.

    The token stands above its bar; a bar is filled where the right answer begins with it. A letter that no installed
    font has is a white square. Without cases there is one empty panel that says so.

    Args: table of `tabulate_cases`, of one model or more, of which rank 1 is drawn; path without ending.
    Returns: the paths of pdf, png and csv.
    """
    data = table[table["rank"] == 1].reset_index(drop=True)
    groups = [group for _, group in data.groupby(["model", "case", "fact"], sort=False)]
    with house_style():
        figure, axes = panels(max(len(groups), 1), min(max(len(groups), 1), 2))
        for part, group in zip(axes, groups, strict=False):
            _draw_panel(part, group)
        if groups:
            write_legend(figure, axes, 4)
        else:
            axes[0].text(0.5, 0.5, "no fact was helped, and none failed", ha="center", va="center")
            axes[0].set_axis_off()
        return save(figure, path, data)


def _draw_panel(axes: Axes, group: pd.DataFrame) -> None:
    for i, (when, colour) in enumerate(LOOKS.items()):
        places = np.arange(len(group)) + WIDTH * (i - 0.5)
        _draw_bars(axes, places, group, when, colour)
    axes.set_xticks(np.arange(len(group)), group["language"])
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.set_ylim(0, ROOM_FOR_TOKENS)
    axes.set_ylabel("P of the most\nprobable token")
    model, case, fact = group.iloc[0][["model", "case", "fact"]]
    axes.set_title(f"{model}, {case}: {with_glyphs(shorten(fact, LONGEST_FACT, placeholder='...'))}")


def _draw_bars(axes: Axes, places: np.ndarray, group: pd.DataFrame, when: str, colour: str) -> None:
    p, is_answer = group[f"p_{when}"].to_numpy(float), group[f"is_answer_{when}"].to_numpy(bool)
    for is_filled, words in ((True, "the answer's first token"), (False, "another token")):
        chosen = is_answer == is_filled
        look = {"facecolor": colour if is_filled else "white", "edgecolor": colour, "label": f"{when}, {words}"}
        axes.bar(places[chosen], p[chosen], 0.9 * WIDTH, **look)
    for place, height, token in zip(places, p, group[f"token_{when}"].astype(str), strict=True):
        shown = token if len(token) <= LONGEST_TOKEN else token[: LONGEST_TOKEN - 1] + "\u2026"
        # a dollar sign would begin a formula
        word = with_glyphs(shown).replace("$", r"\$")
        axes.text(place, height + 0.02, word, rotation=90, ha="center", va="bottom", fontsize=7)


def with_glyphs(text: str) -> str:
    """The text with a white square for every letter that none of the installed fonts has."""
    return "".join(letter if letter == " " or _has_glyph(letter) else NO_GLYPH for letter in text)


@cache
def _has_glyph(letter: str) -> bool:
    paths = [font_manager.findfont(name, fallback_to_default=False) for name in font_families()]
    return any(font_manager.get_font(path).get_char_index(ord(letter)) for path in paths)
