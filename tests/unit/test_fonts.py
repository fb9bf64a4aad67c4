"""Every letter of the catalog's languages can be drawn, on a machine without any fonts of its own."""

import hashlib
import re
import warnings

import pytest
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from knatlas.catalog import FOLDER, read_catalog
from knatlas.facts.cldr_names import locale_of, read_name
from knatlas.figures import style
from knatlas.figures.cases import NO_GLYPH, with_glyphs
from knatlas.figures.style import FALLBACK_DIGEST, FALLBACK_FONT, FALLBACK_NAME, font_families, house_style
from knatlas.provenance import file_digest

LANGUAGES = sorted(read_catalog("languages"))
TABLES = {"territory": "territories", "language": "languages", "script": "scripts", "currency": "currencies"}
TABLES |= {"zone": "time_zones"}
LINE = 40  # letters


def names(language):
    """All names that facts in a language could have."""
    pairs = [(kind, code) for kind, table in TABLES.items() for code in getattr(locale_of(language), table)]
    return {name for kind, code in pairs if (name := read_name(kind, code, language))}


def texts(language):
    """Names, templates and cue of a language."""
    templates = (FOLDER / "templates" / f"{language}.yaml").read_text(encoding="utf-8").splitlines()
    return [*names(language), *templates, read_catalog("languages")[language]["cue"]]


def draw(lines):
    """Draw lines of text with the own fonts alone; what matplotlib lacks a letter for becomes an error."""
    figure = Figure(figsize=(8, 0.2 * len(lines)))
    canvas = FigureCanvasAgg(figure)
    with house_style(), warnings.catch_warnings():
        warnings.simplefilter("error")
        for i, line in enumerate(lines):
            look = {"family": ["DejaVu Sans", FALLBACK_NAME], "fontweight": "bold" if i % 2 else "normal"}
            figure.text(0, i / len(lines), line, parse_math=False, **look)
        canvas.draw()


@pytest.mark.parametrize("language", LANGUAGES)
def test_all_names_and_templates_of_a_language_can_be_drawn(language):
    assert len(names(language)) > 400
    letters = "".join(sorted(set("".join(texts(language)))))
    assert with_glyphs(letters) == letters
    # in both weights: each line twice
    draw([letters[i : i + LINE] for i in range(0, len(letters), LINE) for _ in range(2)])


def test_a_letter_without_a_glyph_is_noticed():
    with pytest.raises(UserWarning, match="missing from font"):
        draw(["\U000f0000"])


@pytest.mark.parametrize(
    ("encoding", "first", "last", "at_least"),
    [("euc_jp", 0xB0, 0xCF, 2965), ("gb2312", 0xB0, 0xD7, 3755), ("euc_kr", 0xB0, 0xC8, 2350)],
    ids=["JIS X 0208 level 1", "GB 2312 level 1", "Hangul of KS X 1001"],
)
def test_the_font_has_the_common_letters_of_a_character_set(encoding, first, last, at_least):
    pairs = (bytes([row, cell]) for row in range(first, last + 1) for cell in range(0xA1, 0xFF))
    letters = {letter for pair in pairs for letter in pair.decode(encoding, errors="ignore")}
    font = font_manager.get_font(FALLBACK_FONT)
    assert len(letters) >= at_least and [letter for letter in letters if not font.get_char_index(ord(letter))] == []


def test_the_font_is_the_one_of_the_code_and_of_its_description():
    digest = hashlib.sha256(FALLBACK_FONT.read_bytes()).hexdigest()
    assert file_digest(FALLBACK_FONT) == FALLBACK_DIGEST == digest[:16]
    assert digest in FALLBACK_FONT.with_name("README.md").read_text()
    assert FALLBACK_FONT.stat().st_size < 2e6
    assert "Apache License" in FALLBACK_FONT.with_name("LICENSE.txt").read_text()


def test_the_own_font_stands_before_those_of_the_machine():
    assert font_families()[:2] == ["DejaVu Sans", FALLBACK_NAME]
    for weight in ("normal", "bold"):
        chosen = font_manager.findfont(font_manager.FontProperties(family=FALLBACK_NAME, weight=weight))
        assert str(chosen) == str(FALLBACK_FONT)


def test_a_pdf_holds_the_letters_that_it_shows_and_no_more(tmp_path):
    with house_style():
        figure = Figure(figsize=(2, 1))
        figure.text(0, 0, "\u4e2d\u56fd \u65e5\u672c \ub300\ud55c")
        figure.savefig(tmp_path / "x.pdf")
    written = (tmp_path / "x.pdf").read_bytes()
    joined = FALLBACK_NAME.replace(" ", "").encode()
    assert re.search(rb"/Subtype /CIDFontType2\s*/BaseFont /[A-Z]{6}\+" + joined, written)
    assert len(written) < 30_000


def test_squares_are_left_for_letters_of_no_font():
    assert with_glyphs("\u4e2d\ub300\u3042\uff1a") == "\u4e2d\ub300\u3042\uff1a"
    assert with_glyphs("\U000f0000").startswith(NO_GLYPH) and style.FALLBACK_FONT.is_file()
