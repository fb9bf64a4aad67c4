"""Which subject goes with which object in Unicode CLDR: one small function per relation, ids only."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date

from babel.core import get_global
from babel.languages import get_official_languages
from babel.numbers import get_territory_currencies

from knatlas.errors import AtlasError, nearest

Pairs = list[tuple[str, str]]

# Claimed by two states: an atlas of facts should not take sides.
CONTESTED_ZONES = {
    "Africa/El_Aaiun",
    "Asia/Famagusta",
    "Asia/Gaza",
    "Asia/Hebron",
    "Asia/Jerusalem",
    "Asia/Taipei",
    "Atlantic/South_Georgia",
    "Atlantic/Stanley",
    "Europe/Simferopol",
}
CONTINENT_OF_AREA = {
    "Africa": "002",
    "America": "019",
    "Asia": "142",
    "Europe": "150",
    "Australia": "009",
    "Pacific": "009",
}
# The continent of these is a matter of convention: their zone's area says one thing and many books another.
BETWEEN_CONTINENTS = {"AM", "AZ", "CY", "EG", "GE", "KZ", "TR"}


@dataclass(frozen=True)
class Reading:
    """How a relation is read: the kind of its subject and of its object, and the function that lists the id pairs."""

    subject: str
    object: str
    pairs: Callable[[date, list[str]], Pairs]


def capitals_of_territories(as_of: date, capitals: list[str]) -> Pairs:
    """P36: the territory of each listed zone with the zone; CLDR itself does not say which city is a capital."""
    territories = get_global("zone_territories")
    for zone in capitals:
        if zone not in territories:
            sentence = f"the list of capitals has '{zone}'; expected a time-zone id of Unicode CLDR"
            raise AtlasError(f"{sentence} such as Europe/Paris.{nearest(zone, territories)}")
    return sorted((territories[zone], zone) for zone in set(capitals))


def official_languages(as_of: date, capitals: list[str]) -> Pairs:
    """P37: territories with exactly one official language, in law or in fact."""
    found = ((code, get_official_languages(code, de_facto=True)) for code in countries("territory_languages"))
    return [(code, languages[0]) for code, languages in found if len(languages) == 1]


def currencies(as_of: date, capitals: list[str]) -> Pairs:
    """P38: territories with exactly one legal tender on the given day."""
    found = ((code, get_territory_currencies(code, as_of, as_of)) for code in countries("territory_currencies"))
    return [(code, tender[0]) for code, tender in found if len(tender) == 1]


def continents(as_of: date, capitals: list[str]) -> Pairs:
    """P30: territories whose zone ids all begin with the same continent; zones that begin with an ocean say nothing."""
    found = []
    for code, zones in sorted(get_global("territory_zones").items()):
        areas = {zone.split("/")[0] for zone in zones} - {"Atlantic", "Indian"}
        places = {CONTINENT_OF_AREA.get(area) for area in areas}
        if len(places) == 1 and None not in places and code not in BETWEEN_CONTINENTS:
            found.append((code, places.pop()))
    return found


def countries_of_places(as_of: date, capitals: list[str]) -> Pairs:
    """P17: the place that names a time zone with the zone's territory, without places that two states claim."""
    return sorted(
        (zone, territory)
        for zone, territory in get_global("zone_territories").items()
        if zone not in CONTESTED_ZONES and is_country(territory) and territory != "AQ"
    )


def scripts_of_languages(as_of: date, capitals: list[str]) -> Pairs:
    """P282: languages with their likely script."""
    return [(language, script) for language, script, _ in likely_subtags()]


def territories_of_languages(as_of: date, capitals: list[str]) -> Pairs:
    """P2341, read loosely: languages with the territory in which most of their speakers are likely to live."""
    return [(language, territory) for language, _, territory in likely_subtags() if is_country(territory)]


def countries(table: str) -> Iterable[str]:
    """The two-letter territory codes of one of CLDR's tables, in order."""
    return sorted(code for code in get_global(table) if is_country(code))


def is_country(code: str) -> bool:
    """Whether a code is one of a territory (two letters, not ZZ for "unknown")."""
    return len(code) == 2 and code.isalpha() and code != "ZZ"


def likely_subtags() -> list[tuple[str, str, str]]:
    """Language, likely script and likely territory of every language that CLDR gives all three for, in order."""
    entries = get_global("likely_subtags").items()
    parts = [full.split("_") for language, full in sorted(entries) if "_" not in language and language != "und"]
    return [(part[0], part[1], part[2]) for part in parts if len(part) == 3]


READINGS = {
    "P36": Reading("territory", "zone", capitals_of_territories),
    "P37": Reading("territory", "language", official_languages),
    "P38": Reading("territory", "currency", currencies),
    "P30": Reading("territory", "territory", continents),
    "P17": Reading("zone", "territory", countries_of_places),
    "P282": Reading("language", "script", scripts_of_languages),
    "P2341": Reading("language", "territory", territories_of_languages),
}
