"""Mistakes in the catalog: tables, templates, recipes."""

import pytest

from knatlas.catalog import read_catalog
from knatlas.errors import AtlasError

RECIPE = "    family: gpt2\n    width: 64"
FRENCH = '  - "[X] a pour capitale [Y]"\n'


def replace(path, old: str, new: str) -> None:
    """Change the first place of a text in a file."""
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


# name, table, old, new, the sentence
TABLES = [
    ("broken YAML", "models", "recipe:\n", "recipe\n", "models.yaml, line"),
    ("tab", "languages", "fi: {name", "\tfi: {name", "The line has a tab; YAML is indented with blanks"),
    ("row twice", "relations", "P38:\n", "P37:\n", "relations.yaml, line 13: the key 'P37' stands in line 8 already"),
    ("broken list of data sets", "datasets", "mpararel:\n", "mpararel\n", "datasets.yaml, line"),
    ("key twice", "languages", "family: Uralic", "name: Uralic", "the key 'name' stands in line"),
    (
        "text for true or false",
        "languages",
        "is_latin: true",
        'is_latin: "yes"',
        "languages.yaml: is_latin of the row 'en' is 'yes'; expected true or false, without quotes",
    ),
    ("row without a key", "models", "  kind: masked\n", "", "models.yaml: the row 'tiny-bert' has no kind; add it"),
]


@pytest.mark.parametrize(("table", "old", "new", "sentence"), [case[1:] for case in TABLES], ids=[c[0] for c in TABLES])
def test_a_table_with_a_mistake_is_refused_before_anything_is_planned(place, own_catalog, table, old, new, sentence):
    replace(own_catalog / f"{table}.yaml", old, new)
    place.refuses(sentence, place.snakemake("-n", "all", configfile=place.write(place.study)))


# name, old, new, the sentence: keys and values of the recipe of smoke-gpt2
RECIPES = [
    ("wrong key", "hieght: 64", "smoke-gpt2.recipe: key is 'hieght'; expected a key of a recipe"),
    ("wrong family", "width: 64\n    family: gtp2", "smoke-gpt2.recipe.family is 'gtp2'"),
    ("wrong type", "width: wide", "smoke-gpt2.recipe: has a value of another type than its key takes"),
    ("odd width", "width: 63", "smoke-gpt2.recipe.width is 63; expected a multiple of 2 x heads (4)"),
]


@pytest.mark.parametrize(("line", "sentence"), [case[1:] for case in RECIPES], ids=[case[0] for case in RECIPES])
def test_a_recipe_with_a_mistake_is_refused_before_anything_is_planned(place, own_catalog, line, sentence):
    path = own_catalog / "models.yaml"
    head, tail = path.read_text(encoding="utf-8").split("smoke-gpt2:")
    old = RECIPE if "family" in line else "    width: 64"
    path.write_text(f"{head}smoke-gpt2:{tail.replace(old, f'    {line}', 1)}", encoding="utf-8")
    place.refuses(sentence, place.snakemake("-n", "all", configfile=place.write(place.study)))


# name, the text in place of the first French template of P36, the sentence
TEMPLATES = [
    ("no slot", '  - "[X a pour capitale [Y]"\n', "fr.yaml: P36, pattern 1 ('[X a pour capitale [Y]') has no [X]; exp"),
    ("slot twice", '  - "[X] [X] a [Y]"\n', "fr.yaml: P36, pattern 1 ('[X] [X] a [Y]') has [X] 2 times; expected"),
    ("template twice", FRENCH + FRENCH, "fr.yaml: P36, pattern 2 ('[X] a pour capitale [Y]') repeats pattern 1"),
    ("no quotes", "  - [X] a pour capitale [Y]\n", "fr.yaml, line 3 is not YAML: did not find expected '-' indicator"),
    ("relation twice", f"{FRENCH}P37:\n{FRENCH}", "the key 'P37' stands in line 4 already; keep one of the two"),
    ("no list", "  a: b\nP0:\n  - a\n", "fr.yaml: P36 is not a list of patterns"),
]


@pytest.mark.parametrize(("text", "sentence"), [case[1:] for case in TEMPLATES], ids=[case[0] for case in TEMPLATES])
def test_templates_with_a_mistake_stop_the_job_that_reads_them(place, own_catalog, text, sentence):
    replace(own_catalog / "templates" / "fr.yaml", FRENCH, text)
    place.refuses(sentence, read_facts(place), is_job=True)


def test_a_relation_that_the_templates_lack_is_named_with_the_nearest(place, own_catalog):
    replace(own_catalog / "templates" / "fr.yaml", "P36:\n", "P360:\n")
    sentence = "fr.yaml: the relation asked for is 'P36'; expected a relation of the file (P360 P37"
    assert "Did you mean 'P360'?" in place.refuses(sentence, read_facts(place), is_job=True)


def test_a_language_without_templates_is_named(place, own_catalog):
    (own_catalog / "templates" / "fr.yaml").unlink()
    shown = place.refuses("the language of the templates is 'fr'; expected a file of", read_facts(place), is_job=True)
    assert "Did you mean" not in shown


def test_a_missing_or_empty_table_is_named(own_catalog):
    (own_catalog / "capitals.yaml").unlink()
    with pytest.raises(AtlasError, match=r"capitals.yaml is not there; the catalog belongs to the repository"):
        read_catalog("capitals")
    (own_catalog / "sizes.yaml").write_text("")
    with pytest.raises(AtlasError, match=r"sizes.yaml holds no mapping"):
        read_catalog("sizes")


def read_facts(place) -> tuple[object, str]:
    """What the job says that reads facts and templates."""
    settings = {"source": "cldr", "relations": ["P36", "P37"], "as_of": "2025-01-01", "exclude_marks": []}
    settings |= {"facts_per_relation": 3, "cap_answers": False}
    files = {name: place.folder / "out" / f"{name}.parquet" for name in ("facts", "templates", "steps")}
    params = {"facts": settings, "languages": ["en", "fr"], "seed": 0}
    return place.script("read_facts", input={"datasets": []}, output=files, params=params)
