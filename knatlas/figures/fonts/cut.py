"""Cut the font of this folder out of the file of Droid Sans Fallback that is named on the command line (README.md)."""

import sys
from pathlib import Path

from fontTools.subset import Options, Subsetter
from fontTools.ttLib import TTFont

from knatlas.facts.cldr_names import locale_of
from knatlas.figures.style import FALLBACK_FONT, FALLBACK_NAME

SETS = ("euc_jp", "gb2312")  # of two bytes: JIS X 0208 and GB 2312
# kana, Hangul and full-width forms
BLOCKS = [*range(0x3000, 0x3190), *range(0xAC00, 0xD7A4), *range(0xFF00, 0xFFEF)]
NAMED_IN = ("ja", "ko", "zh")  # languages whose names in CLDR have letters outside of these
TABLES = ("territories", "languages", "scripts", "currencies")
NOTICE = (
    "A part of Droid Sans Fallback 2.55b with Hangul, the letters of JIS X 0208 and GB 2312, and those of names in "
    "Unicode CLDR; instructions and tables of layout are left out, and the name is another. Changed by the Knowledge "
    "Neuron Atlas contributors."
)
FAMILY, IDENTIFIER, FULL_NAME, POSTSCRIPT, DESCRIPTION = 1, 3, 4, 6, 10  # name ids of OpenType


def letters() -> list[int]:
    """Code points of all letters of the character sets, of the blocks, and of names in the languages."""
    pairs = (bytes([first, second]) for first in range(0xA1, 0xFF) for second in range(0xA1, 0xFF))
    texts = [pair.decode(name, errors="ignore") for pair in pairs for name in SETS]
    locales = [locale_of(language) for language in NAMED_IN]
    texts += [name for locale in locales for table in TABLES for name in getattr(locale, table).values()]
    texts += [zone["city"] for locale in locales for zone in locale.time_zones.values() if zone.get("city")]
    return sorted({ord(letter) for letter in "".join(texts)} | set(BLOCKS))


def cut(source: Path, target: Path) -> None:
    """Write the font with these letters alone, under a name of its own and with a notice of what was changed."""
    font = TTFont(source)
    options = Options(hinting=False, layout_features=[], glyph_names=False, notdef_outline=True, name_IDs=["*"])
    options.drop_tables += ["GSUB", "GPOS", "vhea", "vmtx"]
    subsetter = Subsetter(options)
    subsetter.populate(unicodes=letters())
    subsetter.subset(font)
    whole, joined = FALLBACK_NAME, FALLBACK_NAME.replace(" ", "")
    names = {FAMILY: whole, IDENTIFIER: whole, FULL_NAME: whole, POSTSCRIPT: joined, DESCRIPTION: NOTICE}
    for name_id, text in names.items():
        font["name"].setName(text, name_id, 3, 1, 0x409)
    font["name"].names = [name for name in font["name"].names if (name.platformID, name.langID) == (3, 0x409)]
    font.recalcTimestamp = False  # the same bytes every time
    font.save(target)


if __name__ == "__main__":
    cut(Path(sys.argv[1]), FALLBACK_FONT)
