"""Templates of the catalog: each one valid; reading: each mistake a sentence with file, relation and number."""

import re

import pytest
import yaml

from knatlas.catalog import FOLDER, NEEDED, read_catalog
from knatlas.errors import AtlasError
from knatlas.facts.cldr_pairs import READINGS
from knatlas.facts.table import TEMPLATE_COLUMNS
from knatlas.facts.templates import read_templates

LANGUAGES = sorted(path.stem for path in (FOLDER / "templates").glob("*.yaml"))
GOOD = {"P36": ["The capital of [X] is [Y]", "[X] has its capital in [Y]"]}


@pytest.fixture(scope="module")
def catalog(root):
    return read_templates(root / "catalog" / "templates", LANGUAGES, list(READINGS), at_least=5)


def test_every_relation_has_five_templates_in_every_language(catalog):
    counts = catalog.groupby(["relation", "language"]).size()
    assert len(counts) == len(READINGS) * len(LANGUAGES) and counts.min() >= 5
    assert list(catalog.columns) == TEMPLATE_COLUMNS


def test_every_template_has_free_standing_slots_and_ends_with_the_object(catalog):
    wrong = [pattern for pattern in catalog["pattern"] if not re.fullmatch(r"(\S.* )?\[X\] (\S.* )?\[Y\]", pattern)]
    assert wrong == []
    assert not catalog["pattern"].str.contains("  ").any()


def test_no_two_templates_of_a_relation_are_equal_up_to_the_object(catalog):
    beginnings = catalog["pattern"].str.removesuffix("[Y]")
    assert not catalog.assign(beginning=beginnings).duplicated(["relation", "language", "beginning"]).any()


def test_numbers_run_from_zero_in_the_order_of_the_file(root, catalog):
    listed = yaml.safe_load((root / "catalog" / "templates" / "fi.yaml").read_text(encoding="utf-8"))["P36"]
    rows = catalog[(catalog["language"] == "fi") & (catalog["relation"] == "P36")]
    assert list(rows["template"]) == list(range(len(listed))) and list(rows["pattern"]) == listed
    assert not rows["is_checked"].any()


def test_the_catalog_names_every_relation_and_language_of_the_templates(catalog):
    relations = read_catalog("relations")
    assert {name for name, row in relations.items() if "cldr" in row} == set(READINGS) == set(catalog["relation"])
    assert all(row["name"] and row["description"] for row in relations.values())
    assert all(re.fullmatch(r"P\d+", name) for name in relations)
    assert set(LANGUAGES) <= set(read_catalog("languages"))


def test_every_language_of_the_catalog_has_the_keys_of_a_row_with_texts_in_them():
    for code, row in read_catalog("languages").items():
        assert {*NEEDED["languages"]} <= set(row) <= {*NEEDED["languages"], "mpararel"}, code
        texts = [row[key] for key in row if key not in ("is_latin", "separator")]
        assert all(isinstance(text, str) and text.strip() for text in texts), code
        assert row["separator"] in (" ", ""), code


def write(folder, content, language="en"):
    text = content if isinstance(content, str) else yaml.safe_dump(content, allow_unicode=True)
    (folder / f"{language}.yaml").write_text(text, encoding="utf-8")


def mistakes(folder, *, at_least=1, languages=("en",), relations=("P36",)):
    with pytest.raises(AtlasError) as error:
        read_templates(folder, list(languages), list(relations), at_least)
    return str(error.value).splitlines()


def test_good_templates_are_read(tmp_path):
    write(tmp_path, GOOD)
    table = read_templates(tmp_path, ["en"], ["P36"])
    assert table.to_dict("list") == {
        "relation": ["P36"] * 2,
        "language": ["en"] * 2,
        "template": [0, 1],
        "pattern": GOOD["P36"],
        "is_checked": [False] * 2,
    }


PATTERNS = [
    (["The capital is [Y]"], ["1 ('The capital is [Y]') has no [X]; expected exactly one, where the subject stands."]),
    (
        ["[X] has [Y]", "[X] is old"],
        ["2 ('[X] is old') has no [Y]; expected exactly one, where the object stands."],
    ),
    (["[X] [X] [Y] [Y]"], ["1 ('[X] [X] [Y] [Y]') has [X] 2 times; expected exactly one.", "has [Y] 2 times"]),
    (["[X] has [Y]"] * 2, ["2 ('[X] has [Y]') repeats pattern 1; write it once."]),
    ([], ["P36 has 0 patterns; expected at least 1. Add more patterns."]),
]


@pytest.mark.parametrize(("patterns", "sentences"), PATTERNS)
def test_a_wrong_pattern_is_named_with_file_relation_and_number(tmp_path, patterns, sentences):
    write(tmp_path, {"P36": patterns})
    found = mistakes(tmp_path)
    assert len(found) == len(sentences)
    for sentence, expected in zip(found, sentences, strict=True):
        assert sentence.startswith(f"{tmp_path / 'en.yaml'}: P36") and expected in sentence


def test_too_few_patterns(tmp_path):
    write(tmp_path, GOOD)
    expected = f"{tmp_path / 'en.yaml'}: P36 has 2 patterns; expected at least 5. Add more patterns."
    assert mistakes(tmp_path, at_least=5) == [expected]


def test_a_relation_that_the_file_lacks(tmp_path):
    write(tmp_path, GOOD)
    (sentence,) = mistakes(tmp_path, relations=["P37"])
    assert sentence == (
        f"{tmp_path / 'en.yaml'}: the relation asked for is 'P37'; expected a relation of the file (P36). "
        "Did you mean 'P36'? Add a list of patterns for P37 to the file."
    )


def test_a_language_without_a_file(tmp_path):
    write(tmp_path, GOOD)
    (sentence,) = mistakes(tmp_path, languages=["en", "fi"])
    assert sentence == (
        f"the language of the templates is 'fi'; expected a file of {tmp_path} (en). "
        f"Write fi.yaml into {tmp_path}, with a list of patterns per relation."
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("- [X] is [Y]", "line 1 is not YAML: did not find expected '-' indicator"),
        ("P36:\n  - Capital: [X] is [Y]", "Quote each pattern that begins with [X] or has a colon."),
        ("just words", "is not a mapping; expected lines such as 'P36:'"),
        ("P36: one pattern", "P36 is not a list of patterns; quote a pattern that begins with [X] or has a colon."),
        ("P36:\n  - [X]\n", "P36 is not a list of patterns; quote a pattern that begins with [X] or has a colon."),
    ],
)
def test_files_of_another_form(tmp_path, content, expected):
    write(tmp_path, content)
    (sentence,) = mistakes(tmp_path)
    assert sentence.startswith(str(tmp_path / "en.yaml")) and expected in sentence


def test_all_mistakes_of_all_files_are_listed_at_once(tmp_path):
    write(tmp_path, {"P36": ["[X]", "[Y]"]})
    write(tmp_path, {"P36": ["[X] [Y]", "[X] [Y]"]}, "fi")
    assert len(mistakes(tmp_path, languages=["en", "fi", "hu"])) == 4
