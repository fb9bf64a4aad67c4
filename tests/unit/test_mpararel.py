"""mParaRel: parallel facts and templates of a hand-written extract, its errors, and the counts of the real data."""

import shutil
from collections import Counter

import pytest

from knatlas.errors import AtlasError
from knatlas.facts.cleaning import keep_parallel, merge_near_duplicates, repair_pattern
from knatlas.facts.mpararel import codes_of, label_facts, read_labels, read_mpararel, read_patterns
from knatlas.facts.table import FACT_COLUMNS, TEMPLATE_COLUMNS

SEVEN = ["en", "fr", "zh", "fi", "hu", "ja", "ko"]
SIX = [language for language in SEVEN if language != "zh"]


@pytest.fixture
def folder(root):
    return root / "tests" / "data" / "mpararel"


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "mpararel")


def totals(steps):
    return steps[steps["language"] == "all"].set_index("name")


def test_facts_are_those_that_all_languages_name(folder):
    facts, _, _ = read_mpararel(folder, ["en", "fr", "zh"])
    assert list(facts.columns) == FACT_COLUMNS
    assert facts["fact"].drop_duplicates().tolist() == [
        "P36:Q142>Q90",
        "P36:Q17>Q1490",
        "P36:Q183>Q64",
        "P37:Q142>Q150",
        "P37:Q183>Q188",
    ]
    assert facts["language"].tolist() == ["en", "fr", "zh"] * 5
    germany = facts[facts["fact"] == "P36:Q183>Q64"]
    assert germany["subject_label"].tolist() == ["Germany", "Allemagne", "德国"]
    assert germany["object_label"].tolist() == ["Berlin", "Berlin", "柏林"]
    assert germany["same_as_english"].tolist() == [False, True, False]


def test_templates_are_mended_merged_and_numbered(folder):
    _, templates, _ = read_mpararel(folder, ["en", "fr", "zh"])
    assert list(templates.columns) == TEMPLATE_COLUMNS
    capital = templates[templates["relation"] == "P36"]
    assert list(capital[["language", "template", "pattern", "is_checked"]].itertuples(index=False, name=None)) == [
        ("en", 0, "the capital of [X] is [Y]", False),
        ("en", 1, "[X], governed from [Y]", False),
        ("en", 2, "[X] has its capital at [Y]", False),
        ("fr", 0, "la capitale de [X] c'est [Y] .", True),
        ("fr", 1, "[X] est gouverné depuis [Y]", False),
        ("zh", 0, "[X]的首都叫[Y]", False),
        ("zh", 1, "[Y] ，[X] 的首都", False),
    ]
    assert templates["is_checked"].dtype == bool


def test_every_step_is_counted(folder):
    _, _, steps = read_mpararel(folder, ["en", "fr", "zh"])
    all_languages = totals(steps)
    assert all_languages["facts"].to_dict() == {
        "read": 8,
        "labels": 8,
        "patterns": 8,
        "twins": 8,
        "parallel": 7,
        "templates": 5,
    }
    assert all_languages["templates"].tolist() == [14, 14, 14, 12, 12, 10]
    assert all_languages.loc["labels", "sentence"].startswith("3 labels mended")
    assert all_languages.loc["templates", "sentence"].endswith("dropped: P30")
    read = steps[steps["name"] == "read"].set_index("language")
    assert read["facts"].to_dict() == {"all": 8, "en": 8, "fr": 8, "zh": 7}
    assert read["templates"].to_dict() == {"all": 14, "en": 5, "fr": 4, "zh": 5}


def test_native_chinese_leaves_out_labels_copied_from_english(folder):
    facts, templates, _ = read_mpararel(folder, ["en", "zh"], ["P36"], "native")
    chinese = facts[facts["language"] == "zh"]
    assert chinese["object_label"].tolist() == ["巴黎", "柏林", "羅馬"]
    assert "[X]的首都叫[Y]" in templates["pattern"].tolist()


def test_the_choice_of_chinese_does_not_matter_without_chinese(folder):
    one, other = (read_mpararel(folder, ["en", "fi"], chinese=name)[0] for name in ("zh-hans", "native"))
    assert one.equals(other)


def test_relations_are_read_in_the_order_asked_for(folder):
    facts, templates, _ = read_mpararel(folder, ["en", "fi"], ["P37", "P30"])
    assert facts["relation"].drop_duplicates().tolist() == ["P37", "P30"]
    assert templates["relation"].drop_duplicates().tolist() == ["P37", "P30"]


def test_a_language_may_have_another_folder(copy):
    (copy / "tuples" / "zh-hans").rename(copy / "tuples" / "zh-hant")
    (copy / "patterns" / "zh-hans").rename(copy / "patterns" / "zh-hant")
    facts, _, _ = read_mpararel(copy, ["en", "zh"], codes={"zh": "zh-hant"})
    assert facts["fact"].nunique() == 7


def refused(*arguments, **options):
    with pytest.raises(AtlasError) as caught:
        read_mpararel(*arguments, **options)
    return str(caught.value)


def test_unknown_names_are_refused_with_the_nearest(folder):
    assert "is 'jp'" in refused(folder, ["en", "jp"]) and "Did you mean 'ja'?" in refused(folder, ["en", "jp"])
    assert "is 'P63'; expected a relation of mParaRel (P30 P36 P37)" in refused(folder, ["en"], ["P63"])
    assert "is 'nativ'" in refused(folder, ["en"], None, "nativ")
    assert "Did you mean 'native'?" in refused(folder, ["en"], None, "nativ")
    assert "none is given" in refused(folder, [])


def test_folders_that_are_not_there_are_named(copy, tmp_path):
    sentence = refused(tmp_path / "nowhere", ["en"])
    assert f"{tmp_path / 'nowhere' / 'tuples'} is not there" in sentence and "facts.folder" in sentence
    shutil.rmtree(copy / "patterns" / "hu")
    sentence = refused(copy, ["en", "hu"])
    assert "patterns: the language asked for is 'hu'; expected a folder of it (en fi fr ja ko zh-hans)" in sentence
    shutil.rmtree(copy / "t_rex_translation")
    assert "t_rex_translation is not there" in refused(copy, ["en", "zh"], chinese="native")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"sub_uri": "Q1", ', "is not JSON"),
        ("[1, 2]", "holds [1, 2]; expected one JSON object with the keys sub_uri obj_uri sub_label obj_label"),
        ('{"sub_uri": "Q1", "obj_uri": "Q2", "sub_lable": "a", "obj_label": "b"}', "has no key 'sub_label'"),
        ('{"sub_uri": "Q1", "obj_uri": "Q2", "sub_label": " ", "obj_label": "b"}', "'sub_label' is \" \"; expected a"),
        ('{"sub_uri": "Q1", "obj_uri": 2, "sub_label": "a", "obj_label": "b"}', "'obj_uri' is 2; expected a text"),
        ('{"sub_uri": "Q142", "obj_uri": "Q90", "sub_label": "a", "obj_label": "b"}', "repeats the fact P36:Q142>Q90"),
    ],
)
def test_a_broken_line_of_facts_is_named(copy, line, expected):
    path = copy / "tuples" / "fr" / "P36.jsonl"
    path.write_text(path.read_text() + line + "\n")
    sentence = refused(copy, ["en", "fr"])
    assert f"{path}, line 5" in sentence and expected in sentence


def test_a_misspelt_key_is_shown_with_the_right_one(copy):
    path = copy / "tuples" / "fr" / "P36.jsonl"
    path.write_text(path.read_text().replace("sub_label", "sub_lable", 1))
    assert "line 1 has no key 'sub_label'" in refused(copy, ["fr"]) and "Did you mean 'sub_lable'?" in refused(
        copy, ["fr"]
    )


def test_a_file_that_is_not_utf_8_is_named(copy):
    path = copy / "patterns" / "fr" / "P36.jsonl"
    path.write_bytes('{"pattern": "[X] où [Y]"}'.encode("latin-1"))
    assert refused(copy, ["fr"]).startswith(f"{path} is not UTF-8 text")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("in [Y]", "has no [X]"), ("[X] in", "has no [Y]"), ("[X] and [X] in [Y]", "has [X] 2 times")],
)
def test_a_pattern_without_its_slots_is_refused(copy, pattern, expected):
    path = copy / "patterns" / "fi" / "P36.jsonl"
    path.write_text(path.read_text() + f'\n{{"pattern": "{pattern}", "checked-by-human": false}}\n')
    sentence = refused(copy, ["fi"])
    assert f"{path}, line 4: the pattern '{pattern}' {expected}; expected exactly one" in sentence
    assert "Mend the line or remove it." in sentence


def test_no_fact_left_is_an_error_with_the_counts(copy):
    (copy / "patterns" / "fr" / "P36.jsonl").unlink()
    (copy / "patterns" / "fr" / "P37.jsonl").unlink()
    sentence = refused(copy, ["en", "fr"])
    assert "no fact has labels and patterns in all of en fr" in sentence
    assert "read 8, labels 8, patterns 8, twins 8, parallel 8, templates 0" in sentence


def test_a_subject_has_several_objects_also_where_only_one_is_named_in_all_languages(copy):
    path = copy / "tuples" / "en" / "P37.jsonl"
    line = '{"sub_uri": "Q142", "obj_uri": "Q12107", "sub_label": "France", "obj_label": "Breton"}\n'
    path.write_text(path.read_text() + line)
    facts, _, _ = read_mpararel(copy, ["en", "fr"])
    assert set(facts.loc[facts["several_objects"], "fact"]) == {"P37:Q142>Q150"}


@pytest.fixture(scope="module")
def real_patterns(shared_data):
    folders = {name: shared_data / "mpararel" / "patterns" / code for name, code in codes_of(SEVEN).items()}
    relations = sorted({path.stem for folder in folders.values() for path in folder.glob("*.jsonl")})
    return read_patterns(folders, relations)


@pytest.fixture(scope="module")
def real(shared_data):
    return read_mpararel(shared_data / "mpararel", SEVEN)


def test_real_patterns_per_language(real_patterns):
    assert real_patterns.groupby("language").size()[SEVEN].tolist() == [328, 431, 334, 399, 354, 331, 311]


def test_real_near_duplicates_per_language(real_patterns):
    lost = (
        real_patterns.groupby("language").size()
        - merge_near_duplicates(real_patterns, ["zh", "ja"]).groupby("language").size()
    )
    assert lost[SEVEN].tolist() == [0, 16, 88, 8, 17, 30, 2]


def test_real_facts_with_simplified_chinese(real):
    facts, templates, steps = real
    counts = totals(steps)
    assert counts.loc["parallel", "facts"] == 6659 and counts.loc["templates", "facts"] == 5966
    assert facts["fact"].nunique() == 5966 and len(facts) == 7 * 5966
    assert templates["relation"].nunique() == 36
    assert counts.loc["templates", "sentence"].endswith("dropped: P31 P276 P361 P527 P1001")
    read = steps[steps["name"] == "read"].set_index("language")
    assert read["facts"][SEVEN].tolist() == [34032, 30886, 10697, 20779, 18249, 23800, 15015]
    merged = steps[steps["name"] == "twins"].set_index("language")
    assert merged["templates"][SEVEN].tolist() == [328, 415, 246, 371, 337, 301, 304]


@pytest.mark.parametrize(
    ("languages", "chinese", "expected"), [(SEVEN, "native", (10477, 9232)), (SIX, "zh-hans", (10846, 9585))]
)
def test_real_facts_with_other_chinese_labels(shared_data, languages, chinese, expected):
    facts, _, steps = read_mpararel(shared_data / "mpararel", languages, chinese=chinese)
    counts = totals(steps)["facts"]
    assert (counts["parallel"], counts["templates"]) == expected
    assert facts["fact"].nunique() == expected[1]


def test_real_labels_have_no_invisible_marks(real):
    labels = real[0][["subject_label", "object_label"]].stack()
    assert not labels.str.contains("[\u200e\u3000]").any() and (labels == labels.str.strip()).all()


EASY = ["several_objects", "object_in_subject", "has_brackets", "object_has_blank", "latin_object"]


def test_real_facts_without_marks(real):
    facts = real[0]
    marked = facts.loc[facts[EASY].any(axis=1), "fact"]
    clean = facts[~facts["fact"].isin(marked)].drop_duplicates("fact").groupby("relation").size()
    assert clean[["P37", "P36", "P47", "P30", "P101", "P937", "P1376", "P1412", "P530"]].tolist() == [
        *(266, 198, 176, 150, 136, 124, 121, 120, 49),
    ]
    assert clean.sum() == 2567


def with_at_least(templates, n_facts, n_templates):
    """Relations with so many templates in each of the seven languages, and their facts."""
    counts = templates.groupby(["relation", "language"]).size().unstack(fill_value=0)
    relations = counts.index[(counts >= n_templates).all(axis=1)]
    return len(relations), sum(n_facts[relation] for relation in relations)


def test_real_relations_with_enough_paraphrases(shared_data, real_patterns):
    """As they are; near-duplicates merged; damaged patterns dropped too; damaged patterns mended instead."""
    folder = shared_data / "mpararel" / "tuples"
    relations = sorted(set(real_patterns["relation"]))
    facts = keep_parallel(
        label_facts({name: read_labels(folder / code, relations) for name, code in codes_of(SEVEN).items()}), SEVEN
    )
    n_facts = Counter(facts.drop_duplicates("fact")["relation"])

    def row(templates):
        return [with_at_least(templates, n_facts, k) for k in (2, 3, 4, 5)]

    merged = merge_near_duplicates(real_patterns, ["zh", "ja"])
    whole = merged[merged["pattern"].map(repair_pattern) == merged["pattern"]]
    mended = merge_near_duplicates(real_patterns.assign(pattern=real_patterns["pattern"].map(repair_pattern)), [])
    assert row(real_patterns) == [(36, 5966), (35, 5835), (32, 5680), (24, 4122)]
    assert row(merged) == [(35, 5904), (33, 5699), (29, 5430), (24, 4122)]
    assert row(whole) == [(34, 5858), (32, 5653), (28, 5384), (22, 3975)]
    assert row(mended) == row(merged)
