"""Facts of the embedded source: exact names in seven languages, what is left out, and each error sentence."""

import re

import pandas as pd
import pytest
import yaml

from knatlas.catalog import FOLDER, read_catalog
from knatlas.errors import AtlasError
from knatlas.facts.cldr import drop_unusable, read_cldr
from knatlas.facts.cldr_names import city_name, cldr_version, clean_name, is_plain_name, is_written_in_latin
from knatlas.facts.cldr_pairs import BETWEEN_CONTINENTS, CONTESTED_ZONES, READINGS, continents, countries_of_places
from knatlas.facts.table import FACT_COLUMNS, STEP_COLUMNS

LANGUAGES = ["en", "fr", "zh", "fi", "hu", "ja", "ko"]
DAY = "2025-01-01"


@pytest.fixture(scope="module")
def capitals(root):
    return yaml.safe_load((root / "catalog" / "capitals.yaml").read_text(encoding="utf-8"))["zones"]


@pytest.fixture(scope="module")
def table(capitals):
    return read_cldr(LANGUAGES, list(READINGS), DAY, capitals)


@pytest.fixture(scope="module")
def facts(table):
    return table[0]


EXACT = {
    "P36:FR>Europe/Paris": "France Paris|France Paris|法国 巴黎|Ranska Pariisi|Franciaország Párizs"
    "|フランス パリ|프랑스 파리",
    "P36:FI>Europe/Helsinki": "Finland Helsinki|Finlande Helsinki|芬兰 赫尔辛基|Suomi Helsinki|Finnország Helsinki"
    "|フィンランド ヘルシンキ|핀란드 헬싱키",
    "P37:BR>pt": "Brazil Portuguese|Brésil portugais|巴西 葡萄牙语|Brasilia portugali|Brazília portugál"
    "|ブラジル ポルトガル語|브라질 포르투갈어",
    "P38:FR>EUR": "France Euro|France euro|法国 欧元|Ranska euro|Franciaország euró|フランス ユーロ|프랑스 유로",
    "P30:KE>002": "Kenya Africa|Kenya Afrique|肯尼亚 非洲|Kenia Afrikka|Kenya Afrika|ケニア アフリカ|케냐 아프리카",
    "P17:Europe/Istanbul>TR": "Istanbul Türkiye|Istanbul Turquie|伊斯坦布尔 土耳其|Istanbul Turkki"
    "|Isztanbul Törökország|イスタンブール トルコ|이스탄불 튀르키예",
    "P282:ru>Cyrl": "Russian Cyrillic|russe cyrillique|俄语 西里尔文|venäjä kyrillinen|orosz Cirill|ロシア語 キリル文字"
    "|러시아어 키릴 문자",
    "P2341:sw>TZ": "Swahili Tanzania|swahili Tanzanie|斯瓦希里语 坦桑尼亚|swahili Tansania|szuahéli Tanzánia"
    "|スワヒリ語 タンザニア|스와힐리어 탄자니아",
}


@pytest.mark.parametrize("fact", EXACT)
def test_a_fact_has_its_names_in_seven_languages(facts, fact):
    rows = facts[facts["fact"] == fact]
    assert list(rows["language"]) == LANGUAGES
    assert list(rows["subject_label"] + " " + rows["object_label"]) == EXACT[fact].split("|")


def test_a_fact_id_names_relation_subject_and_object(facts):
    row = facts[facts["fact"] == "P36:FR>Europe/Paris"].iloc[0]
    assert (row["relation"], row["subject"], row["object"]) == ("P36", "FR", "Europe/Paris")


def test_facts_and_answers_per_relation_are_those_of_the_documentation(facts, root):
    rows = facts.groupby("relation").agg({"fact": "nunique", "object": "nunique"})
    page = (root / "docs" / "data.md").read_text(encoding="utf-8")
    documented = re.findall(r"^\| (P\d+) .* \| (\d+) \| (\d+) \|$", page, re.MULTILINE)
    assert {name: (int(n), int(m)) for name, n, m in documented} == {
        row.Index: tuple(row[1:]) for row in rows.itertuples()
    }
    assert f"CLDR {cldr_version()}" in page and f"{rows['fact'].sum():,} facts" in page


def test_every_fact_has_one_row_per_language(facts):
    assert list(facts.columns) == FACT_COLUMNS
    assert not facts.duplicated(["fact", "language"]).any()
    assert (facts.groupby("fact")["language"].agg(list).map(tuple) == tuple(LANGUAGES)).all()


def test_names_are_short_unbracketed_and_differ_from_each_other(facts):
    for role in ("subject_label", "object_label"):
        assert facts[role].map(len).between(1, 24).all()
        assert not facts[role].str.contains(r"[()\[\]（）,]").any()
    assert (facts["subject_label"] != facts["object_label"]).all()


def test_no_two_subjects_or_objects_share_a_name(facts):
    for role in ("subject", "object"):
        assert facts.groupby(["relation", "language", f"{role}_label"])[role].nunique().max() == 1


def test_reading_twice_gives_the_same_rows(table, capitals):
    again, steps = read_cldr(LANGUAGES, list(READINGS), DAY, list(reversed(capitals)))
    assert again.equals(table[0]) and steps.equals(table[1])


def test_relations_come_in_the_order_asked_for(capitals):
    facts, _ = read_cldr(["en"], ["P30", "P36"], DAY, capitals)
    assert list(facts["relation"].unique()) == ["P30", "P36"]
    assert list(facts.loc[facts["relation"] == "P30", "subject"]) == sorted(
        facts.loc[facts["relation"] == "P30", "subject"]
    )


def test_steps_only_ever_lose_facts_and_end_with_those_of_the_table(table):
    facts, steps = table
    assert list(steps.columns) == STEP_COLUMNS
    left = steps.loc[steps["language"] == "all"]
    assert list(left["name"]) == ["read", "named", "plain", "distinct", "unambiguous"]
    assert left["facts"].is_monotonic_decreasing and left["facts"].iloc[-1] == facts["fact"].nunique()
    named = steps[(steps["name"] == "named") & (steps["language"] != "all")]
    assert list(named["language"]) == LANGUAGES and named["facts"].min() >= left["facts"].iloc[1]


def test_each_step_drops_the_fact_it_should_in_all_languages():
    names = {
        "P36:A>a": ("Alpha", "Alfa", "Aa", "Aa2"),
        "P36:B>b": ("Beta", None, "Bb", "Bb2"),
        "P36:C>c": ("Gamma", "Gamma, ville", "Cc", "Cc2"),
        "P36:D>d": ("Delta", "Delta", "Dd", "Delta"),
        "P36:E>e": ("Epsilon", "Zeta", "Ee", "Ee2"),
        "P36:F>f": ("Digamma", "Zeta", "Ff", "Ff2"),
    }
    rows = [
        (fact, "P36", fact[4], fact[6], language, names[fact][place], names[fact][place + 2])
        for fact in names
        for place, language in enumerate(["en", "fr"])
    ]
    columns = ["fact", "relation", "subject", "object", "language", "subject_label", "object_label"]
    facts, steps = drop_unusable(pd.DataFrame(rows, columns=columns), ["en", "fr"])
    assert list(facts["fact"]) == ["P36:A>a"] * 2
    counts = [tuple(row) for row in steps[["name", "language", "facts"]].to_numpy()]
    assert counts == [
        ("read", "all", 6),
        ("named", "en", 6),
        ("named", "fr", 5),
        ("named", "all", 5),
        ("plain", "all", 4),
        ("distinct", "all", 3),
        ("unambiguous", "all", 1),
    ]


def test_the_day_decides_the_currency():
    before, after = (
        read_cldr(["en"], ["P38"], day, [])[0].set_index("subject") for day in ("1995-06-01", "2025-01-01")
    )
    assert (before.loc["FI", "object"], after.loc["FI", "object"]) == ("FIM", "EUR")


def test_contested_and_unclear_places_are_left_out(facts, capitals):
    places = {zone for zone, _ in countries_of_places(None, [])}
    assert places.isdisjoint(CONTESTED_ZONES) and CONTESTED_ZONES.isdisjoint(capitals)
    assert not any(zone.startswith(("Etc/", "Antarctica/Vostok")) for zone in places)
    of_continents = dict(continents(None, []))
    assert BETWEEN_CONTINENTS.isdisjoint(of_continents) and "RU" not in of_continents
    assert of_continents["PT"] == "150"  # Lisbon decides, the Azores lie in an ocean


def test_every_capital_of_the_list_is_one_of_a_kind(capitals):
    assert len(capitals) == len(set(capitals)) and len(capitals) > 125
    facts, _ = read_cldr(["en"], ["P36"], DAY, capitals)
    assert facts["subject"].is_unique and len(facts) == len(capitals)


@pytest.mark.parametrize(
    ("zone", "language", "name"),
    [
        ("Africa/Addis_Ababa", "en", "Addis Ababa"),  # CLDR leaves out what the id says
        ("Asia/Kolkata", "zh", "加尔各答"),  # named under its former id, Asia/Calcutta
        ("America/Argentina/Buenos_Aires", "ja", "ブエノスアイレス"),
        ("Etc/UTC", "ja", None),  # no name, and the id is no name where Latin letters are foreign
        ("Europe/London", "fr", "Londres"),
    ],
)
def test_city_names_fall_back_to_the_id_only_in_latin_letters(zone, language, name):
    assert city_name(zone, language) == name


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("Tripoli (Libye)", "Tripoli"),
        ("Knox [Indiana]", "Knox"),
        ("刚果（金）", "刚果"),
        ("ノルウェー語(ブークモール)", "ノルウェー語"),
        ("Co\u0302te\u00a0d’Ivoire\u200e", "Côte d’Ivoire"),
    ],
)
def test_names_lose_brackets_and_invisible_characters(raw, clean):
    assert clean_name(raw) == clean


def test_a_plain_name_has_at_most_24_characters_and_no_comma():
    assert is_plain_name("x" * 24) and not is_plain_name("x" * 25)
    assert not is_plain_name("Knox, Indiana") and not is_plain_name("")


@pytest.mark.parametrize("language", sorted(path.stem for path in (FOLDER / "templates").glob("*.yaml")))
def test_every_language_with_templates_has_names_for_each_relation_in_the_letters_of_its_row(language, capitals):
    facts, _ = read_cldr([language], list(READINGS), DAY, capitals)
    assert set(facts["relation"]) == set(READINGS)
    assert is_written_in_latin(language) == read_catalog("languages")[language]["is_latin"]


def test_scripts_of_the_seven_languages():
    assert [is_written_in_latin(code) for code in LANGUAGES] == [True, True, False, True, True, False, False]


def test_the_release_of_cldr_is_a_number():
    assert int(cldr_version()) >= 47


def test_an_unknown_relation_and_language_are_named_together():
    with pytest.raises(AtlasError) as error:
        read_cldr(["en", "jp"], ["P3", "P36"], DAY, ["Europe/Paris"])
    first, second = str(error.value).splitlines()
    assert first.startswith(
        "the relations of the embedded facts: one is 'P3'; expected a relation that CLDR answers (P36 "
    )
    assert second.startswith("the languages of the facts: one is 'jp'; expected a language of Unicode CLDR (aa ab ")
    assert "Did you mean '" in first


def test_a_day_that_is_none_is_an_error():
    with pytest.raises(AtlasError, match=r"\(as_of\) is '2025-13-01'; expected a day such as 2025-01-01\."):
        read_cldr(["en"], ["P38"], "2025-13-01", [])


def test_a_capital_that_is_no_zone_is_an_error():
    with pytest.raises(
        AtlasError, match=r"has 'Europe/Pariis'; expected a time-zone id .* Did you mean 'Europe/Paris'\?"
    ):
        read_cldr(["en"], ["P36"], DAY, ["Europe/Pariis"])
