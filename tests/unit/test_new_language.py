"""A language outside the seven: one row of the catalog, and files in mParaRel's format, are all that it takes."""

import pandas as pd
import pytest

from knatlas.catalog import read_catalog
from knatlas.errors import AtlasError
from knatlas.facts.composition import compose
from knatlas.facts.prompts import build_prompts
from knatlas.facts.sources import read_source
from knatlas.study import read_study

SWEDISH = {"name": "Swedish", "family": "Indo-European", "script": "Latin", "is_latin": True, "separator": " "}
THAI = {"name": "Thai", "family": "Kra-Dai", "script": "Thai", "is_latin": False, "separator": "", "mpararel": "th-th"}
SETTINGS = {
    "source": "mpararel",
    "relations": "all",
    "chinese": "zh-hans",
    "exclude_marks": [],
    "facts_per_relation": None,
    "cap_answers": False,
}


@pytest.fixture
def catalog(monkeypatch):
    """The languages of the catalog with two more rows; Swedish names no folder, so its folder is its code."""
    languages = read_catalog("languages")
    monkeypatch.setitem(languages, "sv", {**SWEDISH, "blank": "___", "cue": "Svar:"})
    monkeypatch.setitem(languages, "th", {**THAI, "blank": "___", "cue": "คำตอบ:"})
    return languages


@pytest.fixture
def folders(root):
    return [root / "tests" / "data" / "new_language" / "mpararel"]


def read(languages, folders, **changes):
    return read_source({**SETTINGS, **changes}, languages, 0, folders)


def test_facts_and_templates_of_a_new_language_are_read(catalog, folders):
    facts, templates, _ = read(["en", "sv"], folders)
    assert facts["fact"].unique().tolist() == ["P36:Q183>Q64", "P36:Q34>Q1754", "P37:Q183>Q188", "P37:Q34>Q9027"]
    swedish = facts[facts["language"] == "sv"].set_index("fact")
    assert swedish.loc["P37:Q34>Q9027", ["subject_label", "object_label"]].tolist() == ["Sverige", "svenska"]
    assert swedish["same_as_english"].tolist() == [True, True, False, False]
    assert not swedish["latin_object"].any()
    assert templates[templates["language"] == "sv"]["pattern"].tolist() == [
        "huvudstaden i [X] är [Y]",
        "[X] styrs från [Y]",
        "[Y] är huvudstaden i [X]",
        "[Y] är officiellt språk i [X]",
        "i [X] är det officiella språket [Y]",
    ]


def test_the_seven_are_not_needed(catalog, folders):
    facts, _, _ = read(["sv"], folders)
    assert facts["fact"].nunique() == 4 and set(facts["language"]) == {"sv"}


def test_a_language_of_another_script_without_blanks_is_treated_by_its_row(catalog, folders):
    facts, templates, _ = read(["th", "en"], folders)
    thai = facts[facts["language"] == "th"].set_index("object")
    assert thai["latin_object"].to_dict() == {"Q64": True, "Q1754": False, "Q585": False}
    # of two twins the one without blanks stays, as the language is written
    patterns = templates[templates["language"] == "th"]["pattern"].tolist()
    assert patterns == ["เมืองหลวงของ[X]คือ[Y]", "[Y]เป็นเมืองหลวงของ[X]"]
    assert set(facts["relation"]) == {"P36"}


def test_prompts_of_a_new_language_use_its_cue(catalog, folders):
    facts, templates, _ = read(["en", "sv"], folders)
    languages = {code: catalog[code] for code in ("en", "sv")}
    prompts, steps = build_prompts(facts, templates, languages, "auto", 2)
    swedish = prompts[(prompts["fact"] == "P37:Q34>Q9027") & (prompts["language"] == "sv")].set_index("kind")
    assert swedish.loc["masked", ["before", "after"]].values.tolist() == [
        ["", " är officiellt språk i Sverige"],
        ["i Sverige är det officiella språket", ""],
    ]
    assert swedish.loc["causal", ["mode", "before", "separator"]].values.tolist() == [
        ["cued", "___ är officiellt språk i Sverige\nSvar:", " "],
        ["final", "i Sverige är det officiella språket", " "],
    ]
    kept = steps[(steps["name"] == "parallel") & (steps["language"] == "sv")]
    assert kept["facts"].tolist() == [4] and kept["prompts"].tolist() == [10 + 8]


def test_prompts_of_a_new_language_can_be_composed_into_table_1(catalog, folders):
    facts, templates, steps = read(["sv", "th"], folders)
    languages = {code: catalog[code] for code in ("sv", "th")}
    prompts, _ = build_prompts(facts, templates, languages, "auto", 2, ("masked",))
    table = compose(facts, prompts, languages, cleaning=steps)
    lengths = table[table["statistic"] == "mean_length"].set_index("language")
    assert lengths["unit"].to_dict() == {"sv": "words", "th": "characters"}
    # huvudstaden i Sverige är; Sverige styrs från; är huvudstaden i Sverige
    assert lengths.loc["sv", "value"] == pytest.approx((4 + 3 + 4) / 3)
    assert table[table["statistic"] == "families"]["value"].tolist() == [2]


def test_a_study_may_name_it(catalog):
    study = read_study({"study": "nordic", "languages": ["en", "sv"], "models": ["mbert", "mgpt"]})
    assert study["languages"] == ["en", "sv"]


def test_a_row_that_lacks_a_key_is_refused_with_the_key(catalog, folders, monkeypatch):
    monkeypatch.setitem(catalog, "sv", {key: value for key, value in catalog["sv"].items() if key != "cue"})
    with pytest.raises(AtlasError, match=r"languages\.yaml: the row 'sv' has no cue; every row needs family script"):
        read(["en", "sv"], folders)


def test_a_language_without_files_is_refused_with_the_folders_that_are_there(catalog, folders, monkeypatch):
    monkeypatch.setitem(catalog, "da", {**catalog["sv"]})
    with pytest.raises(AtlasError, match=r"the language asked for is 'da'; expected a folder of it \(en sv th-th\)"):
        read(["en", "da"], folders)


def test_facts_of_any_subset_of_languages_are_at_least_those_of_all(catalog, folders):
    everywhere = set(read(["en", "sv", "th"], folders)[0]["fact"])
    assert everywhere == {"P36:Q183>Q64", "P36:Q34>Q1754"}
    for subset in (["en"], ["sv"], ["th"], ["en", "sv"], ["sv", "th"], ["th", "en"]):
        facts, _, _ = read(subset, folders)
        assert everywhere <= set(facts["fact"])
        assert pd.unique(facts["language"]).tolist() == subset
