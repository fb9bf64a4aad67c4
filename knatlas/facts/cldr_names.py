"""Names of territories, languages, scripts, currencies and places in every language, from Unicode CLDR (by Babel)."""

import re
import unicodedata
from functools import cache

from babel import Locale, localedata
from babel.core import UnknownLocaleError, get_global

from knatlas.errors import AtlasError, unknown

LONGEST_NAME = 24  # characters; longer names are descriptions ("United Nations Buffer Zone"), not words for a thing
BRACKETED = re.compile(r"\s*[(\[（［][^)\]）］]*[)\]）］]")
MARKS_OF_DIRECTION = re.compile("[\u200e\u200f\u00ad]")


def cldr_version() -> str:
    """The release of CLDR that the installed Babel carries, for example "47"."""
    return get_global("cldr")["version"]


@cache
def locale_of(language: str) -> Locale:
    """Babel's tables for a language code; raises AtlasError for a code that CLDR does not know."""
    try:
        return Locale.parse(language.replace("-", "_"))
    except (UnknownLocaleError, ValueError) as error:
        short = sorted(code for code in localedata.locale_identifiers() if len(code) == 2)
        sentence = unknown("the languages of the facts: one", language, "a language of Unicode CLDR", short)
        raise AtlasError(sentence) from error


def clean_name(name: str) -> str:
    """The name in NFC without bracketed parts, direction marks and repeated blanks: "Tripoli (Libye)" -> "Tripoli"."""
    visible = MARKS_OF_DIRECTION.sub("", unicodedata.normalize("NFC", name))
    return " ".join(BRACKETED.sub("", visible).split())


def is_plain_name(name: str) -> bool:
    """Whether a name is short enough and no list ("Knox, Indiana") to stand in a sentence."""
    return 0 < len(name) <= LONGEST_NAME and not re.search(r"[,、，]", name)


def read_name(kind: str, code: str, language: str) -> str | None:
    """The cleaned name of a territory, language, script, currency or zone in a language; None where CLDR has none."""
    locale = locale_of(language)
    if kind == "zone":
        name = city_name(code, language)
    else:
        tables = {"territory": "territories", "language": "languages", "script": "scripts", "currency": "currencies"}
        name = getattr(locale, tables[kind]).get(code)
    return clean_name(name) if name else None


def city_name(zone: str, language: str) -> str | None:
    """The exemplar city of a time zone.

    CLDR leaves a city out where it is written as in the zone's id, which holds only in languages with Latin letters:
    there the last part of the id is the name, elsewhere the name is missing.
    """
    zones = locale_of(language).time_zones
    for code in (zone, *older_ids().get(zone, ())):
        city = zones.get(code, {}).get("city")
        if city:
            return city
    return zone.rsplit("/", 1)[-1].replace("_", " ") if is_written_in_latin(language) else None


@cache
def older_ids() -> dict[str, tuple[str, ...]]:
    """The former ids of each time zone: CLDR still names "Asia/Kolkata" under "Asia/Calcutta"."""
    former: dict[str, list[str]] = {}
    for alias, zone in sorted(get_global("zone_aliases").items()):
        former.setdefault(zone, []).append(alias)
    return {zone: tuple(aliases) for zone, aliases in former.items()}


def is_written_in_latin(language: str) -> bool:
    """Whether the likely script of a language is Latin."""
    base = locale_of(language).language
    return "_Latn" in get_global("likely_subtags").get(base, "")
